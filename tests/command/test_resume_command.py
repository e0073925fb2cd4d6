"""A run that goes on: from any folder on its own data, knowingly on others, for longer, and never by accident."""

import shutil
from pathlib import Path

import pytest
from conftest import TINY
from image_trees import paint, paint_classes
from runs import change, config, enter, kill, measured, refusal, same, saved, summary

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.duration import Length
from ssl_runner.optimizer.recipe import Recipe
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.origin import begun_in

LONGER = "length=20st"
IMAGES = [
    *("dataset=image_folder", "dataset.root=images", "dataset.cache=cache", "dataset.test=0", "model.widths=[8,8,8]"),
    *("model=convnet_small", "batch_size=16", "length=4ep", "log_every=2st", "save_every=2st", "keep=9", "device=cpu"),
    *("evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=2st"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with images, 54 of them for training, and a run on them: 12 steps, 3 an epoch."""
    home = tmp_path_factory.mktemp("trained") / "home"
    paint_classes(home / "images", names=("ant", "bee", "cat"), each=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main([*IMAGES, "hydra.run.dir=run"]) == 0
    return home


@pytest.fixture
def home(trained, here):
    return shutil.copytree(trained, here / "home")


@pytest.fixture
def away(home, monkeypatch):
    """Another folder, which is the current one; the run has been stopped at step 6 in the first."""
    change(home / "run", "environment.json", begun_in=str(home))
    for step in (12, 10, 8):
        (home / "run" / "checkpoints" / f"{step:07d}.pt").unlink()
    change(home / "run", "summary.json", status="interrupted", step=6)
    (home.parent / "away").mkdir()
    monkeypatch.chdir(home.parent / "away")
    return home / "run"


def rates(folder):
    return {
        row["step"]: row["optimizer/lr"] for row in read_rows(Path(folder) / "metrics.jsonl") if "train/loss" in row
    }


def newest(folder):
    return next(checkpoint.newest_first(Path(folder) / "checkpoints"))[1]


def test_a_completed_run_is_trained_longer_by_the_schedule_of_the_new_length(run, whole, capsys):
    enter(capsys, f"resume run {LONGER}", "resumed at step 12 of 20")
    assert (config(run)["length"], files.read(run / "overrides.yaml", list)[-1]) == ("20st", LONGER)
    done = summary(run)
    assert (done["status"], done["step"], done["steps"]) == ("completed", 20, 20)
    assert done["extended"] == [{"step": 12, "from": "12st", "to": "20st"}]
    assert done["baseline"] == summary(whole)["baseline"]
    before, now = rates(whole), rates(run)
    assert {step: now[step] for step in before} == before, "what was learnt is not learnt again"
    recipe = Recipe(batch_size=16, lr=config(run)["optimizer"]["lr"], weight_decay=0.0)
    assert {step: now[step] for step in (16, 20)} == {n: recipe.rate(n - 1, Length(20, 5, 16)) for n in (16, 20)}
    assert now[16] > before[12], "the rate of a completed cosine run rises again"
    assert [step for step, _ in measured(run, "test/knn/top1")] == [12, 20]
    enter(capsys, "compare run", "1 run was given another length: run (at step 12)")
    enter(capsys, "rerun run --to again", "the old run was given the length 20st at step 12, before 12st")
    assert not same("run", "again")


def test_a_kill_after_an_extension_changes_no_bit_of_it(run, capsys):
    enter(capsys, f"resume run {LONGER}")
    killed = kill(Path(shutil.copytree(run, "killed")), 20)
    assert saved(killed)[-1] == 16
    enter(capsys, "resume killed", "resumed at step 16 of 20")
    assert same(killed, run)
    assert (killed / "metrics.jsonl").read_text().count("\n") == (run / "metrics.jsonl").read_text().count("\n")
    for each in (run, killed):
        assert summary(each)["extended"] == [{"step": 12, "from": "12st", "to": "20st"}]
    enter(capsys, "resume run length=24st")
    lengths = [(each["step"], each["from"], each["to"]) for each in summary(run)["extended"]]
    assert lengths == [(12, "12st", "20st"), (20, "20st", "24st")]


def test_a_crash_between_the_new_length_and_a_checkpoint_of_it_costs_nothing(run, capsys):
    shutil.copytree(run, "crashed")
    enter(capsys, f"resume run {LONGER}")
    for name in ("config.yaml", "overrides.yaml"):
        shutil.copy(run / name, "crashed")
    change(Path("crashed"), "summary.json", status="running")
    enter(capsys, "resume crashed", "resumed at step 12 of 20")
    assert same("crashed", run)
    assert summary("crashed")["extended"] == summary(run)["extended"]


def test_a_run_that_was_cut_off_may_become_longer_or_shorter_but_not_than_it_is(cut, capsys):
    before = {path: path.read_bytes() for path in cut.rglob("*") if path.is_file() and path.name != "run.log"}
    refusal(capsys, "resume cut length=7st", "length: given 7st, 7 steps, and the run has done 8; type more")
    assert {path: path.read_bytes() for path in before} == before
    enter(capsys, "resume cut length=2ep", "resumed at step 8 of 10")
    assert summary(cut)["extended"] == [{"step": 8, "from": "12st", "to": "2ep"}]
    for line in ("resume cut length=2ep", "resume cut length=10st", "resume cut"):
        enter(capsys, line, "cut is completed already; to train longer, type ssl-runner resume cut length=")
        assert config(cut)["length"] == "2ep"
    shutil.rmtree(cut / "checkpoints")
    refusal(capsys, f"resume cut {LONGER}", "cut holds no checkpoint to go on from; type ssl-runner rerun cut")


def test_a_length_that_was_edited_by_hand_is_taken_only_if_it_is_typed(cut, capsys):
    change(cut, "config.yaml", length="20st")
    enter(capsys, "resume cut", "length changed", f"to train longer, type ssl-runner resume cut {LONGER}", status=2)
    enter(capsys, f"resume cut {LONGER}", "resumed at step 8 of 20")
    assert summary(cut)["extended"] == [{"step": 8, "from": "12st", "to": "20st"}]


def test_every_verb_means_the_data_of_where_the_run_was_begun(away, trained, capsys):
    paint_classes(Path("data"), names=("ant", "bee"), each=9)  # not the run's, and not where it looks
    enter(capsys, f"evaluate {away} knn evaluator.knn.k=3")
    enter(capsys, f"rerun {away} --to again")
    assert same("again", trained / "run")
    assert config("again")["dataset"]["root"] == "images", "a config stays portable"
    assert begun_in(Path("again")) == away.parent, "the new run can itself be resumed from anywhere"
    enter(capsys, f"resume {away}", "resumed at step 6 of 12")
    assert same(away, trained / "run")
    enter(capsys, f"rerun {away}/config.yaml", "/images is no folder".removeprefix("/"), status=2)


def test_data_that_have_moved_are_found_here_or_asked_for_by_both_places(away, capsys):
    home = away.parent
    (home / "images").rename("images")
    enter(capsys, f"resume {away}", "resumed at step 6 of 12")
    shutil.move("images", home.parent / "elsewhere")
    places = (f"neither {home / 'images'}", f"nor {Path.cwd() / 'images'} exists", "type dataset.root=PATH")
    for verb in ("rerun", "evaluate"):
        enter(capsys, f"{verb} {away}", *places, status=2)
    refusal(capsys, f"resume {away} length=14st", *places)
    assert not list(home.rglob("elsewhere"))
    enter(capsys, f"evaluate {away} knn evaluator.knn.k=3 dataset.root=../elsewhere")
    enter(capsys, f"resume {away} length=14st dataset.root=../elsewhere dataset.workers=1", "resumed at step 12 of 14")
    assert Path(config(away)["dataset"]["root"]).resolve() == home.parent / "elsewhere"
    assert Path(config(away)["dataset"]["root"]).is_absolute(), "typed in another folder than the run was begun in"


def test_where_data_lie_may_be_changed_in_the_file_too(away, trained, capsys):
    (away.parent / "images").rename(away.parent / "moved")
    change(away, "config.yaml", dataset={"root": "moved", "cache": False, "workers": 2, "max_broken": 3})
    enter(capsys, f"resume {away}", "resumed at step 6 of 12")
    assert same(away, trained / "run")
    change(away, "summary.json", status="interrupted")
    refusal(capsys, f"resume {away} dataset.size=8", "dataset.size: cannot change in a run that goes on")
    enter(capsys, f"resume {away} dataset.stream=true", "resumed at step 12 of 12")


def test_a_run_folder_on_a_machine_that_has_no_such_places(away, trained, monkeypatch, capsys):
    shutil.move(away.parent, "moved")
    monkeypatch.chdir("moved")
    enter(capsys, "resume run", "resumed at step 6 of 12")
    assert same("run", trained / "run")


@pytest.mark.slow
def test_a_job_of_a_sweep_is_resumed_alone_from_anywhere(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    enter(capsys, ["-m", *IMAGES, "seed=3,4", "length=2st", "hydra.sweep.dir=sweep"])
    job = next((home / "sweep").glob("000-*"))
    assert begun_in(job) == home
    (job / "environment.json").unlink()
    assert begun_in(job) == home, "by the sweep's ledger"
    monkeypatch.chdir(home.parent)
    enter(capsys, f"resume {job} length=4st", "resumed at step 2 of 4")


def test_other_data_are_refused_and_taken_knowingly(away, trained, capsys):
    images, before = away.parent / "images", {path: path.stat().st_mtime_ns for path in away.rglob("*.pt")}
    paint_classes(images, names=("ant", "bee", "cat"), each=29, first=1)  # 78 for training: 4 steps an epoch
    known = newest(away)["data"]["fingerprint"]
    words = ("(78 training rows)", f"that of the run's was {known} (54 training rows)", f"resume {away} --other-data")
    message = enter(capsys, f"resume {away}", *words, status=2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    words = ("other data: ", "the schedule stays as it was", "the split is drawn anew", "resumed at step 6 of 12")
    enter(capsys, f"resume {away} --other-data", *words)
    (entry,) = summary(away)["other_data"]
    assert (entry["step"], entry["rows"], entry["split"], entry["fingerprint"] in message) == (
        6,
        78,
        "drawn anew",
        True,
    )
    assert rates(away) == rates(trained / "run"), "neither steps nor their rates have moved"
    assert [row["epoch"] for row in read_rows(away / "metrics.jsonl") if "train/loss" in row][-1] == 4
    enter(capsys, f"compare {away}", "1 run was continued on other data", "(at step 6)")
    enter(capsys, f"rerun {away} --to again", "the old run went on with other data at step 6")
    enter(capsys, f"evaluate {away} knn evaluator.knn.k=3")
    assert "other data" not in (away / "evaluation/knn.json").read_text(), "they are what it had last"
    shutil.rmtree(images)
    shutil.copytree(trained / "images", images)
    enter(capsys, f"resume {away} length=13st", "--other-data", status=2)


def test_other_data_than_a_checkpoint_has_seen_are_no_history(away, trained, capsys):
    """A process that was killed before it had a checkpoint of the other data has learnt nothing of them."""
    images, run = away.parent / "images", away.parent / "killed"
    shutil.copytree(away, run)
    paint(images / "ant" / "new.png", (99, 99, 99))
    enter(capsys, f"resume {run} --other-data")
    for step in (8, 10, 12):
        (run / "checkpoints" / f"{step:07d}.pt").unlink()
    change(run, "summary.json", status="running")
    (images / "ant" / "new.png").unlink()
    enter(capsys, f"resume {run}", "resumed at step 6 of 12")
    assert "other_data" not in summary(run)
    assert same(run, trained / "run")


def test_rows_that_were_held_out_stay_so_if_they_have_a_folder(away, capsys):
    """Only then is the split the same, and it is said."""
    for name in ("ant", "bee", "cat"):
        paint_classes(Path("data/train"), names=(name,), each=20)
        paint_classes(Path("data/val"), names=(name,), each=4, first=100)
    words = [each.replace("images", "data") for each in IMAGES]
    enter(capsys, [*words, "length=2st", "hydra.run.dir=parts"])
    paint(Path("data/train/ant/new.png"), (99, 99, 99))
    enter(capsys, "resume parts length=4st --other-data", "and the split is the same")
    assert summary("parts")["other_data"][0]["split"] == "the same"


def test_fewer_rows_than_an_epoch_has_are_gone_through_again(away, capsys):
    for path in sorted((away.parent / "images").rglob("1*.png")):
        path.unlink()  # 24 training rows stay, and an epoch is 3 steps of 16
    enter(capsys, f"resume {away} --other-data", "(24 training rows)", "step 12/12")
    assert summary(away)["steps"] == 12


def test_a_checkpoint_without_a_history_is_gone_on_with(cut, whole):
    """As version 0.2 left it: the fingerprint is that of environment.json."""
    for path in checkpoint.steps(cut / "checkpoints"):
        state = checkpoint.load(path)
        del state["data"]
        checkpoint.save(path.parent, state["step"], {k: v for k, v in state.items() if k not in ("format", "step")}, 9)
    change(cut, "environment.json", dataset="0" * 32)
    assert main(["resume", "cut"]) == 2
    change(cut, "environment.json", dataset=newest(whole)["data"]["fingerprint"])
    assert main(["resume", "cut"]) == 0
    assert same(cut, whole)
    assert newest(cut)["data"] == newest(whole)["data"]


def test_what_is_typed_twice_is_recorded_once(cut):
    assert main(["resume", "cut", "keep=5", "log_every=2st"]) == 0
    change(cut, "summary.json", status="interrupted")
    assert main(["resume", "cut", "keep=5", "log_every=2st"]) == 0
    assert files.read(cut / "overrides.yaml", list).count("keep=5") == 1


def test_tiny_is_what_these_tests_count_on():
    assert {"length=12st", "batch_size=16"} <= {*TINY}
