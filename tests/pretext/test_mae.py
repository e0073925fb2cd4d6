"""MAE: what the encoder sees, what the loss is of, and targets by hand."""

import math

import pytest
import torch
from torch import Tensor, nn
from toys import SHAPE, Conv, Patches, batch, context, number, still, train

from ssl_runner.augment.image.mask import patchify, unpatchify
from ssl_runner.contract import Batch, Encoder
from ssl_runner.layers.image_encoder import grid_of
from ssl_runner.pretext.mae import MAE


def mae(encoder: Encoder | None = None, **settings) -> MAE:
    torch.manual_seed(0)
    settings = {"width": 16, "depth": 1, "heads": 2, "shape": SHAPE, **settings}
    return MAE(encoder=Patches() if encoder is None else encoder, augment=still(), **settings)


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.5, 8), (0.9, 2), (0.99, 1), (0.01, 15)])
def test_keeps_the_share(ratio, kept):
    pretext = mae(ratio=ratio)
    _, keep, masked = pretext.views(batch(), context())
    assert keep.shape == (8, kept)
    assert torch.equal(torch.cat([keep, masked], 1).sort(1).values, torch.arange(16).expand(8, 16))
    assert len({tuple(sorted(row)) for row in keep.tolist()}) > 1


def test_refuses():
    with pytest.raises(ValueError, match="Conv cannot drop tokens; use model=vit_tiny for masked methods"):
        mae(Conv())
    with pytest.raises(ValueError, match=r"pretext\.width=18"):
        mae(width=18)
    with pytest.raises(ValueError, match="equal patches"):
        mae(shape=(3, 2, 2))


def test_leaves_the_encoder_as_it_found_it():
    encoder = Patches().train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert grid_of(encoder, (3, 8, 4)) == (4, 2)
    assert encoder.training
    assert torch.equal(torch.get_rng_state(), before)


def predict_zero(pretext: MAE) -> None:
    for p in pretext.predict[1].parameters():
        nn.init.zeros_(p)


def pixels_at(x: Tensor, index: Tensor, value: float) -> Tensor:
    """Images with the patches at `index` painted over."""
    patches = patchify(x, (2, 2))
    patches = patches.scatter(1, index[..., None].expand(-1, -1, 12), value)
    return unpatchify(patches, (2, 2), (4, 4))


def test_encoder_never_sees_what_is_hidden():
    pretext = mae()
    x, keep, masked = pretext.views(batch(), context())
    embedding = pretext((x, keep, masked)).embedding
    assert torch.equal(pretext((pixels_at(x, masked, 0.9), keep, masked)).embedding, embedding)
    assert not torch.equal(pretext((pixels_at(x, keep, 0.9), keep, masked)).embedding, embedding)
    assert pretext.encoder.asked == [False, True, True, True]  # the first, once, to learn the grid


def test_loss_is_of_hidden_patches_only():
    pretext = mae(normalise=False)
    assert "positions" not in pretext.state_dict()
    x, keep, masked = pretext.views(batch(), context())
    features = pretext.encoder(x, keep)
    pretext.encoder.forward = lambda x, keep=None: features  # blind, so that only the target can change
    value = pretext((x, keep, masked)).value
    assert torch.equal(pretext((pixels_at(x, keep, 0.9), keep, masked)).value, value)
    assert not torch.equal(pretext((pixels_at(x, masked[:, :1], 0.9), keep, masked)).value, value)


def test_order_of_tokens_does_not_matter():
    pretext = mae()
    x, keep, masked = pretext.views(batch(), context())
    value = pretext((x, keep, masked)).value
    torch.testing.assert_close(pretext((x, keep.flip(1), masked.flip(1))).value, value)
    # but their places do: a decoder that puts tokens elsewhere than where they come from gives another answer
    features = pretext.encoder(x, keep)
    here = pretext.decode(features, keep, masked)
    elsewhere = pretext.decode(features, keep.flip(1), masked)
    assert not torch.allclose(here, elsewhere, atol=1e-3)


@pytest.mark.parametrize("normalise", [True, False])
def test_target_by_hand(normalise):
    pretext = mae(Patches(mean=0.5, std=0.5), normalise=normalise)
    x = torch.empty(1, *SHAPE)
    x[:, :, :, 0::2], x[:, :, :, 1::2] = 0.5, 1.0  # each patch half 0 and half 1 after the encoder's normalisation
    _, keep, masked = pretext.views(Batch(x, torch.arange(1)), context())
    predict_zero(pretext)
    # half the pixels 0 and half 1: mean square 1/2; normalised, half -1 and half 1: mean square 1
    assert number(pretext((x, keep, masked)).value) == pytest.approx(1.0 if normalise else 0.5, rel=1e-4)
    target, offset, scale = pretext.target(x, masked)
    assert target[0, 0, :3].tolist() == pytest.approx([-1.0] * 3 if normalise else [0.0] * 3, abs=1e-4)
    torch.testing.assert_close(
        target * scale + offset, torch.tensor([0.0, 1.0]).repeat_interleave(3).repeat(2).expand(1, 12, 12)
    )


def test_targets_come_in_the_order_asked_for():
    pretext = mae(Patches(mean=0.0, std=1.0), normalise=False)
    places = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3).expand(8, *SHAPE)
    _, _, masked = pretext.views(batch(), context())
    assert torch.equal(pretext.target(places, masked)[0], masked[..., None].expand(8, 12, 12).float())


def test_pictures():
    pretext = mae().eval()
    x, _, masked = views = pretext.views(batch(), context())
    with torch.no_grad():
        pictures = pretext.pictures(views)
    assert torch.equal(pictures["masked"], pixels_at(x, masked, 0.5))
    reconstruction = pictures["reconstruction"]
    assert reconstruction.min() >= 0
    assert reconstruction.max() <= 1
    torch.testing.assert_close(pixels_at(reconstruction, masked, 0.5), pictures["masked"])
    assert not torch.allclose(reconstruction, x, atol=0.05)
    # a normalised prediction of nothing is each patch's own mean
    predict_zero(pretext)
    patches = torch.take_along_dim(patchify(pretext.pictures(views)["reconstruction"], (2, 2)), masked[..., None], 1)
    means = torch.take_along_dim(patchify(x, (2, 2)), masked[..., None], 1).mean(2, keepdim=True)
    torch.testing.assert_close(patches, means.expand_as(patches))


@pytest.mark.parametrize("predictable", [True, False])
def test_finds_what_patches_share(predictable):
    """One pattern in each image's own colour: what is hidden follows from place and any patch seen; noise does not."""
    pattern = torch.rand(SHAPE, generator=torch.Generator().manual_seed(99))

    def samples(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(step)
        if not predictable:
            return torch.rand(16, *SHAPE, generator=rng)
        return (pattern + torch.rand(16, 3, 1, 1, generator=rng)) / 2

    std = math.sqrt(1 / 24 if predictable else 1 / 12)  # the target has variance 1
    pretext = mae(Patches(std=std), normalise=False)
    train(pretext, 150, samples)
    x = samples(-1)
    value = number(pretext.eval()(pretext.views(Batch(x, torch.arange(16)), context(5))).value)
    assert (value < 0.3) if predictable else (value > 0.9), value
