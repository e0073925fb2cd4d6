"""VAE: the evidence lower bound by other formulas, its terms and schedules, what its codes find."""

import math

import pytest
import torch
from toys import SHAPE, Conv, batch, context, number, still, train

from ssl_runner.contract import Batch
from ssl_runner.duration import Duration
from ssl_runner.pretext.vae import VAE, divergence

NUMBERS = math.prod(SHAPE)


def vae(**settings) -> VAE:
    torch.manual_seed(0)
    return VAE(**{"encoder": Conv(), "shape": SHAPE, "augment": still(), "latent": 5, **settings}).train()


def planted_images(step: int, n: int = 64) -> torch.Tensor:
    """Images that vary along two planted directions."""
    place, amount = (torch.arange(8) + 0.5) / 8, batch(n, seed=step, shape=(2, 1, 1)).x
    return ((amount[:, :1] * place[:, None] + amount[:, 1:] * place) / 2).expand(-1, 3, -1, -1).contiguous()


def test_the_divergence_is_that_of_normal_distributions_and_nothing_at_the_standard_one(rng):
    mean, log_variance = torch.randn(2, 6, 5, generator=rng, dtype=torch.float64)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(posterior, standard)
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    assert divergence(torch.zeros(1, 3), torch.zeros(1, 3)).tolist() == [[0, 0, 0]]
    z = mean + (log_variance / 2).exp() * torch.randn(20_000, 6, 5, generator=rng, dtype=torch.float64)
    sampled = (posterior.log_prob(z) - standard.log_prob(z)).mean(0)
    torch.testing.assert_close(sampled, expected, rtol=0.05, atol=0.05)


def bound(pretext: VAE, views: tuple) -> torch.Tensor:
    """The evidence lower bound of each draw in nats, beta times the divergence, by torch's distributions."""
    x, noise = views
    mean, log_variance = pretext.encode(x)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    image = torch.distributions.Normal(pretext.decoder(mean + posterior.scale * noise), pretext.std)
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(posterior, standard).sum(1)
    return image.log_prob(x).flatten(1).sum(1) - pretext.beta * kl


def constant(pretext: VAE) -> float:
    return NUMBERS * (math.log(pretext.std) + math.log(2 * math.pi) / 2)


@pytest.mark.parametrize("settings", [{}, {"beta": 4.0, "std": 0.3}])
def test_the_loss_is_the_bound_over_the_numbers_of_an_image(settings):
    pretext = vae(**settings).eval()
    views = pretext.views(batch(), context())
    loss, elbo = pretext(views), bound(pretext, views).mean()
    torch.testing.assert_close(loss.value * NUMBERS, -elbo - constant(pretext))
    kl, error = loss.metrics["kl"], 10 ** (-loss.metrics["psnr"] / 10)
    torch.testing.assert_close(loss.value, error / (2 * pretext.std**2) + pretext.beta * kl / NUMBERS)
    planted = error / (2 * pretext.std**2) + pretext.beta * kl  # a mean over pixels, and a sum over units
    assert planted > loss.value + 0.5 * pretext.beta * kl
    assert torch.equal(pretext.pictures(views)["samples"], pretext.decoder(views[1]))
    unmoved = (views[0], torch.zeros_like(views[1]))
    pretext.beta_now.zero_()
    error = (pretext.pictures(views)["reconstruction"] - views[0]).square().mean()
    torch.testing.assert_close(pretext(unmoved).value, error / (2 * pretext.std**2))


@pytest.mark.parametrize("exact", [True, False])
def test_the_bound_is_the_evidence_at_the_true_posterior_of_a_linear_gaussian_and_below_it_elsewhere(exact, rng):
    pretext, std = vae(std=0.5).double(), 0.5
    directions = torch.linalg.qr(torch.randn(NUMBERS, 5, generator=rng, dtype=torch.float64))[0]
    directions = directions * torch.arange(1.0, 6.0)  # orthogonal, so that the posterior has no covariances
    pretext.decoder.forward = lambda z: (z @ directions.T).view(-1, *SHAPE)
    x = (torch.randn(1, 5, generator=rng, dtype=torch.float64) @ directions.T).expand(4000, -1)
    precision = 1 + directions.square().sum(0) / std**2
    mean = x @ directions / std**2 / precision
    pretext.encode = lambda x: (mean if exact else mean / 2, -precision.log().expand_as(mean))
    noise = torch.randn(4000, 5, generator=rng, dtype=torch.float64)
    covariance = directions @ directions.T + std**2 * torch.eye(NUMBERS)
    normal = torch.distributions.MultivariateNormal(torch.zeros(NUMBERS, dtype=torch.float64), covariance)
    evidence = number(normal.log_prob(x[0]))
    elbo = -number(pretext((x.view(-1, *SHAPE), noise)).value) * NUMBERS - constant(pretext)
    assert elbo == pytest.approx(evidence, abs=0.3) if exact else elbo < evidence - 1


def test_beta_rises_along_a_line_and_stays():
    pretext, values = vae(beta=2.0, warm_up=Duration(20.0, "%")), []
    assert number(pretext.beta_now) == 2
    for step in (0, 5, 20, 60):
        pretext.before_step(context(step=step))
        values.append(number(pretext.beta_now))
    assert values == pytest.approx([0, 0.5, 2, 2])
    assert "beta_now" not in pretext.state_dict()
    at_once = vae(warm_up=Duration(0.0, "st"))
    at_once.before_step(context())
    assert number(at_once.beta_now) == 1


def test_free_bits_cost_nothing_until_a_unit_has_used_them():
    pretext = vae(free_bits=0.3).eval()
    x, noise = pretext.views(batch(), context())
    mean = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0]).repeat(8, 1).requires_grad_()
    pretext.encode = lambda x: (mean, torch.zeros_like(mean))
    pretext.decoder.forward = lambda z: x  # nothing to gain by codes
    loss = pretext((x, noise))
    loss.value.backward()
    kl = [0, 1 / 8, 1 / 2, 2, 9 / 2]
    assert number(loss.value) * NUMBERS == pytest.approx(sum(max(0.3, each) for each in kl), rel=1e-5)
    assert number(loss.metrics["kl"]) == pytest.approx(sum(kl))
    assert [bool(each) for each in mean.grad[0]] == [False, False, True, True, True]


@pytest.mark.parametrize("beta", [1.0, 1000.0])
def test_codes_tell_images_apart_unless_that_costs_too_much(beta):
    pretext = vae(beta=beta, std=0.05, warm_up=Duration(0.0, "%"))
    train(pretext, 60, lambda step: planted_images(step, 32))
    with torch.no_grad():
        metrics = pretext(pretext.views(Batch(planted_images(999), torch.arange(64)), context(9))).metrics
    kl, units = number(metrics["kl"]), number(metrics["active_units"])
    assert (kl > 5 and units >= 2) if beta == 1 else (kl < 0.5 and units <= 3), metrics
    suspects = pretext.suspects()
    assert not suspects if beta == 1 else "pretext.beta=1000" in suspects[0].cause
    assert "pretext.std" in vae(std=0.5).suspects()[0].cause
