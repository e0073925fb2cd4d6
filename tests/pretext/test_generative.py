"""VAE and VQ-VAE: losses by other formulas, schedules, where gradients go, what codes come to mean."""

import math
from dataclasses import replace

import pytest
import torch
from toys import SHAPE, Conv, Patches, batch, context, number, still, train

from ssl_runner.contract import Batch
from ssl_runner.duration import Duration
from ssl_runner.layers.codebook import Codebook
from ssl_runner.pretext.vae import VAE, divergence
from ssl_runner.pretext.vq_vae import VQVAE

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


def vq_vae(**settings) -> VQVAE:
    torch.manual_seed(0)
    small = {"rows": 64, "augment": still(), "codes": 12, "dim": 6, "width": 16}
    return VQVAE(**{"encoder": Patches(), "shape": SHAPE, **small, **settings}).train()


def test_the_vq_vaes_loss_by_its_formula_and_no_commitment_at_codes():
    encoder = Patches(std=0.2)
    pretext = vq_vae(encoder=encoder, commitment=0.7).eval()
    views = pretext.views(batch(), context())
    assert torch.equal(views[0], batch().x)
    z = pretext.tokeniser.project(encoder(views[0]).tokens)
    codes = pretext.tokeniser.codebook.codes
    nearest = codes[torch.cdist(z, codes).argmin(2)]
    error = (pretext.decoder(nearest).sigmoid() - views[0]).square().mean() / 0.2**2
    loss = pretext(views)
    torch.testing.assert_close(loss.value, error + 0.7 * (z - nearest).square().mean())
    torch.testing.assert_close(pretext.pictures(views)["reconstruction"], pretext.decoder(nearest).sigmoid())
    torch.testing.assert_close(loss.kept["tokens"], z.flatten(0, 1))
    exact = vq_vae(encoder=encoder, codes=128, commitment=0.7).eval()
    exact.tokeniser.project.load_state_dict(pretext.tokeniser.project.state_dict())
    exact.decoder.load_state_dict(pretext.decoder.state_dict())
    exact.tokeniser.codebook.codes.copy_(z.flatten(0, 1))
    assert number(exact(views).metrics["distance"]) == pytest.approx(0, abs=1e-10)
    plain = (pretext.decoder(z).sigmoid() - views[0]).square().mean() / 0.2**2
    torch.testing.assert_close(exact(views).value, plain)


@pytest.mark.parametrize("commitment", [0.0, 3.0])
def test_the_decoders_gradient_goes_to_the_tokens_as_it_is_and_the_distances_beside_it(commitment):
    pretext, given = vq_vae(commitment=commitment).eval(), []
    pretext.tokeniser.project.register_forward_hook(lambda module, x, z: (z.retain_grad(), given.append(z))[0])
    decode = pretext.decoder.forward
    pretext.decoder.forward = lambda codes: (codes.retain_grad(), given.append(codes), decode(codes))[2]
    pretext(pretext.views(batch(), context())).value.backward()
    z, codes = given
    pull = 2 * commitment * (z - codes) / z.numel()
    torch.testing.assert_close(z.grad, codes.grad + pull)
    assert codes.grad.abs().sum() > 0


def tiles(step: int, n: int = 16) -> torch.Tensor:
    """Images of 4 x 4 tiles in one of six colours each."""
    rng = torch.Generator().manual_seed(step)
    colours = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]]) * 0.8 + 0.1
    picked = colours[torch.randint(6, (n, 4, 4), generator=rng)].permute(0, 3, 1, 2)
    return picked.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_codes_start_from_the_whole_training_set_and_come_to_mean_what_tiles_are():
    encoder = Patches()
    torch.nn.init.zeros_(encoder.place)
    pretext = vq_vae(encoder=encoder, restart=0.1)
    parts = [Batch(tiles(number_of), torch.arange(16)) for number_of in range(4)]
    before = pretext.tokeniser.codebook.codes.clone()
    with torch.no_grad():
        pretext.before_step(context(step=3))
        assert torch.equal(pretext.tokeniser.codebook.codes, before)
        pretext.before_step(replace(context(), sweep=lambda: iter(parts)))
        tokens = torch.cat([pretext.tokenise_some(x, context()) for x, _ in parts])
        assert len(tokens) == 4 * 6 * 16  # 384 tokens for 12 codes, of 24 of 64 images
        assert torch.cdist(tokens, pretext.tokeniser.codebook.codes).amin(1).mean() < torch.cdist(tokens, before).amin()
    pretext.before_step = lambda ctx: None
    train(pretext, 80, tiles)
    with torch.no_grad():
        x = tiles(999)
        loss, (_, ids) = pretext.eval()((x,)), pretext.tokeniser(encoder(x).tokens)
    colour = (x[:, :, ::2, ::2].flatten(2) * torch.tensor([1.0, 2, 4]).view(3, 1)).sum(1).round(decimals=1)
    for code in ids.unique():
        shown = colour[ids == code]
        assert (shown == shown.mode().values).float().mean() > 0.95
    assert loss.metrics["psnr"] > 20, loss.metrics


@pytest.mark.parametrize("mistake", [False, True])
def test_a_codebook_is_updated_once_a_step_by_all_micro_batches(mistake, make, monkeypatch):
    updates, update = [], Codebook.update

    def watch(self, z, ids, rng):
        updates.append((z, ids))
        update(self, z, ids, rng)

    def one_of_two(self, ctx, kept, after=VQVAE.after_step):
        after(self, ctx, {name: rows[: len(rows) // 2] for name, rows in kept.items()})

    monkeypatch.setattr(Codebook, "update", watch)
    if mistake:
        monkeypatch.setattr(VQVAE, "after_step", one_of_two)
    learner = make("evaluator=none", "pretext=vq_vae", "pretext.codes=8", "accumulate=2").learner
    learner.step(0)
    ((z, ids),) = updates
    assert (len(z) == len(ids) == 16 * 16) != mistake  # images of 4 x 4 tokens
