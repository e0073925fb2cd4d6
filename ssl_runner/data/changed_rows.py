"""Rows of images changed as they are read: corrupted, or with pixels, patches or channels missing."""

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.augment.image.corruption import STRENGTHS, corrupt
from ssl_runner.contract import Rows
from ssl_runner.data.order import Stretches
from ssl_runner.data.rows import rows_at_a_time

COPIED = 1 << 30  # bytes up to which rows are kept in memory; more of them are changed each time that they are read
PATCHES = 8  # a side, of an image whose patches may be missing
MIXED = ("salt_and_pepper", "noise", "blur", "jpeg", "occlusion")


@dataclass(frozen=True, eq=False)
class ChangedRows:
    """Rows of images, each corrupted and with parts missing, as its own seed draws it."""

    rows: Rows
    seeds: Int[Tensor, " n"]
    corrupt: str
    strength: int | None
    missing: float
    part: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def stretches(self) -> Stretches | None:
        return getattr(self.rows, "stretches", None)

    @property
    def processes(self) -> int:
        """Of rows that are decoded on demand: see engine/workers.py. AttributeError for others."""
        return self.rows.processes  # type: ignore[attr-defined]

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        x = self.rows[index]
        changed = [self.change(image[None], seed) for image, seed in zip(x, self.seeds[index].tolist(), strict=True)]
        return torch.cat(changed) if changed else x

    def change(self, image: UInt8[Tensor, "1 c h w"], seed: int) -> UInt8[Tensor, "1 c h w"]:
        rng = torch.Generator().manual_seed(seed)
        if self.corrupt != "none":
            kinds = MIXED if self.corrupt == "mixed" else (self.corrupt,)
            kind, strength = (int(torch.randint(n, (), generator=rng)) for n in (len(kinds), len(STRENGTHS)))
            x = corrupt(image.float() / 255, kinds[kind], self.strength or STRENGTHS[strength], rng)
            image = (x * 255).round().to(torch.uint8)
        if self.missing:
            c, h, w = image.shape[1:]
            grid = {"pixels": (1, h, w), "patches": (1, PATCHES, PATCHES), "channels": (c, 1, 1)}[self.part]
            u = torch.rand(1, *grid, generator=rng.manual_seed(seed + 1))  # the same parts, corrupted or not
            if self.part == "patches":
                u = torch.nn.functional.interpolate(u, size=(h, w))
            image = image.masked_fill((u < self.missing).to(image.device), 0)
        return image


def in_memory(rows: Rows) -> Rows:
    """The rows as one tensor, if they are few enough."""
    one = rows[torch.arange(min(1, len(rows)))]
    if isinstance(rows, Tensor) or len(rows) * one.numel() * one.element_size() > COPIED:
        return rows
    return torch.cat([rows[part] for part in torch.arange(len(rows)).split(rows_at_a_time(rows))])


def draw_seeds(n: int, rng: torch.Generator) -> Int[Tensor, " n"]:
    """A seed for each row: of 32 bits, since a generator on the CPU takes no more of them."""
    return torch.randint(2**32, (n,), generator=rng)
