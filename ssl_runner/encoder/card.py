"""Model card of an exported encoder: what it was trained on and how, what it takes, and what it was measured to do."""

from typing import Any

from ssl_runner.config import files
from ssl_runner.encoder.load import TrainedEncoder
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import ENVIRONMENT
from ssl_runner.run_folder.summary import read_summary

INPUTS = {"image": "images, float32 in [0, 1]", "audio": "audio, float32 in [-1, 1]", "text": "text, int64 ids"}
FRONT = """\
---
library_name: timm
pipeline_tag: image-feature-extraction
tags: [self-supervised-learning, {method}]
---
"""


def model_card(source: TrainedEncoder, hub: bool = False) -> bytes:
    """The text of the card. `hub`: with the head that the Hugging Face hub reads, and input that is normalised."""
    config = source.content or {}
    choices, samples, state = config.get("choices", {}), source.samples, source.encoder.state_dict()
    method, data = choices.get("pretext", "unknown"), choices.get("dataset", "unknown")
    shape, name = "x".join(map(str, samples.shape)), type(source.encoder).__name__
    lines = [FRONT.format(method=method)] if hub else []
    lines += [f"# {name} trained by {method} on {data}", ""]
    lines += [f"Features: {source.encoder.dim} of each sample. Input: {INPUTS[samples.kind]}, of {shape}."]
    if "mean" in state:
        mean, std = ([round(each, 4) for each in state[key].tolist()] for key in ("mean", "std"))
        who = (
            "Normalise it by"
            if hub
            else "The encoder normalises it by itself, except in the files of torchvision and timm:"
        )
        lines += [f"{who} mean {mean} and std {std}."]
    lines += ["No label was used in training.", ""]
    environment = read_json(source.folder / ENVIRONMENT) if config else {}
    versions = environment.get("versions") or {}
    facts = {
        "step": source.step,
        "length": config.get("length"),
        "batch size": config.get("batch_size"),
        "seed": config.get("seed"),
        "fingerprint of the data": source.fingerprint,
        "device": environment.get("device"),
        "commit": environment.get("commit"),
        "ssl-runner, torch": ", ".join(str(versions[each]) for each in ("ssl-runner", "torch") if each in versions),
    }
    lines += ["| training | |", "|---|---|", *(f"| {key} | {each} |" for key, each in facts.items() if each), ""]
    lines += measured(source)
    if config:
        model = {key: config[key] for key in ("pretext", "model", "optimizer") if key in config}
        lines += ["## Settings", "", "```yaml", files.dump(model).rstrip(), "```", ""]
    return "\n".join(lines).encode()


def measured(source: TrainedEncoder) -> list[str]:
    """The run's headline numbers, if they are of this encoder."""
    summary: dict[str, Any] = read_summary(source.folder) if source.content else {}
    if summary.get("status") != "completed" or source.step != summary.get("step"):
        return []
    before, final = summary.get("initial") or summary.get("baseline", {}), summary.get("final", {})
    rows = [
        f"| {name} | {' | '.join(f'{part[key]:.4g}' if key in part else '' for part, key in columns)} |"
        for name in summary.get("headlines", ())
        if name in final and (columns := ((before, name), (final, name), (final, f"test/{name}")))
    ]
    head = ["| measured | before training | trained, on validation | trained, on test |", "|---|---|---|---|"]
    return [*head, *rows, ""] if rows else []
