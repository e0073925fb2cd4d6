"""A shard, and what is in it."""

from collections import Counter
from dataclasses import dataclass, field

PARTS = ("train", "unlabelled", "validation", "test")
LARGEST = 2**28  # bytes of the file of an image
SUFFIXES = (".tar", ".parquet", ".arrow")  # of shards
PROBES = 4  # images of a shard of which width and height are looked at
INDEXES = ("index.json", "index.npy")  # of a set of shards: what is said of each of them, and of each sample


@dataclass(frozen=True)
class Shard:
    name: str  # below the root, `/` between names
    part: str  # one of PARTS
    samples: int
    bytes: int  # 0 if it is not known
    sha256: str = ""  # of the file; "" if it is not known


@dataclass
class Scan:
    places: list[tuple[int, int]]  # first byte and bytes of each image; zeros if that is known once it is unpacked
    labels: list[str | None]
    left_out: Counter[str] = field(default_factory=Counter)  # how many, by reason
    classes: tuple[str, ...] = ()  # all of them in order, if the shard names them
    pixels: tuple[int, int] | None = None  # width and height of the first images, if they have the same
    bytes: int = 0  # of the file
    sha256: str = ""
