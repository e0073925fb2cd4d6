"""Scalable Pre-training of Large Autoregressive Image Models (AIM).

Alaaeldin El-Nouby, Michal Klein, Shuangfei Zhai, Miguel Angel Bautista, Alexander Toshev, Vaishaal Shankar, Joshua M.
Susskind, Armand Joulin. ICML 2024, arXiv 2401.08541. Colours as targets: Mark Chen et al., Generative Pretraining from
Pixels (iGPT), ICML 2020.

Differs: the head is a plain MLP of one hidden layer and 256 wide and not 12 residual blocks of 2048, and its inputs are
the encoder's normalised tokens. The loss is the mean over the patches asked for of each image, then over images, so
that images with a long prefix weigh as much as others. A patch that is nearly flat is not scaled up to unit variance,
since what it would show is noise. Of iGPT there is the palette alone: all pixels of a patch are
predicted at once, and there are 64 colours and not 512.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patchify, unpatchify
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Loss, Pretext
from ssl_runner.layers.causal import causal_pairs, prefix_pairs, require_causal
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.image_encoder import patch_grid
from ssl_runner.layers.k_means import k_means, nearest
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.loss.patch_pixels import pixel_targets

PIXELS, ITERATIONS = 16, 10  # pixels of each image that the palette is made from; of k-means
Predicted = Float[Tensor, "b m d"]  # of patches 1 to n - 1, each from those before it


class AIM(Pretext):
    """Predicts each patch from those before it, in raster order; the first few, a prefix, see each other.

    target: "pixels", or "colours": which of a palette each pixel has. normalise: pixels of each patch to zero mean and
        unit variance, to which epsilon is added before; that of all pixels is 1.
    colours: of the palette, which k-means makes of training pixels at the first step.
    width, depth: of the hidden layers of the head, which is thrown away.
    The encoder attends to all patches when it is measured and saved: the prefix prepares it for that.
    Raises ValueError for an encoder that cannot hide tokens from each other, that has a class token, or whose tokens
    are no patches.
    """

    causal: Tensor  # (n, n)
    palette: Tensor  # (colours, C), in [0, 1]

    def __init__(
        self,
        *,
        encoder: Encoder,
        shape: tuple[int, int, int],
        augment: Views,
        target: Literal["pixels", "colours"] = "pixels",
        normalise: bool = True,
        epsilon: Positive = 0.1,
        colours: Annotated[int, Ge(2)] = 64,
        width: Count = 256,
        depth: Count = 1,
    ):
        super().__init__()
        require_causal(encoder)
        self.encoder, self.augment, self.target = encoder, augment, target
        self.normalise, self.epsilon, self.colours, self.width, self.depth = normalise, epsilon, colours, width, depth
        self.grid, self.patch = patch_grid(encoder, shape, augment.size)
        self.tokens, pixels = self.grid[0] * self.grid[1], self.patch[0] * self.patch[1]
        self.register_buffer("causal", causal_pairs(self.tokens), persistent=False)
        if target == "colours":
            self.register_buffer("palette", torch.rand(colours, shape[0]))
        out = pixels * (colours if target == "colours" else shape[0])
        self.head = mlp((encoder.dim, *[width] * depth, out), norm=False, activation=nn.GELU)

    def before_step(self, ctx: Context) -> None:
        if ctx.step == 0 and self.target == "colours":
            pixels = []
            for x, _ in ctx.sweep():
                places = ctx.rng.randint(x.shape[2] * x.shape[3], len(x), PIXELS)
                pixels.append(x.flatten(2).transpose(1, 2).gather(1, places[..., None].expand(-1, -1, x.shape[1])))
            rows = torch.cat(pixels).flatten(0, 1)  # (rows * PIXELS, C)
            self.palette.copy_(k_means(rows, self.colours, ITERATIONS, ctx.rng, spherical=False)[0])

    def views(self, batch: Batch, ctx: Context) -> tuple:
        """Samples, and the number of patches (B,) in the prefix of each, 1 to n - 1."""
        return self.augment(batch.x, ctx.rng), 1 + ctx.rng.randint(self.tokens - 1, len(batch.x))

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, prefix = views
        features, predicted = self.predict(x, prefix)
        if self.target == "pixels":
            error = (predicted - self.pixels(x)[0]).square().mean(2)
            return Loss(self.mean_asked(error, prefix), {}, features.pooled)
        logits, place = predicted.unflatten(2, (-1, self.colours)), self.colour_of(x)
        error = F.cross_entropy(logits.flatten(0, 2), place.flatten(), reduction="none").view_as(place).mean(2)
        hits = (logits.argmax(3) == place).float().mean(2)
        return Loss(self.mean_asked(error, prefix), {"accuracy": self.mean_asked(hits, prefix)}, features.pooled)

    def predict(self, x: Float[Tensor, "b c h w"], prefix: Int[Tensor, " b"]) -> tuple[Features, Predicted]:
        """Features, and patches 1 to n - 1: the output at a patch is what it says of the next one."""
        features = self.encoder.encode(self.encoder.embed(x), visible=prefix_pairs(self.causal, prefix))
        return features, self.head(features.tokens[:, :-1]).float()

    def asked(self, prefix: Int[Tensor, " b"]) -> Tensor:
        """(B, n - 1) which of patches 1 to n - 1 are behind the prefix: what predicts them has not seen them."""
        return torch.arange(1, self.tokens, device=prefix.device) >= prefix[:, None]

    def mean_asked(self, each: Float[Tensor, "b m"], prefix: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        asked = self.asked(prefix)
        return ((each * asked).sum(1) / asked.sum(1)).mean()

    def pixels(self, x: Float[Tensor, "b c h w"]) -> tuple[Predicted, Tensor, Tensor]:
        """Patches 1 to n - 1 as the encoder normalises them, less an offset, over a scale; these two."""
        places = torch.arange(1, self.tokens, device=x.device).expand(len(x), -1)
        return pixel_targets(self.encoder.normalise(x), places, self.patch, self.normalise, self.epsilon)

    def colour_of(self, x: Float[Tensor, "b c h w"]) -> Int[Tensor, "b m p"]:
        """The colour of the palette that is nearest to each pixel of patches 1 to n - 1."""
        pixels = patchify(x, self.patch)[:, 1:].unflatten(2, (-1, x.shape[1]))  # (B, n - 1, pixels, C)
        return nearest(pixels, self.palette, spherical=False)

    def pictures(self, views: tuple) -> Mapping[str, Float[Tensor, "b c h w"]]:
        """The prefix, and behind it each patch as it is predicted from the true ones before it."""
        x, prefix = views
        _, predicted = self.predict(x, prefix)
        if self.target == "pixels":
            _, offset, scale = self.pixels(x)
            colour = (predicted * scale + offset).unflatten(2, (-1, x.shape[1]))
            colour = (colour * self.encoder.std + self.encoder.mean).flatten(2)
        else:
            colour = self.palette[predicted.unflatten(2, (-1, self.colours)).argmax(3)].flatten(2)
        true = patchify(x, self.patch)
        filled = torch.where(self.asked(prefix)[..., None], colour, true[:, 1:])
        return {"prediction": unpatchify(torch.cat([true[:, :1], filled], 1), self.patch, self.grid).clamp(0, 1)}
