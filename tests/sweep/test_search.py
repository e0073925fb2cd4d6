"""Search by Optuna, with jobs that are worth what a function says, and with real ones."""

import io
import json
import pickle
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import tiny
from rich.console import Console

from ssl_runner.__main__ import main
from ssl_runner.command.sweep import prepare
from ssl_runner.config.compose import Composer
from ssl_runner.config.hydra import Axis, examples, is_searched, read_axes
from ssl_runner.run_folder.atomic import read_json, write_json
from ssl_runner.sweep import choice
from ssl_runner.sweep.choice import read_sweeper
from ssl_runner.sweep.dispatch import BEGUN, WITHDRAWN, News, Stop
from ssl_runner.sweep.read import Request
from ssl_runner.sweep.search import run_search
from ssl_runner.sweep.settings import Settings
from ssl_runner.sweep.start import open_sweep
from ssl_runner.sweep.study import Optuna

SEARCH = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "pretext=rotation,simclr", "seed=range(2,8,3)"]


def optuna(*words: str) -> Optuna:
    chosen, problems = read_sweeper(["hydra/sweeper=optuna", *words])
    if any("pip install" in line for line in problems):
        pytest.skip(problems[0])
    assert chosen is not None, problems
    return chosen


def axes(words: Sequence[str]) -> list[Axis]:
    found, problems = read_axes(words)
    assert not problems
    return found


def test_a_search_space_is_read_and_shown_by_its_ends() -> None:
    fixed = ["length=5st", "evaluator=[knn,probe]", "~regulariser"]
    assert [is_searched(word) for word in (*fixed, *SEARCH)] == [False] * 3 + [True] * 3
    trials = examples(axes(SEARCH))
    assert trials[0] == ["optimizer.lr=0.0001", "pretext=rotation", "seed=2"]
    assert ["optimizer.lr=0.1", "pretext=rotation", "seed=2"] in trials
    assert ["optimizer.lr=0.0001", "pretext=simclr", "seed=2"] in trials
    assert ["optimizer.lr=0.0001", "pretext=rotation", "seed=5"] in trials, "in Hydra a range ends before its end"
    assert len(trials) == 4
    assert axes(["a=int(interval(1,5))", "a=shuffle(c,b)", "a=range(5,1,-2)"]) == [
        Axis("a", low=1, high=5),
        Axis("a", ("b", "c")),
        Axis("a", low=3, high=5, step=2),
    ]
    assert [line.partition(":")[0] for line in read_axes(["pretext=glob(*)", "seed=range(5,5)"])[1]] == [
        "pretext=glob(*)",
        "seed=range(5,5)",
    ]


def test_everything_wrong_with_a_sweeper_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "installed", lambda library: False)
    keys = ("direction=up", "n_trials=x", "n_jobs=0", "sampler.sed=1", "pruner._target_=os.system")
    chosen = ["hydra/sweeper=optuna", "hydra/sweeper/sampler=tpee", "hydra/sweeper/prunner=median"]
    problems = read_sweeper([*chosen, *(f"hydra.sweeper.{each}" for each in keys)])[1]
    for begin, end in (
        ("hydra.sweeper.direction: given", "'minimize' or 'maximize' is wanted"),
        ("hydra.sweeper.n_trials: given", "is wanted"),
        ("hydra.sweeper.n_jobs: given 0", "is wanted"),
        ("hydra/sweeper/sampler: given tpee", "did you mean tpe?"),
        ("hydra/sweeper/prunner: is no group here", ""),
        ("hydra.sweeper.pruner._target_: is no setting", ""),
        ("hydra/sweeper=optuna: needs optuna", "pip install 'ssl-runner[optuna]'"),
    ):
        assert any(line.startswith(begin) and line.endswith(end) for line in problems), (begin, problems)
    assert len(problems) == 7
    assert read_sweeper([]) == read_sweeper(["hydra/sweeper=grid"]) == (None, [])
    assert "type hydra/sweeper=..." in read_sweeper(["hydra/sweeper/sampler=random"])[1][0]


class Instant:
    """A launcher with places for `size` jobs, whose jobs take as many looks as `lasts` says."""

    def __init__(self, size: int, value: Callable[[list[str]], float | None], lasts: Callable[[int], int]):
        self.size, self.value, self.lasts = size, value, lasts
        self.left: dict[int, int] = {}
        self.folders: dict[int, Path] = {}
        self.most, self.started, self.stop_at = 0, list[list[str]](), 1000

    def open(self, sweep: Path, work: object) -> None:
        self.news: list[News] = []

    @property
    def places(self) -> int:
        return self.size - len(self.left)

    def start(self, folders: dict[int, Path]) -> None:
        for number, folder in folders.items():
            self.folders[number], self.left[number] = folder, self.lasts(number)
            self.news.append((number, BEGUN))
            self.started.append(words_of(folder))
        self.most = max(self.most, len(self.left))

    def look(self) -> list[News]:
        if len(self.started) >= self.stop_at:
            raise KeyboardInterrupt
        news, self.news = self.news, []
        for number in list(self.left):
            self.left[number] -= 1
            if self.left[number] <= 0:
                del self.left[number]
                value = self.value(words_of(self.folders[number]))
                word = "stopped" if (self.folders[number] / "stop").exists() else "completed"
                summary = {"status": "failed" if value is None else word, "final": {"knn/top1": value}}
                write_json(self.folders[number] / "summary.json", summary)
                news.append((number, 1 if value is None else 0))
        return news

    def stop(self, how: Stop) -> None:
        self.stop_at = 1000
        self.news += [(number, WITHDRAWN) for number in self.left if how is not Stop.KILL]
        self.left = {}

    def close(self) -> None:
        self.left = {}


def words_of(folder: Path) -> list[str]:
    return [line.removeprefix("- ") for line in (folder / "overrides.yaml").read_text().splitlines()]


def value(trial: list[str]) -> float | None:
    """Best at a learning rate of 0.01 with rotation; simclr fails at seed 5."""
    words = dict(word.split("=") for word in trial)
    if words["pretext"] == "simclr" and words["seed"] == "5":
        return None
    return -abs(float(words["optimizer.lr"]) - 0.01) - (words["pretext"] == "simclr")


def search(
    folder: Path, sweeper: Optuna, launcher: object, words: Sequence[str] = SEARCH, metric: str = "knn/top1"
) -> tuple[int, str]:
    """Begins a search or goes on with it. Returns the exit status and what was printed."""
    resume = str(folder / "sweep") if (folder / "sweep").exists() else None
    console = Console(file=io.StringIO(), width=200)
    request = Request(
        Composer(),
        prepare,
        settings=Settings(resume=resume, metric=metric),
        launcher=launcher,
        optuna=sweeper,
        axes=axes(words),
        folder=str(folder / "sweep"),
    )
    request.compose = lambda overrides: {"of": overrides}  # type: ignore[method-assign]
    with open_sweep(request, [], console, print, lambda *_: None) as opened:
        status = run_search(opened, request)
    return status, console.file.getvalue()  # type: ignore[attr-defined]


def trials(folder: Path) -> list:
    import optuna

    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder / 'sweep/study.db'}").trials


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_study_goes_on_where_it_was_cut_off(tmp_path: Path, sampler: str) -> None:
    """Trials cut off are evaluated first and only the missing ones are added; none of them comes twice by its seed."""
    sweeper = optuna(f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=14")
    launcher = Instant(3, value, lambda number: 2)
    launcher.stop_at = 8
    search(tmp_path, sweeper, launcher)
    states = [each.state.name for each in trials(tmp_path)]
    cut_off = launcher.started[-states.count("RUNNING") :]
    assert 0 < len(cut_off) <= 3
    before = len(launcher.started)
    status, output = search(tmp_path, sweeper, launcher)
    assert launcher.started[before : before + len(cut_off)] == cut_off
    done = trials(tmp_path)
    params = [tuple(f"{key}={each}" for key, each in trial.params.items()) for trial in done]
    assert len(done) == len(set(params)) == 14
    assert {trial.params["seed"] for trial in done} == {2, 5}
    assert [trial.value for trial in done] == [value(list(each)) for each in params]
    known = {trial.value: each for trial, each in zip(done, params, strict=True) if trial.value is not None}
    assert f"14 trials, the best has {max(known):.4g}: {' '.join(known[max(known)])}" in output
    assert status == any(trial.value is None for trial in done)
    launcher.stop_at = 0
    assert search(tmp_path, sweeper, launcher)[0] == status, "a study that has its trials is done"


def test_a_place_is_never_left_free_for_a_slow_trial(tmp_path: Path) -> None:
    """One that takes forever is still running when all others have come and gone."""
    lasting = Instant(3, lambda trial: 0.5, lambda number: 13 if number == 0 else 1)
    assert search(tmp_path, optuna("hydra.sweeper.n_trials=20"), lasting)[0] == 0
    assert lasting.most == 3
    order = [each.number for each in sorted(trials(tmp_path), key=lambda each: each.datetime_complete)]
    assert order.index(0) >= 15


def test_n_jobs_limits_the_trials_at_once_and_failures_end_a_search(tmp_path: Path) -> None:
    failing = Instant(8, lambda trial: None, lambda number: 1)
    sweeper = optuna("hydra.sweeper.n_trials=10", "hydra.sweeper.n_jobs=2", "hydra.sweeper.max_failure_rate=0.3")
    status, output = search(tmp_path, sweeper, failing)
    assert status == 1
    assert "4 trials, no trial has a value" in output
    assert failing.most == 2


def test_two_trials_that_are_the_same_are_one_job(tmp_path: Path) -> None:
    launcher = Instant(1, lambda trial: 0.5, lambda number: 1)
    assert search(tmp_path, optuna("hydra.sweeper.n_trials=6"), launcher, ["seed=1,2"])[0] == 0
    assert len(launcher.started) <= 2
    assert [each.value for each in trials(tmp_path)] == [0.5] * 6


def test_a_study_of_another_search_is_refused(tmp_path: Path) -> None:
    launcher = Instant(1, lambda trial: 0.5, lambda number: 1)
    search(tmp_path, optuna("hydra.sweeper.n_trials=2"), launcher, ["seed=1,2"])
    more = optuna("hydra.sweeper.n_trials=4")
    with pytest.raises(ValueError, match=r"study\.db: .*dynamic value space"):
        search(tmp_path, more, launcher, ["seed=1,2,3"])
    with pytest.raises(ValueError, match=r"its trials are of sweep\.metric=knn/top1, not knn/top5"):
        search(tmp_path, more, launcher, ["seed=1,2"], "knn/top5")
    with pytest.raises(ValueError, match=r"its trials are of hydra\.sweeper\.direction=maximize"):
        search(tmp_path, optuna("hydra.sweeper.direction=minimize"), launcher, ["seed=1,2"])
    assert len(trials(tmp_path)) == 2


def test_a_pruned_trial_is_stopped_and_told_so(tmp_path: Path) -> None:
    """By the median of what others had at the same share of a run."""
    sweeper = optuna(
        "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2", "hydra.sweeper.n_trials=4"
    )

    class Curves(Instant):
        def look(self) -> list[News]:
            for number in self.left:
                folder = self.folders[number]
                value = 0.5 if number < 3 else 0.1
                write_json(folder / "summary.json", {"status": "running", "steps": 10})
                with (folder / "metrics.jsonl").open("a") as file:
                    file.write(f'{{"step": {10 - self.left[number]}, "knn/top1": {value}}}\n')
            return super().look()

    launcher = Curves(1, lambda trial: 0.5, lambda number: 8)
    search(tmp_path, sweeper, launcher, ["seed=range(0,1000)"])
    stopped = [folder for folder in (tmp_path / "sweep").glob("0*") if (folder / "stop").exists()]
    assert [folder.name for folder in stopped] == [max(each.name for each in (tmp_path / "sweep").glob("0*"))]
    assert "knn/top1 0.1 at" in (stopped[0] / "stop").read_text()
    assert [each.state.name for each in trials(tmp_path)] == ["COMPLETE"] * 3 + ["PRUNED"]


def test_nothing_in_a_strangers_study_runs(tmp_path: Path) -> None:
    """Optuna keeps the state of CMA-ES as a pickle beside each trial."""

    class Hostile:
        def __reduce__(self) -> tuple:
            return (tmp_path / "ran").touch, ()

    sweeper = optuna("hydra/sweeper/sampler=cmaes", "hydra.sweeper.n_trials=6")
    launcher = Instant(1, lambda trial: 0.5, lambda number: 1)
    search(tmp_path, sweeper, launcher, ["optimizer.lr=interval(0,1)", "optimizer.momentum=interval(0,1)"])
    with sqlite3.connect(tmp_path / "sweep/study.db") as study:
        values = "select trial_id, 'cma:optimizer:0', ? from trials"
        study.execute("delete from trial_system_attributes where key like 'cma:optimizer%'")
        planted = json.dumps(pickle.dumps(Hostile()).hex())
        study.execute(f"insert into trial_system_attributes (trial_id, key, value_json) {values}", [planted])
    study.close()
    sweeper.n_trials = 12
    search(tmp_path, sweeper, launcher, ["optimizer.lr=interval(0,1)", "optimizer.momentum=interval(0,1)"])
    assert len(trials(tmp_path)) == 12
    assert not (tmp_path / "ran").exists()


def test_optuna_searches_real_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    optuna()
    monkeypatch.chdir(tmp_path)

    def jobs() -> list[dict]:
        return list(read_json(tmp_path / "sweep/sweep.json")["jobs"].values())

    more = ["hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "hydra.sweep.dir=sweep"]
    words = [*tiny("evaluator=knn", "length=3st"), *more, "sweep.jobs_per_device=2"]
    assert main(["-m", *words, "hydra.sweeper.n_trials=3"]) == 0
    first = jobs()
    assert [each["status"] for each in first] == ["completed"] * 3
    assert len({each["overrides"][-1] for each in first}) == 3
    assert "3 trials, the best has" in capsys.readouterr().out
    assert main(["-m", "hydra.sweeper.n_trials=4", "sweep.resume=sweep"]) == 0
    assert jobs()[:3] == first, "what was tried is not tried again"
    assert len(jobs()) == 4
    assert "4 trials, the best has" in capsys.readouterr().out
    for wrong, line in (
        (["sweep.resume=sweep", "sweep.metric=speed/images_per_second"], "its trials are of sweep.metric=knn/top1"),
        ([*words, "sweep.metric=train/loss"], "type hydra.sweeper.direction=minimize"),
        ([*words, "optimizer.weight_decay=interval(-1,1)"], "weight_decay: given -1"),
    ):
        assert main(["-m", *wrong]) == 2
        assert line in capsys.readouterr().err
