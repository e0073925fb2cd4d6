"""Recordings as rows: which clips of which files belong to which part, with labels and speakers, before decoding."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from ssl_runner.data.audio_files.decode import Header, read_header, rows_of
from ssl_runner.data.image_files.listing import natural_key
from ssl_runner.data.rows import stratified_split
from ssl_runner.errors import printable

MEASURED = ("validation", "test")
SHOWN = 5  # names of many


@dataclass(frozen=True)
class Recording:
    """A file below the root, and what is known of it."""

    file: str
    part: str  # train, unlabelled, validation or test
    label: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class ClipPlan:
    """Which clip is which row; all clips of a recording are in the same part."""

    files: list[str]
    counts: list[int]  # rows of each file
    parts: Mapping[str, Int[Tensor, " _"]]  # rows by part
    classes: tuple[str, ...]  # none if there are no labels
    y: Int[Tensor, " n"]  # class of each row, 0 if it has none
    speakers: tuple[str, ...]
    speaker: Int[Tensor, " n"]  # of each row, if all files have one
    broken: Mapping[str, str]  # why a file cannot be read, by name
    remarks: Mapping[str, int]  # how many files they are true of

    @property
    def learnt(self) -> Int[Tensor, " n"]:
        return torch.cat([self.parts[part] for part in ("train", "unlabelled") if part in self.parts])


def plan_clips(
    root: Path, recordings: Sequence[Recording], *, rate: int, length: int, shares: Mapping[str, float], seed: int
) -> ClipPlan:
    """Reads all headers. shares: of the training recordings, of each class if all have one, for parts that have none.

    Raises ValueError for a part with labels that training recordings do not have.
    """
    with ThreadPoolExecutor(8) as pool:
        headers = list(pool.map(lambda each: read_header(root / each.file), recordings))
    sound = [(each, known) for each, known in zip(recordings, headers, strict=True) if usable(known)]
    kept = held_out([each for each, _ in sound], shares, seed)
    known = [header for _, header in sound if isinstance(header, Header)]
    counts = [rows_of(-(-each.frames * rate // each.rate), length) for each in known]
    classes = sorted({each.label for each in kept if each.part == "train" and each.label is not None}, key=natural_key)
    labelled = len(classes) > 1 and all(each.label is not None for each in kept if each.part != "unlabelled")
    check_labels(kept, classes if labelled else [])
    of_row = torch.arange(len(kept)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    number = {name: place for place, name in enumerate(classes)} if labelled else {}
    speakers = sorted({each.speaker for each in kept if each.speaker is not None}, key=natural_key)
    names = [each.part for each in kept]
    everyone = bool(kept) and all(each.speaker is not None for each in kept)
    voices = {name: place for place, name in enumerate(speakers)} if everyone else {}
    return ClipPlan(
        files=[each.file for each in kept],
        counts=counts,
        parts={
            part: torch.tensor([names[file] == part for file in of_row.tolist()]).nonzero().flatten()
            for part in ("train", "unlabelled", *MEASURED)
            if part in names or part == "train"
        },
        classes=tuple(map(printable, classes)) if labelled else (),
        y=torch.tensor([number.get(each.label, 0) for each in kept], dtype=torch.int64)[of_row],
        speakers=tuple(map(printable, speakers)) if everyone else (),
        speaker=torch.tensor([voices.get(each.speaker, 0) for each in kept], dtype=torch.int64)[of_row],
        broken={
            each.file: known for each, known in zip(recordings, headers, strict=True) if not isinstance(known, Header)
        },
        remarks=remarks_on([each for each in headers if isinstance(each, Header)], rate),
    )


def usable(header: Header | str) -> bool:
    return isinstance(header, Header) and header.frames > 0


def held_out(recordings: Sequence[Recording], shares: Mapping[str, float], seed: int) -> list[Recording]:
    """The recordings, some of training given to parts that have none: of every class, or of all, the same share."""
    kept, given = list(recordings), {each.part for each in recordings}
    for part, share in shares.items():
        train = [place for place, each in enumerate(kept) if each.part == "train"]
        if part in given:
            continue
        labels = [kept[place].label for place in train]
        known = {} if None in labels else {label: number for number, label in enumerate(sorted({*labels}))}
        y = torch.tensor([known.get(label, 0) for label in labels], dtype=torch.int64)
        for place in stratified_split(y, share, seed)[1].tolist():
            each = kept[train[place]]
            kept[train[place]] = Recording(each.file, part, each.label, each.speaker)
    return kept


def check_labels(recordings: Sequence[Recording], classes: Sequence[str]) -> None:
    unknown = {each.label for each in recordings if classes and each.part in MEASURED} - {*classes}
    if unknown:
        given = ", ".join(sorted(map(str, unknown))[:SHOWN])
        raise ValueError(f"labels {given} are of no training recording; call folders alike, or leave these out")


def remarks_on(headers: Sequence[Header], rate: int) -> dict[str, int]:
    """What is done to recordings that are not as they will be heard."""
    several = sum(each.channels > 1 for each in headers)
    rates = Counter(each.rate for each in headers if each.rate != rate)
    remarks = {
        "of several channels, which are mixed down": several,
        "empty, and left out": sum(not each.frames for each in headers),
    }
    remarks |= {f"of {own:,} Hz, resampled": count for own, count in rates.most_common(SHOWN)}
    return {words: count for words, count in remarks.items() if count}
