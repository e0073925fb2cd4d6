"""VICRegL: Self-Supervised Learning of Local Visual Features.

Adrien Bardes, Jean Ponce, Yann LeCun. NeurIPS 2022, arXiv 2210.01571.

Differs: two views of one size, without small crops. The covariance term is the sum over the two sides of a pair, as in
VICReg; the authors' code takes the mean, which is covariance=0.5 here. By default that code leaves flips out of the
positions and keeps the match by feature of every cell; here positions have them, and both kinds of match keep the
nearest pairs. The expander of cells learns at the rate of the rest, and not at a tenth of it. The defaults suit small
images (widths of 512, 128 for cells, 6 matches in maps of 4 x 4). Statistics are those of a micro-batch, of all ranks.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.augment.image.geometry import cell_centres
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Loss, Pretext, Suspect
from ssl_runner.layers.gather import gather
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.ranges import Count, NotNegative, Share
from ssl_runner.layers.transformer import take_tokens
from ssl_runner.loss.covariance import covariance_cost, variance_cost, weak_terms


def match(
    a: Float[Tensor, "b n d"], b: Float[Tensor, "b m d"], count: int
) -> tuple[Int[Tensor, "b k"], Int[Tensor, "b k"]]:
    """The `count` rows of `a` that are nearest (L2) to any of `b`, in their order, and for each the nearest of `b`."""
    # By a matrix product, distances that are equal would be told apart by how they are rounded.
    nearest = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").min(dim=2)  # (B, n)
    rows = nearest.values.argsort(dim=1, stable=True)[:, :count].sort(dim=1).values
    return rows, nearest.indices.gather(1, rows)


class VICRegL(Pretext):
    """VICReg on views, and on pairs of cells of their maps: pairs of one place in the image, and of like features.

    global_weight: the share of the criterion of whole views, alpha in the paper; at 1 it is VICReg.
    matches: pairs that are kept of a sample, of each kind and direction, the nearest; gamma in the paper.
    invariance, variance, covariance: weights of the terms of both criteria.
    hidden, out, local_hidden, local_out: widths of the expanders of views and of cells, which are thrown away.
    augment, augment_prime: make the first and the second view.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        augment: Views,
        augment_prime: Views,
        global_weight: Share = 0.75,
        matches: Count = 6,
        invariance: NotNegative = 25.0,
        variance: NotNegative = 25.0,
        covariance: NotNegative = 1.0,
        hidden: Count = 512,
        out: Count = 512,
        local_hidden: Count = 512,
        local_out: Count = 128,
    ):
        super().__init__()
        self.encoder, self.augment, self.augment_prime = encoder, augment, augment_prime
        self.global_weight, self.matches = global_weight, matches
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.hidden, self.out, self.local_hidden, self.local_out = hidden, out, local_hidden, local_out
        self.expander = mlp((encoder.dim, hidden, hidden, out), last="no_bias")
        self.local_expander = mlp((encoder.dim, local_hidden, local_hidden, local_out), last="no_bias")

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Two views, and for each the map (B, 2, 3) from its coordinates to pixels from the image's centre."""
        images, maps, (h, w) = [], [], batch.x.shape[2:]
        for recipe in (self.augment, self.augment_prime):
            draw = recipe.draw(len(batch.x), (h, w), ctx.rng)
            images.append(recipe.apply(batch.x, draw))
            across, down = recipe.matrix(batch.x, draw).unbind(1)
            maps.append(torch.stack([across * (w / 2), down * (h / 2)], dim=1))
        return *images, *maps

    def forward(self, views: tuple, group: str = "main") -> Loss:
        if len(views[0]) < 2:
            raise ValueError("one sample a micro-batch has no variance; raise batch_size or lower accumulate")
        features = [self.encoder(view) for view in views[:2]]
        if (fewest := min(each.tokens.shape[1] for each in features)) < self.matches:
            raise ValueError(f"pretext.matches={self.matches} of maps of {fewest} cells; type pretext.matches={fewest}")
        z, z_prime = (self.expander(each.pooled).float() for each in features)  # each (B, out)
        cells = [
            self.local_expander(each.tokens.flatten(0, 1)).float().unflatten(0, (len(z), -1)) for each in features
        ]  # each (B, n, local_out)
        with torch.autocast(z.device.type, enabled=False):
            places = [cell_centres(*each) for each in zip(views[2:], (each.grid for each in features), strict=True)]
            pairs = []
            for near in (places, [each.detach() for each in cells]):
                for a, b in ((0, 1), (1, 0)):
                    rows, matched = match(near[a], near[b], self.matches)
                    pairs.append((take_tokens(cells[a], rows), take_tokens(cells[b], matched)))
            value, terms = self.criterion(z[:, None], z_prime[:, None])
            sides = (torch.cat(side, dim=1) for side in zip(*pairs, strict=True))  # each (B, 4 matches, local_out)
            local_value, local_terms = self.criterion(*sides)
            # Twice, since the sum of both kinds, each the mean of two directions, is twice the mean over all pairs.
            value = self.global_weight * value + (1 - self.global_weight) * 2 * local_value
        metrics = terms | {f"local_{name}": term for name, term in local_terms.items()}
        return Loss(value, metrics, torch.cat([z, z_prime]))

    def criterion(self, z: Float[Tensor, "b k d"], z_prime: Float[Tensor, "b k d"]) -> tuple[Tensor, dict[str, Tensor]]:
        """VICReg's criterion on k pairs of each sample, and its three terms; the pairs of one place are a batch."""
        everyone, everyone_prime = gather(z), gather(z_prime)  # (B * ranks, k, d)
        pairs = zip(everyone.unbind(1), everyone_prime.unbind(1), strict=True)
        terms = {
            "invariance": F.mse_loss(z, z_prime),
            "variance": (variance_cost(everyone.flatten(1)) + variance_cost(everyone_prime.flatten(1))) / 2,
            "covariance": torch.stack([covariance_cost(each) + covariance_cost(prime) for each, prime in pairs]).mean(),
        }
        value = torch.stack([getattr(self, name) * term for name, term in terms.items()]).sum()
        return value, {name: term.detach() for name, term in terms.items()}

    def suspects(self) -> Sequence[Suspect]:
        return weak_terms(self.invariance, self.variance, self.covariance)
