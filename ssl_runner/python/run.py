"""A run as Python and notebooks have it: its folder, config and numbers; and settings of a mapping as overrides."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_runner.config import files
from ssl_runner.config.grammar import encoded
from ssl_runner.contract import Encoder
from ssl_runner.encoder.load import load_encoder
from ssl_runner.run_folder.layout import CONFIG
from ssl_runner.run_folder.summary import read_summary


@dataclass(frozen=True, repr=False)
class TrainedRun(os.PathLike[str]):
    """A run folder that is read: wherever a path of a run is wanted, it can be given itself."""

    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        content: dict[str, Any] = files.read(self.folder / CONFIG)
        return content

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: docs/run_folder.md has its keys."""
        return read_summary(self.folder)

    @property
    def numbers(self) -> dict[str, float]:
        """The last of each number: `knn/top1`, `test/knn/top1`. Of raw features it is `raw/knn/top1`, and of the random
        encoder `baseline/knn/top1`."""
        summary = self.summary
        stages = ("raw", "baseline")
        before = {f"{stage}/{name}": value for stage in stages for name, value in summary.get(stage, {}).items()}
        return {**summary.get("final", {}), **before}

    def load(self) -> Encoder:
        """The trained encoder, on the CPU and in eval mode. Raises ValueError if there is none."""
        return load_encoder(self.folder)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        summary, numbers = self.summary, self.numbers
        shown = [f", {name} {numbers[name]:.4g}" for name in summary.get("headlines", ()) if name in numbers]
        return f"<{self.folder}: {summary.get('status', 'not begun')}{''.join(shown)}>"


def typed(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Overrides of a mapping, as they are typed. A mapping in it is settings below its key."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from typed(value, f"{prefix}{key}.")
        else:
            value = list(value) if isinstance(value, tuple) else value
            yield f"{prefix}{key}={encoded(str(value) if isinstance(value, os.PathLike) else value)}"
