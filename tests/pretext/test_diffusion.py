"""Diffusion (l-DAE): the noise and its levels, the loss by its formula, the basis, and what can be denoised."""

import math
from dataclasses import replace

import pytest
import torch
from toys import SHAPE, Conv, Patches, batch, context, number, still, train

from ssl_runner.augment.image.mask import patchify
from ssl_runner.contract import Batch
from ssl_runner.pretext.diffusion import Diffusion


def diffusion(**settings) -> Diffusion:
    torch.manual_seed(0)
    small = {"width": 16, "depth": 1, "heads": 2, "augment": still()}
    return Diffusion(**{"encoder": Patches(), "shape": SHAPE, **small, **settings}).train()


def flat(step: int, n: int = 32) -> torch.Tensor:
    """Images of one colour each, so that noise is told from the mean of all pixels."""
    return batch(n, seed=step, shape=(3, 1, 1)).x.expand(-1, *SHAPE).contiguous()


def with_basis(**settings) -> Diffusion:
    pretext = diffusion(**settings)
    parts = [Batch(flat(part), torch.arange(32)) for part in range(3)]
    with torch.no_grad():
        pretext.before_step(replace(context(), sweep=lambda: iter(parts)))
    return pretext


def test_noise_has_the_level_of_its_own_sample_in_the_encoders_units():
    pretext = diffusion(encoder=Patches(std=0.2), sigma=1.5)
    x, noise, level = pretext.views(batch(400), context())
    assert torch.equal(x, batch(400).x)
    assert level.min() >= 0
    assert level.max() <= 1.5
    assert number(level.mean()) == pytest.approx(0.75, abs=0.1)
    added = (pretext.add_noise(x, noise, level) - pretext.patches(x)).flatten(1).std(1)
    assert (added / level.clamp(min=0.05) - 1).abs().median() < 0.1
    in_pixels = pretext.image(pretext.add_noise(x, noise, level)) - x
    torch.testing.assert_close(in_pixels.flatten(1).std(1), 0.2 * added, rtol=1e-3, atol=1e-5)
    clean = pretext.image(pretext.add_noise(x, noise, torch.zeros(400)))
    torch.testing.assert_close(clean, x, rtol=0, atol=1e-6)  # level 0 is there too, and it is what is measured


@pytest.mark.parametrize("components", [None, 3])
def test_the_loss_weighs_components_and_levels(components):
    pretext = (with_basis if components else diffusion)(components=components).eval()
    views = x, noise, level = pretext.views(batch(), context())
    noisy = pretext.image(pretext.add_noise(*views))
    error = (pretext.denoise(pretext.encoder(noisy), level) - pretext.patches(x)).double()
    total = torch.zeros(8, dtype=torch.float64)
    for row, vector in enumerate(pretext.basis.double()):
        weight = 1 if components is None or row < components else 0.1
        total += weight * (error @ vector).square().mean(1)
    loss = pretext(views)
    torch.testing.assert_close(loss.value.double(), (total / 12 / (1 + level.double() ** 2)).mean(), rtol=1e-5, atol=0)
    gain = (pretext.patches(x) - pretext.patches(noisy)).square().mean() / error.square().mean()
    assert number(loss.metrics["psnr_gain"]) == pytest.approx(10 * math.log10(number(gain)), abs=1e-3)
    if components is None:  # in a whole basis the error is the same in any
        plain = error.square().mean((1, 2)) / (1 + level**2)
        torch.testing.assert_close(loss.value.double(), plain.mean(), rtol=1e-5, atol=0)
        guess = (pretext.patches(noisy) - pretext.denoise(pretext.encoder(noisy), level)) / level[:, None, None]
        of_noise = (guess - noise).square().mean((1, 2))  # an error of the image is one of the noise, by the level
        torch.testing.assert_close(of_noise.double() * level**2, error.square().mean((1, 2)), rtol=1e-3, atol=1e-6)


def test_the_basis_is_orthonormal_of_principal_components_and_noise_stays_in_the_first():
    pretext = with_basis(components=3)
    basis = pretext.basis.double()
    torch.testing.assert_close(basis @ basis.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-5)
    mean_colours = patchify(torch.eye(3).view(3, 3, 1, 1).expand(3, *SHAPE), (2, 2))[:, 0].double()  # (3, 12)
    mean_colours = mean_colours / mean_colours.norm(dim=1, keepdim=True)
    torch.testing.assert_close((mean_colours @ basis[:3].T).norm(dim=1), torch.ones(3, dtype=torch.float64))
    x, noise, level = pretext.views(batch(), context())
    assert noise.shape == (8, 16, 3)
    shown = pretext.add_noise(x, noise, level)
    outside = shown.double() @ basis[3:].T
    torch.testing.assert_close(outside, torch.zeros_like(outside), rtol=0, atol=1e-5)
    assert "basis" in pretext.state_dict()
    before = pretext.basis.clone()
    pretext.before_step(context(step=4))
    assert torch.equal(pretext.basis, before)


def test_the_decoder_knows_the_level_and_the_encoder_does_not():
    pretext = diffusion().eval()
    x, noise, level = pretext.views(batch(), context())
    features = pretext.encoder(x)
    one, other = pretext.denoise(features, level), pretext.denoise(features, level.flip(0))
    assert not torch.allclose(one, other, atol=1e-3)
    still_there = (x, torch.zeros_like(noise), level), (x, torch.zeros_like(noise), level.flip(0))
    assert torch.equal(*(pretext(views).embedding for views in still_there))


@pytest.mark.parametrize("possible", [True, False])
def test_noise_is_taken_off_what_is_alike_everywhere_and_not_off_more_noise(possible):
    pretext = diffusion()
    samples = flat if possible else lambda step: batch(32, seed=step).x
    train(pretext, 120, samples)
    with torch.no_grad():
        views = pretext.eval().views(Batch(samples(999), torch.arange(32)), context(7))
        gain, pictures = pretext(views).metrics["psnr_gain"], pretext.pictures(views)
    assert (gain > 7) if possible else (gain < 3), gain
    error, noise = ((pictures[name] - pictures["target"]).square().mean() for name in ("denoised", "noisy"))
    assert (error < 0.4 * noise) == possible


def test_a_convnets_cells_are_patches_too_and_what_does_not_fit_is_refused():
    pretext = diffusion(encoder=Conv())  # a grid of 4 x 4 cells
    pretext(pretext.views(batch(), context())).value.backward()
    assert pretext.patch == (2, 2)
    with pytest.raises(ValueError, match=r"pretext\.components=13, and a patch has 12 numbers; type null"):
        diffusion(components=13)
