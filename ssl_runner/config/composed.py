"""A composed job: the resolved config, the choices that gave it, its folders, and what is wrong with it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Composed:
    """A job's config: resolved plain values, the choice made in each group, its folder, what is wrong with it."""

    content: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    folder: str | None = None  # hydra.run.dir, if it was typed or stands in a file
    sweep_folder: str | None = None  # hydra.sweep.dir, likewise
    subfolder: str | None = None  # hydra.sweep.subdir, likewise
    levels: dict[str, str] = field(default_factory=dict)  # of loggers by name, the root's by an empty one
    chosen: list[str] = field(default_factory=list)  # the words that chose, and those that the dataset recommends
    hydra: dict[str, Any] = field(default_factory=dict)  # Hydra's own node, with what was typed of it
    sweep_words: list[str] = field(default_factory=list)  # what the files say of launcher, sweeper and swept keys
    problems: list[str] = field(default_factory=list)  # a line each; with any, the config is not to be used
    notes: list[str] = field(default_factory=list)  # what the first lines of the run say of it
    decided: bool = False  # whether the problems are all that the check would find
    where: str = ""  # begins each line about a config that was read
    origin: Path | None = None  # of a recorded run: the folder in which it was begun
    start: Path | None = None  # the folder from which its relative paths start; None for the current one

    @property
    def refused(self) -> bool:
        """Whether all is said, and torch need not be imported."""
        return bool(self.problems) and self.decided

    @property
    def record(self) -> dict[str, Any]:
        """The content with the choices in it, as a run folder has it."""
        own = self.content.get("choices", {})
        return {**self.content, "choices": {**own, **self.choices} if isinstance(own, dict) else own}
