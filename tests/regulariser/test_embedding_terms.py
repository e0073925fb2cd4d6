"""Terms on embeddings: values by hand, invariances, and gradients where formulas break down."""

import math

import pytest
import torch
from torch import Tensor, nn

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.loss.embedding import branches
from ssl_runner.loss.unit import unit
from ssl_runner.regulariser.covariance import Covariance, covariance_off_diagonal
from ssl_runner.regulariser.koleo import KoLeo, nearest_entropy
from ssl_runner.regulariser.uniformity import Uniformity, gaussian_potential
from ssl_runner.regulariser.variance import Variance, variance_hinge

ON_EMBEDDINGS = [Variance, Covariance, KoLeo, Uniformity]
every_term = pytest.mark.parametrize("kind", ON_EMBEDDINGS)


def value(regulariser: Regulariser, z: Tensor | None = None) -> Tensor:
    """Of the only term."""
    (term,) = regulariser(Loss(torch.zeros(()), {}, z), Pretext()).values()
    return term


def test_variance_by_hand():
    z = torch.tensor([[0.0, 5.0], [2.0, 5.0]])  # variances 2 and 0
    assert variance_hinge(z, 3.0).item() == pytest.approx(((3 - math.sqrt(2 + 1e-4)) + (3 - 0.01)) / 2)
    assert variance_hinge(z, 1.0).item() == pytest.approx((0 + 0.99) / 2)  # the hinge: nothing beyond the target


def test_covariance_by_hand():
    z = torch.tensor([[1.0, 2.0, 0.0], [-1.0, -2.0, 0.0]])  # covariance of the first two: (2 + 2) / 1
    assert covariance_off_diagonal(z).item() == pytest.approx(2 * 4**2 / 3)


def test_covariance_ignores_scale_of_single_dimensions_that_do_not_covary():
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert covariance_off_diagonal(z * torch.tensor([7.0, 0.1])).item() == pytest.approx(0, abs=1e-12)


def test_koleo_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # the nearest is sqrt(2) away, for each
    assert nearest_entropy(z).item() == pytest.approx(-math.log(math.sqrt(2)), abs=1e-6)


def test_uniformity_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # squared distances 2, 2, 4
    expected = math.log((2 * math.exp(-2 * 2) + math.exp(-2 * 4)) / 3)
    assert gaussian_potential(z, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_uniformity_agrees_with_the_pairwise_formula(rng):
    z = torch.randn(17, 5, generator=rng)
    expected = torch.pdist(nn.functional.normalize(z)).pow(2).mul(-3.0).exp().mean().log()
    torch.testing.assert_close(gaussian_potential(z, 3.0), expected)


@pytest.mark.parametrize("kind", [KoLeo, Uniformity])
def test_sphere_terms_are_invariant_to_rotation_and_to_the_length_of_each_row(kind, rng):
    z = torch.randn(16, 6, generator=rng)
    lengths = 0.1 + 10 * torch.rand(16, 1, generator=rng)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=rng))[0]
    torch.testing.assert_close(value(kind(), z), value(kind(), lengths * z @ rotation), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Variance, Covariance])
def test_vicreg_terms_are_invariant_to_translation_and_order(kind, rng):
    z = torch.randn(16, 6, generator=rng)
    moved = torch.cat([z[:8].flip(0), z[8:].flip(0)]) + 3
    torch.testing.assert_close(value(kind(), z), value(kind(), moved), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Variance, KoLeo, Uniformity])
def test_a_collapsed_embedding_costs_more_than_a_spread_one(kind, rng):
    z = torch.randn(32, 8, generator=rng)
    assert value(kind(), z) < value(kind(), z[:1] + 0.05 * z) < value(kind(), z[:1] + 0.005 * z)


@every_term
def test_views_are_measured_alone(kind, rng):
    first, second = torch.randn(2, 12, 5, generator=rng)
    both = value(kind(views=2), torch.cat([first, second]))
    torch.testing.assert_close(both, (value(kind(views=1), first) + value(kind(views=1), second)) / 2)


def test_koleo_does_not_drive_two_views_of_a_sample_apart(rng):
    z = torch.randn(8, 4, generator=rng)
    stacked = torch.cat([z, z + 1e-3])
    assert value(KoLeo(views=1), stacked) > value(KoLeo(), stacked) + 0.1 * 3


@every_term
@pytest.mark.parametrize(
    "z",
    [
        torch.zeros(8, 3),
        torch.ones(8, 3),
        torch.ones(8, 3) + 1e-7 * torch.arange(8.0)[:, None],
        torch.cat([torch.zeros(1, 3), torch.randn(7, 3, generator=torch.Generator().manual_seed(1))]),
        1e-20 * torch.randn(8, 3, generator=torch.Generator().manual_seed(2)),
        torch.randn(4, 3, generator=torch.Generator().manual_seed(3)).repeat_interleave(2, 0),
    ],
    ids=["zero", "equal", "almost equal", "one zero row", "tiny", "duplicates"],
)
def test_values_and_gradients_stay_small_where_formulas_break_down(kind, z):
    z = z.clone().requires_grad_()
    term = value(kind(), z)
    term.backward()
    assert torch.isfinite(term)
    assert z.grad.abs().max() < 1e3


def test_variance_has_a_gradient_that_undoes_an_almost_collapse(rng):
    z = (1 + 1e-3 * torch.randn(16, 4, generator=rng)).requires_grad_()
    before = value(Variance(), z)
    (slope,) = torch.autograd.grad(before, z)
    assert value(Variance(), z - 1.0 * slope) < before


@every_term
def test_terms_reach_what_made_the_embedding(kind, rng):
    hidden = torch.randn(8, 2, generator=rng).requires_grad_()
    value(kind(), hidden @ torch.randn(2, 3, generator=rng)).backward()
    assert hidden.grad.abs().sum() > 0


@every_term
def test_half_precision_embeddings_are_measured_in_float32(kind, rng):
    assert value(kind(), torch.randn(8, 4, generator=rng).bfloat16()).dtype == torch.float32


@every_term
def test_a_method_without_an_embedding_is_told_what_works(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__.lower()} reads the embedding.*l1, l2, elastic_net"):
        value(kind())


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"2 views share 3 rows.*batch_size"):
        branches(Loss(torch.zeros(()), {}, torch.zeros(3, 2)), 2, "variance")


def test_unit_rows_have_length_one_and_a_row_without_direction_stays(rng):
    z = torch.cat([torch.randn(5, 3, generator=rng), torch.zeros(1, 3)])
    torch.testing.assert_close(unit(z).norm(dim=1), torch.tensor([1.0] * 5 + [0.0]))
