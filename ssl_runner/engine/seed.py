"""Seeds: every random draw is a function of (seed, purpose, place in training), so no generator is saved."""

import hashlib
import random
from functools import cache

import numpy as np
import torch

DRAWS = 2  # raised when the same seed would draw other numbers; 1: a generator that drew for a micro-batch at once

has_accelerator = cache(torch.accelerator.is_available)


def derive(seed: int, purpose: str, *place: int | str) -> int:
    """A 63-bit seed that differs wherever the seed, the purpose or the place (step, micro-batch, rank) differs."""
    text = "\x1f".join(map(str, (seed, purpose, *place)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_everything(seed: int, purpose: str, *place: int | str) -> None:
    """Seeds the global generators of torch (all devices), numpy and python: nothing between steps disturbs them."""
    number = derive(seed, purpose, *place)
    # torch.manual_seed keeps a stack trace for each kind of device that is not there yet, at every step.
    seed_torch = torch.manual_seed if has_accelerator() else torch.default_generator.manual_seed
    seed_torch(number)
    np.random.seed(number % 2**32)  # noqa: NPY002  a library below may draw from the global generator
    random.seed(number)
