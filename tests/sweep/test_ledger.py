"""What a sweep knows of its jobs: its ledger, their names, its settings as typed, its objective and early stop."""

import re

import pytest
from rich.console import Console

from ssl_runner.config.compose import Composer
from ssl_runner.run_folder.atomic import write_json
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.sweep.ledger import Ledger, job_key, slug
from ssl_runner.sweep.objective import Curve, Halving, is_better_smaller, value
from ssl_runner.sweep.read import read
from ssl_runner.sweep.settings import Settings, check_recorded, merge_words, read_settings, split_words


def test_a_job_is_known_by_its_overrides_in_any_order():
    assert job_key(["a=1", "b=2"]) == job_key(["b=2", "a=1"])
    assert len({job_key(words) for words in (["a=1", "b=2"], ["a=1"], ["a=1b=2"], ["a=1", "b=3"], [])}) == 5


def test_the_ledger_believes_the_runs(tmp_path):
    """After kill -9 sweep.json is behind: what a run says of itself counts, and `running` means cut off."""
    ledger = Ledger(folder=tmp_path, command=["seed=0,1,2,3"], jobs={})
    for seed in range(4):
        ledger.add([f"seed={seed}"], (), ()).status = "running"
    ledger.write()
    for name, status in (("000-seed-0", "completed"), ("001-seed-1", "running"), ("002-seed-2", "failed")):
        summary = {"status": status, "step": 5, "steps": 9, "final": {"knn/top1": 0.5}, "error": "because"}
        write_json(tmp_path / name / "summary.json", summary)
    again = Ledger.open(tmp_path)
    jobs = list(again.jobs.values())
    assert [each.status for each in jobs] == ["completed", "interrupted", "failed", "interrupted"]
    assert jobs[0].final == {"knn/top1": 0.5}
    assert again.add(["seed=1"], ["seed=1"], ()).folder == "001-seed-1", "the same job keeps its folder"
    assert again.add(["seed=9"], (), ()).folder == "004-seed-9"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "jobs": 3}'])
def test_a_folder_that_is_no_sweep_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        Ledger.open(tmp_path)


SIMCLR = ["pretext=simclr", "optimizer.lr=0.003", "seed=1"]
LONG = ["dataset.root=" + "long/" * 40, "model=convnet", "optimizer.weight_decay=0.0001", "seed=12"]


@pytest.mark.parametrize(
    ("job", "other", "name"),
    [
        (SIMCLR, ["pretext=byol", "optimizer.lr=1", "seed=2"], "simclr-lr-0.003-seed-1"),
        (SIMCLR, ["seed=1"], "simclr-lr-0.003"),
        (["evaluator.knn.k=3", "a.k=4"], ["evaluator.knn.k=4", "a.k=5"], "knn.k-3-a.k-4"),
        (["seed=0", "dataset.seed=3"], ["seed=1", "dataset.seed=4"], "seed-0-dataset.seed-3"),
        (["model.widths=[8, 16]", "shift=-1"], ["model.widths=[8]", "shift=1"], "widths-8-16-shift--1"),
        (["dataset.root=/a b/../c"], ["dataset.root='d'"], "root--a-b-..-c"),
        (["regulariser=none"], ["regulariser=l2"], "regulariser-none"),
        (["augment@pretext.augment=crop"], ["augment@pretext.augment=simclr"], "crop"),
        (["+x=ü"], ["+x=ö"], "x"),
        (["optimizer.lr=1e+30"], ["optimizer.lr=1e-30"], "lr-1e30"),
        (["~optimizer.clip"], ["seed=1"], "clip"),
        (["a=1"], ["a=1"], "job"),
        (LONG, ["a=1"], "root-long-long-long-long-convnet-weight_decay-0.0001-seed-12"),
        ([f"a{number}.lr=0.1" for number in range(100)], [], None),
    ],
)
def test_folders_of_a_sweep_have_names_to_read(composer, job, other, name):
    """They are cut where they are longest, so that something is left of every setting as long as all fit in."""
    short = slug(job, {*other}, composer.groups)
    assert len(short) <= 60
    assert name in (None, short)


def test_a_combination_that_cannot_be_is_named_by_what_tells_it_from_the_others():
    def refuse(composed, job, *_):
        return None, [line for word, line in (("pretext=mae", "a"), ("seed=1", "b")) if word in job]

    words = split_words(["seed=1", "pretext=simclr,mae", "batch_size=8,16"])
    assert read(words, Composer(), refuse, Console()).problems == ["b", "a (as with pretext=mae batch_size=8)"]


def test_settings_are_checked_as_every_config_is():
    words = ["seed=0,1", "sweep.resume=a=b c", "sweep.on_eror=stop", "sweep.jobs_per_device=0", "hydra.sweep.dir=x"]
    of_launcher = ["hydra/launcher=ray", "hydra.launcher.n=2", "+hydra.launcher.a.b=1"]
    split = split_words([*words, *of_launcher, "hydra/sweeper/sampler=tpe", "hydra.launchers=1"])
    assert (split.resume, split.folder, split.jobs) == ("a=b c", words[-1:], ["seed=0,1", "hydra.launchers=1"])
    assert (split.launcher, split.sweeper) == (of_launcher, ["hydra/sweeper/sampler=tpe"])
    problems = "\n".join(read_settings(split.own)[1])
    assert re.search(r"on_eror.*did you mean sweep.on_error\?", problems)
    assert re.search("^sweep.jobs_per_device: given 0", problems, re.MULTILINE)
    assert read_settings(["sweep.halving=1"])[1]
    assert read_settings(["sweep.threads=["])[1][0].startswith("sweep.threads=[: cannot be read")
    words = ["sweep.halving=3", "sweep.metric=probe/top1", "sweep.first_rung=1e-1"]
    assert read_settings(words) == (Settings(halving=3, metric="probe/top1", first_rung=0.1), [])


def test_what_is_typed_now_counts_more_than_what_a_sweep_was_begun_with():
    before = ["--config-dir", "my", "seed=0,1", "sweep.halving=3", "hydra/launcher=ray", "hydra.launcher.n_jobs=2"]
    now = ["-m", "sweep.resume=F", "hydra.sweep.dir=x", "sweep.threads=1", "sweep.halving=0"]
    kept = ["--config-dir", "my", "seed=0,1"]
    assert merge_words(before, now) == [*kept, *before[4:], "sweep.threads=1", "sweep.halving=0"]
    assert merge_words(before, ["hydra.launcher.n_jobs=3"]) == [*kept, *before[3:5], "hydra.launcher.n_jobs=3"]
    assert merge_words(before, ["hydra/launcher=local"]) == [*kept, "sweep.halving=3", "hydra/launcher=local"]


def test_what_a_strangers_sweep_would_run_is_typed_again():
    harmless = ["partition=gpu", "gres=gpu:2", "ray.remote.num_gpus=0.5"]
    chosen = ["hydra/launcher=submitit_slurm", "hydra/sweeper=optuna", "seed=0,1"]
    wrong = ["setup=[touch x]", "setup@x=[touch x]", "comment='a\ntouch x'"]
    wrong += ["ray={init:{address:evil}}", "ray.init.address=evil:1"]
    harmless, wrong = ([f"hydra.launcher.{each}" for each in words] for words in (harmless, wrong))
    wrong += ["+hydra.launcher.additional_parameters.prolog=x", "+hydra.launcher.ray.remote.runtime_env={pip:[x]}"]
    lines = check_recorded([*chosen, *harmless, *wrong], ["seed=0,1"])
    assert [line.partition(": may run")[0] for line in lines] == wrong
    assert check_recorded([*harmless, wrong[0]], [wrong[0]]) == []


def test_halving_by_hand():
    """Of six jobs that come to the first rung one after another, those stop that are below the best third so far."""
    for eta, first, rungs in ((2, 0.1, [0.1, 0.2, 0.4, 0.8]), (3, 1 / 9, [1 / 9, 1 / 3]), (4, 0.5, [0.5])):
        assert Halving(eta, first).rungs == pytest.approx(rungs), "powers of eta"
    halving, stopped = Halving(3, 0.25), set()
    for job, accuracy in zip("abcdef", (0.5, 0.6, 0.4, 0.7, 0.65, 0.1), strict=True):
        if halving.stop_reason(job, [(0.0, 0.9), (0.2, 0.9), (0.25, accuracy), (0.5, 0.0)]) is not None:
            stopped.add(job)
    # a, b: too few to tell. c: best 1 of 3 had 0.6. d is best. e: best 1 of 5 has 0.7. f: best 2 of 6 have 0.65.
    assert stopped == {"c", "e", "f"}
    assert halving.stop_reason("c", [(0.25, 0.4)]) is None, "judged once at a rung"


def test_a_job_is_judged_by_its_next_measurement_after_a_rung():
    halving, losses = Halving(2, 0.5), Halving(2, 0.5, smaller=True)
    assert halving.stop_reason("a", [(0.4, 0.1)]) is None
    assert not halving.values
    assert halving.stop_reason("a", [(0.4, 0.1), (0.9, 0.8)]) is None
    assert halving.values == {0: {"a": 0.8}}
    assert "0.2" in str(halving.stop_reason("b", [(0.6, 0.2)]))
    losses.remember("a", [(0.5, 0.3)])
    assert "0.4" in str(losses.stop_reason("b", [(0.5, 0.4)]))
    assert losses.stop_reason("c", [(0.5, 0.1)]) is None, "of losses the smaller is kept"
    falling = ("train/loss", "train/cross_entropy", "seconds", "abx/dtw_across", "loss/bits_a_byte", "test/probe/ece")
    assert all(map(is_better_smaller, falling)), "a sweep sees no run that tells it"
    assert not any(map(is_better_smaller, ("knn/top1", "test/knn/top1", "similarity/spearman", "loss/masked_accuracy")))


def test_an_objective_is_any_number_of_a_job_that_came_to_its_end(tmp_path):
    """Of a failed job `final` may hold what a random encoder had; of a stopped one it may hold nothing."""
    old = {"probe_top1": 0.6, "few_label_mean": 0.7}  # as version 0.1 called numbers on test
    final = {"knn/top1": 0.5, "loss": float("nan")}
    write_json(tmp_path / "summary.json", {"status": "completed", "final": final, "test": old, "seconds": 7})
    done = read_summary(tmp_path)
    known = {"knn/top1": 0.5, "seconds": 7.0, "test/probe/top1": 0.6, "test/few_label/mean": 0.7}
    assert {name: value(done, [], name) for name in known} == known
    assert read_settings(["sweep.metric=test/few_label_mean"])[0] == Settings(metric="test/few_label/mean")
    assert value(done, [(1, 2.0), (2, 1.5)], "train/loss") == 1.5
    assert value(done, [], "loss") is value(done, [], "status") is value(done, [], "absent") is None
    assert value({"status": "stopped", "final": {}}, [(0, 0.1), (20, 0.4)], "knn/top1") == 0.4
    assert value({**done, "status": "failed"}, [(0, 0.1)], "knn/top1") is None


def test_a_curve_reads_each_row_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    curve = Curve(path, "knn/top1")
    assert not curve.read()
    path.write_text('{"step": 1, "knn/top1": 0.1}\n{"step": 2}\n{"step": 3, "knn')
    assert (curve.read(), curve.step, curve.points) == (True, 2, [(1, 0.1)])
    assert not curve.read(), "a part of a row is not new"
    with path.open("a") as file:
        file.write('/top1": 0.3}\ntorn\n')
    assert (curve.read(), curve.step, curve.points) == (True, 3, [(1, 0.1), (3, 0.3)])
    (tmp_path / "new").write_text('{"step": 1, "knn/top1": 0.7}\n')
    (tmp_path / "new").rename(path)
    assert (curve.read(), curve.points) == (True, [(1, 0.7)]), "a resumed run writes its file anew"
