"""Autoencoder, MAE and BiGAN: what the encoder sees, what the loss is of, values by hand, what they find."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import SHAPE, Conv, Patches, batch, context, gradients, number, still, train

from ssl_runner.augment.image.mask import patchify, unpatchify
from ssl_runner.contract import Batch, Encoder, Samples
from ssl_runner.layers.image_encoder import grid_of
from ssl_runner.pretext.autoencoder import Autoencoder
from ssl_runner.pretext.bigan import BiGAN, Discriminator
from ssl_runner.pretext.mae import MAE


def autoencoder(**settings) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(**{"encoder": Conv(), "shape": SHAPE, "augment": still(), **settings})


def test_damage_has_the_statistics_asked_for():
    grey = Batch(torch.full((200, *SHAPE), 0.5), torch.arange(200))
    damaged, clean = autoencoder(noise=0.1, mask=0.0).views(grey, context())
    assert torch.equal(clean, grey.x)
    assert (damaged.std(), damaged.mean()) == (pytest.approx(0.1, rel=0.02), pytest.approx(0.5, abs=0.002))
    damaged, clean = autoencoder(noise=0.0, mask=0.3).views(grey, context())
    black = damaged == 0
    assert torch.equal(black.any(1), black.all(1))  # whole pixels
    assert number(black.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(damaged[~black], clean[~black])
    assert torch.equal(*autoencoder(noise=0.0, mask=0.0).views(grey, context()))


@pytest.mark.parametrize("shape", [SHAPE, (3, 8, 10)])
def test_the_autoencoders_loss_is_against_the_clean_image(shape):
    pretext = autoencoder(shape=shape).eval()
    damaged, clean = views = pretext.views(batch(4, shape=shape), context())
    pictures, loss = pretext.pictures(views), pretext(views)
    error = (pictures["reconstruction"] - clean).square().mean()
    torch.testing.assert_close(loss.value, error)
    assert all(map(torch.equal, (pictures["input"], pictures["target"]), (damaged, clean)))
    assert number(loss.metrics["psnr"]) == pytest.approx(-10 * math.log10(error.item()), abs=1e-4)


@pytest.mark.slow
def test_the_autoencoder_finds_what_the_images_have_in_common():
    """Images vary along two planted directions, so a good code explains most of their variance, damaged or not."""
    place, amount = (torch.arange(8) + 0.5) / 8, batch(64, shape=(2, 1, 1)).x
    x = ((amount[:, :1] * place[:, None] + amount[:, 1:] * place) / 2).expand(-1, 3, -1, -1).contiguous()
    pretext = autoencoder(noise=0.05, mask=0.05)
    train(pretext, 120, lambda step: x, rate=0.005)
    with torch.no_grad():
        error = pretext.eval()(pretext.views(Batch(x, torch.arange(64)), context(1000))).value
    assert error < 0.5 * (x - x.mean(0)).square().mean()


def mae(encoder: Encoder | None = None, **settings) -> MAE:
    torch.manual_seed(0)
    own = {"encoder": encoder or Patches(), "ratio": 0.75, "width": 16, "depth": 1, "heads": 2}
    return MAE(augment=still(), samples=Samples("image", settings.pop("shape", SHAPE)), **own | settings)


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.5, 8), (0.9, 2), (0.99, 1), (0.01, 15)])
def test_mae_keeps_the_share(ratio, kept):
    _, keep, masked = mae(ratio=ratio).views(batch(), context())
    assert keep.shape == (8, kept)
    assert torch.equal(torch.cat([keep, masked], 1).sort(1).values, torch.arange(16).expand(8, 16))
    assert len(keep.sort(1).values.unique(dim=0)) > 1
    encoder, before = Patches().train(), torch.get_rng_state()  # the grid is asked for without a trace
    assert grid_of(encoder, (3, 8, 4)) == (4, 2)
    assert encoder.training
    assert torch.equal(torch.get_rng_state(), before)


def test_mae_refuses_what_it_cannot_hide_patches_of():
    with pytest.raises(ValueError, match="Conv cannot drop tokens; use model=vit_tiny for masked methods"):
        mae(Conv())
    for settings, sentence in (({"width": 18}, r"pretext\.width=18"), ({"shape": (3, 2, 2)}, "equal patches")):
        with pytest.raises(ValueError, match=sentence):
            mae(**settings)


def predict_zero(pretext: MAE) -> None:
    for p in pretext.predict[1].parameters():
        nn.init.zeros_(p)


def pixels_at(x: Tensor, index: Tensor, value: float) -> Tensor:
    """Images with the patches at `index` painted over."""
    patches = patchify(x, (2, 2)).scatter(1, index[..., None].expand(-1, -1, 12), value)
    return unpatchify(patches, (2, 2), (4, 4))


def test_maes_encoder_knows_places_but_no_order_and_never_sees_what_is_hidden_which_alone_is_scored():
    pretext = mae()
    x, keep, masked = pretext.views(batch(), context())
    embedding = pretext((x, keep, masked)).embedding
    assert torch.equal(pretext((pixels_at(x, masked, 0.9), keep, masked)).embedding, embedding)
    assert not torch.equal(pretext((pixels_at(x, keep, 0.9), keep, masked)).embedding, embedding)
    assert pretext.encoder.asked == [False, True, True, True]  # the first, once, to learn the grid
    value, features = pretext((x, keep, masked)).value, pretext.encoder(x, keep)
    torch.testing.assert_close(pretext((x, keep.flip(1), masked.flip(1))).value, value)
    here, elsewhere = (pretext.decode(features, places, masked) for places in (keep, keep.flip(1)))
    assert not torch.allclose(here, elsewhere, atol=1e-3)
    pretext = mae(normalise=False)  # and its loss is of hidden patches only
    assert "positions" not in pretext.state_dict()
    x, keep, masked = pretext.views(batch(), context())
    features = pretext.encoder(x, keep)
    pretext.encoder.forward = lambda x, keep=None: features  # blind, so that only the target can change
    values = [pretext((pixels_at(x, at, 0.9), keep, masked)).value for at in (keep[:, :0], keep, masked[:, :1])]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("normalise", [True, False])
def test_maes_target_by_hand(normalise):
    pretext = mae(Patches(mean=0.5, std=0.5), normalise=normalise)
    x = torch.tensor([0.5, 1.0]).repeat(4).expand(1, *SHAPE)  # patches of half 0 and half 1, as the encoder sees them
    _, keep, masked = pretext.views(Batch(x, torch.arange(1)), context())
    predict_zero(pretext)
    # half the pixels 0 and half 1: mean square 1/2; normalised, half -1 and half 1: mean square 1
    assert number(pretext((x, keep, masked)).value) == pytest.approx(1.0 if normalise else 0.5, rel=1e-4)
    target, offset, scale = pretext.target(x, masked)
    assert target[0, 0, :3].tolist() == pytest.approx([-1.0 if normalise else 0.0] * 3, abs=1e-4)
    halves = torch.tensor([0.0, 1.0]).repeat_interleave(3).repeat(2).expand(1, 12, 12)
    torch.testing.assert_close(target * scale + offset, halves)
    pretext = mae(Patches(mean=0.0, std=1.0), normalise=False)  # targets come in the order asked for
    places = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3).expand(8, *SHAPE)
    _, _, masked = pretext.views(batch(), context())
    assert torch.equal(pretext.target(places, masked)[0], masked[..., None].expand(8, 12, 12).float())


def test_maes_pictures():
    pretext = mae(normalise=True).eval()
    x, _, masked = views = pretext.views(batch(), context())
    with torch.no_grad():
        pictures = pretext.pictures(views)
        predict_zero(pretext)  # a normalised prediction of nothing is each patch's own mean
        means = pretext.pictures(views)["reconstruction"]
    reconstruction = pictures["reconstruction"]
    assert torch.equal(pictures["masked"], pixels_at(x, masked, 0.5))
    assert 0 <= reconstruction.min() <= reconstruction.max() <= 1
    torch.testing.assert_close(pixels_at(reconstruction, masked, 0.5), pictures["masked"])
    assert not torch.allclose(reconstruction, x, atol=0.05)
    filled, true = (torch.take_along_dim(patchify(each, (2, 2)), masked[..., None], 1) for each in (means, x))
    torch.testing.assert_close(filled, true.mean(2, keepdim=True).expand_as(filled))


@pytest.mark.parametrize("predictable", [True, False])
def test_mae_finds_what_patches_share(predictable):
    """One pattern in each image's own colour: what is hidden follows from place and any patch seen; noise does not."""
    pattern = batch(1, seed=999).x

    def samples(step: int) -> Tensor:
        noise = batch(16, seed=step).x
        return (pattern + noise[..., :1, :1]) / 2 if predictable else noise

    std = math.sqrt(1 / 24 if predictable else 1 / 12)  # the target has variance 1
    pretext = mae(Patches(std=std), normalise=False)
    train(pretext, 150, samples)
    value = pretext.eval()(pretext.views(Batch(samples(-1), torch.arange(16)), context(5))).value
    assert (value < 0.3) if predictable else (value > 0.9), value


def bigan(**settings) -> BiGAN:
    torch.manual_seed(0)
    small = {"latent": 5, "width": 4, "generator_width": 16}
    return BiGAN(encoder=Conv(), shape=SHAPE, augment=still(), **small, **settings).train()


def test_bigans_discriminator_steps_first_and_gradients_stay_in_their_group():
    pretext = bigan()
    assert list(pretext.groups()) == ["discriminator", "generator_encoder"]
    for group, named in pretext.groups().items():
        assert {name.startswith("discriminator.") for name, _ in named} == {group == "discriminator"}
        pretext(pretext.views(batch(), context()), group).value.backward()
        assert {name for name, g in gradients(pretext).items() if g is not None} == {name for name, _ in named}
        pretext.zero_grad()


@pytest.mark.parametrize("unary", [False, True])
@pytest.mark.parametrize("cost", ["hinge", "logistic"])
@pytest.mark.parametrize("logit", [0.0, 1.0, -2.0])
def test_bigans_values_by_hand(logit, cost, unary):
    pretext = bigan(loss=cost, unary=unary)
    views, terms = pretext.views(batch(), context()), 3 if unary else 1
    # its mind is made up: `logit` for encoded pairs and minus that for generated ones
    mind = torch.tensor([logit, -logit]).repeat_interleave(8)[:, None].expand(-1, terms)
    pretext.discriminator.forward = lambda x, z: mind
    if cost == "hinge":
        right, wrong = 2 * max(0, 1 - logit), 2 * logit  # 2 at equilibrium
    else:
        right, wrong = 2 * math.log1p(math.exp(-logit)), 2 * math.log1p(math.exp(logit))  # 2 log 2
    loss = pretext(views, "discriminator")
    assert number(loss.value) == pytest.approx(terms * right, rel=1e-5)
    pretext.cycle = 0.0
    assert number(pretext(views, "generator_encoder").value) == pytest.approx(terms * wrong, rel=1e-5)
    pretext.eval().cycle = 3.0
    error = number((pretext.pictures(views)["reconstruction"] - views[0]).square().mean())
    again = pretext(views, "generator_encoder")
    assert number(again.value) == pytest.approx(terms * wrong + 3 * error, rel=1e-5)
    assert number(again.metrics["psnr"]) == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert number(loss.metrics["accuracy"]) == (logit > 0)


def test_bigans_codes_are_standard_normal_and_its_pictures_the_generators():
    x, z = bigan().views(batch(4000), context())
    assert torch.equal(x, batch(4000).x)
    assert z.shape == (4000, 5)
    assert z.mean(0).abs().max() < 0.08  # five standard deviations
    assert (z.T.cov() - torch.eye(5)).abs().max() < 0.12
    pretext = bigan().eval()
    x, z = views = pretext.views(batch(), context())
    with torch.no_grad():
        pictures = pretext.pictures(views)
        for name, code in (("samples", z), ("reconstruction", pretext.code(pretext.encoder(x).pooled))):
            torch.testing.assert_close(pictures[name], pretext.generator(code))
            assert pictures[name].shape == (8, *SHAPE)
            assert 0 <= pictures[name].min() < 0.5  # squashed once: twice, it would stay above a half
            assert pictures[name].max() <= 1


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 28, 20), (3, 4, 5)])
def test_discriminator_takes_any_size_and_is_lipschitz(size, rng):
    torch.manual_seed(0)
    judge = Discriminator(size, 3, 4, unary=True)
    for _ in range(30):
        judge(torch.rand(2, *size, generator=rng), torch.randn(2, 3, generator=rng))
    linear = [m for m in judge.eval().modules() if isinstance(m, nn.Linear)]
    assert all(number(torch.linalg.matrix_norm(m.weight, 2)) < 1.1 for m in linear)
    x, z = torch.rand(2, *size), torch.randn(2, 3)
    pair, of_image, of_code = judge(x, z).T
    others = judge(x.flip(0), z), judge(x, z.flip(0))
    assert torch.equal(others[0][:, 2], of_code)
    assert torch.equal(others[1][:, 1], of_image)
    assert not any(torch.allclose(other[:, 0], pair) for other in others)


def test_discriminator_judges_pairs_and_not_halves():
    """Bright images with positive codes and dark ones with negative are true: neither half tells alone."""
    torch.manual_seed(0)
    judge = Discriminator((1, 4, 4), 1, 8)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-2)

    def pairs(n: int) -> tuple[Tensor, Tensor, Tensor]:
        bright, positive = torch.rand(n) < 0.5, torch.rand(n) < 0.5
        x = bright.float().view(-1, 1, 1, 1) * 0.6 + 0.4 * torch.rand(n, 1, 4, 4)
        return x, positive.float()[:, None] * 2 - 1, (bright == positive).float()

    for _ in range(150):
        x, z, true = pairs(64)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(judge(x, z)[:, 0], true).backward()
        optimizer.step()
    x, z, true = pairs(256)
    assert ((judge(x, z)[:, 0] > 0).float() == true).float().mean() > 0.95
