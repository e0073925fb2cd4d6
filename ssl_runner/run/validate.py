"""Validation of a job: its config against constructor signatures, then every part built once."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssl_runner.config.check import check
from ssl_runner.config.compose import Composed
from ssl_runner.run.job import RUNTIME, Job
from ssl_runner.run.preflight import preflight


@dataclass(frozen=True)
class Ready:
    """A job that may begin."""

    job: Job
    content: dict[str, Any]  # its resolved config, the choices among it
    overrides: list[str]
    composed: Composed

    @property
    def name(self) -> str:
        """`rotation-shapes`: what its run folder is named by."""
        words = [self.job.choices.get(group, group) for group in ("pretext", "dataset")]
        return "-".join(re.sub(r"[^\w-]", "_", word) for word in words)  # a recorded one may be a path


def prepared(
    composed: Composed, overrides: Sequence[str], tried: set[str] | None = None, build: bool = True
) -> tuple[Ready | None, list[str]]:
    """The job of a composed config, or None and a line for each thing that is wrong.

    `build`: whether it is built as well, to see what its parts refuse together. `tried`: the jobs of a sweep that could
    be built so far, which is added to. A job that differs from one of them in nothing but its seed is not built again.
    """
    if composed.refused:
        return None, composed.problems
    content = composed.record
    node, problems = check(content, Job, RUNTIME) if content else (None, [])
    if node is None or problems or composed.problems:
        return None, [*composed.problems, *(f"{composed.where}{line}" for line in problems)]
    job, known = Job(**node.arguments), json.dumps({**content, "seed": None}, default=str)
    if build and (tried is None or known not in tried):
        problems = [f"{composed.where}{line}" for line in preflight(job)]
        if tried is not None and not problems:
            tried.add(known)
    return (None if problems else Ready(job, content, list(overrides), composed)), problems
