"""Tests run on tiny tensors, where one thread is faster than two."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ssl_runner.__main__ import main
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.contract import Pretext
from ssl_runner.engine.trainer import Trainer
from ssl_runner.run.assemble import assemble
from ssl_runner.run.preflight import read_job

torch.set_num_threads(1)

# 90 training rows in batches of 16: an epoch is 5 steps with a remainder, and 12 steps end in the midst of one.
TINY = (
    "dataset.images=100",
    "dataset.test=20",
    "batch_size=16",
    "length=12st",
    "log_every=4st",
    "save_every=100%",
    "device=cpu",
    "model=convnet_small",
    "model.widths=[8,8,8]",
)
MEASURED = (
    *("evaluator.knn.k=3", "evaluator.knn.every=3st", "evaluator.probe.every=6st"),
    *("evaluator.geometry.every=4st", "evaluator.geometry.samples=32", "evaluator.geometry.views=2"),
)
LESS = {"bigan": ("pretext.width=8",)}  # what keeps a step of a task small; traces and costs are of these
FEWER = {**LESS, "dino": ("pretext.local_views=2",)}
MASKED = ("model=vit_tiny", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")
MEASURED_ONCE = (*TINY, "evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=4st", "save_every=4st", "keep=9")


def names(group: str) -> list[str]:
    """The choices of a group: a new YAML is a new case of every generic test."""
    return sorted(file.stem for file in (TREE / group).glob("*.yaml"))


def masks(overrides: Iterable[str]) -> bool:
    """Whether the task is one whose YAML chooses an encoder that drops tokens."""
    tasks = [name for name in names("pretext") if f"pretext={name}" in overrides]
    return any("override /model@" in (TREE / "pretext" / f"{name}.yaml").read_text() for name in tasks)


def tiny(*overrides: str) -> list[str]:
    """Overrides of a job that takes a second; a masked method gets the smallest encoder that drops tokens."""
    masked = masks(overrides)
    kept = [each for each in TINY if not each.startswith("model") or not masked]
    measured = MEASURED if not any(each.startswith("evaluator=") for each in overrides) else ()
    return [*kept, *(MASKED if masked else ()), *measured, *overrides]


@pytest.fixture(scope="session")
def composer() -> Composer:
    return Composer()


@pytest.fixture
def method(composer: Composer) -> Callable[..., Pretext]:
    """The task of a YAML on a tiny encoder, in training mode."""

    def build(name: str, *overrides: str) -> Pretext:
        job, problems = read_job(composer.compose(tiny(f"pretext={name}", *FEWER.get(name, ()), *overrides)).content)
        assert job is not None, problems
        samples = job.dataset.build().samples
        torch.manual_seed(0)
        known, channels = {"samples": samples, "shape": samples.shape}, samples.shape[0]
        encoder = job.model.build(**known, mean=(0.5,) * channels, std=(0.25,) * channels)
        return job.pretext.build(encoder=encoder, rows=90, **known).train()

    return build


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drop(tmp_path: Path) -> Callable[..., Composer]:
    """A folder of configs with one recipe of this text in it."""

    def put(text: str, name: str = "dropped") -> Composer:
        (tmp_path / "conf" / "experiment").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(text)
        return Composer(tmp_path / "conf")

    return put


@pytest.fixture
def make(composer: Composer, tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer for `tiny` overrides in a folder below tmp_path; `change` may put another pretext in the place."""

    def build(*overrides: str, folder: str = "run", change: Callable | None = None) -> Trainer:
        composed = composer.compose(tiny(*overrides))
        assert not composed.problems
        job, problems = read_job(composed.content)
        assert job is not None, problems
        if change is not None:
            object.__setattr__(job, "pretext", change(job.pretext))
        dataset = job.dataset.build()
        where = tmp_path / folder
        where.mkdir(exist_ok=True)
        return assemble(job, dataset, dataset.load(), where, Console(file=io.StringIO()), {"seed": job.seed})

    return build


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never disturbed, with its checkpoints of steps 4, 8 and 12. Nothing may be written into it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*MEASURED_ONCE, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def cut(whole: Path, here: Path) -> Path:
    """The same run in the current folder, killed after step 8."""
    folder = here / "cut"
    shutil.copytree(whole, folder)
    for name in ("checkpoints/0000012.pt", "encoder.safetensors", "encoder.yaml"):
        (folder / name).unlink()
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "status": "running"}))
    return folder
