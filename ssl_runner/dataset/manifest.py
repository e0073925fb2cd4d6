"""Recordings that a table names: fairseq's two columns below a line with the root, or columns with names.

fairseq's: github.com/facebookresearch/fairseq, examples/wav2vec, wav2vec_manifest.py: the root folder, then a path and
a number of samples a line.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_runner.data.audio_files.plan import Recording
from ssl_runner.data.audio_files.recordings import Recordings
from ssl_runner.data.image_files.folders import PARTS
from ssl_runner.data.places import expand_home
from ssl_runner.errors import nearest, printable


@dataclass(kw_only=True)
class Manifest(Recordings):
    """`root` is a .tsv or .csv; paths in it are below its folder, unless it has a line with another.

    path, label, speaker: columns of a table with names, the latter two left out if it has none of that name. split: the
    column that says train, valid or test, as folders are called; without it shares are held out.
    Raises ValueError for columns that are not there, and a split that is called otherwise.
    """

    path: str = "path"
    label: str = "label"
    speaker: str = "speaker"
    split: str = "split"

    def folder(self, place: Path) -> Path:
        if not place.is_file():
            raise FileNotFoundError(f"dataset.root={printable(self.root)} is no file; type dataset.root=TABLE.tsv")
        with place.open(encoding="utf-8") as file:
            first = file.readline().rstrip("\r\n")
        if self.names_columns(first):
            return place.parent
        return place.parent / expand_home(first.strip() or ".")

    def names_columns(self, first: str) -> bool:
        return len(self.cells(first)) > 1

    def cells(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter="\t" if "\t" in line else ","), [])

    def find(self, root: Path) -> Sequence[Recording]:
        lines = [line for line in root.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines or not self.names_columns(lines[0]):
            return [Recording(self.cells(line)[0], "train") for line in lines[1:]]
        names = self.cells(lines[0])
        fields = type(self).__dataclass_fields__
        columns = {key: getattr(self, key) for key in ("path", "label", "speaker", "split")}
        for key, column in columns.items():
            if column not in names and (key == "path" or column != fields[key].default):
                raise ValueError(
                    f"{key}: given {column}, and {printable(self.root)} has the columns {', '.join(names)}"
                    f"{nearest(column, names)}; type dataset.{key}=COLUMN"
                )
        at = {key: names.index(column) for key, column in columns.items() if column in names}
        found = []
        for number, line in enumerate(lines[1:], 2):
            cells = self.cells(line)
            if len(cells) != len(names):
                given = f"{printable(self.root)}, line {number}: {len(cells)} cells under {len(names)} columns"
                raise ValueError(f"{given}; mend the line")
            row = {key: cells[place] for key, place in at.items()}
            part = PARTS.get(row.get("split", "train").lower())
            if part is None:
                given = f"{printable(self.root)}, line {number}: the split is called {row['split']!r}"
                raise ValueError(f"{given}; possible are train, valid, test and unlabelled")
            found.append(Recording(row["path"], part, row.get("label"), row.get("speaker")))
        return found
