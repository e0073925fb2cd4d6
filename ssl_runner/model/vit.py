"""An Image is Worth 16x16 Words, Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; timm's blocks.

Widths, depths and heads as in DeiT, Touvron et al., ICML 2021, arXiv:2012.12877, table 1. The encoder sees a part of
the patches if a masked method asks, as in MAE, He et al., CVPR 2022, arXiv:2111.06377.

Differs: positions are fixed sines and cosines, and weights start from Xavier's uniform, as in MAE's appendix A.1; the
patch goes by the size of the image; there is no class token unless features are read from it.
"""

from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from jaxtyping import Bool, Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssl_runner.contract import Features
from ssl_runner.layers.token_encoder import TokenEncoder
from ssl_runner.layers.transformer import masked_mean, sine_cosine


def patch_of(height: int, width: int) -> int:
    """The side in pixels of the patches that an image of this size is cut into: 4 for 32 px, 8 for 64, 16 for 224.

    It is the common divisor that is nearest to 2, 4, 8 or 16, whichever suits the longer side.
    Raises ValueError if no common divisor is within a factor of two of it.
    """
    longer = max(height, width)
    target = 2 if longer <= 16 else 4 if longer <= 48 else 8 if longer <= 112 else 16
    near = [p for p in divisors(height, width) if target / 2 <= p <= target * 2]
    if not near:
        remedy = f"choose an image size that is a multiple of {target}, or model.patch out of {divisors(height, width)}"
        raise ValueError(f"no patch of about {target} px divides {height}x{width}; {remedy}")
    return min(near, key=lambda p: max(p / target, target / p))


def divisors(height: int, width: int) -> list[int]:
    return [p for p in range(1, min(height, width) + 1) if height % p == 0 and width % p == 0]


class ViT(TokenEncoder):
    """A vision transformer. Tokens are its patches after the last norm, in raster order.

    shape: (C, H, W) of a sample. Views of other sizes can be encoded if the patch divides them: positions are
        interpolated, as in DINO's multi-crop (arXiv:2104.14294).
    width: of a token, a multiple of four and of `heads`.
    patch: side in pixels; None goes by the size of the image, see `patch_of`.
    pool: what `pooled` is: the `mean` of the tokens, or a `class` token, which only then exists.
    read: blocks behind which features are read; None: all. For tasks whose last blocks learn what is asked and not what
        is there: they train all blocks. The middle is best of iGPT's (Chen et al., ICML 2020).
    Raises ValueError for a patch that does not divide the image, a width that heads do not divide, more blocks read
    than there are.
    """

    in_two_steps = True
    trunk = property(lambda self: self)  # `blocks` and `norm` are its own

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        width: Annotated[int, Gt(0)] = 192,
        depth: Annotated[int, Gt(0)] = 12,
        heads: Annotated[int, Gt(0)] = 3,
        patch: Annotated[int, Gt(0)] | None = None,
        pool: Literal["mean", "class"] = "mean",
        read: Annotated[int, Gt(0)] | None = None,
    ):
        super().__init__(mean, std)
        channels, rows, columns = shape
        self.patch = patch_of(rows, columns) if patch is None else patch
        if rows % self.patch or columns % self.patch:
            possible = divisors(rows, columns)
            raise ValueError(f"model.patch={patch} does not divide {rows}x{columns}; these do: {possible}")
        if width % heads or width % 4:
            raise ValueError(f"model.width={width} must be a multiple of 4 and of model.heads={heads}")
        if read is not None and read > depth:
            raise ValueError(f"model.read={read}: there are {depth} blocks; type model.read={depth} or less, or null")
        self.dim, self.read = width, read
        self.grid = (rows // self.patch, columns // self.patch)
        self.aspect = self.grid[0] / self.grid[1]
        # Not persistent: it follows from the shape, and weights then load into an encoder for another image size.
        self.register_buffer("positions", sine_cosine(self.grid, width), persistent=False)
        self.prefix = int(pool == "class")
        self.class_token = nn.Parameter(torch.empty(1, 1, width)) if self.prefix else None
        self.patches = nn.Conv2d(channels, width, self.patch, stride=self.patch)
        self.register_load_state_dict_pre_hook(rename_patches)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                # The embedding is a linear map of flat patches. Query, key and value start as one matrix, as in MAE.
                nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
                nn.init.zeros_(module.bias)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=0.02)

    def forward(self, x: Float[Tensor, "b c h w"], keep: Int[Tensor, "b k"] | None = None) -> Features:
        grid = (x.shape[2] // self.patch, x.shape[3] // self.patch)
        return self.encode(self.embed(x), keep=keep, grid=grid, depth=self.read)

    def embed(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Linear projections of the patches, before positions are added."""
        return self.patches(self.normalise(x)).flatten(2).transpose(1, 2)

    def add_positions(self, z: Float[Tensor, "b n d"], grid: tuple[int, ...]) -> Float[Tensor, "b t d"]:
        tokens = z + self.positions_of(grid)
        if self.class_token is None:
            return tokens
        return torch.cat([self.class_token.expand(z.shape[0], -1, -1), tokens], 1)  # export: len(z) would be a constant

    def pool(self, tokens: Float[Tensor, "b t d"], mask: Bool[Tensor, "b k"] | None) -> Float[Tensor, "b d"]:
        return tokens[:, 0] if self.prefix else masked_mean(tokens, mask)

    def positions_of(self, grid: tuple[int, ...]) -> Float[Tensor, "n d"]:
        """Positions of a grid that spans the same image as the encoder's own."""
        if grid == self.grid:
            return self.positions
        if len(grid) != 2:
            raise ValueError(f"{grid[0]} tokens are no rectangle of patches; give all of them, and `keep` to drop some")
        maps = self.positions.T.unflatten(1, self.grid)[None]  # (1, dim, h, w)
        return interpolate(maps, size=grid, mode="bicubic", align_corners=False)[0].flatten(1).T


def rename_patches(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights of version 0.1, in which the projection of the patches was called `embed`."""
    for name in ("weight", "bias"):
        if f"{prefix}embed.{name}" in state:
            state[f"{prefix}patches.{name}"] = state.pop(f"{prefix}embed.{name}")
