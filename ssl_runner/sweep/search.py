"""Search for the best job by Optuna: a trial is asked for when a place is free, and told when its job has ended."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssl_runner.errors import DONE, FAILED
from ssl_runner.sweep.dispatch import Jobs
from ssl_runner.sweep.ledger import ENDED, Entry, key_of
from ssl_runner.sweep.naming import slug
from ssl_runner.sweep.study import Optuna, distribution

if TYPE_CHECKING:
    from optuna import Study, Trial

    from ssl_runner.sweep.halving import Curve
    from ssl_runner.sweep.read import Request
    from ssl_runner.sweep.run import Sweep

AT_ONCE = 2  # trials, if neither n_jobs nor the launcher says how many


def run_search(sweep: "Sweep", request: "Request") -> int:
    """Lets Optuna choose the jobs. Returns the exit status, which is that of a failure if no trial has a value.

    Raises ValueError if the study is of another search, metric or direction.
    """
    assert request.optuna is not None
    study = request.optuna.open(sweep.ledger.folder, request.axes, sweep.settings.metric)
    source = Search(sweep, request, study, request.optuna)
    sweep.monitor.pruner = source.stop_reason

    def run() -> int | None:
        signal = source.collect_cut_off()
        if signal is None and (source.cut_off or source.wants_more):
            signal = sweep.dispatch(source)
        if signal is None and not sweep.monitor.must_stop:
            best = "no trial has a value"
            if has_value(study):
                best = f"the best has {study.best_value:.4g}: {' '.join(words(study.best_params))}"
            sweep.view.console.print(f"{len(study.trials)} trials, {best}", soft_wrap=True)
        return signal

    return max(sweep.conclude(run, searched=True), DONE if has_value(study) else FAILED)


class Search(Jobs):
    """Jobs that Optuna chooses, each of one trial or of several that are the same."""

    def __init__(self, sweep: "Sweep", request: "Request", study: "Study", optuna: Optuna):
        super().__init__(sweep.monitor, [])
        self.sweep, self.request, self.study, self.optuna = sweep, request, study, optuna
        self.distributions = {axis.key: distribution(axis) for axis in request.axes}
        self.cut_off: list[tuple[int, dict[str, Any]]] = []  # trials of an earlier start
        self.asked: dict[int, Trial] = {}  # those of this one, by number
        self.jobs: dict[int, list[int]] = {}  # trials that are not told yet, by the number of their job
        self.reported: dict[int, int] = {}  # per cent of the run up to which a trial's curve is reported
        self.pruned: set[int] = set()  # trials

    def collect_cut_off(self) -> int | None:
        """Has trials that were cut off evaluated first. Returns a signal that came in the meantime."""
        jobs = self.sweep.ledger.jobs
        todo, signal = self.sweep.wait_for_earlier(list(jobs.values()))
        for trial in self.study.trials:
            if trial.state.is_finished():
                continue
            entry = jobs.get(key_of([*self.request.fixed, *words(trial.params)]))
            if entry is not None and (entry in todo or entry.status in ENDED):
                self.cut_off.append((trial.number, trial.params))
            elif entry is None and self.optuna.storage is None:  # it did not become a job; nobody else can have it
                self.tell(trial.number, None)
        return signal

    @property
    def wants_more(self) -> bool:
        states = [each.state.name for each in self.study.get_trials(deepcopy=False)]
        limit = self.optuna.max_failure_rate * self.optuna.n_trials
        return len(states) < self.optuna.n_trials and states.count("FAIL") <= limit

    def take(self, places: int | None) -> list[Entry]:
        at_once = self.optuna.n_jobs or (AT_ONCE if places is None else math.inf)
        taken: list[Entry] = []
        while len(self.jobs) < at_once and (places is None or len(taken) < places):
            if self.cut_off:
                number, params = self.cut_off.pop(0)
            elif self.wants_more:
                trial = self.study.ask(self.distributions)
                number, params = trial.number, trial.params
                self.asked[number] = trial
            else:
                break
            overrides = [*self.request.fixed, *words(params)]
            try:
                content = self.request.compose(overrides)
            except ValueError as error:
                self.monitor.view.warn(f"cannot be: {error}")
                self.tell(number, None)
                continue
            entry = self.sweep.ledger.add(overrides, slug(overrides, self.request.fixed))
            self.jobs.setdefault(entry.number, []).append(number)
            if entry.status in ENDED:
                self.tell_all(entry)
            elif len(self.jobs[entry.number]) == 1:
                self.sweep.prepare([entry], {entry.number: content})
                taken.append(entry)
        if taken:
            self.sweep.ledger.write()
        return taken

    def end(self, entry: Entry, status: int) -> None:
        super().end(entry, status)
        if entry.status == "interrupted" or (entry.status not in ENDED and self.monitor.must_stop):
            del self.jobs[entry.number]  # not told, its trials are evaluated first when the search goes on
        else:
            self.tell_all(entry)

    def tell_all(self, entry: Entry) -> None:
        value = entry.final.get(self.monitor.metric) if entry.status in ENDED else None
        for number in self.jobs.pop(entry.number):
            self.tell(number, value, pruned=number in self.pruned and entry.status == "stopped")

    def tell(self, number: int, value: float | None, pruned: bool = False) -> None:
        """Tells the study what a trial is worth; None if it failed."""
        from optuna.trial import TrialState

        if pruned:
            self.study.tell(number, state=TrialState.PRUNED)  # it has the last value that was reported
        elif value is None or not math.isfinite(value):
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, value)

    def stop_reason(self, entry: Entry, curve: "Curve") -> str | None:
        """Why the pruner wants a job to stop, or None. It compares values at the same per cent of a run."""
        for number in self.jobs.get(entry.number, ()):
            if (trial := self.asked.get(number)) is None or number in self.pruned:
                continue
            for share, value in curve:
                if (percent := round(100 * share)) > self.reported.get(number, -1):
                    trial.report(value, percent)
                    self.reported[number] = percent
            if trial.should_prune():
                self.pruned.add(number)
                return f"{curve[-1][1]:.4g} at {100 * curve[-1][0]:.0f} % of the run; pruned"
        return None


def has_value(study: "Study") -> bool:
    return any(each.state.name == "COMPLETE" for each in study.trials)


def words(params: Mapping[str, Any]) -> list[str]:
    """A trial's overrides."""
    return [f"{name}={value}" for name, value in params.items()]
