"""Transformer block with norms first: attention, then a two-layer perceptron."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.TransformerEncoderLayer):
    """torch's encoder layer with norms first, GELU, no dropout, and a hidden layer of four times the width.

    Its parameters, their names and their first values are torch's. It differs in how attention is computed: queries,
    keys and values are read from what the projection wrote; torch's own layer copies each of them twice.
    """

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        x = x + self.attend(self.norm1(x))
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))

    def attend(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        layer = self.self_attn
        projected = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).unflatten(2, (3, layer.num_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, n, d / heads) each
        mixed = F.scaled_dot_product_attention(query, key, value)
        return layer.out_proj(mixed.transpose(1, 2).flatten(2))  # (B, n, d)
