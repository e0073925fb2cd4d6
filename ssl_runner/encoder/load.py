"""Loading a trained encoder: from a run folder, from a checkpoint of it, or from an exported file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ssl_runner.config import files
from ssl_runner.config.check import check
from ssl_runner.config.migrate import migrated
from ssl_runner.config.node import Node
from ssl_runner.contract import Data, Encoder, Samples
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.assets import ASSETS, describe_assets, read_assets
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, ENCODER, ENVIRONMENT, WEIGHTS
from ssl_runner.run_folder.origin import recorded_fingerprint
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.run_folder.weights import read_weights


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a run folder, of a checkpoint in it, or of an `encoder.safetensors` beside its `encoder.yaml`.

    It is on the CPU, in eval mode, and takes samples as a pretext task does, images float32 in [0, 1]:
    `load_encoder("outputs/RUN")(x).pooled`; its attribute `samples` says of what kind and shape they were, `assets`
    holds the files that were kept with it, such as a tokenizer.
    Raises ValueError or OSError with what is wrong and what to give instead.
    """
    return find_encoder(Path(path)).encoder


@dataclass(frozen=True)
class TrainedEncoder:
    """An encoder with the file, run folder, step and config it came from."""

    encoder: Encoder
    weights: Path  # the file that they were read from
    folder: Path  # of the run; without one, of the file
    recipe: dict[str, Any]  # what builds it: the model's config and its input, as encoder.yaml has them
    step: int | None = None  # of training
    content: dict[str, Any] | None = None  # the run's config; None for an encoder without its run
    fingerprint: str | None = None  # of the run's data; None if it is not known
    assets: Mapping[str, bytes] = field(default_factory=dict)  # of the run's data, such as a tokenizer

    def __post_init__(self) -> None:
        vars(self.encoder).update(samples=self.samples, assets=self.assets)

    @property
    def samples(self) -> Samples:
        return recorded_samples(self.recipe)

    @property
    def name(self) -> str:
        """`encoder.safetensors`, `checkpoints/0000700.pt`: the file as seen from the folder."""
        return self.weights.relative_to(self.folder).as_posix()


def find_encoder(path: Path) -> TrainedEncoder:
    """As `load_encoder`, with the origin."""
    if path.is_file() and path.suffix == ".pt":
        try:
            return checkpoint_encoder(path, checkpoint.load(path))
        except checkpoint.Unreadable as error:
            raise ValueError(str(error)) from None
    if path.is_file() and path.name == WEIGHTS:
        return exported_encoder(path.parent)
    if not path.is_dir():
        raise ValueError(f"{path} is no encoder; give a run folder, a checkpoint RUN/checkpoints/NNN.pt, or {WEIGHTS}")
    # What a run exported before it was resumed is older than its newest checkpoint.
    summary = read_summary(path)
    older = summary.get("status") in ("running", "failed") and checkpoint.steps(path / CHECKPOINTS)
    if (path / WEIGHTS).is_file() and not older:
        return exported_encoder(path)
    for newest, state in checkpoint.newest_first(path / CHECKPOINTS):
        if summary.get("status") == "completed" and state["step"] != summary.get("step"):
            lost = f"{path} has lost {WEIGHTS} and the checkpoint of step {summary.get('step')}"
            raise ValueError(f"{lost}, where it was completed; for the encoder of step {state['step']} type {newest}")
        return checkpoint_encoder(newest, state)
    raise ValueError(f"{path} holds no encoder: neither {WEIGHTS} nor a readable checkpoint is in it")


def exported_encoder(folder: Path) -> TrainedEncoder:
    """The encoder that a run, or `ssl-runner export`, has written."""
    weights, recipe, config = folder / WEIGHTS, files.read(folder / ENCODER), folder / CONFIG
    encoder = restored_encoder(recipe, read_weights(weights), weights)
    content, summary = files.read(config) if config.is_file() else None, read_summary(folder)
    known = recorded_fingerprint(summary, read_json(folder / ENVIRONMENT)) if content is not None else None
    assets = read_assets(recipe, folder)
    return TrainedEncoder(encoder, weights, folder, recipe, summary.get("step"), content, known, assets)


def checkpoint_encoder(path: Path, state: dict[str, Any]) -> TrainedEncoder:
    """The encoder of one step of a run."""
    prefix = f"{state.get('trained', 'encoder')}."
    pretext = state.get("pretext")
    parts = pretext.items() if isinstance(pretext, dict) else ()
    weights = {k.removeprefix(prefix): v for k, v in parts if k.startswith(prefix)}
    folder, content = path.resolve().parent.parent, state.get("config")
    if content is None or not weights:
        raise ValueError(f"{path} is no checkpoint of a run: it holds no config, or no weights")
    content = migrated(content, str(path), state.get("versions", {}).get("ssl-runner"))
    recipe = {**content["model"], **(state.get("input") or first_input(state, weights, path, folder))}
    encoder = restored_encoder(recipe, weights, path)
    data = state.get("data") if isinstance(state.get("data"), dict) else None
    environment = read_json(folder / ENVIRONMENT) if data is None else {"dataset": data.get("fingerprint")}
    known = recorded_fingerprint(state, environment)
    assets = read_assets(recipe, folder)
    return TrainedEncoder(encoder, path.resolve(), folder, recipe, state["step"], content, known, assets)


def first_input(state: dict[str, Any], weights: dict[str, Tensor], path: Path, folder: Path) -> dict[str, Any]:
    """The input of an encoder of version 0.1, whose checkpoints held the shape of an image at most."""
    shape = state.get("shape") or (files.read(folder / ENCODER)["shape"] if (folder / ENCODER).is_file() else None)
    if shape is None or "mean" not in weights:
        raise ValueError(f"{path} does not say of what shape a sample is; resume the run once, which writes {ENCODER}")
    return {"shape": list(shape), "mean": weights["mean"].tolist(), "std": weights["std"].tolist()}


def input_of(
    model: Node[Encoder], samples: Samples, data: Data, initial: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """What an encoder takes, and what the runner hands to its constructor: plain values for files.

    `initial`: weights that it begins from, and normalises with what they were learnt with.
    """
    offered = {"shape": list(samples.shape), "mean": list(data.mean), "std": list(data.std)}
    offered |= {name: (initial or {})[name].tolist() for name in ("mean", "std") if name in (initial or {})}
    recorded = {"samples": {**samples._asdict(), "shape": offered["shape"]}, **describe_assets(data.assets)}
    return recorded | {name: value for name, value in offered.items() if name in model.wants}


def recorded_samples(recipe: dict[str, Any]) -> Samples:
    """What the encoder of a recipe takes; images if it is of version 0.1. Raises ValueError if it is malformed."""
    if "samples" not in recipe:
        return Samples("image", tuple(recipe.get("shape", ())))
    try:
        return TypeAdapter(Samples).validate_python(recipe["samples"])
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ValueError(f"model.samples.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def built_encoder(recipe: dict[str, Any]) -> Encoder:
    """The encoder that a recipe describes, with random weights. Raises ValueError with all that is wrong with it."""

    def described(*, model: Node[Encoder]) -> None: ...

    samples = recorded_samples(recipe)
    given = {"pretrained": False} if "pretrained" in recipe else {}  # nothing is fetched for what must be replaced
    model = {key: value for key, value in {**recipe, **given}.items() if key not in ("samples", ASSETS)}
    node, problems = check({"model": model}, described, {"model": ("samples",)})
    if problems:
        raise ValueError("; ".join(problems))
    return node.arguments["model"].build(samples=samples)


def restored_encoder(recipe: dict[str, Any], state: dict[str, Tensor], path: Path) -> Encoder:
    """The encoder of a recipe with the weights that were read from a file. Raises ValueError if they do not fit."""
    try:
        encoder = built_encoder(recipe)
        encoder.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} does not fit its config ({' '.join(str(error).split())[:300]})") from None
    return encoder.eval()
