"""Settings of a sweep: `sweep.resume=FOLDER`, `sweep.on_error=stop`, and the words that belong to no job."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval

from ssl_runner.config.check import check
from ssl_runner.config.grammar import quoted, read_overrides
from ssl_runner.config.node import parameters
from ssl_runner.config.text import one_value
from ssl_runner.errors import nearest
from ssl_runner.layers.ranges import Count, Natural, Threads
from ssl_runner.run_folder.metrics import new_name

PREFIX = "sweep."
RESUME = "sweep.resume"
FOLDER = "hydra.sweep.dir"
SUBFOLDER = "hydra.sweep.subdir"
PARAMS = re.compile(r"\+*hydra\.sweeper\.params\.(?=[^=]+=)")  # what follows is swept as if it stood alone
KINDS = {"own": PREFIX, "folder": "hydra.sweep.", "launcher": "hydra.launcher.", "sweeper": "hydra.sweeper."}
# A launcher's words that cannot run commands: submitit writes values into a shell script.
SAFE = re.compile(
    r"hydra/launcher=\w+|hydra\.launcher\.(?!setup|additional_parameters)\w+=[\w.:-]+"
    r"|hydra\.launcher\.ray\.(init|remote)\.(num_[cg]pus|max_retries)=[\d.]+"
)
LITERAL = (RESUME, "sweep.metric")  # a path, and a name with a slash: taken as typed, not as Hydra's syntax


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the jobs of a sweep are run. Of these only halving, which may stop a job early, changes a job's result."""

    resume: str | None = None  # folder of a sweep to go on with: runs what is not completed
    on_error: Literal["continue", "stop"] = "continue"  # stop: running jobs end and no other begins
    jobs_per_device: Count = 1  # jobs at once on each GPU, or on the CPU
    devices_per_job: Count | None = None  # GPUs of a job, processes on the CPU; None: 1, or as the launcher's YAML has
    threads: Threads | None = None  # CPU threads of a job's process; None: the cores shared out among those at once
    metric: str = "knn/top1"  # what tells the best job, what halving looks at, what a search is for
    halving: Natural = 0  # how many times fewer jobs go on at each rung: 3 stops all but the best third
    first_rung: Annotated[float, Interval(gt=0, lt=1)] = 0.1  # share of a run after which jobs are first compared


@dataclass
class Words:
    """The words of a command line by what they configure. A job is identified by its words among `jobs` alone."""

    jobs: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    launcher: list[str] = field(default_factory=list)
    sweeper: list[str] = field(default_factory=list)
    folder: list[str] = field(default_factory=list)

    @property
    def resume(self) -> str | None:
        return next((each.partition("=")[2] for each in reversed(self.own) if key_of(each) == RESUME), None)


def split_words(words: Sequence[str]) -> Words:
    """Tells the words of the jobs from those of the sweep, its launcher, its sweeper and its folder."""
    split = Words()
    for typed in words:
        word = PARAMS.sub("", typed)
        key = f"{key_of(word).replace('/', '.')}."
        kind = next((kind for kind, prefix in KINDS.items() if key.startswith(prefix) and "=" in word), "jobs")
        getattr(split, kind).append(word)
    return split


def key_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def merge_words(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The words that a sweep was begun with, followed by those typed now, which replace settings of the same key."""
    old, new = split_words(before), split_words(now)
    replaced = {key_of(each) for each in (*new.own, *new.launcher, *new.sweeper)} | {RESUME, FOLDER}
    dropped = {*old.launcher} if "hydra/launcher" in replaced else set()  # settings of one that is not used any more
    dropped |= {*old.sweeper} if "hydra/sweeper" in replaced else set()
    kept = [each for each in before if key_of(each) not in replaced and each not in dropped]
    return [*kept, *(each for each in now if each not in ("-m", "--multirun") and key_of(each) not in (RESUME, FOLDER))]


def check_recorded(command: Sequence[str], typed: Sequence[str], place: str = "the sweep's folder") -> list[str]:
    """A line for each launcher setting that may run commands and was not typed now, but read from a `place`."""
    words = [word for word in split_words(command).launcher if not SAFE.fullmatch(word) and word not in typed]
    return [f"{each}: may run commands; it stands in {place}, so type it again, or another" for each in words]


def ranking_metric(command: Sequence[str]) -> str | None:
    """What a sweep's table ranks by: sweep.metric if it was typed or if halving or a search went by it.

    None: what compare ranks by.
    """
    words = split_words(command)
    keys = {key_of(each) for each in (*words.own, *words.sweeper)}
    decides = {"sweep.metric", "sweep.halving", "hydra/sweeper"} & keys
    return read_settings(words.own)[0].metric if decides else None


def read_settings(words: Sequence[str]) -> tuple[Settings, list[str]]:
    """The settings, and a line for each thing that is wrong with them."""
    texts = {each: f"{key_of(each)}={quoted(each.partition('=')[2])}" for each in words if key_of(each) in LITERAL}
    assignments, problems = read_overrides([texts.get(each, each) for each in words])
    content, known = dict[str, Any](), parameters(Settings)
    for each in assignments:
        key = each.key.removeprefix(PREFIX)
        if key not in known:
            possible = [f"{PREFIX}{name}" for name in known]
            guess = nearest(each.key, possible)
            problems.append(f"{each.key}: is no setting; possible here: {', '.join(possible)}{guess}")
            continue
        try:
            content[key] = one_value(each, known[key][0])
        except ValueError as error:
            problems.append(str(error))
    node, wrong = check({**content, "metric": new_name(content.get("metric", Settings.metric))}, Settings, {})
    problems += [f"{PREFIX}{line}" for line in wrong]
    if node.arguments.get("halving") == 1:
        problems.append("sweep.halving: given 1, with which nothing is halved; type 0, or 2 and more")
    return (Settings() if problems else node.build()), problems
