"""The terms a regulariser adds: their values, what they leave alone, and their gradients where formulas break down."""

import importlib
import inspect
import math
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from ssl_runner.contract import Encoder, Features, Loss, Pretext
from ssl_runner.layers.weights import weights
from ssl_runner.loss.embedding import branches
from ssl_runner.loss.unit import unit
from ssl_runner.regulariser.covariance import Covariance, covariance_off_diagonal
from ssl_runner.regulariser.elastic_net import ElasticNet
from ssl_runner.regulariser.koleo import KoLeo, nearest_entropy
from ssl_runner.regulariser.l1 import L1
from ssl_runner.regulariser.l2 import L2
from ssl_runner.regulariser.none import Nothing
from ssl_runner.regulariser.orthogonal import Orthogonal, soft_orthogonality
from ssl_runner.regulariser.sum import Sum
from ssl_runner.regulariser.uniformity import Uniformity, gaussian_potential
from ssl_runner.regulariser.variance import Variance, variance_hinge

CONF = Path(__file__).parent.parent / "conf"
ON_WEIGHTS = [L1, L2, ElasticNet, Orthogonal]
ON_EMBEDDINGS = [Variance, Covariance, KoLeo, Uniformity]


class Tiny(Encoder):
    """A 1x1 convolution, a norm and a token: one parameter of each kind."""

    dim = 2

    def __init__(self):
        super().__init__((0.0,), (1.0,))
        self.convolution = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.class_token = nn.Parameter(torch.full((1, 1, 2), 9.0))
        nn.init.constant_(self.convolution.bias, 9.0)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))

    def forward(self, x, keep=None):
        tokens = self.norm(self.convolution(x)).flatten(2).mT
        return Features(tokens.mean(1), tokens, tuple(x.shape[2:]))


class Task(Pretext):
    """A trained head and a frozen teacher beside the encoder."""

    def __init__(self):
        super().__init__()
        self.encoder = Tiny()
        self.head = nn.Linear(2, 1)
        self.teacher = nn.Linear(2, 2).requires_grad_(False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[3.0, -4.0]]))


def value(regulariser, z=None):
    """Of the only term."""
    loss = Loss(torch.zeros(()), {}, z)
    ((_, term),) = regulariser(loss, Task()).items()
    return term


def rotation(size, rng):
    return torch.linalg.qr(torch.randn(size, size, generator=rng))[0]


# On weights: the task has the weights 1, -2 (encoder) and 3, -4 (head)


@pytest.mark.parametrize(
    ("regulariser", "expected"),
    [
        (L1(weight=0.5), 0.5 * (1 + 2 + 3 + 4)),
        (L2(weight=0.5), 0.25 * (1 + 4 + 9 + 16)),
        (ElasticNet(l1=0.1, l2=0.5), 0.1 * 10 + 0.25 * 30),
        (Orthogonal(weight=0.5), 0.5 * ((1 + 4 - 1) ** 2 + (9 + 16 - 1) ** 2)),
    ],
)
def test_weight_terms_by_hand(regulariser, expected):
    assert value(regulariser).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ON_WEIGHTS)
def test_only_trainable_weights_are_penalised(kind):
    task = Task()
    sum(kind()(Loss(torch.zeros(())), task).values()).backward()
    touched = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched == {"encoder.convolution.weight", "head.weight"}


def test_a_task_without_weights_is_told_so():
    with pytest.raises(ValueError, match="regulariser=none"):
        weights(nn.BatchNorm2d(3))


def test_l2_is_the_weight_decay_of_sgd():
    penalised, decayed = Task(), Task()
    decayed.load_state_dict(penalised.state_dict())
    sgd = torch.optim.SGD(weights(penalised), lr=0.1)
    sum(L2(weight=0.3)(Loss(torch.zeros(())), penalised).values()).backward()
    sgd.step()
    sgd = torch.optim.SGD(weights(decayed), lr=0.1, weight_decay=0.3)
    for w in weights(decayed):
        w.grad = torch.zeros_like(w)
    sgd.step()
    torch.testing.assert_close(weights(penalised), weights(decayed))


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (4, 2, 3, 3), (32, 2, 3, 3)])
def test_an_orthogonal_weight_of_any_shape_costs_nothing(shape, rng):
    weight = nn.init.orthogonal_(torch.empty(shape), generator=rng)
    assert soft_orthogonality(weight).item() == pytest.approx(0, abs=1e-9)
    assert soft_orthogonality(2 * weight).item() == pytest.approx(9 * min(shape[0], math.prod(shape[1:])), rel=1e-4)


def test_the_smaller_gram_has_the_gradient_of_the_papers(rng):
    weight = torch.randn(3, 8, generator=rng).requires_grad_()
    (ours,) = torch.autograd.grad(soft_orthogonality(weight), weight)
    paper = (weight.T @ weight - torch.eye(8)).square().sum()
    (theirs,) = torch.autograd.grad(paper, weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (paper - soft_orthogonality(weight)).item() == pytest.approx(8 - 3, rel=1e-4)


# On embeddings


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
    torch.testing.assert_close(value(kind(), z), value(kind(), lengths * z @ rotation(6, rng)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Variance, Covariance])
def test_vicreg_terms_are_invariant_to_translation_and_order(kind, rng):
    z = torch.randn(16, 6, generator=rng)
    moved = torch.cat([z[:8].flip(0), z[8:].flip(0)]) + 3
    torch.testing.assert_close(value(kind(), z), value(kind(), moved), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Variance, KoLeo, Uniformity])
def test_a_collapsed_embedding_costs_more_than_a_spread_one(kind, rng):
    z = torch.randn(32, 8, generator=rng)
    assert value(kind(), z) < value(kind(), z[:1] + 0.05 * z) < value(kind(), z[:1] + 0.005 * z)


@pytest.mark.parametrize("kind", ON_EMBEDDINGS)
def test_views_are_measured_alone(kind, rng):
    first, second = torch.randn(2, 12, 5, generator=rng)
    both = value(kind(views=2), torch.cat([first, second]))
    torch.testing.assert_close(both, (value(kind(views=1), first) + value(kind(views=1), second)) / 2)


def test_koleo_does_not_drive_two_views_of_a_sample_apart(rng):
    z = torch.randn(8, 4, generator=rng)
    stacked = torch.cat([z, z + 1e-3])
    assert value(KoLeo(views=1), stacked) > value(KoLeo(), stacked) + 0.1 * 3


@pytest.mark.parametrize("kind", ON_EMBEDDINGS)
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


@pytest.mark.parametrize("kind", ON_EMBEDDINGS)
def test_embedding_terms_reach_what_made_the_embedding_and_nothing_else(kind, rng):
    task = Task()
    hidden = torch.randn(8, 2, generator=rng).requires_grad_()
    z = hidden @ torch.randn(2, 3, generator=rng)
    sum(kind()(Loss(torch.zeros(()), {}, z), task).values()).backward()
    assert hidden.grad.abs().sum() > 0
    assert all(p.grad is None for p in task.parameters())


@pytest.mark.parametrize("kind", ON_EMBEDDINGS)
def test_half_precision_embeddings_are_measured_in_float32(kind, rng):
    assert value(kind(), torch.randn(8, 4, generator=rng).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("kind", ON_EMBEDDINGS)
def test_a_method_without_an_embedding_is_told_what_works(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__.lower()} reads the embedding.*l1, l2, elastic_net"):
        value(kind())


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"2 views share 3 rows.*batch_size"):
        branches(Loss(torch.zeros(()), {}, torch.zeros(3, 2)), 2, "variance")


def test_unit_rows_have_length_one_and_a_row_without_direction_stays(rng):
    z = torch.cat([torch.randn(5, 3, generator=rng), torch.zeros(1, 3)])
    torch.testing.assert_close(unit(z).norm(dim=1), torch.tensor([1.0] * 5 + [0.0]))


# Several, and none


def test_no_regulariser_adds_no_term():
    assert Nothing()(Loss(torch.zeros(())), Task()) == {}


def test_a_sum_has_the_terms_of_its_parts(rng):
    z, task = torch.randn(8, 4, generator=rng), Task()
    parts = {"spread": Variance(weight=2.0), "weights": L1(weight=0.5), "nothing": Nothing()}
    loss = Loss(torch.zeros(()), {}, z)
    merged = Sum(terms=parts)(loss, task)
    assert set(merged) == {"variance", "l1"}
    expected = {name: term for part in parts.values() for name, term in part(loss, task).items()}
    assert all(torch.equal(merged[name], expected[name]) for name in merged)


@pytest.mark.parametrize("kind", [L1, L2, Orthogonal, *ON_EMBEDDINGS])
def test_the_weight_multiplies_the_term(kind, rng):
    z = torch.randn(8, 4, generator=rng)
    torch.testing.assert_close(value(kind(weight=0.6), z), 3 * value(kind(weight=0.2), z))


def test_a_sum_refuses_no_terms_and_two_of_a_name():
    with pytest.raises(ValueError, match="regulariser=none"):
        Sum(terms={})
    with pytest.raises(ValueError, match=r"terms.b yields 'l1'"):
        Sum(terms={"a": L1(), "b": L1()})(Loss(torch.zeros(())), Task())


# Config


def defaults(target):
    module, _, name = target.rpartition(".")
    return {
        k: p.default for k, p in inspect.signature(getattr(importlib.import_module(module), name)).parameters.items()
    }


@pytest.mark.parametrize("path", sorted(CONF.glob("regulariser/*.yaml")), ids=lambda p: p.stem)
def test_each_config_spells_out_the_defaults(path):
    settings = yaml.safe_load(path.read_text())
    target = settings.pop("_target_")
    assert target.startswith(f"ssl_runner.regulariser.{path.stem}.")
    if path.stem != "sum":
        assert settings == defaults(target)


def test_the_config_of_a_sum_mounts_those_of_its_terms():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(
            compose(overrides=["+regulariser=sum", "+regulariser@regulariser.terms.k=koleo"])
        )
    terms = composed["regulariser"]["terms"]
    assert set(terms) == {"variance", "covariance", "k"}
    assert terms["variance"] == yaml.safe_load((CONF / "regulariser" / "variance.yaml").read_text())
