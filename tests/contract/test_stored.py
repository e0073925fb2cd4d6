"""Views cut of rows that are stored in more pixels than a sample has: every YAML in conf/pretext, or it is refused."""

import io

import pytest
import torch
from conftest import CHOICES, in_turn, names_of, tiny
from image_trees import paint
from PIL import Image
from rich.console import Console
from toys import context, still

from ssl_runner.data.resize import ResizedRows
from ssl_runner.pretext.simclr import SimCLR
from ssl_runner.run.assemble import assemble, load_data
from ssl_runner.run.preflight import PreparedJob, read_job

SIDE, STORED = 32, 80
TILES = {"jigsaw": 12, "relative_patch": 8, "counting": 16}  # sides of the views of tasks that show parts alone
MEASURED = (
    "evaluator=[knn,geometry]",
    "evaluator.knn.k=1",
    "evaluator.geometry.views=2",
    "evaluator.geometry.samples=8",
)


@pytest.fixture
def root(tmp_path):
    for k in range(48):
        paint(tmp_path / "images" / f"c{k % 2}" / f"{k}.png", (5 * k, 99, 3), (STORED, STORED))
    return tmp_path / "images"


@pytest.fixture
def prepare(root, composer):
    def build(*words):
        place = ("dataset=image_folder", f"dataset.root={root}", f"dataset.cache={root.parent / 'cache'}", "seed=1")
        given = [each for each in tiny(*words) if not each.startswith(("dataset.", "evaluator."))]
        more = [each for each in words if each.startswith(("dataset.", "evaluator."))]
        composed = composer.compose([*given, *place, f"dataset.size={SIDE}", f"dataset.stored={STORED}", *more])
        job, problems = read_job(composed.content)
        return job and PreparedJob(job, composed.content, [], composed), [*composed.problems, *problems]

    return build


@pytest.mark.parametrize("name", in_turn(names_of("image", "pretext")))
def test_views_have_the_size_of_a_sample_and_evaluators_get_samples(name, prepare, tmp_path):
    prepared, problems = prepare(*CHOICES[f"pretext-{name}"], *MEASURED, "length=2st", "log_every=1st")
    assert not problems
    dataset, data = load_data(prepared)
    run = assemble(prepared.job, dataset, data, tmp_path, Console(file=io.StringIO()))
    learner = run.learner
    (batch,) = learner.loader.batches(0)
    assert batch.x.shape == (16, 3, STORED, STORED)
    sides = {view.shape[-1] for view in learner.views(batch, 0, learner.main) if view.ndim == 4}
    assert max(sides) == TILES.get(name, SIDE)  # others are local views or tiles
    assert all(number.isfinite() for number in learner.step(0).values())
    swept = next(learner.loader.sweep())
    assert swept.x.shape[1:] == dataset.samples.shape == (3, SIDE, SIDE)
    assert torch.equal(swept.x, dataset.samples.from_rows(data.train[swept.index]))
    for evaluators in (run.measurements.validation, run.measurements.test):
        for evaluator in evaluators.values():
            rows = [evaluator.train] if hasattr(evaluator, "train") else [evaluator.bank.x, evaluator.query.x]
            assert all(each[torch.arange(2)].shape[1:] == dataset.samples.shape for each in rows)


def test_a_small_crop_keeps_its_detail(root, prepare):
    """Stripes that a sample is too small for: views of a fifth of the area have them, cut of what is stored."""
    stripes = Image.new("L", (STORED, STORED))
    stripes.putdata([255 * (x % 4 < 2) for _ in range(STORED) for x in range(STORED)])
    for path in root.rglob("*.png"):
        stripes.convert("RGB").save(path)
    _, data = load_data(prepare("pretext=simclr", "evaluator=none")[0])
    cut, index = still(scale=(0.2, 0.2), size=SIDE), torch.arange(16)
    large, small = (cut(rows[index].float() / 255, context().rng).std() for rows in (data.stored, data.train))
    assert large > 0.3 > 0.1 > small
    assert data.stored.shape[2:] == (STORED, STORED)
    assert data.bank.x is data.train


@pytest.mark.parametrize("challenge", ["dataset.imbalance=2", "dataset.corrupt=noise"])
def test_challenges_are_of_what_is_stored_and_samples_show_them(prepare, challenge):
    dataset, data = load_data(prepare("pretext=simclr", "evaluator=none", challenge)[0])
    assert len(data.train) == len(data.stored) == dataset.rows
    assert torch.equal(data.train[torch.arange(3)], ResizedRows(data.stored, (3, SIDE, SIDE))[torch.arange(3)])
    assert (len(data.train) < 38) == ("imbalance" in challenge)


def test_what_is_stored_cannot_be_smaller_than_a_sample(prepare):
    _, problems = prepare("pretext=simclr", "evaluator=none", "dataset.stored=31")
    assert len(problems) == 1
    assert all(word in problems[0] for word in ("stored: given 31", "32", "dataset.stored=64"))


def test_a_task_that_takes_rows_as_they_are_is_refused(prepare, monkeypatch):
    monkeypatch.setattr(SimCLR, "views", lambda self, batch, ctx: (batch.x, batch.x.flip(3)))
    _, problems = prepare("pretext=simclr", "evaluator=none")
    assert len(problems) == 1
    assert all(word in problems[0] for word in ("SimCLR", "80 pixels", "32", "dataset.stored=null"))
