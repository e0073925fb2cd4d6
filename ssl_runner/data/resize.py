"""Resized images: rows of one shape as rows of another, to try an encoder on a dataset that it was not made for."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ssl_runner.contract import Data, Rows, Samples
from ssl_runner.data.order import Stretches
from ssl_runner.data.rows import statistics

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class ResizedRows:
    """Rows with the channels and the size of `shape` (C, H, W): resized with antialiasing, grey copied to all channels.

    Colour becomes grey by its luma. Raises ValueError for other changes of channels.
    """

    def __init__(self, rows: Rows, shape: tuple[int, ...]):
        self.rows, self.shape = rows, shape
        channels = self.rows[torch.zeros(0, dtype=torch.int64)].shape[1]
        if channels != shape[0] and 1 not in (channels, shape[0]):
            raise ValueError(f"samples of {channels} channels cannot be made the encoder's samples of {shape[0]}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def stretches(self) -> Stretches | None:
        return getattr(self.rows, "stretches", None)

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        given = self.rows[index]
        x = given.float()
        if x.shape[1] != self.shape[0]:
            x = x.expand(-1, self.shape[0], -1, -1) if x.shape[1] == 1 else grey(given)[:, None]
        if x.shape[2:] != self.shape[1:]:
            x = F.interpolate(x, size=self.shape[1:], mode="bilinear", antialias=True, align_corners=False)
        return x.round().clamp(0, 255).to(torch.uint8)


def grey(x: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """The luma of three channels, the mean of others."""
    return (x * torch.tensor(LUMA, device=x.device).view(3, 1, 1)).sum(1) if x.shape[1] == 3 else x.float().mean(1)


def resized_data(data: Data, samples: Samples) -> Data:
    """Data as an encoder takes it: images of another size or number of channels. Raises ValueError."""
    if samples.kind != "image":
        raise ValueError(f"its samples are not of the encoder's shape {samples.shape}; choose one with such samples")
    splits = {name: getattr(data, name) for name in ("bank", "validation", "test")}
    rows = (data.train, *(split.x for split in splits.values() if split))
    resized = {id(each): ResizedRows(each, samples.shape) for each in rows}  # a split may share its rows with another
    splits = {name: split and replace(split, x=resized[id(split.x)]) for name, split in splits.items()}
    mean, std = statistics(resized[id(data.train)])
    return replace(data, train=resized[id(data.train)], **splits, mean=mean, std=std)
