"""VICReg, Barlow Twins, VIbCReg, W-MSE and TiCo: values at their fixed points, invariances, gradients, state."""

import pytest
import torch
from torch import nn
from toys import Conv, batch, context, number

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Features, Loss, Pretext
from ssl_runner.pretext.barlow_twins import BarlowTwins
from ssl_runner.pretext.vicreg import VICReg

CROPS = Views(scale=(0.5, 1.0))
PAIR = {"augment": CROPS, "augment_prime": CROPS}
KINDS = {
    "vicreg": (VICReg, {"hidden": 16, "out": 8, **PAIR}),
    "barlow_twins": (BarlowTwins, {"hidden": 16, "out": 8, **PAIR}),
}
HEADS = {"vicreg": "expander"}


class Given(nn.Module):
    """Takes the features themselves."""

    def forward(self, x):
        return Features(x, x[:, None], (1,))


def task(name: str, **settings) -> Pretext:
    torch.manual_seed(0)
    kind, own = KINDS[name]
    return kind(**{"encoder": Conv(), **own, **settings}).train()


def loss_of(name: str, *z: torch.Tensor, **settings) -> Loss:
    """The loss of given embeddings, which no network makes."""
    pretext = task(name, **{"out": z[0].shape[1]} | settings)
    pretext.encoder = Given()
    setattr(pretext, HEADS.get(name, "projector"), nn.Identity())
    return pretext(tuple(each.float() for each in z))


def plain(rows: int = 16, dim: int = 4) -> torch.Tensor:
    """Rows whose dimensions have mean 0, variance 1 (n in the denominator) and no correlation: of a Hadamard matrix."""
    matrix = torch.ones(1, 1)
    while len(matrix) < rows:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix[:, 1 : dim + 1]


def random_pair(n: int = 12, dim: int = 5) -> torch.Tensor:
    return torch.randn(2, n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_vicreg_is_the_authors_formula():
    z, other = random_pair() * 0.7
    expected = 25 * ((z - other) ** 2).mean()
    for each in (z, other):
        cov = torch.cov(each.T)
        expected += 25 * (1 - (cov.diagonal() + 1e-4).sqrt()).clamp(min=0).mean() / 2
        expected += (cov**2).sum() / 5 - (cov.diagonal() ** 2).sum() / 5
    assert number(loss_of("vicreg", z, other).value) == pytest.approx(number(expected), rel=1e-5)
    only = {"invariance": 0.0, "covariance": 0.0}
    assert number(loss_of("vicreg", z, other, **only).value) == pytest.approx(
        number(25 * loss_of("vicreg", z, other).metrics["variance"]), rel=1e-5
    )


def test_vicreg_costs_nothing_at_its_minimum_and_its_variance_at_collapse():
    assert number(loss_of("vicreg", plain(), plain()).value) == 0
    loss = loss_of("vicreg", *torch.ones(2, 6, 4))
    assert number(loss.value) == pytest.approx(24.75)  # 25 (1 - 0.01)
    assert number(loss.metrics["variance"]) == pytest.approx(0.99)


def test_barlow_twins_is_the_equation_of_correlations_and_its_mean_is_over_dimensions():
    z, other = random_pair()
    c = torch.corrcoef(torch.cat([z, other], dim=1).T)[:5, 5:]
    expected = sum((1 - c[i, j]) ** 2 if i == j else 0.0051 * c[i, j] ** 2 for i in range(5) for j in range(5))
    total = number(loss_of("barlow_twins", z, other, reduction="sum").value)
    assert total == pytest.approx(number(expected), rel=1e-4)
    assert number(loss_of("barlow_twins", z, other).value) == pytest.approx(total / 5)
    scale = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])  # affine maps of each dimension change nothing
    assert number(loss_of("barlow_twins", 2 * z * scale - 1, other + 3, reduction="sum").value) == pytest.approx(
        total, rel=1e-4
    )


@pytest.mark.parametrize(
    ("z", "expected"),
    [(torch.ones(16, 4), 4), (plain()[:, :1].expand(16, 4), 0.0051 * 4 * 3), (plain(), 0)],
    ids=["collapse", "all dimensions alike", "minimum"],
)
def test_barlow_twins_at_its_fixed_points(z, expected):
    loss = loss_of("barlow_twins", z, z, reduction="sum")
    assert number(loss.value) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert number(loss.metrics["agreement"]) == pytest.approx(0 if expected == 4 else 1, abs=1e-4)
    if expected != 4:
        assert number(loss.metrics["redundancy"]) == pytest.approx(0.75 if expected else 0, abs=1e-4)


@pytest.mark.parametrize("name", ["vicreg", "barlow_twins"])
def test_one_sample_a_micro_batch_is_refused(name):
    with pytest.raises(ValueError, match="raise batch_size or lower accumulate"):
        task(name)(tuple(torch.rand(2, 1, 3, 8, 8)))


@pytest.mark.parametrize("name", KINDS)
def test_order_of_the_batch_does_not_matter_and_who_belongs_together_does(name):
    first, second = random_pair()
    order = torch.arange(12).roll(5)
    value = number(loss_of(name, first, second).value)
    assert number(loss_of(name, first[order], second[order]).value) == pytest.approx(value, rel=1e-4)
    assert number(loss_of(name, first[order], second).value) != pytest.approx(value, rel=1e-2)


@pytest.mark.parametrize("name", KINDS)
def test_each_view_is_its_own_draw_and_the_loss_is_in_float32_under_autocast(name):
    pretext = task(name)
    views = pretext.views(batch(), context())
    assert not torch.equal(views[0], views[1])
    z = random_pair()
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_of(name, *z).value
    assert torch.equal(half, loss_of(name, *z).value)


SUSPECTS = [
    ("vicreg", {"variance": 0.0}, "variance"),
    ("vicreg", {"covariance": 0.0}, "covariance"),
    ("barlow_twins", {"redundancy": 0.0}, "redundancy"),
]


@pytest.mark.parametrize(("name", "settings", "key"), SUSPECTS)
def test_suspects_are_its_own_settings(name, settings, key):
    assert not task(name).suspects()
    (suspect,) = task(name, **settings).suspects()
    assert f"pretext.{key}" in suspect.cause
