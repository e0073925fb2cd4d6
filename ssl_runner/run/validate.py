"""A job as it was typed: composed, and checked before anything of it is begun.

First by its signatures alone, for which torch is not imported; then, where nothing is wrong, by building all of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssl_runner.config.check import check
from ssl_runner.config.compose import Composed, Composer
from ssl_runner.signatures import problems_of

if TYPE_CHECKING:
    from ssl_runner.run.job import Job


@dataclass(frozen=True)
class Ready:
    """A job that may begin."""

    job: "Job"
    content: dict[str, Any]  # its resolved config, the choices among it
    overrides: list[str]
    composed: Composed

    @property
    def name(self) -> str:
        """`rotation-shapes`: what its run folder is named by."""
        return "-".join(self.job.choices.get(group, group) for group in ("pretext", "dataset"))


def inspected(composer: Composer, overrides: Sequence[str]) -> Composed:
    """A job of these overrides, composed; all that Hydra and the signatures find wrong with it is in its problems."""
    composed = composer.compose(overrides)
    if composed.content:
        content = _with_choices(composed)
        wrong = problems_of(content)
        if wrong is None and composed.problems:  # it is refused, and torch is needed to say what else is wrong
            from ssl_runner.run.job import RUNTIME, Job

            wrong = check(content, Job, RUNTIME)[1]
        composed.problems += wrong or []
    return composed


def prepared(
    composed: Composed, overrides: Sequence[str], tried: set[str] | None = None, build: bool = True
) -> tuple[Ready | None, list[str]]:
    """The job of what was inspected, or None and a line for each thing that is wrong.

    `build`: whether it is built as well, to see what its parts refuse together. `tried`: the jobs of a sweep that could
    be built so far, which is added to. A job that differs from one of them in nothing but its seed is not built again,
    only checked against the schema.
    """
    if composed.problems:
        return None, composed.problems
    from ssl_runner.run.job import RUNTIME, Job
    from ssl_runner.run.preflight import read_job

    content = _with_choices(composed)
    known = json.dumps({**content, "seed": None}, default=str)
    if not build or (tried is not None and known in tried):
        node, problems = check(content, Job, RUNTIME)
        job = None if problems else Job(**node.arguments)
    else:
        job, problems = read_job(content)
    if job is None or problems:
        return None, problems
    if tried is not None:
        tried.add(known)
    return Ready(job, content, list(overrides), composed), []


def _with_choices(composed: Composed) -> dict[str, Any]:
    chosen = composed.content.get("choices", {})
    choices = {**chosen, **composed.choices} if isinstance(chosen, dict) else chosen
    return {**composed.content, "choices": choices}
