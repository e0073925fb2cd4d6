"""BiGAN: its two groups, its values by hand, codes, and a discriminator that judges pairs."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import SHAPE, Conv, batch, context, gradients, number, still

from ssl_runner.pretext.bigan import BiGAN, Discriminator


def bigan() -> BiGAN:
    torch.manual_seed(0)
    return BiGAN(encoder=Conv(), shape=SHAPE, augment=still(), latent=5, width=4)


class Verdict(nn.Module):
    """A discriminator whose mind is made up: `logit` for encoded pairs and minus that for generated ones."""

    def __init__(self, logit: float):
        super().__init__()
        self.logit = logit

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        half = len(x) // 2
        return torch.tensor([self.logit] * half + [-self.logit] * half) + 0 * x.sum()


def test_the_discriminator_steps_first_and_gradients_stay_in_their_group():
    pretext = bigan().train()
    assert list(pretext.groups()) == ["discriminator", "generator_encoder"]
    for group, named in pretext.groups().items():
        assert {name.startswith("discriminator.") for name, _ in named} == {group == "discriminator"}
        pretext(pretext.views(batch(), context()), group).value.backward()
        found = gradients(pretext)
        assert {name for name, g in found.items() if g} == {name for name, _ in named}
        assert {found[name] for name in found.keys() - {name for name, _ in named}} == {None}
        pretext.zero_grad()


def test_values_by_hand():
    pretext = bigan().train()
    views = pretext.views(batch(), context())
    for logit in (0.0, 1.0, -2.0):
        pretext.discriminator = Verdict(logit)
        right, wrong = 2 * math.log1p(math.exp(-logit)), 2 * math.log1p(math.exp(logit))
        loss = pretext(views, "discriminator")
        assert number(loss.value) == pytest.approx(right, rel=1e-5)  # 2 log 2 at equilibrium
        assert number(pretext(views, "generator_encoder").value) == pytest.approx(wrong, rel=1e-5)
        assert number(loss.metrics["accuracy"]) == (logit > 0)


def test_codes_are_standard_normal_and_a_samples_own():
    pretext = bigan()
    x, z = pretext.views(batch(4000), context())
    assert torch.equal(x, batch(4000).x)
    assert z.shape == (4000, 5)
    assert z.mean(0).abs().max() < 0.08  # five standard deviations
    assert (z.T.cov() - torch.eye(5)).abs().max() < 0.12


def test_pictures_are_the_generators():
    pretext = bigan().eval()
    views = pretext.views(batch(), context())
    with torch.no_grad():
        pictures = pretext.pictures(views)
        torch.testing.assert_close(pictures["samples"], pretext.generator(views[1]))
        code = pretext.code(pretext.encoder(views[0]).pooled)
        torch.testing.assert_close(pictures["reconstruction"], pretext.generator(code))
    for picture in pictures.values():
        assert picture.shape == (8, *SHAPE)
        assert 0 <= picture.min() < 0.5  # squashed once: twice, it would stay above a half
        assert picture.max() <= 1


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 28, 20), (3, 4, 5)])
def test_discriminator_takes_any_size_and_is_lipschitz(size, rng):
    torch.manual_seed(0)
    judge = Discriminator(size, 3, 4)
    for _ in range(30):
        judge(torch.rand(2, *size, generator=rng), torch.randn(2, 3, generator=rng))
    judge.eval()
    linear = [m for m in judge.modules() if isinstance(m, nn.Linear)]
    assert all(number(torch.linalg.matrix_norm(m.weight, 2)) < 1.1 for m in linear)
    assert judge(torch.rand(2, *size), torch.randn(2, 3)).shape == (2,)


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
        F.binary_cross_entropy_with_logits(judge(x, z), true).backward()
        optimizer.step()
    x, z, true = pairs(256)
    assert ((judge(x, z) > 0).float() == true).float().mean() > 0.95
