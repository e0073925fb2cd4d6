"""Supervised training of a copy of an encoder with a linear classifier on its pooled features.

AdamW, a linear warm-up and half a cosine, as vision transformers are fine-tuned in He et al., Masked autoencoders are
scalable vision learners, CVPR 2022, arXiv 2111.06377, table 9. The classifier starts at zero, as in Kolesnikov et al.,
Big transfer (BiT), ECCV 2020, arXiv 1912.11370, and has a larger learning rate, as in Caron et al., Unsupervised
learning of visual features by contrasting cluster assignments (SwAV), NeurIPS 2020, arXiv 2006.09882, eval_semisup.py.
Differs: the classifier's input is centred, and scaled by one number, so that one learning rate serves encoders of any
scale.
"""

import contextlib
import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Encoder, Rows, Samples, Split
from ssl_runner.layers.weights import device_of, is_weight

AT_ONCE = 256  # samples in a forward pass without gradient
CLIP = 1.0  # largest global gradient norm


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of supervised training.

    lr, head_lr: largest learning rates of AdamW, of the encoder and of the classifier.
    weight_decay: of weights; biases, norms, tokens and positions have none.
    batch_size: samples a step, all of them if there are fewer.
    label_smoothing: share of the target that is spread over all classes, in [0, 1].
    warm_up: share of the steps in which the learning rates rise, in [0, 1); they then fall to 0 along a cosine.
    augment: makes a view of images in [0, 1]; None trains on samples as they are.
    """

    lr: float
    head_lr: float
    weight_decay: float
    batch_size: int
    label_smoothing: float = 0.0
    warm_up: float = 0.1
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None


class Network(nn.Module):
    """An encoder of `sample`s below a linear classifier that starts at zero."""

    centre: Tensor
    scale: Tensor

    def __init__(self, encoder: Encoder, sample: Samples, classes: int):
        super().__init__()
        self.encoder, self.sample = encoder, sample
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            encoder.requires_grad_()  # it was frozen as a whole, to be measured
        self.linear = nn.Linear(encoder.dim, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
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
    sample: Samples,
    bank: Split,
    classes: int,
    recipe: Recipe,
    *,
    steps: int,
    seed: int,
    after_epoch: Callable[[int, Network], None] | None = None,
) -> Network:
    """Trains a copy of the encoder with a classifier, on the encoder's device; the encoder stays as it is.

    It depends on `seed` and on no global generator, nor does it move one. An epoch is a permutation of the rows less
    what does not fill a batch. `after_epoch` gets the number of epochs done. Raises FloatingPointError if the loss is
    not finite.
    """
    device, x = device_of(encoder), bank.x
    y = bank.y.to(device, torch.int64)
    shuffle = torch.Generator().manual_seed(seed)
    chance = torch.Generator(device).manual_seed(int(torch.randint(2**31, (), generator=shuffle)))
    per_epoch = max(1, len(x) // recipe.batch_size)
    with isolated_generators(seed), torch.enable_grad():
        network = Network(copy.deepcopy(encoder), sample, classes).to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(parameter_groups(network, recipe))
        order, total = torch.empty(0), torch.zeros((), device=device)
        for step in range(steps):
            epoch, place = divmod(step, per_epoch)
            if place == 0:
                order = torch.randperm(len(x), generator=shuffle)
                network.train()
            rows = order[place * recipe.batch_size : (place + 1) * recipe.batch_size]
            samples = network.read(x, rows)
            if recipe.augment is not None:
                samples = recipe.augment(samples, chance)
            if step == 0:
                network.calibrate(samples)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_factor(step, steps, recipe.warm_up)
            loss = F.cross_entropy(network(samples), y[rows.to(device)], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            total += loss.detach()
            if place == per_epoch - 1 or step == steps - 1:
                if not total.isfinite():
                    raise FloatingPointError(
                        f"the loss of training with labels is not finite after {step + 1} of {steps} steps; "
                        f"lower its lr ({recipe.lr:g}), or the encoder itself has diverged"
                    )
                if after_epoch is not None:
                    after_epoch(epoch + 1, network)
    return network.eval()


@torch.no_grad()
def rank_classes(network: Network, x: Rows) -> Int[Tensor, "q r"]:
    """Up to five classes of each row, the likeliest first, in eval mode, a part of the rows at a time."""
    network.eval()
    parts = [network(network.read(x, index)) for index in torch.arange(len(x)).split(AT_ONCE)]
    logits = torch.cat(parts)  # (q, c)
    return logits.topk(min(5, logits.shape[1])).indices


@contextlib.contextmanager
def isolated_generators(seed: int) -> Iterator[None]:
    """Seeds the global generators of torch, NumPy and Python, and restores them at the end.

    Seeding reaches all devices, so all of them are restored. seed: in [0, 2^63).
    """
    drawn, own = np.random.get_state(), random.getstate()  # noqa: NPY002  the global ones are what is kept apart
    apple = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None  # fork_rng knows one kind alone
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(cuda):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(drawn)  # noqa: NPY002
        random.setstate(own)
        if apple is not None:
            torch.mps.set_rng_state(apple)


def parameter_groups(network: Network, recipe: Recipe) -> list[dict]:
    """Parameters by learning rate and by whether they decay, as torch.optim takes them; `peak` is the largest rate."""
    groups = []
    for module, lr in ((network.encoder, recipe.lr), (network.linear, recipe.head_lr)):
        wanted = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        for decays, decay in ((True, recipe.weight_decay), (False, 0.0)):
            parameters = [p for name, p in wanted if is_weight(name, p) == decays]
            groups.append({"params": parameters, "lr": lr, "peak": lr, "weight_decay": decay})
    return [group for group in groups if group["params"]]


def rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Factor on the largest learning rate: a line up, half a cosine down. It is above 0 at every step."""
    rising = round(warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
