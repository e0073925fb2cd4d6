"""Hidden patches: encoders that do not see them, their pixels as targets, pictures, shares too easy or too hard."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patchify, unpatchify
from ssl_runner.contract import Encoder, Features, Suspect
from ssl_runner.layers.image_encoder import ImageEncoder
from ssl_runner.layers.transformer import hide_tokens, take_tokens

Patches = Float[Tensor, "b m _"]  # of the hidden ones; the last axis is their pixels, or one number for all of them


def hiding_token(encoder: Encoder, channels: int) -> nn.Parameter:
    """What stands for a hidden patch, to be learnt: an embedding, or a colour if an encoder cannot hide tokens."""
    return nn.Parameter(0.02 * torch.randn(encoder.dim if encoder.in_two_steps else channels))


def encode_shown(
    encoder: ImageEncoder, x: Float[Tensor, "b c h w"], hidden: Int[Tensor, "b m"], token: Float[Tensor, " d"],
    patch: tuple[int, int], grid: tuple[int, int]
) -> Features:  # fmt: skip
    """Features of images whose hidden patches the encoder does not see; `token`: of `hiding_token`."""
    if encoder.in_two_steps:
        return encoder.encode(hide_tokens(encoder.embed(x), hidden, token))
    patches = patchify(x, patch)  # (B, n, patch pixels), channels last
    colours = (encoder.mean + encoder.std * token).repeat(patches.shape[2] // len(token))
    return encoder(unpatchify(hide_tokens(patches, hidden, colours), patch, grid))


def pixel_targets(
    x: Float[Tensor, "b c h w"], hidden: Int[Tensor, "b m"], patch: tuple[int, int], normalise: bool,
    epsilon: float = 1e-6
) -> tuple[Patches, Patches, Patches]:  # fmt: skip
    """The hidden patches, less an offset, over a scale; these two.

    `normalise`: each patch to zero mean and unit variance, to which `epsilon` is added before; else the offset is 0
    and the scale 1.
    """
    patches = take_tokens(patchify(x, patch), hidden)  # (B, m, patch pixels)
    offset, scale = torch.zeros_like(patches[..., :1]), torch.ones_like(patches[..., :1])
    if normalise:
        offset = patches.mean(dim=2, keepdim=True)
        scale = (patches.var(dim=2, keepdim=True, correction=0) + epsilon).sqrt()
    return (patches - offset) / scale, offset, scale


def patch_pictures(
    encoder: ImageEncoder, x: Float[Tensor, "b c h w"], hidden: Int[Tensor, "b m"], filling: Patches,
    patch: tuple[int, int], grid: tuple[int, int]
) -> dict[str, Float[Tensor, "b c h w"]]:  # fmt: skip
    """The images with their hidden patches in grey, and filled with patches in the encoder's units."""
    place = hidden[..., None].expand_as(filling)
    grey = unpatchify(patchify(x, patch).scatter(1, place, 0.5), patch, grid)
    filled = unpatchify(patchify(encoder.normalise(x), patch).scatter(1, place, filling), patch, grid)
    mean, std = encoder.mean.view(-1, 1, 1), encoder.std.view(-1, 1, 1)
    return {"masked": grey, "reconstruction": (filled * std + mean).clamp(0, 1)}


def spectrogram_pictures(
    encoder: Encoder, x: Float[Tensor, "b 1 t"], hidden: Int[Tensor, "b m"], filling: Patches,
    patch: tuple[int, int], grid: tuple[int, int]
) -> dict[str, Float[Tensor, "b 1 rows columns"]]:  # fmt: skip
    """The same of spectrograms, low bands at the bottom: 0.5 is a band's mean, 0 and 1 are three deviations off."""
    patches = patchify(encoder.normalise(x), patch)
    place = hidden[..., None].expand_as(filling)
    shown = {"masked": patches.scatter(1, place, 0.0), "reconstruction": patches.scatter(1, place, filling)}
    return {
        name: (unpatchify(each, patch, grid) / 6 + 0.5).clamp(0, 1).transpose(2, 3).flip(2)
        for name, each in {**shown, "target": patches}.items()
    }


def suspect_ratio(ratio: float, usual: float, low: float, shown: str) -> Sequence[Suspect]:
    """Suspects of a share of hidden patches: above 0.92 and below `low`; `usual` is what to type."""
    if ratio > 0.92:
        cause = f"pretext.ratio={ratio:g}, {shown} tell too little to predict from"
        return [Suspect(cause, f"pretext.ratio={usual:g}", 0.6)]
    if ratio < low:  # figure 5 of MAE (arXiv 2111.06377): what is missing can be filled in from its neighbours
        cause = f"pretext.ratio={ratio:g}, hidden patches can be copied from their neighbours"
        return [Suspect(cause, f"pretext.ratio={usual:g}", 0.4)]
    return []
