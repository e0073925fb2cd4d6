"""Do images give away where JPEG's blocks begin? A window that shows it tells its own place, and nothing is learnt.

    python scripts/jpeg_blocks.py FOLDER [--blur 0 0.7 ...] [--steps 800]

A small network sees windows of half the image's side and is asked for the row, of eight, in which the next block of 8
pixels begins; the accuracy is of images that it was not trained on, and 1 in 8 by chance. Images are read as
dataset=image_folder reads them, 10,000 at most, without a change of size. --blur: standard deviations in pixels, of a
blur of the window, a network each.
"""

import argparse
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_runner.augment.image.blur import blur
from ssl_runner.contract import Rng
from ssl_runner.dataset.image_folder import ImageFolder
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.model.convnet import ConvNet

BLOCK, BATCH, ROWS = 8, 256, 10_000


def windows(x: Tensor, side: int, sigma: float, rng: Rng) -> tuple[Tensor, Tensor]:
    """A window of each of B images, and the row of its block in which it begins: (B, C, side, side) and (B,)."""
    top, left = (rng.randint(x.shape[axis] - side + 1, len(x)) for axis in (2, 3))
    rows, columns = (first[:, None] + torch.arange(side) for first in (top, left))
    seen = x[torch.arange(len(x))[:, None, None], :, rows[:, :, None], columns[:, None]]  # (B, side, side, C)
    seen = seen.movedim(3, 1).float() / 255
    return blur(seen, torch.full((len(x),), sigma)) if sigma else seen, top % BLOCK


def accuracy(x: Tensor, sigma: float, steps: int) -> float:
    """How often the network is right about images that it was not trained on. x: uint8 (N, C, H, W)."""
    torch.manual_seed(0)
    rng, side, held_out = CounterRng(0, torch.device("cpu")), min(x.shape[2:]) // 2, len(x) // 10
    encoder = ConvNet(shape=(x.shape[1], side, side), mean=(0.5,) * x.shape[1], std=(0.25,) * x.shape[1])
    head = nn.Linear(encoder.dim, BLOCK)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], 2e-3)
    for _ in range(steps):
        seen, row = windows(x[held_out + rng.randint(len(x) - held_out, BATCH)], side, sigma, rng)
        loss = F.cross_entropy(head(encoder(seen).pooled), row)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    with torch.no_grad():
        seen, row = windows(x[:held_out], side, sigma, rng)
        return float((head(encoder(seen).pooled).argmax(1) == row).float().mean())


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="with images of one size")
    parser.add_argument("--blur", type=float, nargs="+", default=[0.0, 0.7], metavar="PIXELS")
    parser.add_argument("--steps", type=int, default=800)
    typed = parser.parse_args(words)
    train = ImageFolder(root=typed.folder).load().train
    x = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:ROWS]]
    for sigma in typed.blur:
        print(f"blur of {sigma:g} px: {accuracy(x, sigma, typed.steps):.1%} (by chance {1 / BLOCK:.1%})", flush=True)


if __name__ == "__main__":
    main()
