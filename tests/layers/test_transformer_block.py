"""Our transformer block is torch's encoder layer, gradients and first values included."""

import torch
from torch import nn

from ssl_runner.layers.transformer import Block


def test_block_is_torchs_layer():
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    torch.manual_seed(0)
    ours = Block(16, 4)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(3, 9, 16)
    gradients = []
    for layer in (ours, theirs):
        y = layer(x)
        (y * y.detach().cos()).sum().backward()
        gradients.append({name: p.grad for name, p in layer.named_parameters()})
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(*gradients)
