"""The keys of a sweep itself, as typed: `sweep.resume=FOLDER`, `sweep.on_error=stop`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Interval

from ssl_runner.schema import check

PREFIX = "sweep."


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the jobs of a sweep are carried out. None of it changes a job's result.

    Args:
        resume: folder of a sweep to go on with: what is completed is skipped, what was cut off is resumed, what failed
            is tried again.
        on_error: stop lets the running jobs end and starts no other.
        jobs_per_device: jobs at once on each GPU, or on the CPU.
        threads: CPU threads of a job; by default the machine's cores shared out among the jobs at once.
        metric: what tells the best job, and what halving looks at.
        halving: 0, or how many times fewer jobs go on at each rung: 3 stops all but the best third.
        first_rung: share of a run after which jobs are compared for the first time.
    """

    resume: str | None = None
    on_error: Literal["continue", "stop"] = "continue"
    jobs_per_device: Annotated[int, Ge(1)] = 1
    threads: Annotated[int, Ge(1)] | None = None
    metric: str = "knn/top1"
    halving: Annotated[int, Interval(ge=0)] = 0
    first_rung: Annotated[float, Interval(gt=0, lt=1)] = 0.1


def parted(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Overrides of the jobs, and the typed values of the sweep's own keys."""
    own = {key.removeprefix(PREFIX): value for key, _, value in (w.partition("=") for w in words if is_own(w))}
    return [word for word in words if not is_own(word)], own


def is_own(word: str) -> bool:
    return word.startswith(PREFIX) and "=" in word


def read(typed: dict[str, str]) -> tuple[Settings | None, list[str]]:
    """The settings, or a line for each thing that is wrong with them."""
    content: dict[str, Any] = {}
    for key, value in typed.items():
        content[key] = value if key in ("resume", "metric") else yaml.safe_load(value)

    node, problems = check(content, Settings, {})
    problems = [f"{PREFIX}{line}" for line in problems]
    if not problems and node.arguments.get("halving") == 1:
        problems.append("sweep.halving: given 1, with which nothing is halved; type 0, or 2 and more")
    return (None if problems else Settings(**node.arguments)), problems
