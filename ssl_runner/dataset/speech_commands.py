"""Speech Commands: one-second recordings of 35 words by some 2,600 people, 16 kHz.

Pete Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018, arXiv 1804.03209. The archive
has a folder a word, validation_list.txt and testing_list.txt; a file is called by a hash of its speaker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_runner.data.audio_files.plan import Recording
from ssl_runner.data.audio_files.recordings import Recordings
from ssl_runner.errors import printable

LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}


@dataclass(kw_only=True)
class SpeechCommands(Recordings):
    """The unpacked archive. The class is the word; the official lists say what is validation and test, and no speaker
    of these is learnt from. _background_noise_ is left out."""

    def find(self, root: Path) -> Sequence[Recording]:
        absent = [name for name in LISTS if not (root / name).is_file()]
        if absent:
            given = f"dataset.root={printable(self.root)} holds no {' and no '.join(absent)}"
            raise FileNotFoundError(
                f"{given}; type dataset.root=FOLDER, where speech_commands_v0.02.tar.gz is unpacked"
            )
        part = {line.strip(): part for name, part in LISTS.items() for line in (root / name).read_text().splitlines()}
        files = sorted(each.relative_to(root).as_posix() for each in root.glob("[!_]*/*.wav"))
        return [
            Recording(file, part.get(file, "train"), file.partition("/")[0], Path(file).name.partition("_nohash_")[0])
            for file in files
        ]
