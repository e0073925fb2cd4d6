"""Packing a folder of images into shards: which image goes into which, and the files with their index."""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image, ImageOps

from ssl_runner.data.image_files.decode import formats, open_image, to_channels
from ssl_runner.data.image_files.depth import depth_of
from ssl_runner.data.image_files.folders import RowPlan
from ssl_runner.data.shards.columns import scan_columns
from ssl_runner.data.shards.index import Index, collect, write_index
from ssl_runner.data.shards.scan import INDEXES, Scan, Shard
from ssl_runner.data.shards.tar import scan_tar
from ssl_runner.data.shards.write import WRITERS, Sample
from ssl_runner.errors import printable
from ssl_runner.run_folder.atomic import HALVES, digest, read_json, remove_abandoned, replacing, write_json

UNFINISHED = "packing.json"  # lies beside shards as long as some are absent
PROBED = 64  # images that are encoded to learn how large all will be
CHUNK = 256  # images that are read at a time
QUALITY = 95  # of JPEG
TAR = 1792  # bytes of a tar around an image: two headers, the label, and half a block


@dataclass(frozen=True)
class Packing:
    """Images of a folder in seeded random order, cut into shards of about the same size: a function of its fields and
    of the files as they are."""

    root: Path
    plan: RowPlan
    format: str  # a key of WRITERS
    size: int  # bytes of a shard, about
    stored: int | None  # pixels of the shorter side to which larger images are reduced; None: files as they are
    seed: int
    unreadable: list[str] = field(default_factory=list)  # name and reason of what was left out

    @cached_property
    def stats(self) -> list[tuple[int, int]]:
        """Bytes and time of each file; zeros if it cannot be told."""
        stats = []
        for file in self.plan.files:
            try:
                stat = (self.root / file).stat()
                stats.append((stat.st_size, stat.st_mtime_ns))
            except OSError:
                stats.append((0, 0))
        return stats

    @cached_property
    def total(self) -> int:
        """Bytes that all shards will have, about."""
        around = TAR * len(self.plan.files) if self.format == "webdataset" else 0
        if self.stored is None:
            return around + sum(size for size, _ in self.stats)
        files = self.plan.files[:: max(1, len(self.plan.files) // PROBED)]
        sizes = [len(image[1]) for file in files if not isinstance(image := self.read(file), str)]
        return around + sum(sizes) * len(self.plan.files) // max(1, len(sizes))

    @cached_property
    def shards(self) -> list[tuple[Shard, list[int]]]:
        """Each shard that will be, and its rows of the plan."""
        rng = torch.Generator().manual_seed(self.seed)
        suffix, _ = WRITERS[self.format]
        shards = []
        for part, rows in self.plan.parts.items():
            share = self.total * len(rows) / max(1, len(self.plan.files))
            count = min(max(1, round(share / self.size)), max(1, len(rows)))
            for i, its in enumerate(rows[torch.randperm(len(rows), generator=rng)].tensor_split(count)):
                number = f"{i:06d}" if self.format == "webdataset" else f"{i:05d}-of-{count:05d}"
                shards.append((Shard(f"{part}-{number}{suffix}", part, len(its), 0), its.tolist()))
        return shards

    @cached_property
    def source(self) -> str:
        """Hex digest of what is packed, and how."""
        plan = self.plan
        how = [self.format, self.size, self.stored, self.seed, plan.classes, plan.y.tolist()]
        parts = {part: rows.tolist() for part, rows in plan.parts.items()}
        files = [[printable(file), *stat] for file, stat in zip(plan.files, self.stats, strict=True)]
        return digest({"how": how, "parts": parts, "files": files}, 16)

    def read(self, file: str) -> tuple[str, bytes] | str:
        """Name and content of an image as it is stored; or why it cannot be read."""
        try:
            content = (self.root / file).read_bytes()
            with Image.open(io.BytesIO(content), formats=formats()) as image:
                shorter, deep = min(image.size), depth_of(image)
            if self.stored is None or shorter <= self.stored or deep:
                return file, content
            return f"{file.rpartition('.')[0]}.jpg", reduce_image(content, self.stored)
        except Exception as problem:  # Pillow's readers raise a dozen types on bytes that they do not expect
            return printable(f"{file} ({type(problem).__name__}: {problem})")

    def samples(
        self, shard: Shard, rows: Sequence[int], first: int, advance: Callable[[int], object]
    ) -> Iterator[Sample]:
        """Samples of a shard, the first of which has a number; what cannot be read is left out."""
        plan = self.plan
        labelled = bool(plan.classes) and shard.part != "unlabelled"
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(rows), CHUNK):
                images = pool.map(self.read, [plan.files[row] for row in rows[start : start + CHUNK]])
                for i, image in enumerate(images, start):
                    advance(1)
                    if isinstance(image, str):
                        self.unreadable.append(image)
                    else:
                        yield Sample(first + i, *image, int(plan.y[rows[i]]) if labelled else -1)

    def write(self, to: Path, advance: Callable[[int], object]) -> Index:
        """Writes all shards that are absent, then the index. `advance` is told how many images are done.

        Raises FileExistsError if the folder holds anything else, OSError, ModuleNotFoundError. What is written is whole
        at any time; done again after an interruption, it goes on.
        """
        begun = read_json(to / UNFINISHED).get("source") == self.source
        remove_abandoned(to, HALVES)
        if not begun and to.exists() and any(to.iterdir()):
            raise FileExistsError(f"{printable(to)} holds other files, or shards that were packed in another way")
        to.mkdir(parents=True, exist_ok=True)
        write_json(to / UNFINISHED, {"source": self.source})
        scans, shards, first = [], [], dict.fromkeys(self.plan.parts, 0)
        for shard, rows in self.shards:
            path = to / shard.name
            if path.exists():
                advance(len(rows))
            else:
                with replacing(path) as file:
                    samples = self.samples(shard, rows, first[shard.part], advance)
                    WRITERS[self.format][1](file, samples, self.plan.classes)
            first[shard.part] += len(rows)
            scan = self.scan(path)
            with path.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            shards.append(replace(shard, samples=len(scan.labels), bytes=path.stat().st_size, sha256=checksum))
            scans.append(scan)
        index = collect(shards, scans, self.plan.classes, self.source)
        write_index(to, index)
        (to / UNFINISHED).unlink()
        return index

    def scan(self, path: Path) -> Scan:
        """What is in a shard. The labels of a tar are numbers of classes: they become their names."""
        scan = scan_tar(path, None, None) if self.format == "webdataset" else scan_columns(path, None, None)
        if self.format == "webdataset":
            scan.labels = [None if label is None else self.plan.classes[int(label)] for label in scan.labels]
        return scan


def is_packed(to: Path, packing: Packing) -> bool:
    """Whether a folder holds all shards of a packing."""
    return read_json(to / INDEXES[0]).get("source") == packing.source


def reduce_image(content: bytes, side: int) -> bytes:
    """The image as JPEG, upright, its shorter side having so many pixels. Raises what Pillow raises."""
    with open_image(content, side) as file:
        ImageOps.exif_transpose(file, in_place=True)
        image = to_channels(file, 1 if file.mode in ("1", "L") else 3)
        scale = side / min(image.size)
        width, height = (max(side, round(scale * each)) for each in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=QUALITY, subsampling=0)
    return encoded.getvalue()
