"""Regularisers: values by hand, invariances, gradients where formulas break down, and what each YAML says."""

import math

import pytest
import torch
import yaml
from torch import Tensor, nn
from toys import number

from ssl_runner.config.compose import TREE
from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.layers.weights import weights
from ssl_runner.loss.embedding import unit
from ssl_runner.regulariser.covariance import Covariance
from ssl_runner.regulariser.elastic_net import ElasticNet
from ssl_runner.regulariser.koleo import KoLeo
from ssl_runner.regulariser.l1 import L1
from ssl_runner.regulariser.l2 import L2
from ssl_runner.regulariser.none import Nothing
from ssl_runner.regulariser.orthogonal import Orthogonal, soft_orthogonality
from ssl_runner.regulariser.sum import Sum
from ssl_runner.regulariser.uniformity import Uniformity
from ssl_runner.regulariser.variance import Variance

ON_EMBEDDINGS = [Variance, Covariance, KoLeo, Uniformity]
every_term = pytest.mark.parametrize("kind", ON_EMBEDDINGS)


class Task(Pretext):
    """Weights 1, -2 in the encoder and 3, -4 in a head; beside them a bias, a norm, a token and a frozen teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.encoder.class_token = nn.Parameter(torch.full((1, 1, 2), 9.0))
        self.head = nn.Linear(2, 1)
        self.teacher = nn.Linear(2, 2).requires_grad_(False)
        nn.init.constant_(self.encoder[0].bias, 9.0)
        with torch.no_grad():
            self.encoder[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
            self.head.weight.copy_(torch.tensor([[3.0, -4.0]]))


def terms(regulariser: Regulariser, z: Tensor | None = None, task: Pretext | None = None) -> dict[str, Tensor]:
    """Of two views."""
    samples = None if z is None else len(z) // 2
    return dict(regulariser(Loss(torch.zeros(()), {}, z, samples=samples), task or Task()))


def value(*given) -> Tensor:
    """Of the only term."""
    (term,) = terms(*given).values()
    return term


@pytest.mark.parametrize(
    ("term", "rows", "expected"),
    [  # of variances 2 and 0, with and without a target beyond; a covariance of (2 + 2) / 1 of the first two
        (Variance(target=3.0), [[0.0, 5.0], [2.0, 5.0]], ((3 - math.sqrt(2 + 1e-4)) + (3 - 0.01)) / 2),
        (Variance(target=1.0), [[0.0, 5.0], [2.0, 5.0]], (0 + 0.99) / 2),
        (Covariance(), [[1.0, 2.0, 0.0], [-1.0, -2.0, 0.0]], 2 * 4**2 / 3),
        (Covariance(), [[7.0, 0.1], [7.0, -0.1], [-7.0, 0.1], [-7.0, -0.1]], 0),  # scales do not covary
        (KoLeo(), [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], -math.log(math.sqrt(2))),  # how far the nearest is, for each
        (Uniformity(), [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], math.log((2 * math.exp(-2 * 2) + math.exp(-2 * 4)) / 3)),
    ],
)
def test_costs_of_embeddings_by_hand(term, rows, expected):
    assert number(term.cost(torch.tensor(rows))) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_uniformity_agrees_with_the_pairwise_formula_of_rows_of_unit_length(rng):
    z = torch.randn(17, 5, generator=rng)
    expected = torch.pdist(nn.functional.normalize(z)).pow(2).mul(-3.0).exp().mean().log()
    torch.testing.assert_close(Uniformity(t=3.0).cost(z), expected)
    lengths = unit(torch.cat([z, torch.zeros(1, 5)])).norm(dim=1)  # a row without direction stays
    torch.testing.assert_close(lengths, torch.tensor([1.0] * 17 + [0.0]))


@every_term
def test_terms_are_invariant_to_rotation_and_length_or_to_translation_and_order_and_of_each_view_alone(kind, rng):
    z = torch.randn(16, 6, generator=rng)
    same = torch.cat([z[:8].flip(0), z[8:].flip(0)]) + 3
    if kind in (KoLeo, Uniformity):  # on the sphere
        lengths = 0.1 + 10 * torch.rand(16, 1, generator=rng)
        same = lengths * z @ torch.linalg.qr(torch.randn(6, 6, generator=rng))[0]
    torch.testing.assert_close(value(kind(), z), value(kind(), same), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(value(kind(weight=0.6), z), 3 * value(kind(weight=0.2), z))
    first, second = torch.randn(2, 12, 5, generator=rng)
    both = value(kind(), torch.cat([first, second]))
    torch.testing.assert_close(both, (value(kind(views=1), first) + value(kind(views=1), second)) / 2)


@pytest.mark.parametrize("kind", [Variance, KoLeo, Uniformity])
def test_a_collapsed_embedding_costs_more_than_a_spread_one(kind, rng):
    z = torch.randn(32, 8, generator=rng)
    assert value(kind(), z) < value(kind(), z[:1] + 0.05 * z) < value(kind(), z[:1] + 0.005 * z)
    if kind is Variance:  # whose gradient undoes an almost collapse
        z = (1 + 1e-3 * z).requires_grad_()
        (slope,) = torch.autograd.grad(value(kind(), z), z)
        assert value(kind(), z - slope) < value(kind(), z)


def normal(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))


HARD = {
    "zero": torch.zeros(8, 3),
    "equal": torch.ones(8, 3),
    "almost equal": torch.ones(8, 3) + 1e-7 * torch.arange(8.0)[:, None],
    "one zero row": torch.cat([torch.zeros(1, 3), normal(7, 1)]),
    "tiny": 1e-20 * normal(8, 2),
    "duplicates": normal(4, 3).repeat_interleave(2, 0),
}


@every_term
@pytest.mark.parametrize("z", HARD.values(), ids=HARD)
def test_values_and_gradients_stay_small_where_formulas_break_down(kind, z):
    z = z.clone().requires_grad_()
    term = value(kind(), z)
    term.backward()
    assert torch.isfinite(term)
    assert z.grad.abs().max() < 1e3


@every_term
def test_half_precision_embeddings_are_measured_in_float32_and_what_made_them_is_reached(kind, rng):
    hidden = torch.randn(8, 2, generator=rng).requires_grad_()
    term = value(kind(), (hidden @ torch.randn(2, 3, generator=rng)).bfloat16())
    assert term.dtype == torch.float32
    term.backward()
    assert hidden.grad.abs().sum() > 0


@every_term
def test_a_method_without_an_embedding_or_with_too_few_rows_is_told_what_works(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__.lower()} reads the embedding.*l1, l2, elastic_net"):
        value(kind())
    with pytest.raises(ValueError, match=r"2 views share 2 rows.*batch_size"):
        value(kind(), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"5 rows are no whole number of views of 2 samples.*regulariser.views=N"):
        value(kind(), torch.zeros(5, 2))
    assert value(kind(views=1), torch.zeros(5, 2)).isfinite()


@pytest.mark.parametrize(
    ("regulariser", "expected"),
    [
        (L1(weight=0.5), 0.5 * (1 + 2 + 3 + 4)),
        (L2(weight=0.5), 0.25 * (1 + 4 + 9 + 16)),
        (ElasticNet(l1=0.1, l2=0.5), 0.1 * 10 + 0.25 * 30),
        (Orthogonal(weight=0.5), 0.5 * ((1 + 4 - 1) ** 2 + (9 + 16 - 1) ** 2)),
    ],
)
def test_weight_terms_by_hand_penalise_trainable_weights_only(regulariser, expected):
    task = Task()
    term = value(regulariser, None, task)
    assert number(term) == pytest.approx(expected)
    term.backward()
    touched = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched == {"encoder.0.weight", "head.weight"}
    with pytest.raises(ValueError, match="regulariser=none"):
        weights(nn.BatchNorm2d(3))


def test_l2_is_the_weight_decay_of_sgd():
    penalised, decayed = Task(), Task()
    decayed.load_state_dict(penalised.state_dict())
    value(L2(weight=0.3), None, penalised).backward()
    torch.optim.SGD(weights(penalised), lr=0.1).step()
    for w in weights(decayed):
        w.grad = torch.zeros_like(w)
    torch.optim.SGD(weights(decayed), lr=0.1, weight_decay=0.3).step()
    torch.testing.assert_close(weights(penalised), weights(decayed))


def test_an_orthogonal_weight_of_any_shape_costs_nothing_and_the_smaller_gram_has_the_gradient_of_the_papers(rng):
    for shape in ((6, 6), (3, 8), (8, 3), (4, 2, 3, 3), (32, 2, 3, 3)):
        weight = nn.init.orthogonal_(torch.empty(shape), generator=rng)
        costs = [number(soft_orthogonality(each)) for each in (weight, 2 * weight)]
        assert costs == pytest.approx([0, 9 * min(shape[0], math.prod(shape[1:]))], rel=1e-4, abs=1e-9), shape
    weight = torch.randn(3, 8, generator=rng).requires_grad_()
    ours, paper = soft_orthogonality(weight), (weight.T @ weight - torch.eye(8)).square().sum()
    torch.testing.assert_close(*(torch.autograd.grad(each, weight) for each in (ours, paper)), rtol=1e-4, atol=1e-4)
    assert number(paper - ours) == pytest.approx(8 - 3, rel=1e-4)


def test_a_sum_has_the_terms_of_its_parts_each_under_its_name_and_its_config_mounts_theirs(composer):
    parts = {"spread": Variance(weight=2.0), "weights": L1(weight=0.5), "nothing": Nothing()}
    assert terms(Nothing()) == {}
    z = normal(8, 0)
    assert terms(Sum(terms=parts), z) == {"variance": value(parts["spread"], z), "l1": value(parts["weights"])}
    with pytest.raises(ValueError, match="regulariser=none"):
        Sum(terms={})
    with pytest.raises(ValueError, match=r"terms.b yields 'l1'"):
        terms(Sum(terms={"a": L1(), "b": L1()}))
    words = ["regulariser=sum", "+regulariser@regulariser.terms.k=koleo", "pretext=simclr"]
    mounted = composer.compose(words).content["regulariser"]["terms"]
    assert set(mounted) == {"variance", "covariance", "k"}
    assert mounted["variance"] == yaml.safe_load((TREE / "regulariser" / "variance.yaml").read_text())
