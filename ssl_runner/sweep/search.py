"""Search for the best job by Optuna: a trial is asked for when a place is free, and told when its job has ended."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ssl_runner.errors import plural
from ssl_runner.run_folder.summary import ENDED
from ssl_runner.sweep.jobs import Jobs
from ssl_runner.sweep.ledger import Entry, Ledger, job_key
from ssl_runner.sweep.objective import Points
from ssl_runner.sweep.study import distribution

if TYPE_CHECKING:
    from optuna import Trial

    from ssl_runner.sweep.read import Request

SWEEP = "sweep"  # an attribute of a trial: the sweep that it is of, as several may share a study
AT_ONCE = 2  # trials, if neither n_jobs nor the launcher says how many


@dataclass
class Attempt:
    """A job that this start of the search has begun."""

    trial: "Trial | None"  # the one that gets the curve; None if all trials of the job are of an earlier start
    reported: int = -1  # per cent of the run up to which the curve is reported
    pruned: bool = False


class Search(Jobs):
    """Jobs that Optuna chooses, each of one trial or of several that are the same.

    Raises ValueError if the study is of another search, metric or direction.
    """

    def __init__(self, ledger: Ledger, request: "Request", console: Console):
        super().__init__(ledger, request, console)
        assert request.optuna is not None
        self.optuna, self.fixed = request.optuna, request.fixed
        self.study = request.optuna.open(ledger.folder, request.axes, self.metric)
        self.distributions = {axis.key: distribution(axis) for axis in request.axes}
        self.cut_off: list[tuple[int, dict[str, Any]]] = []  # trials of an earlier start
        self.trials: dict[int, list[int]] = {}  # trials that are not told yet, by the number of their job
        self.attempts: dict[int, Attempt] = {}  # at jobs in this start, by number

    def collect(self) -> int | None:
        """Queues trials that were cut off, to be evaluated first. Returns a signal that came in the meantime."""
        jobs = self.ledger.jobs
        todo, signal = self.wait(list(jobs.values()))
        for trial in self.study.trials:
            if trial.state.is_finished() or trial.user_attrs.get(SWEEP, self.ledger.identity) != self.ledger.identity:
                continue
            entry = jobs.get(job_key([*self.fixed, *words(trial.params)]))
            if entry is not None and (entry in todo or entry.status in ENDED):
                self.cut_off.append((trial.number, trial.params))
            elif entry is None and self.optuna.storage is None:  # it did not become a job; nobody else can have it
                self.tell([trial.number])
        return signal

    @property
    def left(self) -> bool:
        states = [each.state.name for each in self.study.get_trials(deepcopy=False)]
        limit = self.optuna.max_failure_rate * self.optuna.n_trials
        return bool(self.cut_off) or (len(states) < self.optuna.n_trials and states.count("FAIL") <= limit)

    def take(self, places: int | None) -> list[Entry]:
        at_once = self.optuna.n_jobs or (AT_ONCE if places is None else math.inf)
        taken: list[Entry] = []
        while len(self.trials) < at_once and (places is None or len(taken) < places) and self.left:
            trial = None if self.cut_off else self.study.ask(self.distributions)
            if trial:
                trial.set_user_attr(SWEEP, self.ledger.identity)
            number, params = (trial.number, trial.params) if trial else self.cut_off.pop(0)
            overrides = [*self.fixed, *words(params)]
            try:
                content = self.request.compose(overrides)
            except ValueError as error:
                self.console.print(f"cannot be: {error}", style="red", soft_wrap=True)
                self.tell([number])
                continue
            entry = self.ledger.add(overrides, self.fixed, self.request.composer.groups, self.request.subfolder)
            self.trials.setdefault(entry.number, []).append(number)
            if entry.status in ENDED:
                self.tell(self.trials.pop(entry.number), entry)
            elif len(self.trials[entry.number]) == 1:
                self.attempts[entry.number] = Attempt(trial)
                self.prepare([entry], {entry.number: content})
                taken.append(entry)
            elif self.attempts[entry.number].trial is None:
                self.attempts[entry.number].trial = trial
        if taken:
            self.ledger.write()
        return taken

    def end(self, entry: Entry, status: int) -> None:
        super().end(entry, status)
        if entry.status == "interrupted" or (entry.status not in ENDED and self.must_stop):
            del self.trials[entry.number]  # not told, its trials are evaluated first when the search goes on
        else:
            self.tell(self.trials.pop(entry.number), entry)

    def tell(self, trials: Sequence[int], entry: Entry | None = None) -> None:
        """Tells the study the value of trials. They have failed if their job has no finite value."""
        from optuna.trial import TrialState

        value = entry.final.get(self.metric, math.nan) if entry and entry.status in ENDED else math.nan
        state = TrialState.COMPLETE if math.isfinite(value) else TrialState.FAIL
        attempt = self.attempts.get(entry.number) if entry else None
        if entry and entry.status == "stopped" and attempt and attempt.pruned:
            state = TrialState.PRUNED  # it has the last value that was reported
        for number in trials:
            self.study.tell(number, value if state == TrialState.COMPLETE else None, state)

    def stop_reason(self, entry: Entry, points: Points) -> str | None:
        """Why halving or the pruner wants a job to stop, or None. It compares values at the same per cent of a run."""
        reason, attempt = super().stop_reason(entry, points), self.attempts[entry.number]
        if reason or attempt.trial is None or attempt.pruned:
            return reason
        for share, value in points:
            if (percent := round(100 * share)) > attempt.reported:
                attempt.trial.report(value, percent)
                attempt.reported = percent
        attempt.pruned = attempt.trial.should_prune()
        if not attempt.pruned:
            return None
        return f"{points[-1][1]:.4g} at {100 * points[-1][0]:.0f} % of the run; pruned"

    def conclude(self, cut_off: bool) -> bool:
        if cut_off:  # also by a database that is gone
            return super().conclude(cut_off)
        valued = any(each.state.name == "COMPLETE" for each in self.study.trials)
        best = "no trial has a value"
        if valued:
            best = f"the best has {self.study.best_value:.4g}: {' '.join(words(self.study.best_params))}"
        lacking = sum(each.status not in ENDED for each in self.ledger.jobs.values())
        self.console.print(f"{plural(len(self.study.trials), 'trial')}, {best}", soft_wrap=True)
        if lacking:
            self.console.print(f"{plural(lacking, 'trial')} {'has' if lacking == 1 else 'have'} no value")
        return lacking > 0 or not valued


def words(params: Mapping[str, Any]) -> list[str]:
    return [f"{name}={each}" for name, each in params.items()]
