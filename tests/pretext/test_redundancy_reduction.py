"""VICReg, Barlow Twins, VIbCReg, W-MSE and TiCo: values at their fixed points, invariances, gradients, state."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import Conv, batch, context, number

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Features, Loss, Pretext
from ssl_runner.loss.whitening import iterative_whitening
from ssl_runner.pretext.barlow_twins import BarlowTwins
from ssl_runner.pretext.tico import TiCo
from ssl_runner.pretext.vibcreg import VIbCReg
from ssl_runner.pretext.vicreg import VICReg
from ssl_runner.pretext.w_mse import WMSE

CROPS = Views(scale=(0.5, 1.0))
PAIR = {"augment": CROPS, "augment_prime": CROPS}
KINDS = {
    "vicreg": (VICReg, {"hidden": 16, "out": 8, **PAIR}),
    "barlow_twins": (BarlowTwins, {"hidden": 16, "out": 8, **PAIR}),
    "vibcreg": (VIbCReg, {"hidden": 16, "out": 8, "augment": CROPS, "norm_groups": 1}),
    "w_mse": (WMSE, {"hidden": 16, "out": 3, "augment": CROPS}),
    "tico": (TiCo, {"hidden": 16, "out": 8, **PAIR}),
}


class Given(nn.Module):
    """Takes the features themselves."""

    def forward(self, x):
        return Features(x, x[:, None], (1,))


def task(name: str, **settings) -> Pretext:
    torch.manual_seed(0)
    kind, own = KINDS[name]
    return kind(**{"encoder": Conv(), **own, **settings}).train()


def joined(name: str, *z: torch.Tensor, **settings) -> Pretext:
    """A task whose networks hand on the embeddings that they are given."""
    pretext = task(name, **{"out": z[0].shape[1]} | settings)
    for part in [each for each, _ in pretext.named_children()]:
        setattr(pretext, part, Given() if part.endswith("encoder") else nn.Identity())
    return pretext


def loss_of(name: str, *z: torch.Tensor, **settings) -> Loss:
    """The loss of given embeddings, which no network makes."""
    rows = [each.float() for each in z]
    if name == "w_mse" and len(z) == 2:  # whose keys are a view too
        rows.append(torch.linspace(0, 1, len(z[0]))[:, None])
    return joined(name, *z, **settings)(tuple(rows))


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


def test_vibcreg_is_the_authors_formula_on_whitened_rows_of_a_learnt_scale():
    z, other = random_pair(64, 4)
    pretext = joined("vibcreg", z, other, norm_groups=2)
    nn.init.constant_(pretext.scale, 0.6)
    white = [0.6 * iterative_whitening(each, 2) for each in (z, other)]
    expected = 25 * ((white[0] - white[1]) ** 2).mean()
    for each in white:
        expected += 25 * (1 - (each.var(0) + 1e-4).sqrt()).clamp(min=0).mean()
        expected += 200 * ((torch.corrcoef(each.T) ** 2).sum() - 4) / 16
    assert number(pretext((z.float(), other.float())).value) == pytest.approx(number(expected), rel=1e-4)
    with pytest.raises(ValueError, match=r"8 dimensions .* 3 groups; type pretext\.norm_groups=2"):
        task("vibcreg", norm_groups=3)


def test_the_fixed_points_of_vibcreg():
    same = plain(16, 4)
    assert number(loss_of("vibcreg", same, same, norm_groups=4).value) == pytest.approx(0, abs=1e-2)
    repeated = same[:, :1].expand(16, 4)  # each in a group of its own: 200 * 2 * 12 / 16
    assert number(loss_of("vibcreg", repeated, repeated, norm_groups=4).value) == pytest.approx(
        200 * 2 * 12 / 16, rel=1e-3
    )
    assert number(loss_of("vibcreg", *torch.ones(2, 16, 4)).metrics["variance"]) == pytest.approx(2 * 0.99)


def whitened_by_hand(z: torch.Tensor) -> torch.Tensor:
    centred = z - z.mean(0)
    return F.normalize(centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T))).T, dim=1)


@pytest.mark.parametrize("permutations", [1, 2])
def test_w_mse_whitens_each_view_in_windows_that_keys_part_and_compares_all_pairs(permutations, rng):
    z, keys = torch.randn(3, 11, 2, dtype=torch.float64, generator=rng), torch.rand(11, permutations, generator=rng)
    settings = {"shrinkage": 0.0, "window": 5, "positives": 3, "permutations": permutations}
    loss = loss_of("w_mse", *z, keys, **settings, out=2)
    distances = []
    for column in keys.T:
        order = column.argsort().tolist()
        for window in (order[:5], order[5:10]):  # the eleventh is left out
            v = [whitened_by_hand(each[window]) for each in z]
            distances += [(v[i] - v[j]).square().sum(1).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert number(loss.value) == pytest.approx(number(sum(distances) / len(distances)), rel=1e-4)


def test_w_mse_does_not_change_with_the_scale_of_dimensions_is_0_for_equal_views_and_finite_at_collapse():
    z, other = random_pair(20, 3)
    value = number(loss_of("w_mse", z, other, shrinkage=0.0).value)
    scaled = number(loss_of("w_mse", z * torch.tensor([0.5, 2.0, 3.0]) + 4, other, shrinkage=0.0).value)
    assert 0 < value == pytest.approx(scaled, rel=1e-4)
    assert number(loss_of("w_mse", z, z).value) == pytest.approx(0, abs=1e-5)
    assert number(loss_of("w_mse", z, -z).value) == pytest.approx(4, rel=1e-5)
    collapsed = [torch.ones(20, 3).requires_grad_() for _ in range(2)]
    loss = loss_of("w_mse", *collapsed)
    assert number(loss.value) == pytest.approx(2)
    loss.value.backward()
    assert all(each.grad.isfinite().all() for each in collapsed)


def test_w_mse_draws_keys_beside_its_views_and_refuses_what_cannot_be_whitened():
    pretext = task("w_mse", positives=4, permutations=2)
    *images, keys = pretext.views(batch(), context())
    assert len(images) == 4
    assert keys.shape == (8, 2)
    assert len(keys.unique()) == 16
    with pytest.raises(ValueError, match=r"32 rows cannot whiten 32 dimensions; type pretext\.window=64"):
        task("w_mse", out=32, window=32)
    with pytest.raises(ValueError, match=r"8 rows cannot whiten 9 dimensions; type batch_size=18 .* pretext\.out=4"):
        task("w_mse", out=9).before_step(context())
    pretext = task("w_mse", out=8)  # less than the rows of a batch, and as many as those of a micro-batch
    views = pretext.views(batch(), context())
    with pytest.raises(ValueError, match=r"of 8 rows cannot whiten 8 dimensions; type accumulate=1 .* pretext\.out=4"):
        pretext(views)
    with torch.no_grad():
        assert pretext(views).value.isfinite(), "few rows that are only measured, as before the run or held out"


def test_tico_at_its_fixed_points():
    alike = F.normalize(torch.ones(8, 4), dim=1)
    pretext = joined("tico", alike, covariance_momentum=0.9)
    pretext.covariance.copy_(alike.T @ alike / 8)
    loss = pretext((alike, alike))
    assert number(loss.value) == pytest.approx(8)  # rho at collapse
    assert number(loss.metrics["dimensions"]) == pytest.approx(1)
    pretext.covariance.copy_(torch.eye(4) / 4)
    spread = torch.eye(4)  # whose covariance is that
    loss = pretext((3 * spread, spread.roll(1, 0)))  # lengths do not matter
    assert number(loss.value) == pytest.approx(1 - 0 + 8 / 4)
    assert number(loss.metrics["dimensions"]) == pytest.approx(4)


@pytest.mark.parametrize("attached", [False, True])
def test_tico_is_its_equation_and_the_covariance_has_a_gradient_if_asked(attached):
    z, target = (each.float() for each in random_pair())
    z.requires_grad_()
    pretext = joined("tico", z, covariance_gradient=attached, covariance_momentum=0.6)
    pretext.covariance.copy_(torch.eye(5) / 3)
    value = pretext((z, target)).value
    unit, other = z / z.norm(dim=1, keepdim=True), target / target.norm(dim=1, keepdim=True)
    own = unit if attached else unit.detach()
    c = 0.6 * torch.eye(5) / 3 + 0.4 * sum(torch.outer(row, row) for row in own) / 12
    terms = [1 - unit[i] @ other[i] + 8 * unit[i] @ c @ unit[i] for i in range(12)]
    expected = sum(terms) / 12
    torch.testing.assert_close(value, expected)
    slope, wanted = (torch.autograd.grad(each, z)[0] for each in (value, expected))
    torch.testing.assert_close(slope, wanted, rtol=1e-4, atol=1e-6)


def test_ticos_teacher_has_no_gradient_and_moves_with_the_covariance_once_a_step(make):
    learner, seen = make("pretext=tico", "accumulate=4", "evaluator=none").learner, []
    pretext = learner.pretext
    before = [p.clone() for p in pretext.teacher_projector.parameters()]
    pretext.projector.register_forward_hook(lambda module, inputs, output: seen.append(F.normalize(output, dim=1)))
    learner.step(0)
    assert [len(each) for each in seen] == [4] * 4
    z = torch.cat(seen).detach()
    torch.testing.assert_close(pretext.covariance, 0.5 * z.T @ z / 16)
    pairs = zip(before, pretext.teacher_projector.parameters(), pretext.projector.parameters(), strict=True)
    for was, now, student in pairs:
        torch.testing.assert_close(now, 0.9 * was + 0.1 * student)
    assert all(p.grad is None for p in pretext.teacher_encoder.parameters())


def test_ticos_covariance_is_part_of_its_state_and_a_run_without_it_would_go_on_otherwise():
    pretext = task("tico")
    views = pretext.views(batch(), context())
    for step in range(3):
        pretext.after_step(context(step), pretext(views).kept)
    again = task("tico")
    again.load_state_dict(pretext.state_dict())
    value = number(pretext(views).value)
    assert number(again(views).value) == pytest.approx(value, rel=1e-6)
    again.covariance.zero_()  # as an attribute that no checkpoint holds would be
    assert number(again(views).value) != pytest.approx(value, rel=1e-2)


@pytest.mark.parametrize("name", ["vicreg", "barlow_twins", "vibcreg"])
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
