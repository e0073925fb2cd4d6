"""Jobs that take a second, for tests: tiny overrides, and a trainer in a folder. Fixtures for testing/checks.py."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ssl_runner.config.compose import Composer
from ssl_runner.contract import Data
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.trainer import Trainer
from ssl_runner.run.assemble import assemble
from ssl_runner.run.job import Job
from ssl_runner.run.preflight import read_job

# What is embedded of a kind of samples, what it calls its rows, and what makes an encoder small.
EMBEDDED: Mapping[str, str] = {"image": "shapes", "text": "grammar", "audio": "utterances"}
ROWS: Mapping[str, str] = {"image": "images", "text": "sentences", "audio": "clips"}
ENCODERS: Mapping[str, Sequence[str]] = {
    "image": ("model=convnet_small", "model.widths=[8,8,8]"),
    # dropout has one generator for all rows, and so differs among ranks
    "text": ("model.width=16", "model.depth=2", "model.heads=2", "model.dropout=0"),
    "audio": (),
}
SHORT = ("batch_size=16", "length=12st", "log_every=4st", "save_every=100%", "device=cpu")
# 90 training rows in batches of 16: an epoch is 5 steps with a remainder, and 12 steps end in the midst of one.
TINY = ("dataset.images=100", "dataset.test=20", *SHORT, *ENCODERS["image"])
MEASURED = (
    *("evaluator.knn.k=3", "evaluator.knn.every=3st", "evaluator.probe.every=6st", "evaluator.probe.l2=[0.01]"),
    *("evaluator.geometry.every=4st", "evaluator.geometry.samples=32", "evaluator.geometry.views=2"),
)
MASKED = ("model=vit_tiny", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")
Change = Callable[[Data], Data]
Less = Mapping[str, Sequence[str]]  # by a choice, as pretext=bigan, what keeps a step of it small


def tiny_words(folders: Sequence[Path], words: Sequence[str], less: Less | None = None) -> list[str]:
    """Overrides of a job that takes a second: less of what a task has, and the smallest encoder that suits it.

    Views are those of the task's YAML, not what the dataset recommends. `folders`: where choices are.
    """
    text, kind = yaml_of_task(folders, words), kind_of_words(folders, words)
    masked = kind == "image" and "override /model@" in text
    groups = {each.partition("=")[0] for each in words}
    rows = [f"dataset.{ROWS[kind]}=100", "dataset.test=20"]
    encoder = () if "model" in groups else ENCODERS[kind]
    mounts = [f"augment@pretext.{place}" for place in re.findall(r"/augment@(\w+): simclr", text)]
    return [
        *([] if "dataset" in groups and f"dataset={EMBEDDED[kind]}" not in words else rows),
        *SHORT,
        *(MASKED if masked else encoder),
        *(f"{each}=simclr" for each in mounts if kind == "image" and not {each, f"~{each}"} & groups),
        *([] if "evaluator" in groups else MEASURED),
        *(each for choice in words for each in (less or {}).get(choice, ())),
        *words,
    ]


def kind_of_words(folders: Sequence[Path], words: Sequence[str]) -> str:
    """The kind of samples: of the embedded dataset that is typed, or that the task presumes."""
    presumed = re.findall(r"override /dataset@_global_\.dataset: (\w+)", yaml_of_task(folders, words))
    typed = [word.partition("=")[2] for word in words if word.startswith("dataset=")]
    kinds = [kind for name in (*typed, *presumed) for kind, embedded in EMBEDDED.items() if embedded == name]
    return kinds[0] if kinds else "image"


def yaml_of_task(folders: Sequence[Path], words: Sequence[str]) -> str:
    tasks = [word.partition("=")[2] for word in words if word.startswith("pretext=")]
    files = [next(folder.glob(f"pretext/{name}.yaml"), None) for name in tasks for folder in folders]
    return "".join(file.read_text(encoding="utf-8") for file in files if file)


def build_trainer(job: Job, folder: Path, change_data: Callable[[Data], Data] = lambda data: data) -> Trainer:
    """A job's trainer in a folder that may be there, on data that may be changed first."""
    dataset, console = job.dataset.build(), Console(file=io.StringIO())
    folder.mkdir(exist_ok=True)
    return assemble(job, dataset, change_data(dataset.load()), folder, console)


def checked_job(content: Mapping[str, Any]) -> Job:
    """The job of a config. Raises ValueError with all that is wrong with it."""
    job, problems = read_job(dict(content), build=False)
    if job is None:
        raise ValueError("\n".join(problems))
    return job


def learner_of(content: Mapping[str, Any], folder: Path) -> Learner:
    return build_trainer(checked_job(content), folder).learner


@pytest.fixture
def content_of(composer: Composer, less: Less) -> Callable[..., dict[str, Any]]:
    """The config of a tiny job with a choice, `measured` by the usual evaluators, or by the one that is the choice."""

    def compose(choice: str, *more: str, measured: bool = False) -> dict[str, Any]:
        group, _, name = choice.partition("=")
        own = [] if group == "evaluator" else [choice]
        if not measured:
            own.append("evaluator=none")
        elif group == "evaluator":
            own += [f"evaluator=[{name}]", f"evaluator.{name}.every=4st"]
        composed = composer.compose(tiny_words(composer.folders, [*less.get(choice, ()), *own, *more]))
        if composed.problems:
            raise ValueError("\n".join(composed.problems))
        return composed.content

    return compose


@pytest.fixture
def trainer_of(content_of: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer of a tiny job with a choice, in a folder of this name, on data that `change_data` may change."""

    def make(
        choice: str, folder: str, *more: str, measured: bool = False, change_data: Change = lambda data: data
    ) -> Trainer:
        job = checked_job(content_of(choice, *more, measured=measured))
        return build_trainer(job, tmp_path / folder, change_data)

    return make


@pytest.fixture(name="learner_of")
def build_learner() -> Callable[[Mapping[str, Any], Path], Learner]:
    return learner_of
