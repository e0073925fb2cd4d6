"""Study of a search: what Optuna keeps of the trials, and the samplers and pruners that it may use, by name."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from ssl_runner.config.grammar import Axis
from ssl_runner.config.node import Node
from ssl_runner.errors import HIDDEN, Refused, one_line
from ssl_runner.layers.ranges import Count, Natural, Positive
from ssl_runner.run_folder.metrics import new_name
from ssl_runner.sweep.dispatch import LOOK

if TYPE_CHECKING:
    from optuna import Study

STORAGE = "hydra.sweeper.storage"  # a URL, which may have a password
METRIC = "metric"  # an attribute of the study
TRIES = 4  # to make the tables of a database: another sweep, which begins at the same time, may be making them


def tpe(*, seed: Natural | None, n_startup_trials: Natural, n_ei_candidates: Count, multivariate: bool) -> Any:
    from optuna.samplers import TPESampler

    return TPESampler(
        seed=seed,
        n_startup_trials=n_startup_trials,
        n_ei_candidates=n_ei_candidates,
        multivariate=multivariate,
        constant_liar=True,
    )


def random(*, seed: Natural | None) -> Any:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def cmaes(*, seed: Natural | None, sigma0: Positive | None) -> Any:
    """CMA-ES whose state stays in this process; a search that goes on builds it again from its trials.

    Optuna would unpickle it from the study, which may be a stranger's. Raises ValueError if that cannot be prevented.
    """
    from optuna.samplers import CmaEsSampler

    if not {"_restore_optimizer", "_init_optimizer"} <= vars(CmaEsSampler).keys():
        raise ValueError("cmaes: this version of Optuna unpickles its state from the study; choose another sampler")

    class Kept(CmaEsSampler):
        kept: Any = None

        def _restore_optimizer(self, completed_trials: Any) -> Any:
            return self.kept

        def _init_optimizer(self, *arguments: Any, **named: Any) -> Any:
            self.kept = super()._init_optimizer(*arguments, **named)
            return self.kept

    return Kept(seed=seed, sigma0=sigma0)


def none() -> None:
    """Every trial is run to its end."""


def median(*, n_startup_trials: Natural, n_warmup_steps: Natural) -> Any:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=n_startup_trials, n_warmup_steps=n_warmup_steps)


SAMPLERS: Mapping[str, Callable[..., Any]] = {"tpe": tpe, "random": random, "cmaes": cmaes}
PRUNERS: Mapping[str, Callable[..., Any]] = {"none": none, "median": median}


@dataclass(kw_only=True)
class Optuna:
    """A study and how it is searched. The settings are explained in conf/hydra/sweeper/optuna.yaml."""

    n_trials: Count
    n_jobs: Count | None
    direction: Literal["minimize", "maximize"]
    max_failure_rate: Annotated[float, Interval(ge=0, le=1)]
    storage: str | None
    study_name: str
    sampler: Node = field(init=False)
    pruner: Node = field(init=False)

    def open(self, folder: Path, axes: Sequence[Axis], metric: str) -> "Study":
        """The study, begun or gone on with. Raises ValueError if it is of another search, metric or direction."""
        from optuna.distributions import check_distribution_compatibility

        storage = self.storage or f"sqlite:///{folder / 'study.db'}"
        try:
            study = self.load(storage)
            for trial, axis in itertools.product(study.get_trials(), axes):
                if axis.key in trial.distributions:
                    check_distribution_compatibility(trial.distributions[axis.key], distribution(axis))
        except Exception as error:  # of another search, of an older Optuna, or a database that is out of reach
            lines = [f"{storage}: {first_cause(error).replace('$STORAGE_URL', storage)}"]
            lines += ["PostgreSQL needs pip install 'ssl-runner[postgres]'"] if isinstance(error, ImportError) else []
            lines += [f"sweep.json has no password: type {STORAGE}=URL again"] if HIDDEN in storage else []
            raise ValueError("; ".join(lines)) from None
        before = {"sweep.metric": new_name(study.user_attrs.get(METRIC, metric))}
        before["hydra.sweeper.direction"] = study.direction.name.lower()
        for (key, value), now in zip(before.items(), (metric, self.direction), strict=True):
            if value != now:
                raise ValueError(f"{storage}: its trials are of {key}={value}, not {now}; begin another sweep")
        study.set_user_attr(METRIC, metric)
        study.sampler = FirstDraw(study, self.sampler)  # type: ignore[assignment]
        return study

    def load(self, storage: str) -> "Study":
        """Makes the study if there is none. Raises whatever Optuna, the database or its driver do."""
        import optuna
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.pool import NullPool  # no connection is left open for hours

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # A recorded URL has no password, and the database's own library may know it, as libpq does by PGPASSWORD.
        url = storage.replace(f":{HIDDEN}@", "@")
        for tried in range(TRIES):
            try:
                tables = optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
                break
            except DBAPIError:
                if tried == TRIES - 1:
                    raise
                time.sleep(LOOK)
        pruner = self.pruner.build() or optuna.pruners.NopPruner()
        named: Any = {"study_name": self.study_name, "load_if_exists": True}
        return optuna.create_study(storage=tables, pruner=pruner, direction=self.direction, **named)


@dataclass
class FirstDraw:
    """A placeholder that the first trial replaces by the configured sampler, its seed raised by the trial's number.

    So sweeps that share a study, and a search that is resumed, do not draw the trials that were drawn before.
    """

    study: "Study"
    sampler: Node

    def before_trial(self, study: "Study", trial: Any) -> None:
        seed = self.sampler.arguments["seed"]
        grown = {} if seed is None else {"seed": seed + trial.number}
        self.study.sampler = self.sampler.target(**{**self.sampler.arguments, **grown})
        self.study.sampler.before_trial(study, trial)

    def after_trial(self, *result: Any) -> None:
        """Nothing: Optuna calls it if a trial ends that an earlier start of the search has drawn."""


@contextlib.contextmanager
def refuse_database_errors() -> Iterator[None]:
    """Turns errors of a study's database, after it was opened, into Refused."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("optuna", "sqlalchemy"):
            raise
        raise Refused(f"the study's database: {first_cause(error)}") from None


def first_cause(error: BaseException) -> str:
    """The database driver's own message in one line, without those that SQLAlchemy and Optuna wrap around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)


def distribution(axis: Axis) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.choices:
        return CategoricalDistribution(axis.choices)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return IntDistribution(axis.low, axis.high, log=axis.log, step=int(axis.step or 1))
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
