"""A search by Optuna through hydra-optuna-sweeper: its study, its sampler and Hydra's syntax for what is searched."""

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException

from ssl_runner.plugins.chosen import Plugin
from ssl_runner.plugins.launch import composed

STUDY = "study.db"
METRIC = "metric"  # an attribute of the study
# What Optuna says of a study's best trial where all have failed: of one in a database, and in memory.
NO_VALUE = ("Record does not exist.", "No trials are completed yet.")


@dataclass(frozen=True)
class Found:
    """What a study has come to. `best` is the objective's best value, `overrides` what gave it; None and none yet."""

    trials: int
    failed: int
    best: float | None
    overrides: list[str]


def divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What all trials share, and what is searched: `a=1,2`, `a=range(1,9)`, `a=tag(log,interval(1e-4,1))`."""
    parsed = [_parsed(word) for word in words]
    fixed = [word for word, each in zip(words, parsed, strict=True) if each is None or not each.is_sweep_override()]
    return fixed, [word for word in words if word not in fixed]


def examples(search: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Trials with each choice and each end of what is searched, to be checked beforehand; and what cannot be."""
    axes: list[list[str]] = []
    problems = []
    for word in search:
        override = _parsed(word)
        assert override is not None
        value: Any = override.value()
        values: list[Any] = []
        if isinstance(value, IntervalSweep):
            values = [value.start, value.end]
        elif not isinstance(value, Glob):
            values = list(override.sweep_iterator(Transformer.encode))
        if not values:
            problems.append(f"{word}: a search needs choices, a range or an interval, as in a=x,y or a=interval(0,1)")
            continue
        shown = values if override.is_choice_sweep() else [values[0], values[-1]]
        axes.append([f"{override.get_key_element()}={each}" for each in dict.fromkeys(shown)])
    first = [axis[0] for axis in axes]
    trials = [first]
    for place, axis in enumerate(axes):
        trials += [[*first[:place], each, *first[place + 1 :]] for each in axis[1:]]
    return trials, problems


def optimise(
    plugin: Plugin,
    folder: Path,
    search: Sequence[str],
    evaluate: Callable[[list[list[str]]], Sequence[float | None]],
    metric: str = "",
) -> Found:
    """Runs trials until the study has as many as were asked for, those of an earlier start included.

    `folder`: the sweep's, where the study is kept. `evaluate` gets a batch of trials, each the overrides of what is
    searched, and returns the objective of each, None where it failed. What it raises ends the search; the trials of
    that batch are evaluated first when the search goes on. `metric`: the name of what `evaluate` returns. Raises
    ValueError where the study is of another search, of another metric or of the other direction.
    """
    os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")
    with warnings.catch_warnings():
        # 2026-11: optuna 2.10, the newest that hydra-optuna-sweeper 1.3 takes, is of the days of SQLAlchemy 1
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(optuna|sqlalchemy|alembic)\.")
        return _optimise(plugin, folder, search, evaluate, metric)


def _optimise(
    plugin: Plugin,
    folder: Path,
    search: Sequence[str],
    evaluate: Callable[[list[list[str]]], Sequence[float | None]],
    metric: str,
) -> Found:
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("hydra_plugins").setLevel(logging.CRITICAL)  # the sweep tells of failed jobs itself
    storage = plugin.settings["storage"] or f"sqlite:///{folder / STUDY}"
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=plugin.settings["study_name"],
            direction=plugin.settings["direction"],
            load_if_exists=True,
        )
    except ValueError as error:  # of the other direction
        raise ValueError(f"{storage}: {error}") from None
    if (has := study.user_attrs.get(METRIC, metric)) != metric:
        raise ValueError(f"{storage}: its trials are of sweep.metric={has}, not {metric}; begin another sweep")
    study.set_user_attr(METRIC, metric)
    cut_off = [trial for trial in study.trials if trial.state == TrialState.RUNNING]
    for trial in [each for each in cut_off if len(each.params) < len(search)]:  # it did not become a job
        cut_off.remove(trial)
        study.tell(trial.number, state=TrialState.FAIL)
    values = evaluate([_overrides(trial.params) for trial in cut_off]) if cut_off else []
    for trial, value in zip(cut_off, values, strict=True):
        study.tell(trial.number, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
    done = len(study.trials)
    if done < plugin.settings["n_trials"]:
        try:
            _sweeper(plugin, folder, storage, done, evaluate).sweep([_as_in_hydra(word) for word in search])
        except ValueError as error:
            if str(error) not in NO_VALUE:
                raise ValueError(f"{storage}: {error}") from None
    failed = sum(trial.state == TrialState.FAIL for trial in study.trials)
    if failed == len(study.trials):
        return Found(failed, failed, None, [])
    best = study.best_trial
    return Found(len(study.trials), failed, best.value, _overrides(best.params))


def _sweeper(plugin: Plugin, folder: Path, storage: str, done: int, evaluate: Callable[..., Any]) -> Any:
    """The plugin's sweeper for the trials that a study with `done` of them wants."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    settings = {**plugin.settings, "storage": storage, "n_trials": plugin.settings["n_trials"] - done}
    seed = settings["sampler"]["seed"]
    again = None if seed is None else seed + done  # with the same seed it would draw the same trials again
    settings["sampler"] = {**settings["sampler"], "seed": again}
    settings |= {"search_space": None, "custom_search_space": None, "params": None}
    config = composed(Plugin(plugin.kind, plugin.name, settings), str(folder))
    config.hydra.launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
    context = HydraContext(config_loader=None, callbacks=Callbacks())  # type: ignore[arg-type]
    sweeper: Any = Plugins.instance().instantiate_sweeper(
        config=config, hydra_context=context, task_function=lambda _: None
    )
    sweeper.sweeper.launcher = Batches(evaluate)
    return sweeper


class Batches:
    """Takes the place of a Hydra launcher: what a batch's trials are worth is for the sweep to find out."""

    def __init__(self, evaluate: Callable[[list[list[str]]], Sequence[float | None]]):
        self.evaluate = evaluate

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        from hydra.core.utils import JobReturn, JobStatus

        values = self.evaluate([list(each) for each in job_overrides])
        returns = [JobReturn(status=JobStatus.COMPLETED) for _ in values]
        for each, value in zip(returns, values, strict=True):
            each.return_value = value  # None is no number, which for the sweeper is a failed trial
        return returns


def _as_in_hydra(word: str) -> str:
    """A range without its end, as it is in Hydra: the sweeper takes the end for a value."""
    override = _parsed(word)
    assert override is not None
    value = override.value()
    if not isinstance(value, RangeSweep) or value.shuffle:
        return word
    return f"{override.get_key_element()}=range({value.start},{[*value.range()][-1]},{value.step})"


def _overrides(params: Mapping[str, Any]) -> list[str]:
    """A trial's overrides, as the sweeper writes them."""
    return [f"{name}={value}" for name, value in params.items()]


def _parsed(word: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None
