"""metrics.jsonl and TensorBoard's event file of a run, each number in both."""

import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.layout import METRICS
from ssl_runner.run_folder.metrics import read_rows

PICTURES = 16  # images of each kind in a grid
ENDED = ".end"  # the suffix of an event file that says of a run only that it ended without being completed
# TensorBoard's custom scalars: a category, and the groups of numbers in it. What evaluators measure is quality where it
# stands nowhere else; numbers of the test split are measured once, which makes no curve.
CATEGORIES = {
    "learning": ("train", "regulariser", "optimizer"),
    "quality": (),
    "geometry": ("geometry",),
    "speed": ("speed",),
}
UNDRAWN = ("test",)


class Logbook:
    """One row a log in metrics.jsonl, the same numbers as scalars in the event file of the folder.

    TensorBoard sorts by name, and opens with five columns and two groups. So accuracies stand there twice: `knn/top1`
    also as `accuracy/knn`, and `test/knn/top1` as `accuracy/test_knn`.

    On a resumed run the rows after `start` are dropped, since the same steps will write them again, and TensorBoard is
    told to drop them as well: the run stays one curve. Raises OSError if the folder cannot be written.
    """

    def __init__(self, folder: Path, start: int = 0):
        self.folder, self.path = folder, folder / METRICS
        self.rows = [row for row in read_rows(self.path) if row["step"] <= start]
        self._seconds = self.rows[-1]["time"] if self.rows else 0.0
        self._opened = time.perf_counter()
        write(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._file = self.path.open("a")
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only a run needs it

        for end in folder.glob(f"events.out.tfevents.*{ENDED}"):  # of the attempt before
            end.unlink()
        # of a new run as well: TensorBoard drops nothing at the first mark that it reads
        self._events = SummaryWriter(str(folder), purge_step=start + 1)
        self._names = dict.fromkeys(name for row in self.rows for name in row if "/" in name)
        self._drawn = 0  # how many of the names the layout has

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
            if name.endswith("/top1") and not name.startswith("train/"):
                self._events.add_scalar(f"accuracy/{name[:-5].replace('/', '_')}", value, step)
        self._names |= dict.fromkeys(values)
        if len(self._names) > self._drawn:
            self._arrange(step)

    def images(self, step: int, name: str, x: Float[Tensor, "b c h w"]) -> None:
        from torchvision.utils import make_grid

        x = x[:PICTURES].detach().float().cpu().clamp(0, 1)
        if x.shape[1] not in (1, 3):
            x = x[:, :1]
        scale = max(1, round(64 / x.shape[-1]))  # small images are enlarged so that one can see them
        x = x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        self._events.add_image(name, make_grid(x, nrow=8, padding=2, pad_value=1.0), step)

    def text(self, name: str, content: str, step: int = 0) -> None:
        self._events.add_text(name, content, step)

    def begin(self, settings: Mapping[str, str | float | bool]) -> None:
        """Makes the run a row of TensorBoard's HPARAMS tab; the settings are columns, and so is every scalar.

        No experiment is declared: TensorBoard then takes the columns from all runs that it sees, not from the first.
        """
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self._summary(hparams_pb(dict(settings), trial_id=""))  # not a hash of the settings: runs of equal ones are two

    def close(self, status: str | None = None) -> None:
        """Closes the files. With a status, the HPARAMS tab says success where it is `completed`, and failure else.

        A run that is going on, or was killed, has no status there.
        """
        self._file.close()
        if status == "completed":
            self._end("STATUS_SUCCESS")
        self._events.close()
        if status is not None and status != "completed":
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard keeps the first end that it reads, so this one is where a resumed run can take it away
            self._events = SummaryWriter(str(self.folder), filename_suffix=ENDED)
            self._end("STATUS_FAILURE")
            self._events.close()

    def _end(self, status: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.api_pb2 import Status
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        end = SessionEndInfo(status=Status.Value(status), end_time_secs=time.time())
        described = metadata.create_summary_metadata(HParamsPluginData(session_end_info=end))
        value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=described, tensor=metadata.NULL_TENSOR)
        self._summary(Summary(value=[value]))

    def _arrange(self, step: int) -> None:
        """A chart for each name, by category. A run's newest layout counts; TensorBoard merges those of many runs."""
        from torch.utils.tensorboard.summary import custom_scalars

        known = {group: category for category, groups in CATEGORIES.items() for group in groups}
        layout: dict[str, dict[str, list[Any]]] = {category: {} for category in CATEGORIES}
        for name in self._names:
            group = name.partition("/")[0]
            if group not in UNDRAWN:
                layout[known.get(group, "quality")][name] = ["Multiline", [f"{re.escape(name)}$"]]
        self._summary(custom_scalars(layout), step)
        self._drawn = len(self._names)

    def _summary(self, summary: Any, step: int = 0) -> None:
        assert self._events.file_writer is not None
        self._events.file_writer.add_summary(summary, step)

    def has(self, step: int, group: str) -> bool:
        """Whether a number `<group>/...` of that step is written already."""
        return any(row["step"] == step and any(k.startswith(f"{group}/") for k in row) for row in self.rows)

    def latest(self, group: str) -> dict[str, float]:
        """The newest numbers of a group."""
        return {k: v for row in self.rows for k, v in row.items() if k.partition("/")[0] == group}
