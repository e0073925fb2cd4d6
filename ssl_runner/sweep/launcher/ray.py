"""Ray: jobs as tasks with resources, on a cluster or on this machine."""

import contextlib
import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from ssl_runner.errors import Refused, one_line
from ssl_runner.sweep.dispatch import Run
from ssl_runner.sweep.launcher.remote import RemoteLauncher
from ssl_runner.sweep.worker import Task

QUIET = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}


@dataclass(kw_only=True)
class Ray(RemoteLauncher):
    """Settings of ray.init, and of ray.remote for each job. A job whose worker is lost goes on with another."""

    program = "ray"
    ray: dict[Literal["init", "remote"], dict[str, bool | int | float | str | list | dict | None]]

    def __post_init__(self) -> None:
        """Raises ValueError if Ray takes no such settings."""
        self.library = importlib.import_module("ray")
        if unknown := {*self.ray["init"]} - {*signature(self.library.init).parameters}:
            raise ValueError(f"ray.init.{min(unknown)}: is no setting; possible are the arguments of ray.init")
        try:
            self.remote = self.library.remote(**self.ray["remote"])(Task.__call__)
        except (TypeError, ValueError) as error:
            raise ValueError(f"ray.remote: {one_line(error)}") from None

    def open(self, sweep: Path, run: Run) -> None:
        try:
            with contextlib.chdir("/"):  # Ray's workers look for modules in this folder first
                self.library.init(**{**QUIET, **self.ray["init"]})
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise Refused(f"{self.program}: {one_line(error)}") from None
        super().open(sweep, run)

    def close(self) -> None:
        super().close()
        self.library.shutdown()

    def submit(self, tasks: Sequence[Task]) -> Sequence[Any]:
        return [self.remote.remote(each).future() for each in tasks]

    def cancel(self, handles: Sequence[Any]) -> None:
        for each in handles:
            self.library.cancel(each.object_ref)
