"""Photographs for measuring loaders: as many as are wanted, from a folder of smaller ones, packed into shards.

    python scripts/photographs.py FOLDER SHARDS --images 200000

Each is a random crop of a file, enlarged, flipped, with another brightness, contrast, colour and the grain of a sensor,
as JPEG. It is a function of the seed, the file and its number alone. Parts and classes are those of the folder, so that
no crop of a validation image is learnt from. Interrupted, it goes on once the same is typed again.
"""

import io
from argparse import ArgumentParser
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress

from ssl_runner.data.image_files.folders import RowPlan, plan_rows
from ssl_runner.data.shards.packing import TAR, Packing

CROP = (0.7, 1.0)  # of the shorter side
JITTER = (0.8, 1.2)  # of brightness and contrast, and of each colour by itself
GRAIN = 4.0  # standard deviation of the noise, of 255
QUALITY = (80, 95)  # of JPEG


@dataclass(frozen=True)
class Photographs(Packing):
    """A packing whose files are made when they are read: `CLASS/0001.jpg#2` is the third of CLASS/0001.jpg."""

    side: int = 160

    @cached_property
    def total(self) -> int:
        images = [self.read(file) for file in self.plan.files[:: max(1, len(self.plan.files) // 64)]]
        return sum(len(image[1]) + TAR for image in images) * len(self.plan.files) // len(images)

    @cached_property
    def grain(self) -> np.ndarray:
        return np.random.default_rng(self.seed).normal(0, GRAIN, (1024, 1024, 1)).astype(np.float32)

    def read(self, file: str) -> tuple[str, bytes] | str:
        name, _, number = file.rpartition("#")
        rng = np.random.default_rng([self.seed, int(number), *name.encode()])
        with Image.open(self.root / name) as opened:
            image = opened.convert("RGB")
        crop = rng.uniform(*CROP) * min(image.size)
        left, top = (rng.uniform(0, length - crop) for length in image.size)
        box = (left, top, left + crop, top + crop)
        image = image.resize((self.side, self.side), Image.Resampling.BICUBIC, box=box)
        x = np.asarray(image, dtype=np.float32)[:, :: rng.choice([-1, 1])]
        contrast, colour = rng.uniform(*JITTER), rng.uniform(*JITTER) * rng.uniform(*JITTER, 3).astype(np.float32)
        i, j = rng.integers(0, len(self.grain) - self.side, 2)
        x = (x - 128) * contrast + 128 * colour + self.grain[i : i + self.side, j : j + self.side]
        encoded = io.BytesIO()
        made = Image.fromarray(x.clip(0, 255).astype(np.uint8))
        made.save(encoded, "JPEG", quality=int(rng.integers(*QUALITY)))
        return f"{name}-{number}.jpg", encoded.getvalue()


def repeated(plan: RowPlan, images: int) -> RowPlan:
    """The plan of so many photographs: the files again and again, each time under another number."""
    count = len(plan.files)
    rows = torch.arange(images)
    files = [f"{plan.files[row % count]}#{row // count}" for row in range(images)]
    parts = {part: rows[torch.isin(rows % count, its)] for part, its in plan.parts.items()}
    return replace(plan, files=files, parts=parts, y=plan.y[rows % count])


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of images, as of dataset=image_folder")
    parser.add_argument("shards", type=Path)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=160, help="pixels")
    parser.add_argument("--size", type=float, default=64, help="MB of a shard")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    plan = plan_rows(given.folder, labels="auto", shares={"test": 0.1, "validation": 0.1}, split_seed=0)
    plan = repeated(plan, given.images)
    size = int(given.size * 1e6)
    packing = Photographs(given.folder, plan, "webdataset", size, None, given.seed, side=given.side)
    with Progress() as progress:
        task = progress.add_task("photographs", total=given.images)
        index = packing.write(given.shards, lambda done: progress.advance(task, done))
    total = sum(shard.bytes for shard in index.shards)
    print(f"{len(index.table):,} photographs in {len(index.shards)} shards, {total / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
