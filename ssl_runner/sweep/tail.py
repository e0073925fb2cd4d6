"""Tail of a growing metrics.jsonl: the curve of one metric, each row read once."""

import json
from pathlib import Path

from ssl_runner.run_folder.metrics import new_name


class Tail:
    """The last step of a run, and the curve of a metric as (step, value)."""

    def __init__(self, path: Path, metric: str):
        self.path, self.metric = path, metric
        self.step, self.curve = 0, list[tuple[int, float]]()
        self._file, self._offset = 0, 0

    def read(self) -> bool:
        """Reads on. Returns whether there was anything new; a file that was begun again is read from its start."""
        try:
            with self.path.open("rb") as file:
                status = self.path.stat()
                if status.st_ino != self._file or status.st_size < self._offset:
                    self._file, self._offset, self.step, self.curve = status.st_ino, 0, 0, []
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return False
        whole = new[: new.rfind(b"\n") + 1]  # of the last row only a part may be there
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                row = {new_name(name): value for name, value in json.loads(line).items()}
                self.step = int(row["step"])
                if self.metric in row:
                    self.curve.append((self.step, float(row[self.metric])))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue  # a line that a crash has torn
        return bool(whole)
