"""Labels and held-out rows never reach training: every task is trained beside data in which only they were changed."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import names, tiny
from PIL import Image
from rich.console import Console
from torch import Tensor

from ssl_runner.config.compose import Composer
from ssl_runner.contract import Batch, Data, Split
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.trainer import Trainer
from ssl_runner.run.assemble import assemble, evaluators
from ssl_runner.run.preflight import read_job

Change = Callable[[Data], Data]


def prepared(composer: Composer, folder: Path, pretext: str, change: Change = lambda data: data) -> Trainer:
    composed = composer.compose(tiny(f"pretext={pretext}", "length=6st", "evaluator.probe.l2=[0.1]"))
    job, problems = read_job(composed.content)
    assert job is not None, problems
    dataset = job.dataset.build()
    folder.mkdir()
    return assemble(job, dataset, change(dataset.load()), folder, Console(file=io.StringIO()), {})


def trained(run: Trainer) -> dict[str, Tensor]:
    logbook = Logbook(run.folder)
    assert run.fit(0, logbook, Interrupt()) == 6
    logbook.close()
    return {name: tensor.clone() for name, tensor in run.learner.pretext.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def relabelled(data: Data) -> Data:
    """Other labels and other factors everywhere; the images are the same."""

    def change(split: Split | None) -> Split:
        assert split is not None
        return Split(split.x, (split.y + 1 + split.y % 3) % 10, {k: -f.float() for k, f in split.targets.items()})

    return replace(data, bank=change(data.bank), validation=change(data.validation), test=change(data.test))


def repainted(data: Data) -> Data:
    """Other images to validate and to test on; the training rows are the same."""
    assert data.validation is not None
    assert data.test is not None
    return replace(
        data,
        validation=replace(data.validation, x=255 - data.validation.x[torch.arange(len(data.validation.y))]),
        test=replace(data.test, x=255 - data.test.x[torch.arange(len(data.test.y))]),
    )


@pytest.mark.parametrize("pretext", names("pretext"))
def test_neither_labels_nor_held_out_images_change_what_a_task_learns(
    composer: Composer, tmp_path: Path, pretext: str
) -> None:
    """Evaluators see them at steps 0, 3 and 6 in between, so one that left something behind would be seen too."""
    plain = prepared(composer, tmp_path / "plain", pretext)
    other = prepared(composer, tmp_path / "other", pretext, lambda data: relabelled(repainted(data)))
    assert equal(trained(plain), trained(other))
    assert other.logbook.rows[-1] != plain.logbook.rows[-1], "what was changed is what is measured on"


@pytest.mark.parametrize("leak", ["label", "held-out image"])
def test_a_task_that_peeked_would_be_seen(composer: Composer, tmp_path: Path, leak: str) -> None:
    def peeking(folder: Path, change: Change) -> dict[str, Tensor]:
        run = prepared(composer, folder, "rotation", change)
        knn = run.measurements.validation["knn"]
        original = run.learner.pretext.views

        def views(batch: Batch, ctx: object) -> tuple:
            x, turns = original(batch, ctx)  # type: ignore[arg-type]
            if leak == "label":
                return x, knn.bank.y[batch.index].repeat(4) % 4  # type: ignore[attr-defined]
            return x + knn.query.x[:1] / 255, turns  # type: ignore[attr-defined]

        run.learner.pretext.views = views  # type: ignore[method-assign]
        return trained(run)

    change = relabelled if leak == "label" else repainted
    assert not equal(peeking(tmp_path / "a", lambda data: data), peeking(tmp_path / "b", change))


@pytest.mark.parametrize("pretext", names("pretext"))
def test_a_task_is_given_training_rows_alone(composer: Composer, tmp_path: Path, pretext: str) -> None:
    """Every batch, also of ctx.sweep(), is the training rows that its index names, and has no other field."""
    run = prepared(composer, tmp_path / "run", pretext)
    rows = run.learner.loader.rows
    original = run.learner.pretext.views
    seen = []

    def views(batch: Batch, ctx: object) -> tuple:
        for each in (batch, *ctx.sweep()):  # type: ignore[attr-defined]
            assert type(each) is Batch
            assert each._fields == ("x", "index")
            assert torch.equal(each.x, rows[each.index].float() / 255)
        seen.append(batch.index)
        return original(batch, ctx)  # type: ignore[arg-type]

    run.learner.pretext.views = views  # type: ignore[method-assign]
    trained(run)
    assert len(torch.cat(seen).unique()) > 60


def keys(rows: object) -> set[bytes]:
    return {x.numpy().tobytes() for x in rows[torch.arange(len(rows))]}  # type: ignore[index,arg-type]


def images(folder: Path) -> str:
    """Class folders of distinct images without any split."""
    rng = np.random.default_rng(0)
    for number in range(60):
        file = folder / "images" / f"class{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(file)
    return f"dataset.root={folder / 'images'}"


@pytest.mark.parametrize("dataset", ["shapes", "digits", "image_folder"])
def test_held_out_rows_are_in_neither_training_nor_the_bank(composer: Composer, tmp_path: Path, dataset: str) -> None:
    words = {
        "shapes": ["dataset.images=200", "dataset.test=40"],
        "image_folder": [images(tmp_path), f"dataset.cache={tmp_path / 'cache'}", "dataset.size=8"],
    }
    composed = composer.compose([f"dataset={dataset}", "batch_size=8", *words.get(dataset, [])])
    job, problems = read_job(composed.content)
    assert job is not None, problems
    source = job.dataset.build()
    data = source.load()
    assert data.bank is not None
    assert data.validation is not None
    train, bank, validation = keys(data.train), keys(data.bank.x), keys(data.validation.x)
    twins = len(data.train) + len(data.validation.y) - len(train | validation)  # of the source's own, as in digits
    assert len(train & validation) <= twins
    assert not train & validation or dataset == "digits"
    assert bank <= train, "the kNN bank is of training rows"
    if data.test is not None:
        assert not bank & keys(data.test.x)
    validating, testing = evaluators(
        job.evaluator, data, source.samples, lambda seed: pytest.fail("not now"), lambda *_: tmp_path
    )
    for split, measured in ((data.validation, validating), (data.test, testing)):
        for evaluator in measured.values():
            if hasattr(evaluator, "bank"):
                assert evaluator.bank is data.bank
                assert evaluator.query is split
