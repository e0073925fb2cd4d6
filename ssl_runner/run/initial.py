"""Initial weights of an encoder (`init=`): those of a run, a checkpoint or an exported file, known by their digest."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_runner.config.file_paths import with_places
from ssl_runner.data.places import expand_home
from ssl_runner.encoder.load import TrainedEncoder, find_encoder
from ssl_runner.errors import Refused
from ssl_runner.run.job import Job
from ssl_runner.run_folder.layout import CHECKPOINTS, WEIGHTS
from ssl_runner.run_folder.weights import digest_weights

Init = str | Mapping[str, str]  # a path, or as a run records it {"path", "digest"}
NAMED = 3  # tensors that do not fit


def read_initial(init: Init) -> tuple[TrainedEncoder, str]:
    """The encoder to begin from, and the digest of its weights.

    Raises OSError, or ValueError if there is none, or if it is not the one that was recorded.
    """
    known = {"path": init} if isinstance(init, str) else init
    if "path" not in known or known.keys() - {"path", "digest"}:
        raise ValueError("a path is wanted, as in init=outputs/RUN")
    path = expand_home(known["path"])
    places = [each for each in (path, path / WEIGHTS, path / CHECKPOINTS) if each.exists()]
    source, digest = read_once(path, tuple(each.stat().st_mtime_ns for each in places))
    if known.get("digest", digest) != digest:
        changed = f"the weights of {path} have the digest {digest}, and the run has begun with {known['digest']}"
        raise ValueError(f"{changed}; type init.path=PATH for where those lie, or rerun the run with init={path}")
    return source, digest


@lru_cache(maxsize=1)
def read_once(path: Path, changed: tuple[int, ...]) -> tuple[TrainedEncoder, str]:
    """The jobs of a sweep share it. `changed`: when what lies there was."""
    source = find_encoder(path)
    return source, digest_weights(source.encoder.state_dict())


def recorded_init(init: Init, typed: Init) -> dict[str, str]:
    """What a config says of the weights at `init`: the path as it was typed, and their digest."""
    return {"path": typed if isinstance(typed, str) else typed["path"], "digest": read_initial(init)[1]}


def check_initial(job: Job) -> list[str]:
    """A line if the weights that a job begins from cannot be had, or are of another model. It can be built."""
    assert job.init is not None
    try:
        source, _ = read_initial(job.init)
    except (OSError, ValueError) as error:
        return [f"init: {error}"]
    samples = job.dataset.build().samples
    channels = 0 if samples.kind == "text" else samples.shape[0]
    neutral = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    encoder = job.model.build(samples=samples, shape=samples.shape, **neutral)
    own, given = (each.state_dict() for each in (encoder, source.encoder))
    shapes = [{name: tuple(each.shape) for name, each in state.items()} for state in (own, given)]
    wrong = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    if not wrong:
        return []
    listed = "; ".join(f"{n} is {show(shapes[1].get(n))}, the model's {show(shapes[0].get(n))}" for n in wrong[:NAMED])
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return [f"init: {source.weights} does not fit the model: {listed}{more}; {remedy(source, job)}"]


def show(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"


def remedy(source: TrainedEncoder, job: Job) -> str:
    """What to type to have the model that the weights are of."""
    recorded = (source.content or {}).get("choices", {}).get("model")
    name = recorded if recorded != job.choices.get("model") else None
    settings = {k: v for k, v in source.recipe.items() if k not in ("_target_", "samples", "shape", "mean", "std")}
    before, now = (
        {k: json.dumps(each.get(k), default=str) for k in settings} for each in (settings, job.model.arguments)
    )
    words = [f"model.{k}={each}".replace('"', "").replace(" ", "") for k, each in before.items() if each != now[k]]
    words = [f"model={name}", *words] if name else words
    kind, size = type(source.encoder).__name__, "x".join(map(str, source.samples.shape))
    return (
        f"type {' '.join(words)}" if words else f"it is a {kind} for samples of {size}: choose such a dataset or model"
    )


def initial_weights(content: Mapping[str, Any], start: Path | None) -> dict[str, Tensor] | None:
    """The encoder's weights that a config begins from, if it does; relative paths start from a folder.

    Raises Refused if they cannot be had.
    """
    init = with_places(content, start).get("init")
    try:
        return None if init is None else read_initial(init)[0].encoder.state_dict()
    except (OSError, ValueError) as error:
        raise Refused(f"init: {error}") from None
