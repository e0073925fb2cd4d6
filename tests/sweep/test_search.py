"""Search by Optuna, with jobs that are worth what a function says, and with real ones."""

import io
import json
import pickle
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from conftest import tiny
from rich.console import Console
from runs import enter, jobs_of, put, sweep_part

from ssl_runner.command.sweep import prepare
from ssl_runner.config.compose import Composer
from ssl_runner.config.files import read
from ssl_runner.config.grammar import Axis, examples, is_searched, read_axes
from ssl_runner.run_folder.atomic import write_json
from ssl_runner.sweep.choices import SWEEPERS
from ssl_runner.sweep.dispatch import BEGUN, WITHDRAWN
from ssl_runner.sweep.read import Request
from ssl_runner.sweep.run import start
from ssl_runner.sweep.settings import Settings

pytestmark = pytest.mark.usefixtures("here")
optuna = partial(sweep_part, SWEEPERS, "hydra/sweeper=optuna")
SEARCH = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "pretext=rotation,simclr", "seed=range(2,8,3)"]


def test_a_search_space_is_read_and_shown_by_its_ends():
    fixed = ["length=5st", "evaluator=[knn,probe]", "~regulariser"]
    assert [is_searched(word) for word in (*fixed, *SEARCH)] == [False] * 3 + [True] * 3
    axes, problems = read_axes(SEARCH)
    trials = {tuple(each.partition("=")[2] for each in trial) for trial in examples(axes)}
    assert not problems
    ends = {("0.0001", "rotation", "2"), ("0.1", "rotation", "2"), ("0.0001", "simclr", "2")}
    assert trials == {*ends, ("0.0001", "rotation", "5")}, "in Hydra a range ends before its end"
    odd = {"a=int(interval(1,5))": Axis("a", low=1, high=5), "a=shuffle(c,b)": Axis("a", ("b", "c"))}
    odd |= {"a=range(5,1,-2)": Axis("a", low=3, high=5, step=2)}
    assert read_axes([*odd]) == ([*odd.values()], [])
    wrong = ["pretext=glob(*)", "seed=range(5,5)"]
    assert [line.partition(":")[0] for line in read_axes(wrong)[1]] == wrong


@dataclass
class Instant:
    """A launcher with places for `size` jobs, each worth `value` after `lasts` looks."""

    size: int
    value: Callable[[list[str]], float | None] = lambda trial: 0.5
    lasts: Callable[[int], int] = lambda number: 1
    stop_at: int = 1000  # jobs
    most: int = 0
    started: list[list[str]] = field(default_factory=list)
    folders: dict[int, Path] = field(default_factory=dict)

    def open(self, sweep, work):
        self.news, self.left = [], {}

    @property
    def places(self):
        return self.size - len(self.left)

    def start(self, folders):
        self.folders |= folders
        self.left |= {number: self.lasts(number) for number in folders}
        self.news += [(number, BEGUN) for number in folders]
        self.started += [read(folder / "overrides.yaml", list) for folder in folders.values()]
        self.most = max(self.most, len(self.left))

    def look(self):
        if len(self.started) >= self.stop_at:
            raise KeyboardInterrupt
        news, self.news = self.news, []
        self.left = {number: looks - 1 for number, looks in self.left.items()}
        for number in [number for number, looks in self.left.items() if looks <= 0]:
            del self.left[number]
            folder = self.folders[number]
            value = self.value(read(folder / "overrides.yaml", list))
            word = "failed" if value is None else "stopped" if (folder / "stop").exists() else "completed"
            write_json(folder / "summary.json", {"status": word, "final": {"knn/top1": value}})
            news.append((number, 1 if value is None else 0))
        return news

    def stop(self, how):
        self.stop_at = 1000
        self.news += [(number, WITHDRAWN) for number in self.left if how != "kill"]
        self.close()

    def close(self):
        self.left = {}


def value(trial):
    """Best at a learning rate of 0.01 with rotation; simclr fails at seed 5."""
    words = dict(word.split("=") for word in trial)
    if words["pretext"] == "simclr" and words["seed"] == "5":
        return None
    return -abs(float(words["optimizer.lr"]) - 0.01) - (words["pretext"] == "simclr")


def search(sweeper, launcher, *words, metric="knn/top1"):
    """Begins a search or goes on with it. Returns the exit status and what was printed."""
    resume = "sweep" if Path("sweep").exists() else None
    console, settings = Console(file=io.StringIO(), width=200), Settings(resume=resume, metric=metric)
    axes = read_axes(words or SEARCH)[0]
    request = Request(Composer(), prepare, settings, launcher, sweeper, axes=axes, folder="sweep")
    request.compose = lambda overrides: {"of": overrides}
    return start(request, [], console, print), console.file.getvalue()


def trials(url="sqlite:///sweep/study.db"):
    import optuna

    return optuna.load_study(study_name="sweep", storage=url).trials


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_study_goes_on_where_it_was_cut_off(sampler):
    """Trials cut off are evaluated first and only the missing ones are added; none of them comes twice by its seed."""
    sweeper = optuna(f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=14")
    launcher = Instant(3, value, lambda number: 2, stop_at=8)
    search(sweeper, launcher)
    before, running = len(launcher.started), [each.state.name for each in trials()].count("RUNNING")
    assert 0 < running <= 3
    status, output = search(sweeper, launcher)
    assert launcher.started[before : before + running] == launcher.started[before - running : before]
    done = trials()
    params = [tuple(f"{key}={each}" for key, each in trial.params.items()) for trial in done]
    assert len(done) == len(set(params)) == 14
    assert {trial.params["seed"] for trial in done} == {2, 5}
    assert [trial.value for trial in done] == [value(list(each)) for each in params]
    known = {trial.value: each for trial, each in zip(done, params, strict=True) if trial.value is not None}
    assert f"14 trials, the best has {max(known):.4g}: {' '.join(known[max(known)])}" in output
    assert status == any(trial.value is None for trial in done)
    launcher.stop_at = 0
    assert search(sweeper, launcher)[0] == status, "a study that has its trials is done"


@pytest.mark.slow
def test_a_place_is_never_left_free_for_a_slow_trial():
    """One that takes forever is still running when all others have come and gone."""
    lasting = Instant(3, lasts=lambda number: 13 if number == 0 else 1)
    assert (search(optuna("hydra.sweeper.n_trials=20"), lasting)[0], lasting.most) == (0, 3)
    order = [each.number for each in sorted(trials(), key=lambda each: each.datetime_complete)]
    assert order.index(0) >= 15


def test_n_jobs_limits_the_trials_at_once_and_failures_end_a_search():
    failing = Instant(8, lambda trial: None)
    sweeper = optuna("hydra.sweeper.n_trials=10", "hydra.sweeper.n_jobs=2", "hydra.sweeper.max_failure_rate=0.3")
    status, output = search(sweeper, failing)
    assert (status, failing.most, "4 trials, no trial has a value" in output) == (1, 2, True)


def test_two_trials_that_are_the_same_are_one_job():
    launcher = Instant(1)
    assert search(optuna("hydra.sweeper.n_trials=6"), launcher, "seed=1,2")[0] == 0
    assert len(launcher.started) <= 2
    assert [each.value for each in trials()] == [0.5] * 6


def test_a_study_of_another_search_is_refused():
    launcher = Instant(1)
    search(optuna("hydra.sweeper.n_trials=2"), launcher, "seed=1,2")
    for word, seeds, metric, line in (
        ("n_trials=4", "1,2,3", "knn/top1", r"study\.db: .*dynamic value space"),
        ("n_trials=4", "1,2", "knn/top5", r"its trials are of sweep\.metric=knn/top1, not knn/top5"),
        ("direction=minimize", "1,2", "knn/top1", r"its trials are of hydra\.sweeper\.direction=maximize"),
    ):
        with pytest.raises(ValueError, match=line):
            search(optuna(f"hydra.sweeper.{word}"), launcher, f"seed={seeds}", metric=metric)
    assert len(trials()) == 2


def test_a_sweep_that_goes_on_leaves_the_trials_of_others_alone(here, monkeypatch):
    """Also one that is the same as a job of its own which is done: the sweep that has begun it will tell it."""
    url, words, states = f"sqlite:///{here}/shared.db", ("seed=1,2",), []
    sweeper = optuna(f"hydra.sweeper.storage={url}", "hydra.sweeper.n_trials=8")
    for folder, launcher in (("a", Instant(1, stop_at=1)), ("b", Instant(1, stop_at=6)), ("b", Instant(1))):
        put(f"{here}/{folder}/here", "")
        monkeypatch.chdir(here / folder)
        search(sweeper, launcher, *words)
        states.append([trial.state.name for trial in trials(url)])
    assert (states[1][0], states[2]) == ("RUNNING", ["RUNNING"] + ["COMPLETE"] * 7)
    monkeypatch.chdir(here / "a")
    search(sweeper, Instant(1), *words)
    assert [trial.value for trial in trials(url)] == [0.5] * 8


def test_a_pruned_trial_is_stopped_and_told_so():
    """By the median of what others had at the same share of a run."""
    median = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2", "hydra.sweeper.n_trials=4"]

    class Curves(Instant):
        def look(self):
            for number in self.left:
                folder = self.folders[number]
                value = 0.5 if number < 3 else 0.1
                write_json(folder / "summary.json", {"status": "running", "steps": 10})
                with (folder / "metrics.jsonl").open("a") as file:
                    file.write(f'{{"step": {10 - self.left[number]}, "knn/top1": {value}}}\n')
            return super().look()

    search(optuna(*median), Curves(1, lasts=lambda number: 8), "seed=range(0,1000)")
    (stopped,) = [folder for folder in Path("sweep").glob("0*") if (folder / "stop").exists()]
    assert stopped == max(Path("sweep").glob("0*"))
    assert "knn/top1 0.1 at" in (stopped / "stop").read_text()
    assert [each.state.name for each in trials()] == ["COMPLETE"] * 3 + ["PRUNED"]


def test_nothing_in_a_strangers_study_runs():
    """Optuna keeps the state of CMA-ES as a pickle beside each trial."""

    class Hostile:
        def __reduce__(self):
            return Path("ran").touch, ()

    sweeper, launcher = optuna("hydra/sweeper/sampler=cmaes", "hydra.sweeper.n_trials=6"), Instant(1)
    words = ("optimizer.lr=interval(0,1)", "optimizer.momentum=interval(0,1)")
    search(sweeper, launcher, *words)
    with sqlite3.connect("sweep/study.db") as study:
        values = "select trial_id, 'cma:optimizer:0', ? from trials"
        study.execute("delete from trial_system_attributes where key like 'cma:optimizer%'")
        planted = json.dumps(pickle.dumps(Hostile()).hex())
        study.execute(f"insert into trial_system_attributes (trial_id, key, value_json) {values}", [planted])
    study.close()
    sweeper.n_trials = 12
    search(sweeper, launcher, *words)
    assert len(trials()) == 12
    assert not Path("ran").exists()


def test_optuna_searches_real_jobs(capsys):
    optuna()
    more = ["hydra/sweeper=optuna", SEARCH[0], "hydra.sweep.dir=sweep", "sweep.jobs_per_device=2"]
    words = ["-m", *tiny("evaluator=knn", "length=3st"), *more]
    enter(capsys, [*words, "hydra.sweeper.n_trials=3"], "3 trials, the best has")
    first = jobs_of()
    assert [each["status"] for each in first] == ["completed"] * 3
    assert len({each["overrides"][-1] for each in first}) == 3
    enter(capsys, "-m hydra.sweeper.n_trials=4 sweep.resume=sweep", "4 trials, the best has")
    assert jobs_of()[:3] == first, "what was tried is not tried again"
    assert len(jobs_of()) == 4
    other = "-m sweep.resume=sweep sweep.metric=speed/images_per_second"
    enter(capsys, other, "its trials are of sweep.metric=knn/top1", status=2)
    enter(capsys, [*words, "sweep.metric=train/loss"], "type hydra.sweeper.direction=minimize", status=2)
    enter(capsys, [*words, "optimizer.weight_decay=interval(-1,1)"], "weight_decay: given -1", status=2)
