"""Projection heads: which layers, biases and norms an MLP has; prototypes as cosines."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_runner.layers.heads import mlp
from ssl_runner.layers.prototypes import Prototypes, prototype_head


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


def test_prototypes_are_cosines_of_a_length_that_may_be_learnt(rng):
    x = torch.randn(5, 6, generator=rng)
    layer = Prototypes(6, 4)
    cosines = torch.stack([F.cosine_similarity(x, row[None]) for row in layer.weight], 1)
    torch.testing.assert_close(layer(x), cosines)
    torch.testing.assert_close(layer(7 * x), cosines)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer(x.clone()))
        assert layer(x).dtype == torch.float32
    free = Prototypes(6, 4, fixed_norm=False)
    free.load_state_dict({"weight": 3 * layer.weight, "length": torch.arange(4.0)})
    torch.testing.assert_close(free(x), cosines * torch.arange(4.0))


def test_prototype_head_is_three_layers_to_a_bottleneck():
    head = prototype_head(6, 8, 4, 10)
    assert [type(m).__name__ for m in head.projector] == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert "BatchNorm1d" in {type(m).__name__ for m in prototype_head(6, 8, 4, 10, norm=True).modules()}
    linear = [m for m in head.projector if isinstance(m, nn.Linear)]
    assert all(m.bias.abs().max() == 0 and m.weight.abs().max() <= 2 for m in linear)
    assert torch.cat([m.weight.flatten() for m in linear]).std().item() == pytest.approx(0.02, rel=0.25)
    assert head(torch.randn(3, 6)).shape == (3, 10)
