"""What a run writes while it runs: metrics.jsonl and TensorBoard's event file, each number in both."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ssl_runner.engine.checkpoint import write

PICTURES = 16  # images of each kind in a grid


class Logbook:
    """One row a log in metrics.jsonl, the same numbers as scalars in the one event file of the folder.

    On a resumed run the rows after `start` are dropped, since the same steps will write them again, and TensorBoard is
    told to drop them as well: the run stays one curve. Raises OSError where the folder cannot be written.
    """

    def __init__(self, folder: Path, start: int = 0):
        self.path = folder / "metrics.jsonl"
        resumed = self.path.exists()
        self.rows = [row for row in read(self.path) if row["step"] <= start]
        self._seconds = self.rows[-1]["time"] if self.rows else 0.0
        self._opened = time.perf_counter()
        write(self.path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        self._file = self.path.open("a")
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only a run needs it

        self._events = SummaryWriter(str(folder), purge_step=start + 1 if resumed else None)

    @property
    def seconds(self) -> float:
        """Since the run began, interruptions left out."""
        return self._seconds + time.perf_counter() - self._opened

    def scalars(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Writes numbers named `<group>/<name>`; a process that is killed after this has written them."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}  # JSON has no other numbers
        row = {"step": step, "epoch": round(epoch, 4), "time": round(self.seconds, 3), **finite}
        self.rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def images(self, step: int, name: str, x: Float[Tensor, "b c h w"]) -> None:
        from torchvision.utils import make_grid

        x = x[:PICTURES].detach().float().cpu().clamp(0, 1)
        if x.shape[1] not in (1, 3):
            x = x[:, :1]
        scale = max(1, round(64 / x.shape[-1]))  # small images are enlarged so that one can see them
        x = x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        self._events.add_image(name, make_grid(x, nrow=8, padding=2, pad_value=1.0), step)

    def text(self, name: str, content: str) -> None:
        self._events.add_text(name, content, 0)

    def begin(self, settings: Mapping[str, str | float | bool], metrics: Sequence[str]) -> None:
        """Makes the run a row of TensorBoard's HPARAMS tab, in the same event file as its curves.

        The tab takes its columns from one run, so every run is to give the same names.
        """
        from torch.utils.tensorboard.summary import hparams

        experiment, begin, self._end = hparams(dict(settings), dict.fromkeys(metrics, 0.0))
        self._summary(experiment)
        self._summary(begin)

    def end(self) -> None:
        self._summary(self._end)

    def _summary(self, summary: Any) -> None:
        assert self._events.file_writer is not None
        self._events.file_writer.add_summary(summary)

    def close(self) -> None:
        self._file.close()
        self._events.close()

    def has(self, step: int, group: str) -> bool:
        """Whether a number `<group>/...` of that step is written already."""
        return any(row["step"] == step and any(k.startswith(f"{group}/") for k in row) for row in self.rows)

    def latest(self, groups: Iterable[str]) -> dict[str, float]:
        """The newest numbers of these groups."""
        groups = tuple(groups)
        return {k: v for row in self.rows for k, v in row.items() if k.partition("/")[0] in groups}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a line that is torn by a crash or not of numbers is left out. No file: no rows."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        numbers = isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
        if numbers and {"step", "time"} <= row.keys():
            rows.append(row)
    return rows
