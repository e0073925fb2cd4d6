"""Log-mel frames and depthwise-separable convolutions over time, for tasks that compare views on a CPU.

Depthwise convolution, then a hidden layer of each frame, with a residual: A ConvNet for the 2020s, Liu et al., CVPR
2022, arXiv:2201.03545. Pooled by the mean plus the maximum over time: BYOL for Audio, Niizumi et al., IJCNN 2021,
arXiv:2103.06695, section II-C.

Differs: from BYOL-A, whose convolutions are 3x3 over time and frequency, in that bands are channels.
"""

from typing import Any, Literal, NoReturn

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Encoder, Features, Rows, Samples
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.layers.sound import LogMel
from ssl_runner.layers.transformer import masked_mean


class AudioConvNet(Encoder):
    """Tokens are frames, `stack` times `hop` seconds each.

    width: of a token. depth: blocks. kernel: frames that a convolution sees, odd. pool: the mean over real frames, or
    that plus their maximum.
    Raises ValueError for an even kernel, and for more bands than the window tells apart.
    """

    kinds = ("audio",)

    def __init__(
        self, *, samples: Samples, train: Rows | None = None, width: Count = 64, depth: Count = 3, kernel: Count = 7,
        mels: Count = 40, stack: Count = 2, hop: Positive = 0.01, pool: Literal["mean", "mean_max"] = "mean_max"
    ):  # fmt: skip
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"model.kernel={kernel} has no middle frame; type model.kernel={kernel + 1}")
        self.dim, self.stack, self.pool = width, stack, pool
        self.spectrogram = LogMel(rate=samples.rate, mels=mels, hop=hop, stack=stack)
        self.spectrogram.fit(train, samples)
        self.hop = self.spectrogram.hop * stack  # samples a token
        self.first = nn.Linear(mels * stack, width)
        self.blocks = nn.ModuleList(SeparableBlock(width, kernel) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b 1 t"], keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Raises ValueError if `keep` is given."""
        if keep is not None:
            self.cannot_drop_tokens()
        real = self.spectrogram.real(x, self.stack)
        tokens = self.first(self.spectrogram(x).unflatten(1, (-1, self.stack)).flatten(2))
        for block in self.blocks:
            tokens = block(tokens, real)
        tokens = self.norm(tokens)
        pooled = masked_mean(tokens, real)
        if self.pool == "mean_max":
            pooled = pooled + masked_max(tokens, real)
        return Features(pooled, tokens, (tokens.shape[1],), real)

    def real(self, x: Float[Tensor, "b 1 t"]) -> Bool[Tensor, "b n"]:
        return self.spectrogram.real(x, self.stack)

    def cannot_drop_tokens(self, *_: Any, **__: Any) -> NoReturn:
        """Raises ValueError: the encoder is not `in_two_steps`."""
        raise ValueError("AudioConvNet cannot drop tokens; use model=ast_tiny for masked methods")

    embed = encode = cannot_drop_tokens


class SeparableBlock(nn.Module):
    """A convolution of each channel over time, a norm over channels, a hidden layer of four times the width."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b n d"], real: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Frames of padding are zero for the convolution, as what is beyond the end of a clip is."""
        heard = (x * real[..., None]).transpose(1, 2)
        return x + self.hidden(self.norm(self.depthwise(heard).transpose(1, 2)))


def masked_max(tokens: Float[Tensor, "b n d"], real: Bool[Tensor, "b n"]) -> Float[Tensor, "b d"]:
    """The maximum over real tokens; zero for a sample that has none."""
    most = tokens.masked_fill(~real[..., None], -torch.inf).amax(1)
    return torch.where(real.any(1, keepdim=True), most, 0)
