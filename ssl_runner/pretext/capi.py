"""Cluster and Predict Latent Patches for Improved Masked Image Modeling (CAPI).

Timothée Darcet, Federico Baldassarre, Maxime Oquab, Julien Mairal, Piotr Bojanowski. TMLR 2025, arXiv 2502.08769.

Differs: the defaults suit small images and short runs (128 clusters and not 16384, a predictor 128 wide and 2 deep and
not as wide as the encoder and half as deep, a quarter of the hidden patches asked for and not 5 %). The teacher's
numbers are first normalised over the patches of an image, as those of data2vec 2.0 (ICML 2023, arXiv 2212.07525), and
lose the mean of their place in the batch, so that clusters are not those of an image's colours or of a place. One
optimizer has all parameters, and the projection of patches has the rate of the rest and not a fifth of it. The momentum
rises to 1 from the first step, where the authors lower it first. Of a block that is larger than what is shown, patches
at random are hidden. Positions are sines and cosines. Prototypes have length 1. The predictor sees pooled features as
well as tokens. There is no stochastic depth.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.augment.image.block_mask import inverse_block_masks
from ssl_runner.augment.image.mask import patch_count
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Rate, Suspect
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at, suspect_momentum
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import Prototypes
from ssl_runner.layers.image_encoder import patch_grid, require_tokens
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.layers.token_predictor import CrossPredictor
from ssl_runner.layers.transformer import normalise_tokens, take_tokens
from ssl_runner.loss.sinkhorn import perplexity, sinkhorn


class CAPI(Pretext):
    """Predicts the clusters of a teacher's patches at hidden places, from the one block that is shown.

    The teacher is a moving average of the student; its encoder is the one that is measured and saved. The clusters are
    learnt beside it: a linear head on the teacher's patches predicts its own assignments, after they have been given
    equal shares of the batch.

    ratio: share of patches that is hidden; at least one is shown and one hidden. predicted: share of the hidden ones
        that is asked for. clusters: that a patch may belong to.
    temperature: of student and head. target_temperature: of the assignments. iterations: of Sinkhorn's algorithm on
        them. positionwise: whether clusters get equal shares at each place by itself, and so tell nothing of the place.
    head_rate: factor on the learning rate of the clustering head.
    momentum: share of itself that the teacher keeps in the first step; it rises to 1 along a cosine.
    width, depth, heads: of the predictor, which is thrown away.
    Raises ValueError for an encoder that cannot drop tokens or whose tokens are no patches, and for a width that
    `heads` or 4 does not divide.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        normalise: Literal["length", "instance"] = "instance",
        ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.65,
        predicted: Annotated[float, Interval(gt=0, le=1)] = 0.25,
        clusters: Annotated[int, Ge(2)] = 128,
        temperature: Positive = 0.12,
        target_temperature: Positive = 0.06,
        iterations: Count = 3,
        positionwise: bool = True,
        head_rate: Positive = 0.5,
        momentum: Share = 0.98,
        width: Annotated[int, Ge(4)] = 128,
        depth: Count = 2,
        heads: Count = 4,
    ):
        super().__init__()
        require_tokens(encoder)
        self.encoder, self.augment = encoder, augment
        self.normalise, self.ratio, self.predicted, self.clusters = normalise, ratio, predicted, clusters
        self.temperature, self.target_temperature, self.iterations = temperature, target_temperature, iterations
        self.positionwise, self.head_rate, self.momentum = positionwise, head_rate, momentum
        self.width, self.depth, self.heads = width, depth, heads
        self.grid, _ = patch_grid(encoder, shape, augment.size)
        self.tokens = self.grid[0] * self.grid[1]
        self.shown = patch_count(self.tokens, 1 - ratio)
        self.asked = max(1, round((self.tokens - self.shown) * predicted))
        self.predictor = CrossPredictor(encoder.dim, self.grid, width=width, depth=depth, heads=heads)
        self.prototypes = Prototypes(width, clusters)
        self.clustering = nn.Linear(encoder.dim, clusters)
        nn.init.normal_(self.clustering.weight)
        nn.init.zeros_(self.clustering.bias)
        self.teacher_encoder = frozen_copy(self.encoder)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, places of the patches shown (B, k), and of those asked for (B, m)."""
        shown, hidden = inverse_block_masks(len(batch.x), self.grid, self.shown, ctx.rng)
        return self.augment(batch.x, ctx.rng), shown, hidden[:, : self.asked]

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, shown, asked = views
        with torch.no_grad():
            tokens = self.teacher_encoder(x).tokens  # (B, n, d)
        assignments, clustering = self.cluster(tokens)
        features = self.encoder(x, shown)
        predicted = self.predictor(features.tokens, features.pooled, shown, asked)  # (B, m, width)
        predicted = self.prototypes(predicted.flatten(0, 1))  # (B m, clusters)
        targets = take_tokens(assignments, asked).flatten(0, 1)
        prediction = self.cross_entropy(targets, predicted)
        entropy = torch.special.entr(targets).sum(dim=1).mean()
        metrics = {"prediction": prediction, "clustering": clustering, "entropy": entropy}
        metrics = {name: each.detach() for name, each in metrics.items()}
        metrics["perplexity"] = perplexity((predicted.detach() / self.temperature).softmax(dim=1))
        return Loss(prediction + clustering, metrics, features.pooled)

    def cluster(self, tokens: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n k"], Float[Tensor, ""]]:
        """The assignments of a teacher's patches; the loss of the head that makes them, which alone learns of it."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            if self.normalise == "instance":
                tokens = normalise_tokens(tokens, "instance")
                tokens = tokens - gather(tokens.mean(dim=0, keepdim=True)).mean(dim=0)  # of each place, of all ranks
            logits = self.clustering(F.normalize(tokens, dim=2))  # (B, n, clusters)
            scores = logits.detach() / self.target_temperature
            if self.positionwise:
                assignments = sinkhorn(scores, self.iterations)
            else:
                assignments = sinkhorn(scores.flatten(0, 1), self.iterations).view_as(scores)
            return assignments, self.cross_entropy(assignments.flatten(0, 1), logits.flatten(0, 1))

    def cross_entropy(self, targets: Float[Tensor, "n k"], logits: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        return -(targets * (logits.float() / self.temperature).log_softmax(dim=1)).sum(dim=1).mean()

    def rates(self, ctx: Context) -> Mapping[str, Rate]:
        return {"clustering": Rate(lr=self.head_rate)}

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        follow(self.teacher_encoder, self.encoder, momentum_at(self.momentum, ctx.progress), copy_buffers=False)

    def trained(self) -> Encoder:
        return self.teacher_encoder

    def suspects(self) -> Sequence[Suspect]:
        suspects = []
        if self.target_temperature >= self.temperature:
            cause = f"pretext.target_temperature={self.target_temperature:g} does not sharpen the targets"
            suspects.append(Suspect(cause, f"pretext.target_temperature={self.temperature / 2:g}", 0.8))
        if not self.positionwise and self.normalise == "length":
            cause = "pretext.positionwise=false, clusters may tell no more than the place of a patch"
            suspects.append(Suspect(cause, "pretext.positionwise=true", 0.5))
        return [*suspects, *suspect_momentum(self.momentum, 0.98)]
