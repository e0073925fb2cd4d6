"""Metrics log of a run: averages between two log lines, a row of metrics.jsonl, TensorBoard's event file."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssl_runner.device import ranks
from ssl_runner.engine.events import charts, earlier_pictures, run_end
from ssl_runner.engine.interrupt import clock
from ssl_runner.engine.loggers import Loggers
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.layout import EVENTS, METRICS
from ssl_runner.run_folder.metrics import accuracy_names, read_rows

PICTURES = 16  # images of each kind in a grid
SOUNDS = 4  # clips of each kind
ENDED = ".end"  # suffix of an event file that says one thing: the run ended without being completed


class Window:
    """Averages of scalars over the steps since the last log line, kept on the device, and the seconds of these steps.

    Nothing here waits for the device until `close` is called.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.steps = 0
        self._opened = clock()
        self._paused = 0.0

    def add(self, numbers: Mapping[str, Float[Tensor, ""]]) -> None:
        """The numbers of one step; each is averaged over the steps that have it."""
        for name, value in numbers.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.steps += 1

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves evaluation and saving out of the seconds."""
        began = clock()
        yield
        self._paused += clock() - began

    @property
    def seconds(self) -> float:
        return clock() - self._opened - self._paused

    def close(self) -> dict[str, float]:
        """The averages over ranks, in one transfer from the device, in the order in which they were first seen."""
        values = ranks.mean({name: value.float() / self.counts[name] for name, value in self.sums.items()})
        return dict(zip(values, torch.stack([*values.values()]).tolist(), strict=True)) if values else {}


class LogRows:
    """The log of a run in memory, which every rank has. `Logbook`, of the first rank, also writes it to files."""

    def __init__(self, rows: Iterable[dict[str, Any]], seconds: float = 0.0):
        self.rows = [*rows]
        self._seconds, self._opened = seconds, clock()

    @property
    def seconds(self) -> float:
        """Since the run began, interruptions left out."""
        return self._seconds + clock() - self._opened

    def scalars(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Numbers named `<group>/<name>`."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}  # JSON has no other numbers
        self.rows.append({"step": step, "epoch": round(epoch, 4), "time": round(self.seconds, 3), **finite})

    def has(self, step: int, group: str) -> bool:
        """Whether a number `<group>/...` of that step is written already."""
        return any(row["step"] == step and any(k.startswith(f"{group}/") for k in row) for row in self.rows)

    def latest(self, name: str) -> float | None:
        return next((row[name] for row in reversed(self.rows) if name in row), None)

    def flush(self) -> None: ...
    def images(self, step: int, name: str, x: Float[Tensor, "b c h w"]) -> None: ...
    def sounds(self, step: int, name: str, x: Float[Tensor, "b 1 t"], rate: int) -> None: ...
    def text(self, name: str, content: str, step: int = 0) -> None: ...
    def close(self, status: str | None = None) -> None: ...


class Logbook(LogRows):
    """One row a log in metrics.jsonl, the same numbers as scalars in the event file of the folder.

    TensorBoard sorts by name, and opens with five columns and two groups. So accuracies stand there twice: `knn/top1`
    also as `accuracy/knn`, and `test/knn/top1` as `accuracy/test_knn`.

    `start` is the step of the checkpoint that a run goes on from, None without one. Later rows are dropped, since the
    same steps will write them again. The rest is copied into one new event file, so that a run that was killed at any
    moment leaves the same log as an undisturbed one. Raises OSError if the folder cannot be written.
    """

    def __init__(self, folder: Path, start: int | None = None, loggers: Loggers | None = None):
        path, self._loggers = folder / METRICS, loggers or Loggers()
        rows = [] if start is None else [row for row in read_rows(path) if row["step"] <= start]
        super().__init__(rows, rows[-1]["time"] if rows else 0.0)
        write(path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._file = path.open("a", encoding="utf-8")
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only a run needs it

        self._names: dict[str, None] = {}  # of the numbers that were drawn
        earlier = [each for each in sorted(folder.glob(EVENTS)) if each.is_file()]
        kept = [] if start is None else list(earlier_pictures(earlier, start))
        self._open_events = partial(SummaryWriter, str(folder))
        self._events = self._open_events(purge_step=0)  # a TensorBoard that has read earlier files forgets them
        began = time.time() - self._seconds
        for row in self.rows:
            self._draw(row["step"], {name: value for name, value in row.items() if "/" in name}, began + row["time"])
        for event in kept:
            self._summary(event.summary, event.step, event.wall_time)
        self._events.flush()
        for file in earlier:
            file.unlink()

    def scalars(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Writes numbers named `<group>/<name>`; a process that is killed after this has written them."""
        super().scalars(step, epoch, values)
        self._file.write(json.dumps(self.rows[-1]) + "\n")
        self._file.flush()
        self._draw(step, values, time.time())

    def _draw(self, step: int, values: Mapping[str, float], at: float) -> None:
        """Writes scalars for TensorBoard, as of a time in seconds since 1970, and for the loggers beside it."""
        self._loggers.tell(lambda each: each.scalars(step, values))
        for name, value in values.items():
            for each in (name, *accuracy_names(name)):
                self._events.add_scalar(each, value, step, at)
        if not values.keys() <= self._names.keys():
            self._names |= dict.fromkeys(values)
            self._summary(charts(self._names), step)

    def flush(self) -> None:
        """Writes all that is buffered: before a checkpoint is saved, as a resume does not log earlier steps again."""
        self._events.flush()

    def images(self, step: int, name: str, x: Float[Tensor, "b c h w"]) -> None:
        from torchvision.utils import make_grid

        x = x[:PICTURES].detach().float().cpu().clamp(0, 1)
        if x.shape[1] not in (1, 3):
            x = x[:, :1]
        scale = max(1, round(64 / x.shape[-1]))  # small images are enlarged so that one can see them
        x = x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        grid = make_grid(x, nrow=8, padding=2, pad_value=1.0)
        self._events.add_image(name, grid, step)
        self._loggers.tell(lambda each: each.image(step, name, grid))

    def sounds(self, step: int, name: str, x: Float[Tensor, "b 1 t"], rate: int) -> None:
        """Clips in [-1, 1], each to be played by itself."""
        for number, clip in enumerate(x[:SOUNDS].detach().float().cpu().clamp(-1, 1)):
            self._events.add_audio(f"{name}/{number}", clip, step, rate)

    def text(self, name: str, content: str, step: int = 0) -> None:
        self._events.add_text(name, content, step)

    def begin(self, settings: Mapping[str, str | float | bool]) -> None:
        """Makes the run a row of TensorBoard's HPARAMS tab; the settings are columns, and so is every scalar.

        No experiment is declared: TensorBoard then takes the columns from all runs that it sees, not from the first.
        """
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self._summary(hparams_pb(dict(settings), trial_id=""))  # not a hash of the settings: runs of equal ones are two

    def close(self, status: str | None = None) -> None:
        """Closes the files. With a status, the HPARAMS tab says success if it is `completed`, and failure otherwise.

        A run that is going on, or was killed, has no status there.
        """
        self._file.close()
        self._loggers.close(status)
        if status == "completed":
            self._summary(run_end("STATUS_SUCCESS"))
        elif status is not None:
            self._events.close()
            # TensorBoard keeps the first end that it reads, so this one has a file that a resumed run can remove
            self._events = self._open_events(filename_suffix=ENDED)
            self._summary(run_end("STATUS_FAILURE"))
        self._events.close()

    def _summary(self, summary: Any, step: int = 0, at: float | None = None) -> None:
        assert self._events.file_writer is not None
        self._events.file_writer.add_summary(summary, step, at)
