"""Masked Siamese Networks for Label-Efficient Learning (MSN).

Mahmoud Assran, Mathilde Caron, Ishan Misra, Piotr Bojanowski, Florian Bordes, Pascal Vincent, et al. ECCV 2022,
arXiv 2204.07141; with a prior (PMSN), The Hidden Uniform Cluster Prior in Self-Supervised Learning, ICLR 2023,
arXiv 2210.07277.

Differs: the defaults suit small images and short runs (4 focal views and not 10, 128 prototypes and not 1024, hidden
width 512 and not 2048, momentum 0.99 and not 0.996, no batch norm in the head). The mean prediction is that of a
micro-batch, of all ranks. Rate, weight decay and momentum reach the ends of their schedules, which the authors' stop
short of; the momentum does so along a cosine and not along a line.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.image.mask import random_masks
from ssl_runner.augment.image.multi_crop import local_recipe
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Rate, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at, suspect_momentum
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import Prototypes, mlp
from ssl_runner.layers.image_encoder import check_local_views, grid_of, require_tokens
from ssl_runner.layers.ranges import Count, Natural, NotNegative, Positive, Share
from ssl_runner.loss.sinkhorn import perplexity, sinkhorn


class MSN(Pretext):
    """Predicts, from views with few or small patches, to which prototypes a teacher assigns a whole view.

    The teacher is a moving average of the student; its encoder is the one that is measured and saved.

    augment: the teacher's view, and the masked one of which `drop` is the share of patches that are left out.
    augment_local: the focal views, which are whole; of half the side of the others if its size is null.
    target_temperature: of the teacher, below `temperature`. iterations: of Sinkhorn's algorithm on its assignments; 0
        leaves them as they are.
    weight: of the divergence of the mean prediction from a prior over prototypes, the k-th of which has a share
        proportional to k^-prior; 0 is the uniform one of MSN.
    momentum: share of itself that the teacher keeps in the first step; it rises to 1 along a cosine.
    hidden, out: widths of the projection head. batch_norm: whether its hidden layers have one.
    Raises ValueError for an encoder that cannot drop tokens, or cannot encode focal views.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        augment_local: Views,
        local_views: Natural = 4,
        drop: Annotated[float, Interval(ge=0, lt=1)] = 0.15,
        temperature: Positive = 0.1,
        target_temperature: Positive = 0.025,
        iterations: Natural = 3,
        weight: NotNegative = 1.0,
        prior: NotNegative = 0.0,
        momentum: Share = 0.99,
        hidden: Count = 512,
        out: Count = 128,
        prototypes: Annotated[int, Ge(2)] = 128,
        batch_norm: bool = False,
    ):
        super().__init__()
        require_tokens(encoder)
        self.encoder, self.augment = encoder, augment
        self.augment_local = local_recipe(augment_local, augment, shape)
        self.local_views, self.drop = local_views, drop
        self.temperature, self.target_temperature, self.iterations = temperature, target_temperature, iterations
        self.weight, self.prior, self.momentum = weight, prior, momentum
        self.hidden, self.out, self.prototypes, self.batch_norm = hidden, out, prototypes, batch_norm
        if local_views:
            check_local_views(encoder, shape[0], self.augment_local.size)
        rows, columns = grid_of(encoder, (shape[0], augment.size, augment.size) if augment.size else shape)
        self.tokens = rows * columns
        self.shown = max(1, round(self.tokens * (1 - drop)))
        projector = mlp((encoder.dim, hidden, hidden, out), batch_norm, nn.GELU)
        self.head = nn.Sequential(OrderedDict(projector=projector, prototypes=Prototypes(out, prototypes)))
        self.teacher_encoder = frozen_copy(self.encoder)
        self.teacher_projector = frozen_copy(projector)
        log_prior = (-prior * torch.arange(1, prototypes + 1).log()).log_softmax(dim=0)
        self.register_buffer("log_prior", log_prior, persistent=False)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Whole and masked views (B, C, H, W), patches shown (B, k), and focal views (local_views * B, C, h, w)."""
        whole, masked = self.augment(batch.x, ctx.rng), self.augment(batch.x, ctx.rng)
        shown, _ = random_masks(len(batch.x), self.tokens, self.shown, ctx.rng)
        x = batch.x.repeat(self.local_views, 1, 1, 1)
        return whole, masked, shown, *((self.augment_local(x, ctx.rng),) if self.local_views else ())

    def forward(self, views: tuple, group: str = "main") -> Loss:
        whole, masked, shown, *focal = views
        pooled = [self.encoder(masked, shown).pooled, *(self.encoder(view).pooled for view in focal)]
        z = self.head.projector(torch.cat(pooled))  # (A B, out), A = 1 + local_views
        with torch.no_grad():
            target = self.teacher_projector(self.teacher_encoder(whole).pooled)  # (B, out)
        scores = self.head.prototypes(torch.cat([z, target]))  # cosines, in float32
        with torch.autocast(z.device.type, enabled=False):
            targets = self.assign(scores[len(z) :].detach())  # (B, K)
            log_p = (scores[: len(z)] / self.temperature).log_softmax(dim=1)
            cross_entropy = -(targets * log_p.unflatten(0, (-1, len(targets)))).sum(dim=2).mean()
            divergence = self.divergence(log_p.exp())
        # torch's one_hot waits for the device.
        chosen = torch.zeros_like(targets).scatter(1, targets.argmax(dim=1, keepdim=True), 1.0)
        metrics = {"cross_entropy": cross_entropy.detach(), "divergence": divergence.detach()}
        metrics["perplexity"] = perplexity(chosen)
        return Loss(cross_entropy + self.weight * divergence, metrics, z)

    def assign(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """The assignments of the teacher: sharpened, and with equal shares of the prototypes if that is asked for."""
        log_p = (scores / self.target_temperature).log_softmax(dim=1)
        return sinkhorn(log_p, self.iterations) if self.iterations else log_p.exp()

    def divergence(self, p: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """KL of the mean prediction from the prior: of the uniform one it is log K less the entropy of the mean."""
        mean = gather(p.mean(dim=0, keepdim=True)).mean(dim=0)  # (K,), of all ranks
        return -(torch.special.entr(mean) + mean * self.log_prior).sum()

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        return {"head.prototypes": Rate(decay=0.0)}

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        momentum = momentum_at(self.momentum, ctx.progress)
        follow(self.teacher_encoder, self.encoder, momentum, copy_buffers=False)
        follow(self.teacher_projector, self.head.projector, momentum, copy_buffers=False)

    def trained(self) -> Encoder:
        return self.teacher_encoder

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.target_temperature >= self.temperature:
            cause = f"pretext.target_temperature={self.target_temperature:g} does not sharpen the targets"
            suspects.append(Suspect(cause, f"pretext.target_temperature={self.temperature / 4:g}", 0.8))
        if not self.weight and not self.iterations:
            cause = "pretext.weight=0 and pretext.iterations=0, one prototype may have all samples"
            suspects.append(Suspect(cause, "pretext.weight=1", 0.9))
        return [*suspects, *suspect_momentum(self.momentum, 0.99)]
