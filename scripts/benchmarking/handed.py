"""The runner's task in a peer's loop: the peer makes the views, the task scores them as in the runner."""

import torch
from torch import Tensor

from benchmarking.place import Place
from ssl_runner.contract import Context, Pretext
from ssl_runner.parts.masking import random_masks
from ssl_runner.pretext.mae import MAE
from ssl_runner.pretext.rotation import Rotation


def views_of(pretext: Pretext, images: list[Tensor], place: Place) -> tuple:
    """What the task's forward takes, from images that somebody else augmented: all four turns, or a view or two."""
    if isinstance(pretext, Rotation):
        turns = torch.arange(len(images), device=place.device).repeat_interleave(len(images[0]))
        return place.images(torch.cat([image.to(place.device) for image in images])), turns
    moved = [place.images(image) for image in images]
    if isinstance(pretext, MAE):
        rng = torch.Generator(place.device).manual_seed(int(torch.randint(2**31, ())))
        return moved[0], *random_masks(len(moved[0]), pretext.tokens, pretext.kept, rng)
    return tuple(moved)


def follow(pretext: Pretext, place: Place) -> None:
    """What the task does after a step: BYOL's target follows."""
    with torch.no_grad():
        pretext.after_step(Context(0, 1, 1, torch.Generator(place.device), lambda: iter(())))
