"""Initial weights of an encoder (`init=`): of a run, an exported file or another program, known by their digest."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ssl_runner.config.file_paths import with_places
from ssl_runner.contract import Samples
from ssl_runner.data.places import expand_home
from ssl_runner.data.text_files.tokenizer import ASSET, read_tokenizer
from ssl_runner.encoder.foreign import HUB, foreign_weights, is_foreign
from ssl_runner.encoder.load import TrainedEncoder, find_encoder
from ssl_runner.errors import Refused
from ssl_runner.run.job import Job
from ssl_runner.run_folder.layout import CHECKPOINTS, WEIGHTS
from ssl_runner.run_folder.weights import digest_weights

Init = str | Mapping[str, str]  # a path, or as a run records it {"path", "digest"}
NAMED = 3  # tensors that are named if several do not fit


class Initial(NamedTuple):
    """Weights to begin from, and where they come from."""

    weights: Mapping[str, Tensor]
    path: Path
    digest: str
    source: TrainedEncoder | None  # None for those of another program


def read_initial(init: Init, target: str) -> Initial:
    """The weights to begin from, for an encoder of a class, `ssl_runner.model.resnet.ResNet`.

    Raises OSError, or ValueError if there are none, or if they are not those that were recorded.
    """
    known = {"path": init} if isinstance(init, str) else init
    if "path" not in known or known.keys() - {"path", "digest"}:
        raise ValueError("a path is wanted, as in init=outputs/RUN")
    path = expand_home(known["path"])
    places = [each for each in (path, path / WEIGHTS, path / CHECKPOINTS, path / HUB[0]) if each.exists()]
    read = read_once(path, target, tuple(each.stat().st_mtime_ns for each in places))
    if known.get("digest", read.digest) != read.digest:
        changed = f"the weights of {path} have the digest {read.digest}, and the run has begun with {known['digest']}"
        raise ValueError(f"{changed}; type init.path=PATH for where those lie, or rerun the run with init={path}")
    return read


@lru_cache(maxsize=1)
def read_once(path: Path, target: str, changed: tuple[int, ...]) -> Initial:
    """Cached for the jobs of a sweep. `changed`: when the files did, so that new ones are read."""
    source = None if is_foreign(path) else find_encoder(path)
    weights = foreign_weights(path, target) if source is None else source.encoder.state_dict()
    return Initial(weights, path if source is None else source.weights, digest_weights(weights), source)


def recorded_init(job: Job, typed: Init) -> dict[str, str]:
    """What a config says of the weights that a job begins from: the path as it was typed, and their digest."""
    assert job.init is not None
    path = typed if isinstance(typed, str) else typed["path"]
    return {"path": path, "digest": read_initial(job.init, target_of(job)).digest}


def target_of(job: Job) -> str:
    """The class of its model."""
    target: Any = job.model.target
    return f"{target.__module__}.{target.__qualname__}"


def check_initial(job: Job, samples: Samples) -> list[str]:
    """A line if the weights that a job begins from cannot be had, or are of another model. It can be built."""
    assert job.init is not None
    try:
        read = read_initial(job.init, target_of(job))
    except (OSError, ValueError) as error:
        return [f"init: {error}"]
    own = samples.rate if read.source is None else read.source.samples.rate
    if own != samples.rate and 0 not in (own, samples.rate):
        instead = f"type dataset.rate={own}" if "rate" in job.dataset.arguments else f"choose sounds at {own:,} Hz"
        return [f"init: {read.path} was trained at {own:,} Hz, and the dataset is at {samples.rate:,} Hz; {instead}"]
    encoder = job.build_encoder(samples)
    shapes = [{name: tuple(t.shape) for name, t in each.items()} for each in (encoder.state_dict(), read.weights)]
    wrong = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    if not wrong:
        return []
    listed = "; ".join(f"{n} is {show(shapes[1].get(n))}, the model's {show(shapes[0].get(n))}" for n in wrong[:NAMED])
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return [f"init: {read.path} does not fit the model: {listed}{more}; {remedy(read.source, job, samples)}"]


def show(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"


def remedy(source: TrainedEncoder | None, job: Job, samples: Samples) -> str:
    """What to type to choose the model that the weights are of, and if it is of texts, as many ids."""
    if source is None:
        return "choose the architecture that it is of, as model=timm model.name=NAME or model=resnet50 model.stem=large"
    recorded = (source.content or {}).get("choices", {}).get("model")
    name = recorded if recorded != job.choices.get("model") else None
    given = ("_target_", "samples", "assets", "shape", "mean", "std")
    settings = {k: v for k, v in source.recipe.items() if k not in given}
    before, now = (
        {k: json.dumps(each.get(k), default=str) for k in settings} for each in (settings, job.model.arguments)
    )
    words = [f"model.{k}={each}".replace('"', "").replace(" ", "") for k, each in before.items() if each != now[k]]
    words = [f"model={name}", *words] if name else words
    if samples.kind == source.samples.kind and samples.vocabulary != source.samples.vocabulary:
        words += tokenizer_of(source)
    kind, size = type(source.encoder).__name__, "x".join(map(str, source.samples.shape))
    return (
        f"type {' '.join(words)}" if words else f"it is a {kind} for samples of {size}: choose such a dataset or model"
    )


def tokenizer_of(source: TrainedEncoder) -> list[str]:
    """What to type for texts to be read by an encoder's own tokenizer: with more ids than that has, if it was so."""
    if ASSET not in source.assets:
        return []
    ids = source.samples.vocabulary
    more = [f"dataset.vocabulary={ids}"] if read_tokenizer(source.assets[ASSET]).vocabulary < ids else []
    return [f"dataset.tokenizer={source.folder / ASSET}", *more]


def initial_weights(
    content: Mapping[str, Any], start: Path | None, assets: Mapping[str, bytes] = {}
) -> dict[str, Tensor] | None:
    """The encoder's weights that a config begins from, if it does; relative paths start from a folder.

    Raises Refused if they cannot be had, or were learnt with other assets than those of the data: another tokenizer.
    """
    init = with_places(content, start).get("init")
    try:
        read = None if init is None else read_initial(init, str(content["model"]["_target_"]))
    except (OSError, ValueError) as error:
        raise Refused(f"init: {error}") from None
    if read is not None and read.source is not None:
        for name, learnt_with in read.source.assets.items():
            if learnt_with != assets.get(name):
                given = f"init: {read.path} was trained with another {name} than that of the data"
                own = [f"dataset.{Path(name).stem}={read.source.folder / name}"]
                words = tokenizer_of(read.source) if name == ASSET else own
                raise Refused(f"{given}; type {' '.join(words)}, or leave init out")
    return None if read is None else dict(read.weights)
