"""An Empirical Study of Training Self-Supervised Vision Transformers (MoCo v3).

Xinlei Chen, Saining Xie, Kaiming He. ICCV 2021, arXiv 2104.02057.

Differs: the defaults suit small images and short runs (widths of 512 and 128, and not 4096 and 256). Negatives are the
other samples of the same micro-batch, on all ranks, and not those of other micro-batches.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Rate, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.loss.info_nce import extreme_temperature, in_batch

PATCHES = ("patches", "patch_embed")  # what encoders call their projection of patches


class MoCoV3(Pretext):
    """Predicts the key of the other view of a sample, which a momentum encoder makes, among the keys of the batch.

    momentum: share of itself that the momentum encoder keeps in the first step; it rises to 1 along a cosine.
    hidden, out: widths of projector and predictor. layers: of the projector; the paper: 2 for ResNets, 3 for ViTs.
    predictor_norm: whether the predictor ends in a batch norm, as the projector does; the paper: for ViTs.
    freeze_patches: keep the random projection of patches of an encoder that has one, which steadies the training of
        ViTs; other encoders learn all of their layers.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        augment_prime: Views,
        temperature: Positive = 0.2,
        momentum: Share = 0.99,
        hidden: Count = 512,
        out: Count = 128,
        layers: Count = 2,
        predictor_norm: bool = False,
        freeze_patches: bool = True,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.temperature, self.momentum = temperature, momentum
        self.hidden, self.out, self.layers = hidden, out, layers
        self.predictor_norm, self.freeze_patches = predictor_norm, freeze_patches
        names = [name for name, _ in encoder.named_modules() if name.rpartition(".")[2] in PATCHES]
        self.frozen = [f"encoder.{name}" for name in names if freeze_patches]
        self.projector = mlp((encoder.dim, *[hidden] * (layers - 1), out), last="plain_norm")
        self.predictor = mlp((out, hidden, out), last="plain_norm" if predictor_norm else "no_bias")
        self.key_encoder = frozen_copy(self.encoder)
        self.key_projector = frozen_copy(self.projector)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return self.augment(batch.x, ctx.rng), self.augment_prime(batch.x, ctx.rng)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no negatives; raise batch_size or lower accumulate")
        # A pass for each view, and so batch norm statistics of its own, as in the authors' code.
        z1, z2 = (self.projector(self.encoder(view).pooled) for view in views)  # each (B, out)
        with torch.no_grad():
            k1, k2 = (self.key_projector(self.key_encoder(view).pooled) for view in views)
        first, hits = in_batch(self.predictor(z1), k2, self.temperature)
        second, hits_prime = in_batch(self.predictor(z2), k1, self.temperature)
        value = 2 * self.temperature * (first + second)  # ctr(q1, k2) + ctr(q2, k1) of the authors' code
        return Loss(value, {"accuracy": torch.cat([hits, hits_prime]).float().mean()}, torch.cat([z1, z2]))

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        return dict.fromkeys(self.frozen, Rate(lr=0.0))

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        momentum = momentum_at(self.momentum, ctx.progress)
        follow(self.key_encoder, self.encoder, momentum, copy_buffers=False)
        follow(self.key_projector, self.projector, momentum, copy_buffers=False)

    def suspects(self) -> Sequence[Suspect]:
        return extreme_temperature(self.temperature, usual=0.2)
