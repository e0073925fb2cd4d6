"""Self-distillation of views and of hidden patches, from a teacher that sees the whole of its views.

What iBOT (arXiv 2111.07832) and DINOv2 (arXiv 2304.07193) have in common.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.block_mask import varied_block_masks
from ssl_runner.augment.image.mask import patch_count
from ssl_runner.augment.image.multi_crop import local_recipe, multi_crop, require_equal_sizes
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext, Rate, Suspect
from ssl_runner.duration import Duration
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at, suspect_momentum
from ssl_runner.layers.image_encoder import check_local_views, patch_grid, require_tokens
from ssl_runner.layers.schedule import ramp, rate_after
from ssl_runner.layers.transformer import take_tokens
from ssl_runner.loss.distillation import token_cross_entropy, view_cross_entropy

# Probabilities of the views (2B, K) and of the tokens asked for (2B, m, K), and rows to keep.
Targets = tuple[Float[Tensor, "b k"], Float[Tensor, "b m k"], Mapping[str, Tensor]]


class TokenDistillation(Pretext):
    """A subclass is heads, which end in `prototypes`, and the `targets` that the teacher's features give by them.

    heads: a module by name; the first is for views, the last for patches. They may be one.
    usual_sharpness, usual_momentum: what `suspects` advises: the teacher's temperature as a share of the student's.
    Raises ValueError for an encoder that cannot hide tokens or whose tokens are no patches, or that cannot encode local
    views, for global views that differ in size, and for a ratio upside down.
    """

    usual_sharpness: ClassVar[float]
    usual_momentum: ClassVar[float]

    def __init__(
        self, encoder: Encoder, shape: tuple[int, int, int], augment: Views, augment_prime: Views, augment_local: Views,
        heads: Mapping[str, nn.Module], *, local_views: int, masked: float, ratio: tuple[float, float], block: int,
        weight: float, temperature: float, teacher_temperature: float, first_teacher_temperature: float,
        temperature_warm_up: Duration, momentum: float, freeze: Duration
    ):  # fmt: skip
        super().__init__()
        require_tokens(encoder)
        require_equal_sizes(augment, augment_prime)
        if ratio[0] > ratio[1]:
            raise ValueError(f"pretext.ratio={list(ratio)} is upside down; type pretext.ratio=[{ratio[1]},{ratio[0]}]")
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.augment_local = local_recipe(augment_local, augment, shape)
        self.local_views, self.masked, self.ratio, self.block = local_views, masked, ratio, block
        self.weight, self.temperature, self.teacher_temperature = weight, temperature, teacher_temperature
        self.first_teacher_temperature, self.temperature_warm_up = first_teacher_temperature, temperature_warm_up
        self.momentum, self.freeze = momentum, freeze
        if local_views:
            check_local_views(encoder, shape[0], self.augment_local.size)
        self.grid, _ = patch_grid(encoder, shape, augment.size)
        self.tokens = self.grid[0] * self.grid[1]
        self.token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        self.head = nn.ModuleDict(heads)
        self.teacher_encoder, self.teacher_head = frozen_copy(encoder), frozen_copy(self.head)
        self.register_buffer("sharpness", torch.tensor(first_teacher_temperature), persistent=False)

    def targets(
        self, views: Tensor, tokens: Tensor, places: Int[Tensor, "b m"], hidden: Bool[Tensor, "b m"]
    ) -> Targets:
        """views: the teacher's pooled features (2B, d). tokens: its patches (2B, n, d)."""
        raise NotImplementedError(f"{type(self).__name__}.targets")

    def further(self, x: Float[Tensor, "b c h w"], student: Features) -> Mapping[str, Tensor]:
        """Further terms of the loss, each weighted, by their names in the log; `student`: of the global views."""
        return {}

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Global views (2B, C, H, W) and local ones (local_views * B, C, h, w), view after view; places of patches
        (2B, m), and whether each is hidden: in a share `masked` of the global views, and in the others none is."""
        recipes = (self.augment, self.augment_prime)
        crops = multi_crop(batch.x, ctx.rng, recipes, self.augment_local, self.local_views)
        chance, share = ctx.rng.rand(len(crops[0]), 2).unbind(1)
        low, high = self.ratio
        counts = ((low + (high - low) * share) * self.tokens).round().clamp(max=self.tokens - 1).long()
        most = patch_count(self.tokens, high)
        counts = torch.where(chance < self.masked, counts, 0)
        return *crops, *varied_block_masks(counts, most, self.grid, ctx.rng, smallest=self.block)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        whole, *local, places, hidden = views
        heads = list(self.head.values())
        with torch.no_grad():
            teacher = self.teacher_encoder(whole)
            targets, token_targets, kept = self.targets(teacher.pooled, teacher.tokens, places, hidden)
        student = self.encode(whole, places, hidden)
        pooled = [student.pooled, *(self.encoder(view).pooled for view in local)]
        logits = heads[0](torch.cat(pooled)).unflatten(0, (2 + self.local_views, -1))  # (V, B, K)
        between = view_cross_entropy(targets.unflatten(0, (2, -1)), logits, self.temperature)
        asked = take_tokens(student.tokens, places)  # (2B, m, d)
        token_logits = heads[-1](asked.flatten(0, 1)).unflatten(0, places.shape)
        within = token_cross_entropy(token_targets, token_logits, hidden, self.temperature)
        further = self.further(whole, student)
        entropy = torch.special.entr(targets).sum(dim=1).mean()  # 0: one prototype each; log K: all alike
        of_tokens = (torch.special.entr(token_targets).sum(dim=2) * hidden).sum() / hidden.sum().clamp(min=1)
        metrics = {
            "view_loss": between,
            "token_loss": within,
            "entropy": entropy,
            "token_entropy": of_tokens,
            **further,
        }
        value = torch.stack([between, self.weight * within, *further.values()]).sum()
        return Loss(value, {name: each.detach() for name, each in metrics.items()}, student.pooled, kept)

    def encode(self, x: Float[Tensor, "b c h w"], places: Int[Tensor, "b m"], hidden: Bool[Tensor, "b m"]) -> Features:
        """What the student makes of views, some of whose patches are hidden."""
        z = self.encoder.embed(x)
        mask = torch.zeros(z.shape[:2], dtype=torch.bool, device=z.device).scatter(1, places, hidden)
        return self.encoder.encode(torch.where(mask[..., None], self.token.to(z.dtype), z))

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        return {f"head.{name}.prototypes": rate_after(self.freeze, ctx) for name in self.head}

    def before_step(self, ctx: Context) -> None:
        first, last = self.first_teacher_temperature, self.teacher_temperature
        self.sharpness.fill_(ramp(first, last, self.temperature_warm_up, ctx))

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        momentum = momentum_at(self.momentum, ctx.progress)
        follow(self.teacher_encoder, self.encoder, momentum, copy_buffers=False)
        follow(self.teacher_head, self.head, momentum, copy_buffers=False)

    def trained(self) -> Encoder:
        return self.teacher_encoder

    def suspects(self) -> list[Suspect]:
        suspects = []
        if self.teacher_temperature >= self.temperature:
            cause = f"pretext.teacher_temperature={self.teacher_temperature:g} does not sharpen the targets"
            suspects.append(
                Suspect(cause, f"pretext.teacher_temperature={self.usual_sharpness * self.temperature:g}", 0.9)
            )
        return [*suspects, *suspect_momentum(self.momentum, self.usual_momentum)]
