"""Projection heads: which layers, biases and norms an MLP has; prototypes as cosines."""

import pytest
from torch import nn

from ssl_runner.layers.heads import mlp


@pytest.mark.parametrize(
    ("dims", "settings", "layers", "biases"),
    [
        ((4, 8, 3), {}, "Linear BatchNorm1d ReLU Linear", [False, True]),
        ((4, 8, 3), {"norm": False, "last_norm": True}, "Linear ReLU Linear BatchNorm1d", [True, False]),
        ((4, 8, 8, 3), {"norm": False, "activation": nn.GELU}, "Linear GELU Linear GELU Linear", [True] * 3),
        ((4, 3), {}, "Linear", [True]),
    ],
)
def test_mlp_has_the_layers_asked_for_and_no_bias_before_a_norm(dims, settings, layers, biases):
    net = mlp(dims, **settings)
    assert [type(m).__name__ for m in net] == layers.split()
    assert [m.bias is not None for m in net if isinstance(m, nn.Linear)] == biases


def test_mlp_of_one_width_is_refused():
    with pytest.raises(ValueError, match="input and output width"):
        mlp((4,))
