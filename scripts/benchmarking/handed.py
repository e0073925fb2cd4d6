"""The runner's task in a peer's loop: the peer makes the views, the task scores them as in the runner."""

import torch
from torch import Tensor

from benchmarking.place import Place
from ssl_runner.augment.image.mask import random_masks
from ssl_runner.contract import Context, Pretext
from ssl_runner.duration import Length
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.pretext.mae import MAE
from ssl_runner.pretext.rotation import Rotation, all_turns


def views_of(pretext: Pretext, images: list[Tensor], place: Place) -> tuple:
    """What the task's forward takes, from the view or two that somebody else augmented; rotation turns its only one."""
    if isinstance(pretext, Rotation):
        turned, turns = all_turns(images[0].to(place.device, non_blocking=True))
        return place.images(turned), turns
    moved = [place.images(image) for image in images]
    if isinstance(pretext, MAE):
        rng = CounterRng(int(torch.randint(2**31, ())), place.device)
        return moved[0], *random_masks(len(moved[0]), pretext.tokens, pretext.kept, rng)
    return tuple(moved)


def follow(pretext: Pretext, place: Place) -> None:
    """What the task does after a step: BYOL's target follows."""
    with torch.no_grad():
        pretext.after_step(Context(0, Length(1, 1, 1), CounterRng(0, place.device), lambda: iter(())), {})
