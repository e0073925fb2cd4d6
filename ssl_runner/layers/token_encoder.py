"""Vision transformers in two steps, embed and encode: between them a method drops, pads, hides or replaces tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Features
from ssl_runner.layers.image_encoder import ImageEncoder
from ssl_runner.layers.transformer import attention_mask, grid_of, require_blocks, take_tokens


class TokenEncoder(ImageEncoder):
    """Patches with positions, behind `prefix` class and register tokens, through the blocks and the norm of `trunk`.

    aspect: height over width of the images, which tells the grid of a sequence of patches.
    A subclass says what the first block would read if nothing were dropped, `add_positions` (B, n, dim) -> (B, prefix +
    n, dim) for a grid, and what is read of all tokens, `pool` (B, prefix + k, dim) -> (B, dim) under a mask (B, k).
    """

    aspect: float
    prefix: int
    trunk: nn.Module

    def encode(
        self, z: Float[Tensor, "b n d"], *, keep: Int[Tensor, "b k"] | None = None,
        mask: Bool[Tensor, "b n"] | None = None, visible: Bool[Tensor, "*b n n"] | None = None,
        layers: Sequence[int] = (), grid: tuple[int, ...] | None = None, depth: int | None = None
    ) -> Features:  # fmt: skip
        """Adds positions, drops tokens, and runs the blocks and the last norm.

        keep: distinct positions in [0, n); `tokens` and `mask` then have these k, in this order, while `grid` stays
            that of the whole image. mask: padding is left out of attention and of what is pooled.
        visible: pairs of patches, of all samples or of each; no patch attends to class and register tokens under it,
            which attend to all of them.
        layers: blocks whose outputs are wanted, without the prefix, in this order.
        grid: rows and columns of patches, for an image of another aspect than the encoder's own.
        depth: how many blocks are run; None: all.
        Raises ValueError if the encoder is not `in_two_steps`, for tokens that are no grid, for a layer that does not
        exist, and for a `mask` if padding cannot be left out of what is pooled.
        """
        if not self.in_two_steps:
            self.cannot_drop_tokens()
        depth = depth or len(self.trunk.blocks)
        require_blocks(layers, depth)
        grid = grid or grid_of(z.shape[1], self.aspect)
        tokens = self.add_positions(z, grid)  # (B, prefix + n, dim)
        if keep is not None:
            kept = take_tokens(tokens[:, self.prefix :], keep)
            tokens = torch.cat([tokens[:, : self.prefix], kept], dim=1) if self.prefix else kept  # (B, prefix + k, dim)
            mask = None if mask is None else mask.gather(1, keep)
        attended = attention_mask(mask, visible, keep, self.prefix)
        outputs = {}
        for number, block in zip(range(depth), self.trunk.blocks, strict=False):
            tokens = block(tokens) if attended is None else block(tokens, attn_mask=attended)
            if number in layers or number - depth in layers:
                outputs[number] = tokens[:, self.prefix :]
        tokens = self.trunk.norm(tokens)
        chosen = tuple(outputs[layer % depth] for layer in layers)
        return Features(self.pool(tokens, mask), tokens[:, self.prefix :], grid, mask, chosen)
