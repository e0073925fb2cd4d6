"""A job as it was typed: composed, and checked before anything of it is begun."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssl_runner.config import Composed, Composer
from ssl_runner.job import RUNTIME, Job, read
from ssl_runner.schema import check


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
        return "-".join(self.job.choices.get(group, group) for group in ("pretext", "dataset"))


def prepared(
    composer: Composer, overrides: Sequence[str], tried: set[str] | None = None
) -> tuple[Ready | None, list[str], Composed]:
    """A job of these overrides, or None and a line for each thing that is wrong; and what was composed either way.

    `tried`: the jobs of a sweep that could be built so far, which is added to. A job that differs from one of them in
    nothing but its seed is not built again, only checked against the schema.
    """
    composed = composer.compose(overrides)
    if not composed.content:
        return None, composed.problems, composed
    chosen = composed.content.get("choices", {})
    choices = {**chosen, **composed.choices} if isinstance(chosen, dict) else chosen
    content = {**composed.content, "choices": choices}
    known = json.dumps({**content, "seed": None}, default=str)
    if tried is not None and known in tried:
        node, wrong = check(content, Job, RUNTIME)
        job = None if wrong else Job(**node.arguments)
    else:
        job, wrong = read(content)
    problems = composed.problems + wrong
    if job is None or problems:
        return None, problems, composed
    if tried is not None:
        tried.add(known)
    return Ready(job, content, list(overrides), composed), [], composed
