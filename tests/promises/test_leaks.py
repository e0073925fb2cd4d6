"""Labels and held-out rows never reach training: every task is trained beside data in which only they were changed."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import names, tiny
from engine_toys import fit
from PIL import Image
from rich.console import Console

from ssl_runner.contract import Batch
from ssl_runner.run.assemble import assemble, evaluators
from ssl_runner.run.preflight import read_job


@pytest.fixture
def prepared(composer, tmp_path):
    """A run of six steps whose data somebody has changed."""

    def build(folder, pretext, change=lambda data: data):
        composed = composer.compose(tiny(f"pretext={pretext}", "length=6st", "evaluator.probe.l2=[0.1]"))
        job, problems = read_job(composed.content)
        assert job is not None, problems
        dataset = job.dataset.build()
        (tmp_path / folder).mkdir()
        return assemble(job, dataset, change(dataset.load()), tmp_path / folder, Console(file=io.StringIO()), {})

    return build


def weights(run):
    return fit(run).learner.pretext.state_dict()


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def relabelled(data):
    """Other labels and other targets everywhere; the images are the same."""

    def change(split):
        y, targets = (split.y + 1 + split.y % 3) % 10, {k: -each.float() for k, each in split.targets.items()}
        return replace(split, y=y, targets=targets)

    return replace(data, bank=change(data.bank), validation=change(data.validation), test=change(data.test))


def repainted(data):
    """Other images to validate and to test on; the training rows are the same."""

    def change(split):
        return replace(split, x=255 - split.x[torch.arange(len(split.y))])

    return replace(data, validation=change(data.validation), test=change(data.test))


@pytest.mark.parametrize("pretext", names("pretext"))
def test_neither_labels_nor_held_out_images_change_what_a_task_learns(prepared, pretext):
    """Evaluators see them at steps 0, 3 and 6 in between, so one that left something behind would be seen too."""
    plain, other = prepared("plain", pretext), prepared("other", pretext, lambda data: relabelled(repainted(data)))
    assert equal(weights(plain), weights(other))
    assert other.logbook.rows[-1] != plain.logbook.rows[-1], "what was changed is what is measured on"


@pytest.mark.parametrize(("leak", "change"), [("label", relabelled), ("held-out image", repainted)])
def test_a_task_that_peeked_would_be_seen(prepared, leak, change):
    def peeking(run):
        knn, original = run.measurements.validation["knn"], run.learner.pretext.views

        def views(batch, ctx):
            x, turns = original(batch, ctx)
            if leak == "label":
                return x, knn.bank.y[batch.index].repeat(4) % 4
            return x + knn.query.x[:1] / 255, turns

        run.learner.pretext.views = views
        return weights(run)

    assert not equal(peeking(prepared("a", "rotation")), peeking(prepared("b", "rotation", change)))


@pytest.mark.parametrize("pretext", names("pretext"))
def test_a_task_is_given_training_rows_alone(prepared, pretext):
    """Every batch, also of ctx.sweep(), is the training rows that its index names, and has no other field."""
    run = prepared("run", pretext)
    rows, original, seen = run.learner.loader.rows, run.learner.pretext.views, []

    def views(batch, ctx):
        for each in (batch, *ctx.sweep()):
            assert type(each) is Batch
            assert each._fields == ("x", "index")
            assert torch.equal(each.x, rows[each.index].float() / 255)
        seen.append(batch.index)
        return original(batch, ctx)

    run.learner.pretext.views = views
    fit(run)
    assert len(torch.cat(seen).unique()) > 60


def keys(rows):
    return {x.numpy().tobytes() for x in rows[torch.arange(len(rows))]}


def images(folder):
    """Class folders of distinct images without any split."""
    rng = np.random.default_rng(0)
    for number in range(60):
        file = folder / "images" / f"class{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(file)
    return f"dataset.root={folder / 'images'}"


@pytest.mark.parametrize("dataset", ["shapes", "digits", "image_folder"])
def test_held_out_rows_are_in_neither_training_nor_the_bank(composer, tmp_path, dataset):
    words = {
        "shapes": ["dataset.images=200", "dataset.test=40"],
        "image_folder": [images(tmp_path), f"dataset.cache={tmp_path / 'cache'}", "dataset.size=8"],
    }
    composed = composer.compose([f"dataset={dataset}", "batch_size=8", *words.get(dataset, [])])
    job, problems = read_job(composed.content)
    assert job is not None, problems
    source = job.dataset.build()
    data = source.load()
    train, bank, validation = keys(data.train), keys(data.bank.x), keys(data.validation.x)
    twins = len(data.train) + len(data.validation.y) - len(train | validation)  # of the source's own, as in digits
    assert len(train & validation) <= twins
    assert not train & validation or dataset == "digits"
    assert bank <= train, "the kNN bank is of training rows"
    if data.test is not None:
        assert not bank & keys(data.test.x)
    fresh = lambda seed: pytest.fail("not now")  # noqa: E731
    validating, testing = evaluators(job.evaluator, data, source.samples, fresh, lambda *_: tmp_path)
    for split, measured in ((data.validation, validating), (data.test, testing)):
        for evaluator in measured.values():
            if hasattr(evaluator, "bank"):
                assert evaluator.bank is data.bank
                assert evaluator.query is split
