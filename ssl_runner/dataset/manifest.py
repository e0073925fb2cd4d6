"""Recordings that a table names: fairseq's two columns below a line with the root, or columns with names.

fairseq's: github.com/facebookresearch/fairseq, examples/wav2vec, wav2vec_manifest.py: the root folder, then a path and
a number of samples a line.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_runner.data.audio_files.plan import Recording
from ssl_runner.data.audio_files.recordings import Recordings
from ssl_runner.data.image_files.folders import PARTS
from ssl_runner.data.places import expand_home
from ssl_runner.errors import nearest, printable

FAIRSEQ = re.compile(r"[^\t]+\t[0-9]+ *")


@dataclass(kw_only=True)
class Manifest(Recordings):
    """`root` is a .tsv or .csv; paths in it are below its folder, unless it has a line with another.

    audio, label, speaker: columns of a table with names: that of the paths, and two that are left out if it has none of
    that name. split: the column that says train, valid or test, as folders are called; without it shares are held out.
    A training row whose label is empty is learnt from, and in no other part.
    Raises ValueError for columns that are not there, a split that is called otherwise, and a file that is no UTF-8.
    """

    audio: str = "path"
    label: str = "label"
    speaker: str = "speaker"
    split: str = "split"

    def folder(self, place: Path) -> Path:
        if not place.is_file():
            raise FileNotFoundError(f"dataset.root={printable(self.root)} is no file; type dataset.root=TABLE.tsv")
        lines = self.read(place)
        if self.names_columns(lines):
            return place.parent
        return place.parent / expand_home(lines[0][1].strip() or ".")

    def read(self, place: Path) -> list[tuple[int, str]]:
        """Lines with their numbers, the first and what is not empty. Raises ValueError for a file that is no UTF-8."""
        try:
            text = place.read_text(encoding="utf-8-sig")  # Excel writes a mark in front
        except UnicodeDecodeError as error:
            raise ValueError(f"{printable(self.root)} is no UTF-8 ({error.reason}); save it as UTF-8") from None
        return [(number, line) for number, line in enumerate(text.split("\n"), 1) if number == 1 or line.strip()]

    def names_columns(self, lines: Sequence[tuple[int, str]]) -> bool:
        """Whether the first line does. A root may have commas; the next line then is a path and a number of samples."""
        first = lines[0][1]
        root = "\t" not in first and any(FAIRSEQ.fullmatch(line) for _, line in lines[1:2])
        return not root and len(cells(first, first)) > 1

    def find(self, root: Path) -> Sequence[Recording]:
        lines = self.read(root)
        if not self.names_columns(lines):
            return [Recording(line.partition("\t")[0], "train") for _, line in lines[1:]]
        head = lines[0][1]
        names = cells(head, head)
        at = self.columns(names)
        rows = []
        for number, line in lines[1:]:
            given = cells(line, head)
            if len(given) != len(names):
                wrong = f"{printable(self.root)}, line {number}: {len(given)} cells under {len(names)} columns"
                raise ValueError(f"{wrong}; mend the line")
            rows.append((number, {key: given[place].strip() for key, place in at.items()}))
        labelled = any(row.get("label") for _, row in rows)
        return [self.recording(number, row, labelled) for number, row in rows]

    def columns(self, names: Sequence[str]) -> dict[str, int]:
        """Places of the columns that there are. Raises ValueError for one that was named and is not there."""
        fields = type(self).__dataclass_fields__
        columns = {key: getattr(self, key) for key in ("audio", "label", "speaker", "split")}
        for key, column in columns.items():
            if column not in names and (key == "audio" or column != fields[key].default):
                raise ValueError(
                    f"{key}: given {column}, and {printable(self.root)} has the columns {', '.join(names)}"
                    f"{nearest(column, names)}; type dataset.{key}=COLUMN"
                )
        return {key: names.index(column) for key, column in columns.items() if column in names}

    def recording(self, number: int, row: Mapping[str, str], labelled: bool) -> Recording:
        """What a line names. `labelled`: whether any line has a label; one of training without is learnt from alone."""
        part, line = PARTS.get(row.get("split", "train").lower()), f"{printable(self.root)}, line {number}"
        if part is None:
            possible = "possible are train, valid, test and unlabelled"
            raise ValueError(f"{line}: the split is called {row['split']!r}; {possible}")
        label = row.get("label") or None
        if labelled and label is None:
            if part not in ("train", "unlabelled"):
                raise ValueError(f"{line}: the label is empty; fill it in, or call the split unlabelled")
            part = "unlabelled"
        return Recording(row["audio"], part, label, row.get("speaker") or None)


def cells(line: str, head: str) -> list[str]:
    """Of a table whose first line is this."""
    return next(csv.reader([line], delimiter="\t" if "\t" in head else ","), [])
