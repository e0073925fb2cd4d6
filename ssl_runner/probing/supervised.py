"""Supervised training of a copy of an encoder with a linear classifier on its pooled features.

AdamW, a linear warm-up and half a cosine, as vision transformers are fine-tuned in He et al., Masked autoencoders are
scalable vision learners, CVPR 2022, arXiv 2111.06377, table 9. The classifier starts at zero, as in Kolesnikov et al.,
Big transfer (BiT), ECCV 2020, arXiv 1912.11370, and has a larger learning rate, as in Caron et al., Unsupervised
learning of visual features by contrasting cluster assignments (SwAV), NeurIPS 2020, arXiv 2006.09882, eval_semisup.py.
Differs: the classifier's input is centred, and scaled by one number: one learning rate serves encoders of any scale.
"""

import contextlib
import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Rows, Samples, Split
from ssl_runner.data.order import epoch_order
from ssl_runner.duration import Phase
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.weights import device_of, is_weight
from ssl_runner.probing.logistic import rank_logits
from ssl_runner.probing.protocol import Count, Fitted, Positive

AT_ONCE = 256  # samples in a forward pass without gradient
CLIP = 1.0  # largest global gradient norm


@dataclass(frozen=True, kw_only=True)
class Trained(Fitted):
    """An evaluator that trains a copy of the encoder. Raises ValueError if it wants views of other than images."""

    trains = True
    label_smoothing = 0.0  # share of the target that is spread over all classes, in [0, 1]
    warm_up = 0.1  # share of the steps in which rates rise, in [0, 1); then they fall along a cosine
    lr: Positive = 2e-3  # largest learning rate of AdamW, of the encoder
    head_lr: Positive = 2e-2  # and of the classifier
    weight_decay: Annotated[float, Ge(0)] = 0.05  # of weights; biases, norms, tokens and positions have none
    batch_size: Count  # samples a step, all of them if there are fewer
    augment: Views | None  # makes a view of images in [0, 1]; None: samples as they are
    sample: Samples
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trains and self.augment is not None and self.sample.kind != "image":
            off = f"evaluator.{self.name}.augment=null"
            raise ValueError(f"augment makes views of images, and the dataset has {self.sample.kind}; type {off}")


class Network(nn.Module):
    """An encoder of `sample`s below a linear classifier that starts at zero."""

    def __init__(self, encoder: Encoder, sample: Samples, classes: int):
        super().__init__()
        self.encoder, self.sample, self.linear = encoder, sample, nn.Linear(encoder.dim, classes)
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            encoder.requires_grad_()  # it was frozen as a whole, to be measured
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("centre", torch.zeros(encoder.dim))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Float[Tensor, "b c"]:
        """Logits."""
        return self.linear((self.encoder(x).pooled.float() - self.centre) / self.scale)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Takes centre and scale from the features of a batch; equal rows leave the scale at 1."""
        pooled = self.encoder(x).pooled.float()  # (B, D)
        self.centre.copy_(pooled.mean(0))
        spread = (pooled - self.centre).square().mean().sqrt()
        self.scale.copy_(torch.where(spread > 1e-6 * pooled.abs().max(), spread, 1.0))

    def read(self, rows: Rows, index: Int[Tensor, " b"]) -> Tensor:
        """Rows on the network's device as the encoder takes them, images channels last."""
        samples = self.sample.from_rows(rows[index].to(self.centre.device))
        # On a CPU a step of ConvNet takes three quarters of the time that it takes in the other layout.
        return samples.contiguous(memory_format=torch.channels_last) if samples.ndim == 4 else samples


def train(
    encoder: Encoder,
    bank: Split,
    settings: Trained,
    *,
    steps: int,
    seed: int,
    after_epoch: Callable[[int, Network], None] | None = None,
) -> Network:
    """Trains a copy of the encoder with a classifier, on the encoder's device; the encoder stays as it is.

    It depends on `seed` and moves no global generator. An epoch is a permutation of the rows less what does not fill a
    batch. `after_epoch` gets the number of epochs done. Raises FloatingPointError if the loss is not finite.
    """
    device, x = device_of(encoder), bank.x
    y = bank.y.to(device, torch.int64)
    shuffle = torch.Generator().manual_seed(seed)
    chance = CounterRng(seed, device)
    per_epoch = max(1, len(x) // settings.batch_size)
    with isolated_generators(seed), torch.enable_grad(), Phase("training with labels", steps, "steps") as phase:
        network = Network(copy.deepcopy(encoder), settings.sample, settings.classes)
        network.to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(parameter_groups(network, settings))
        order, total = torch.empty(0), torch.zeros((), device=device)
        for step in range(steps):
            epoch, place = divmod(step, per_epoch)
            if place == 0:
                order = epoch_order(x, shuffle)
                network.train()
            rows = order[place * settings.batch_size :][: settings.batch_size]
            samples = network.read(x, rows)
            samples = settings.augment(samples, chance) if settings.augment else samples
            if step == 0:
                network.calibrate(samples)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_factor(step, steps, settings.warm_up)
            loss = F.cross_entropy(network(samples), y[rows.to(device)], label_smoothing=settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            total += loss.detach()
            phase.advance()
            if place == per_epoch - 1 or step == steps - 1:
                if not total.isfinite():
                    when = f"the loss of training with labels is not finite after {step + 1} of {steps} steps"
                    raise FloatingPointError(f"{when}; lower its lr ({settings.lr:g}), or the encoder has diverged")
                if after_epoch is not None:
                    after_epoch(epoch + 1, network)
    return network.eval()


@torch.no_grad()
def rank_classes(network: Network, x: Rows) -> tuple[Int[Tensor, "q r"], Float[Tensor, "q r"]]:
    """Up to five classes of each row, the likeliest first, and their probabilities; in eval mode, part by part."""
    network.eval()
    logits = torch.cat([network(network.read(x, index)) for index in torch.arange(len(x)).split(AT_ONCE)])  # (q, c)
    return rank_logits(logits)


@contextlib.contextmanager
def isolated_generators(seed: int) -> Iterator[None]:
    """Seeds the global generators of torch, NumPy and Python, of all devices, and restores them; in [0, 2^63)."""
    states = [(np.random.set_state, np.random.get_state()), (random.setstate, random.getstate())]  # noqa: NPY002
    if torch.backends.mps.is_available():  # fork_rng knows one kind of device alone
        states.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        for restore, state in states:
            restore(state)


def parameter_groups(network: Network, settings: Trained) -> list[dict]:
    """Parameters by learning rate and by whether they decay, as torch.optim takes them; `peak` is the largest rate."""
    groups = []
    for part, lr in ((network.encoder, settings.lr), (network.linear, settings.head_lr)):
        for decays in (True, False):
            chosen = [p for name, p in part.named_parameters() if p.requires_grad and is_weight(name, p) == decays]
            if chosen:
                groups.append({"params": chosen, "lr": lr, "peak": lr, "weight_decay": settings.weight_decay * decays})
    return groups


def rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Factor on the largest learning rate: a line up, half a cosine down. It is above 0 at every step."""
    rising = round(warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
