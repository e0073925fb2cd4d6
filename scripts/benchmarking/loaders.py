"""Loaders of peers on the same JPEGs, decoded by the same function: torch's DataLoader, WebDataset, litdata."""

import io
import os
import random
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_runner.data.image_files.decode import read_image

SHARDS = 20  # files that a peer's copy of the folder has
AHEAD = 2  # batches that each worker process has ready: torch's default


@dataclass
class Contestant:
    """Batches without an end, and what ends their processes."""

    steps: Iterator[Any]
    close: Callable[[], None]
    ahead: int = 4  # batches that it may have ready when its turn begins, which are not counted
    processes: set[int] = field(default_factory=set)

    def turn(self, seconds: float) -> tuple[int, float, float]:
        """Batches, the seconds that they took, and those of all cores together. What is read ahead afterwards is waited
        for, to disturb no other's turn."""
        for _ in range(self.ahead):
            next(self.steps)
        busy, started, count = self.busy(), time.perf_counter(), 0
        while (took := time.perf_counter() - started) < seconds or not count:
            next(self.steps)
            count += 1
        busy = self.busy() - busy
        time.sleep(min(seconds, 1.5 * self.ahead * took / count))
        return count, took, busy

    def busy(self) -> float:
        """Seconds of all cores that this process and the contestant's have taken."""
        stats = [Path(f"/proc/{pid}/stat") for pid in self.processes]
        ticks = [each.read_text().rpartition(")")[2].split()[11:13] for each in stats if each.exists()]
        return time.process_time() + sum(int(tick) for pair in ticks for tick in pair) / os.sysconf("SC_CLK_TCK")


class Files(Dataset):
    """An image an item, as torchvision's ImageFolder has them."""

    def __init__(self, paths: list[Path], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(read_image(self.paths[index], self.size)), 0


def repeated(batches: Iterable[Any]) -> Iterator[Tensor]:
    """Epoch after epoch, as float32 in [0, 1]."""
    while True:
        for batch in batches:
            x = batch if isinstance(batch, Tensor) else batch[0]
            yield x.float().div_(255)


def contestant(batches: Iterable[Any], workers: int) -> Contestant:
    steps = repeated(batches)
    return Contestant(steps, steps.close, AHEAD * workers)


def dataloader(paths: list[Path], size: int, batch: int, workers: int, _: Path) -> Contestant:
    how = {"batch_size": batch, "shuffle": True, "drop_last": True, "num_workers": workers}
    return contestant(DataLoader(Files(paths, size), **how, persistent_workers=True), workers)


def decoded(size: int, sample: dict[str, bytes]) -> Tensor:
    return torch.from_numpy(read_image(io.BytesIO(sample["jpg"]), size))


def webdataset(paths: list[Path], size: int, batch: int, workers: int, place: Path) -> Contestant:
    """Its own pipeline: shards in random order, samples through a shuffle buffer, batches made in the workers."""
    import webdataset as wds

    for number in range(SHARDS):
        with tarfile.open(place / f"{number:04d}.tar", "w") as tar:
            for path in shuffled(paths)[number::SHARDS]:
                tar.add(path, f"{path.stem}.jpg")
    shards = [str(each) for each in sorted(place.glob("*.tar"))]
    samples = wds.WebDataset(shards, shardshuffle=SHARDS).shuffle(1000).map(partial(decoded, size))
    batches = samples.batched(batch, collation_fn=torch.stack, partial=False)
    return contestant(wds.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=True), workers)


def as_bytes(path: Path) -> dict[str, bytes]:
    return {"jpg": path.read_bytes()}


def litdata(paths: list[Path], size: int, batch: int, workers: int, place: Path) -> Contestant:
    """Its own format, which it writes first, and its own loader."""
    import litdata as lit

    folder = str(place / "litdata")
    lit.optimize(as_bytes, shuffled(paths), folder, chunk_bytes="4MB", num_workers=1, verbose=False)
    stream = lit.StreamingDataset(folder, shuffle=True, drop_last=True, transform=partial(decoded, size))
    how = {"batch_size": batch, "num_workers": workers, "persistent_workers": True}
    return contestant(lit.StreamingDataLoader(stream, **how), workers)


PEERS = {"torch DataLoader": dataloader, "WebDataset": webdataset, "litdata": litdata}


def shuffled(paths: list[Path]) -> list[Path]:
    return random.Random(0).sample(paths, len(paths))


def children(pid: int) -> set[int]:
    """Processes below one, at any depth."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(") ")[2].split()[1])
    below: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {pid}


def held_mb(pids: Iterable[int], counted: str = "Anonymous") -> float:
    """Memory of processes: what is of no file; or as Pss all of it, of pages that n processes share the n-th part."""
    lines: list[str] = []
    for pid in pids:
        with suppress(OSError):  # it has ended
            lines += Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{counted}:")) / 1024
