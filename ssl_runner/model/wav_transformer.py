"""Waveforms through strided convolutions and a transformer: the encoder of wav2vec 2.0 and HuBERT.

wav2vec 2.0, Baevski, Zhou, Mohamed, Auli, NeurIPS 2020, arXiv:2006.11477, sections 2 and 4.2.

Differs: every convolution has a layer norm over channels, as the paper's large model for noisy data, and not a group
norm over time, which reads padding; convolutions see zeros behind a clip, whatever follows it in a batch. Norms of
blocks come first, and positions are rotary, where the paper convolves.
"""

import math

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssl_runner.contract import Samples
from ssl_runner.layers.ranges import Count, Share
from ssl_runner.layers.sequence import SequenceEncoder
from ssl_runner.layers.sound import lengths, real_frames, unit_power


class WavTransformer(SequenceEncoder):
    """Tokens are frames of the waveform, one for as many samples as the product of the strides.

    width, depth, heads: of the transformer; dropout: see `SequenceEncoder`. channels: of the convolutions. kernels,
    strides: of each convolution, in samples of its input.
    Raises ValueError for lists of unequal length, a stride above its kernel, and a width that heads do not divide.
    """

    kinds = ("audio",)

    def __init__(
        self, *, samples: Samples, width: Count = 64, depth: Count = 3, heads: Count = 4, dropout: Share = 0.0,
        channels: Count = 64,
        kernels: tuple[Count, ...] = (10, 8, 4, 4, 4), strides: tuple[Count, ...] = (5, 4, 3, 2, 2)
    ):  # fmt: skip
        if len(kernels) != len(strides) or any(k < s for k, s in zip(kernels, strides, strict=False)) or not strides:
            given = f"model.kernels={list(kernels)} and model.strides={list(strides)}"
            raise ValueError(f"{given}; give a kernel and a stride for each layer, no stride above its kernel")
        hop = math.prod(strides)
        super().__init__(width, depth, heads, length=-(-samples.shape[1] // hop), dropout=dropout)
        self.hop = hop
        into = (1, *[channels] * (len(strides) - 1))
        sizes = zip(into, kernels, strides, strict=True)
        self.convolutions = nn.ModuleList(nn.Conv1d(each, channels, k, s, bias=False) for each, k, s in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in strides)
        self.project = nn.Linear(channels, width)

    def embed(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b n d"]:
        wave, length, stride = unit_power(x), lengths(x), 1
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            (kernel,), (step,) = convolution.kernel_size, convolution.stride
            frames = -(-wave.shape[2] // step)  # as many as begin within a clip
            behind = (frames - 1) * step + kernel - wave.shape[2]
            stride *= step
            wave = convolution(F.pad(wave, (0, max(0, behind))))[..., :frames]
            wave = F.gelu(norm(wave.transpose(1, 2)))  # (B, frames, channels)
            wave = (wave * real_frames(length, frames, stride)[..., None]).transpose(1, 2)
        return self.project(wave.transpose(1, 2))

    def real(self, x: Float[Tensor, "b 1 t"]) -> Bool[Tensor, "b n"]:
        return real_frames(lengths(x), -(-x.shape[2] // self.hop), self.hop)
