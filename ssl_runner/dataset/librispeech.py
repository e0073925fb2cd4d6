"""LibriSpeech: read English, 16 kHz, folders SUBSET/SPEAKER/CHAPTER/*.flac; transcripts are not read.

Vassil Panayotov, Guoguo Chen, Daniel Povey, Sanjeev Khudanpur, "Librispeech: an ASR corpus based on public domain audio
books", ICASSP 2015.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from ssl_runner.data.audio_files.plan import Recording
from ssl_runner.data.audio_files.recordings import Recordings
from ssl_runner.errors import printable


@dataclass(kw_only=True)
class LibriSpeech(Recordings):
    """The unpacked archives. The class is the speaker, so validation and test are shares of each one's recordings.

    subsets: folders that are learnt from.
    """

    seconds: Annotated[float, Interval(ge=0.1, le=60)] = 4.0  # of a clip
    subsets: tuple[str, ...] = ("train-clean-100",)

    def find(self, root: Path) -> Sequence[Recording]:
        absent = [name for name in self.subsets if not (root / name).is_dir()]
        if absent:
            there = sorted(each.name for each in root.iterdir() if each.is_dir()) if root.is_dir() else []
            given = f"dataset.root={printable(self.root)} holds no {', '.join(absent)}"
            raise FileNotFoundError(f"{given}; type dataset.subsets=[NAME,...] of {there}, or dataset.root=FOLDER")
        files = sorted(f for name in self.subsets for f in (root / name).glob("*/*/*.flac"))
        names = [each.relative_to(root).as_posix() for each in files]
        return [Recording(each, "train", each.split("/")[1], each.split("/")[1]) for each in names]
