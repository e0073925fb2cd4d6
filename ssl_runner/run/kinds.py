"""Kinds of samples: whether dataset, pretext task, model and recipes of views go together; and what to type if not."""

from collections.abc import Iterator, Mapping
from typing import Any

from ssl_runner.config.node import Node
from ssl_runner.contract import Dataset, Kind, Samples
from ssl_runner.data.text_files.texts import Texts
from ssl_runner.run.job import Job

USUAL: Mapping[Kind, Mapping[str, str]] = {  # what stands for a kind in a remedy
    "image": {"dataset": "shapes", "pretext": "simclr", "model": "convnet_small", "augment": "simclr"},
    "text": {"dataset": "grammar", "pretext": "mlm", "model": "text_transformer_tiny", "augment": "text"},
    "audio": {"dataset": "utterances", "pretext": "cpc", "model": "mel_gru", "augment": "speech"},
}


def check_kinds(job: Job, samples: Samples) -> list[str]:
    """A line if a part cannot take what the dataset has: images, text or audio. The first one is enough to mend it."""
    for key, node in parts(job):
        target: Any = node.target
        if samples.kind not in target.kinds:
            group = "augment" if "." in key else key
            own = f"{f'augment@{key}' if group == 'augment' else key}={USUAL[samples.kind][group]}"
            other = " or ".join(f"dataset={USUAL[kind]['dataset']}" for kind in target.kinds)
            takes = f"{key}: {target.__name__} takes {' or '.join(target.kinds)}, and the dataset has {samples.kind}"
            return [f"{takes}; type {own}, or {other}"]
    return []


def check_unknown_word(job: Job, dataset: Dataset) -> list[str]:
    """A line for a recipe that reads tokens as the unknown word, which is id 1, if id 1 is a token as any other."""
    problems = []
    for key, node in parts(job):
        share = node.arguments.get("word_dropout", 0)
        if share and isinstance(dataset, Texts) and not dataset.spares_one:
            given = f"{key}.word_dropout: given {share:g}, which reads tokens as id 1, the unknown word of words"
            other = f"of dataset.tokenizer={dataset.tokenizer} that is a token as any other"
            remedy = f"{key}.word_dropout=0 {key}.deletion={share:g}, or dataset.tokenizer=words"
            problems.append(f"{given}; {other}; type {remedy}")
    return problems


def parts(job: Job) -> Iterator[tuple[str, Node]]:
    """What says which kinds it takes: the task, the model, the recipes of views that the task mounts."""
    yield from (("pretext", job.pretext), ("model", job.model))
    for name, value in job.pretext.arguments.items():
        if isinstance(value, Node) and hasattr(value.target, "kinds"):
            yield f"pretext.{name}", value
