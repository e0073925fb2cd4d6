"""Index of a set of shards: samples, bytes and checksum of each shard, and place and label of each sample."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from ssl_runner.data.image_files.listing import natural_key
from ssl_runner.data.shards.scan import INDEXES, PARTS, SUFFIXES, Scan, Shard
from ssl_runner.errors import printable
from ssl_runner.run_folder.atomic import write, write_json

FORMAT = 1
MOST = {INDEXES[0]: 2**26, INDEXES[1]: 2**34}  # bytes that are read of each file of an index
SAMPLE = np.dtype([("place", "<i8"), ("bytes", "<i8"), ("label", "<i4")])  # label -1: none


@dataclass(frozen=True, eq=False)
class Index:
    shards: tuple[Shard, ...]
    classes: tuple[str, ...]
    pixels: tuple[int, int] | None  # width and height of the images if they are all the same
    table: np.ndarray  # SAMPLE of each sample, shard after shard
    left_out: Mapping[str, int]
    source: str = ""  # hex digest of what was packed, and how

    def rows_of(self, part: str) -> np.ndarray:
        """(n,) bool, whether each sample is of a part."""
        return np.repeat([shard.part == part for shard in self.shards], [shard.samples for shard in self.shards])

    def only(self, names: Collection[str]) -> "Index":
        """The index of some of its shards."""
        kept = [shard.name in names for shard in self.shards]
        rows = np.repeat(kept, [shard.samples for shard in self.shards])
        return replace(self, shards=tuple(compress(self.shards, kept)), table=self.table[rows])

    def digest(self) -> str:
        """Hex digest of what the shards hold, wherever they lie."""
        known = [sorted(asdict(shard).items()) for shard in self.shards]
        whole = hashlib.blake2b(json.dumps([known, self.classes]).encode(), digest_size=16)
        whole.update(self.table.tobytes())
        return whole.hexdigest()


def collect(shards: Sequence[Shard], scans: Sequence[Scan], classes: Sequence[str] = (), source: str = "") -> Index:
    """The index of shards that were scanned. Raises ValueError if they name other classes than one another.

    classes: names in order; by default those that a shard names, or else all labels.
    """
    named = {scan.classes: shard.name for shard, scan in zip(shards, scans, strict=True) if scan.classes}
    if len(named) > 1 and not classes:
        first, second = list(named.values())[:2]
        raise ValueError(f"{printable(first)} and {printable(second)} name other classes; give them a root each")
    labels = [label for scan in scans for label in scan.labels]
    classes = tuple(classes or next(iter(named), ())) or tuple(sorted({*labels} - {None}, key=natural_key))
    number = {name: i for i, name in enumerate(classes)}
    table = np.empty(len(labels), dtype=SAMPLE)
    places = [place for scan in scans for place in scan.places]
    table["place"], table["bytes"] = np.array(places, dtype=np.int64).reshape(-1, 2).T
    table["label"] = [-1 if label is None else number.get(label, -1) for label in labels]
    sizes = {scan.pixels for scan in scans if scan.labels}
    pixels = sizes.pop() if len(sizes) == 1 else None
    left_out = dict(sum((scan.left_out for scan in scans), Counter()))
    return Index(tuple(shards), tuple(map(printable, classes)), pixels, table, left_out, source)


def write_index(folder: Path, index: Index) -> None:
    """Writes both files, the one that is looked for last. Raises OSError."""
    content = io.BytesIO()
    np.save(content, index.table, allow_pickle=False)
    write(folder / INDEXES[1], content.getbuffer())
    known: dict[str, Any] = {"format": FORMAT, "source": index.source, "classes": index.classes, "pixels": index.pixels}
    known |= {"left_out": index.left_out, "table": hashlib.sha256(content.getbuffer()).hexdigest()}
    write_json(folder / INDEXES[0], known | {"shards": [asdict(shard) for shard in index.shards]})


def parse_index(described: bytes, table: bytes) -> Index:
    """The index of the content of both files. Raises ValueError for what no index can be."""
    try:
        known = json.loads(described)
        if known["format"] != FORMAT:
            raise ValueError(f"its format is {known['format']!r}, and {FORMAT} is read; install a newer ssl-runner")
        if hashlib.sha256(table).hexdigest() != known["table"]:
            raise ValueError(f"{INDEXES[1]} is damaged, or of another {INDEXES[0]}")
        shards = tuple(read_shard(each) for each in known["shards"])
        pixels = known["pixels"] and (int(known["pixels"][0]), int(known["pixels"][1]))
        classes = tuple(printable(str(name)) for name in known["classes"])
        left_out = {printable(reason): int(count) for reason, count in known["left_out"].items()}
        samples = np.load(io.BytesIO(table), allow_pickle=False)
        source = str(known["source"])
    except (KeyError, TypeError, IndexError, AttributeError, EOFError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if samples.dtype != SAMPLE or samples.shape != (sum(shard.samples for shard in shards),):
        raise ValueError(f"{INDEXES[1]} is not of the samples that {INDEXES[0]} counts")
    ends = np.repeat([shard.bytes for shard in shards], [shard.samples for shard in shards])
    place, size, label = (samples[field] for field in SAMPLE.names or ())
    if (place < 0).any() or (size < 0).any() or (place > ends).any() or (size > ends - place).any():
        raise ValueError("it has images that reach beyond the end of their shard")
    if (label < -1).any() or (label >= len(classes)).any():
        raise ValueError("it has labels that are no classes")
    return Index(shards, classes, pixels, samples, left_out, source)


def read_shard(known: Mapping[str, Any]) -> Shard:
    """A shard as an index describes it. Raises ValueError for a name that leads out of the folder, and the like."""
    shard = Shard(**known)
    name = shard.name if isinstance(shard.name, str) else ""
    steps = name.split("/")
    if not name.endswith(SUFFIXES) or {"", ".", ".."} & {*steps} or ":" in name or "\\" in name or "\0" in name:
        raise ValueError(f"given {printable(name)!r} as a shard's name; possible is one below the folder")
    counts = [value for value in (shard.samples, shard.bytes) if isinstance(value, int) and value >= 0]
    if shard.part not in PARTS or len(counts) < 2 or not isinstance(shard.sha256, str):
        raise ValueError(f"it has no samples, bytes, part or checksum of {printable(name)}")
    return shard
