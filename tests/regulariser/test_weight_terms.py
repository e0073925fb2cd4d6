"""Terms on weights: their values by hand, and what they leave alone."""

import math

import pytest
import torch
from torch import Tensor, nn

from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.layers.weights import weights
from ssl_runner.regulariser.elastic_net import ElasticNet
from ssl_runner.regulariser.l1 import L1
from ssl_runner.regulariser.l2 import L2
from ssl_runner.regulariser.orthogonal import Orthogonal, soft_orthogonality

NOTHING = Loss(torch.zeros(()))


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


def value(regulariser: Regulariser, task: Task | None = None) -> Tensor:
    """Of the only term."""
    (term,) = regulariser(NOTHING, task or Task()).values()
    return term


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


@pytest.mark.parametrize("kind", [L1, L2, ElasticNet, Orthogonal])
def test_only_trainable_weights_are_penalised(kind):
    task = Task()
    value(kind(), task).backward()
    touched = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched == {"encoder.0.weight", "head.weight"}


def test_a_task_without_weights_is_told_so():
    with pytest.raises(ValueError, match="regulariser=none"):
        weights(nn.BatchNorm2d(3))


def test_l2_is_the_weight_decay_of_sgd():
    penalised, decayed = Task(), Task()
    decayed.load_state_dict(penalised.state_dict())
    sgd = torch.optim.SGD(weights(penalised), lr=0.1)
    value(L2(weight=0.3), penalised).backward()
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
