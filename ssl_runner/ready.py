"""A job as it was typed: composed, and checked before anything of it is begun."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssl_runner.config import Composed, Composer
from ssl_runner.job import Job, read


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


def prepared(composer: Composer, overrides: Sequence[str]) -> tuple[Ready | None, list[str], Composed]:
    """A job of these overrides, or None and a line for each thing that is wrong; and what was composed either way."""
    composed = composer.compose(overrides)
    if not composed.content:
        return None, composed.problems, composed
    chosen = composed.content.get("choices", {})
    choices = {**chosen, **composed.choices} if isinstance(chosen, dict) else chosen
    content = {**composed.content, "choices": choices}
    job, wrong = read(content)
    problems = composed.problems + wrong
    if job is None or problems:
        return None, problems, composed
    return Ready(job, content, list(overrides), composed), [], composed
