"""Sound in encoders: which samples are padding, frames of samples, log-mel spectrograms as a layer.

Mel scale: S. S. Stevens, J. Volkmann, E. B. Newman, "A scale for the measurement of the psychological magnitude pitch",
JASA 8, 1937, in the form of D. O'Shaughnessy, "Speech Communication", 1987: 2595 log10(1 + f / 700).
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Rows, Samples

MEASURED, AT_ONCE = 512, 64  # clips, at most, that statistics are of, and how many at a time
FLOOR = 1e-5  # added to powers before their logarithm; that of a clip of unit power whose spectrum is flat is 1


def lengths(x: Float[Tensor, "b 1 t"]) -> Int[Tensor, " b"]:
    """How many samples of each clip are real: a trailing run of exact zeros is padding."""
    place = torch.arange(1, x.shape[2] + 1, device=x.device)
    return ((x[:, 0] != 0) * place).amax(dim=1)


def real_samples(x: Float[Tensor, "b 1 t"]) -> Bool[Tensor, "b 1 t"]:
    return (torch.arange(x.shape[2], device=x.device) < lengths(x)[:, None])[:, None]


def real_frames(length: Int[Tensor, " b"], frames: int, hop: int) -> Bool[Tensor, "b {frames}"]:
    """Which frames begin within a clip's samples."""
    return torch.arange(frames, device=length.device) * hop < length[:, None]


def unit_power(x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 t"]:
    """Clips whose real samples have a mean square of 1, however loud they were; no gradient reaches padding."""
    real = real_samples(x)
    x = x * real
    power = x.square().sum(2, keepdim=True) / real.sum(2, keepdim=True).clamp(min=1)
    return x / (power + 1e-10).sqrt()


class LogMel(nn.Module):
    """Clips to frames of normalised log-mel bands, in float32 also under autocast; frames of padding are zero.

    The spectrum is a convolution with fixed sines and cosines, so that it can be exported. Clips are brought to unit
    power first. Mean and deviation of each band are those of training rows, see `fit`.

    rate: samples a second. mels: bands between 0 Hz and half the rate. window, hop: seconds of a frame, and from one to
        the next. stack: the number of frames is a multiple of it; a clip of T samples has ceil(T / hop) or few more.
    Raises ValueError for bands narrower than what the window can tell apart.
    """

    mean: Tensor
    std: Tensor
    kernels: Tensor
    filters: Tensor

    def __init__(self, *, rate: int, mels: int, window: float = 0.032, hop: float = 0.01, stack: int = 1):
        super().__init__()
        self.window, self.hop, self.mels, self.stack = round(window * rate), round(hop * rate), mels, stack
        if not 1 <= self.hop <= self.window:
            raise ValueError(f"model: a hop of {hop} s is no part of a window of {window} s at {rate} Hz")
        dtype, filters = torch.get_default_dtype(), mel_filters(rate, mels, self.window)
        if (filters.sum(0) == 0).any():
            raise ValueError(f"model.mels={mels}: bands are narrower than a window of {window} s tells; type fewer")
        # Not persistent: they follow from the settings.
        self.register_buffer("kernels", fourier_kernels(self.window).to(dtype), persistent=False)
        self.register_buffer("filters", filters.to(dtype), persistent=False)
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("std", torch.ones(mels))

    def forward(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b n m"]:
        with torch.autocast(x.device.type, enabled=False):
            frames = (self.bands(x.float()) - self.mean) / self.std
            return frames * self.real(x)[..., None]

    def real(self, x: Float[Tensor, "b 1 t"], stack: int = 1) -> Bool[Tensor, "b n"]:
        """Which frames, or stacks of them, begin within a clip."""
        return real_frames(lengths(x), self.frames(x.shape[2]) // stack, self.hop * stack)

    def frames(self, samples: int) -> int:
        """How many frames a clip of so many samples has."""
        return -(-samples // (self.hop * self.stack)) * self.stack

    def bands(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b n m"]:
        """The logarithm of the mean power of each band, before it is normalised."""
        before = (self.window - self.hop) // 2  # a frame lies in the middle of its window
        after = (self.frames(x.shape[2]) - 1) * self.hop + self.window - before - x.shape[2]
        waves = F.conv1d(F.pad(unit_power(x), (before, after)), self.kernels, stride=self.hop)  # (B, 2 bins, n)
        cosine, sine = waves.chunk(2, dim=1)
        power = (cosine.square() + sine.square()).transpose(1, 2)  # (B, n, bins)
        return (power @ self.filters + FLOOR).log()

    @torch.no_grad()
    def fit(self, rows: Rows | None, samples: Samples) -> None:
        """Takes mean and deviation of each band from real frames of at most MEASURED rows, evenly spaced.

        Without rows, as when an encoder is built to be loaded, they stay as they are.
        """
        if rows is None:
            return
        count = min(len(rows), MEASURED)
        total = square = torch.zeros(self.mels, dtype=torch.float64)
        frames = 0
        for index in (torch.arange(count) * len(rows) // count).split(AT_ONCE):
            x = samples.from_rows(rows[index]).cpu().float()
            bands = self.bands(x)[self.real(x)].double()  # (real frames, m)
            total, square, frames = total + bands.sum(0), square + bands.square().sum(0), frames + len(bands)
        mean = total / max(1, frames)
        self.mean.copy_(mean)
        self.std.copy_((square / max(1, frames) - mean.square()).clamp(min=1e-4).sqrt())


def fourier_kernels(window: int) -> Float[Tensor, "k 1 w"]:
    """Cosines, then sines, of all frequencies of a window under a Hann window of unit energy."""
    time = torch.arange(window, dtype=torch.float64)
    angle = 2 * math.pi * torch.arange(window // 2 + 1, dtype=torch.float64)[:, None] * time / window
    hann = torch.hann_window(window, dtype=torch.float64)
    return (torch.cat([angle.cos(), angle.sin()]) * hann / hann.square().sum().sqrt())[:, None]


def mel_filters(rate: int, mels: int, window: int) -> Float[Tensor, "f m"]:
    """Triangles that overlap by half and are equally wide in mel, each of sum 1 over the frequencies of a window."""
    frequency = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    edges = torch.linspace(0, 2595 * math.log10(1 + rate / 2 / 700), mels + 2, dtype=torch.float64)
    edges = 700 * (10 ** (edges / 2595) - 1)  # Hz
    rise = (frequency[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequency[:, None]) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rise, fall).clamp(min=0)
    return triangles / triangles.sum(0).clamp(min=1e-12)
