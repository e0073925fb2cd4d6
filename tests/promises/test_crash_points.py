"""Killed with -9 before each single file operation, a command typed again ends in the files of one that never was."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from conftest import TINY
from forks import carry_out
from image_trees import paint_classes
from trees import tree

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy
# Every how many-th operation is a crash point, from one that is drawn; 1 for all.
EACH = int(os.environ.get("SSL_RUNNER_CRASH_EACH", "96"))


def crash_and_go_on(
    tmp_path: Path, begun: Path, command: list[str], again: list[list[str]], whose: str = "own"
) -> None:
    """Kills a command before each of its file operations, has each copy gone on with, and compares the trees.

    `begun`: the folder that it starts in. `again`: what a user would type then, tried in turn until one returns 0.
    `whose`: operations of the process itself, or of the "jobs" that it forks.
    """
    whole = tmp_path / "whole"
    shutil.copytree(begun, whole)
    (undisturbed,) = carry_out([{"words": command, "folder": str(whole)}], tmp_path)
    assert undisturbed["status"] == 0, undisturbed["printed"]
    operations = dict(enumerate(undisturbed[whose]))
    first = random.SystemRandom().randrange(min(EACH, len(operations)))  # of few, one at least
    operations = dict(list(operations.items())[first::EACH])
    print(f"{len(operations)} crash points, from operation {first}")
    places = {number: tmp_path / f"point{number}" for number in operations}
    cases = []
    for number, place in places.items():
        shutil.copytree(begun, place)
        cases.append({"words": command, "folder": str(place), "operation": number, "whose": whose})
    statuses = [each["status"] for each in carry_out(cases, tmp_path)]
    assert {*statuses} <= {-9 if whose == "own" else 1, 0}
    assert statuses.count(0) <= 2, "TensorBoard's thread may write once less, and the last is not reached"
    time.sleep(1)  # files younger than that are held to be another process's
    stuck = dict(places)
    for words in again:
        done = carry_out([{"words": words, "folder": str(place)} for place in stuck.values()], tmp_path)
        assert not any("Traceback" in each["printed"] for each in done)
        statuses = {number: each["status"] for number, each in zip(stuck, done, strict=True)}
        stuck = {number: place for number, place in stuck.items() if statuses[number]}
    assert not stuck, {operations[number]: statuses[number] for number in stuck}
    expected = tree(whole)
    different = {
        operations[number]: [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        for number, place in places.items()
        if (found := tree(place)) != expected
    }
    assert not different


TRAIN = [
    *(*TINY, "length=6st", "log_every=2st", "save_every=2st", "show_every=3st", "hydra.run.dir=run"),
    *("evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=3st"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (done,) = carry_out([{"words": TRAIN, "folder": str(folder)}], folder)
    assert done["status"] == 0, done["printed"]
    for name in ("printed.txt", "operations.txt", "ran.json"):
        (folder / name).unlink()
    return folder


@pytest.mark.slow(one_in=48)
def test_training(tmp_path):
    (tmp_path / "begun").mkdir()
    crash_and_go_on(tmp_path, tmp_path / "begun", TRAIN, [["resume", "run"], TRAIN])


@pytest.mark.slow(one_in=48)
@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "run", "knn", "geometry", "evaluator.knn.k=3"],
        ["export", "run", "--format", "safetensors,torch"],
        ["resume", "run", "length=10st"],
    ],
    ids=["evaluate", "export", "extend"],
)
def test_what_is_done_to_a_run(tmp_path, trained, words):
    crash_and_go_on(tmp_path, trained, words, [words])


SWEEP = ["-m", *TINY, "evaluator=none", "length=4st", "log_every=2st", "save_every=2st", "seed=0,1"]
SWEEP += ["sweep.jobs_per_device=1", "hydra.sweep.dir=sweep"]


@pytest.mark.slow(one_in=48)
@pytest.mark.parametrize("whose", ["own", "jobs"])
def test_a_sweep(tmp_path, whose):
    (tmp_path / "begun").mkdir()
    crash_and_go_on(tmp_path, tmp_path / "begun", SWEEP, [["-m", "sweep.resume=sweep"], SWEEP], whose)


@pytest.mark.slow(one_in=48)
def test_images_decoded_into_a_cache(tmp_path):
    paint_classes(tmp_path / "begun/images")
    words = [word for word in TINY if not word.startswith("dataset")]
    words += ["dataset=image_folder", "dataset.root=images", "dataset.cache=cache", "batch_size=4", "evaluator=none"]
    words += ["length=2st", "log_every=1st", "hydra.run.dir=run"]
    crash_and_go_on(tmp_path, tmp_path / "begun", words, [["resume", "run"], words])
