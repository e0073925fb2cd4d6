"""Random views of a batch of clips: part, speed, place, spectrum, pauses, mixing, noise, gain, in this order.

Mixing with another clip: BYOL for Audio, Niizumi et al., IJCNN 2021, arXiv:2103.06695, section II-B; here of powers of
waveforms. Pauses and bands that are taken out: SpecAugment, Park et al., Interspeech 2019, arXiv:1904.08779.

The random numbers are drawn first, all of them, and then applied. What is done to a clip depends on its own row of the
draw. Padding stays exact zeros behind it: parts are cut of what is real, and silence is put back at the end.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Gt, Interval
from jaxtyping import Float
from torch import Tensor

from ssl_runner.contract import Kind, Rng
from ssl_runner.layers.gather import first_row, gather
from ssl_runner.layers.sound import lengths

Share = Annotated[float, Interval(gt=0, le=1)]
Part = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Few = Annotated[int, Interval(ge=0, le=8)]
SLOPE = 0.08  # octaves over which a band that is taken out fades


class Draw(NamedTuple):
    """What is done to each of B clips, each number in [0, 1): the place of a value in its range."""

    part: Float[Tensor, " b"]
    start: Float[Tensor, " b"]
    speed: Float[Tensor, " b"]
    onset: Float[Tensor, " b"]
    tilt: Float[Tensor, " b"]
    mate: Float[Tensor, " b"]
    mix: Float[Tensor, " b"]
    noise: Float[Tensor, " b"]
    gain: Float[Tensor, " b"]
    bands: Float[Tensor, "2 k b"]  # of each band its middle and its width
    pauses: Float[Tensor, "2 k b"]


@dataclass(frozen=True, kw_only=True)
class SoundViews:
    """Makes one view of each clip, every clip by its own draw. With everything off, clips come back as they are.

    Raises ValueError if a range is upside down.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("audio",)
    part: tuple[Share, Share] = (0.6, 1.0)  # share of the real samples that is kept, wherever it begins
    speed: tuple[Positive, Positive] = (0.85, 1.18)  # factor on tempo and pitch together, log-uniform, by resampling
    onset: Part = 0.3  # share of the room behind a clip that may be put before it, as silence
    tilt: NotNegative = 3.0  # dB an octave, louder or softer towards high frequencies
    bands: Few = 1  # that are taken out, each of up to `band` octaves
    band: NotNegative = 0.6
    pauses: Few = 1  # that are made silent, each of up to `pause` of the clip
    pause: Part = 0.1
    mix: Part = 0.1  # share of a view's power, at most, that is another clip of the batch
    noise: tuple[float, float] | None = None  # dB of the clip over white noise, from and to; None: no noise
    gain: NotNegative = 6.0  # dB, louder or softer

    def __post_init__(self) -> None:
        for name, pair in {"part": self.part, "speed": self.speed, "noise": self.noise}.items():
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name} [{pair[0]}, {pair[1]}] is upside down; write the smaller first")

    def __call__(self, x: Float[Tensor, "b 1 t"], rng: Rng) -> Float[Tensor, "b 1 t"]:
        """A view in [-1, 1] of each clip in [-1, 1]; `rng` lives on the clips' device."""
        draw = self.draw(len(x), rng)
        white = rng.randn(len(x), x.shape[2]) if self.noise else None
        return self.apply(x, draw, white)

    def draw(self, n: int, rng: Rng) -> Draw:
        """All but masks are drawn whether they are asked for or not: to turn one off leaves the others as they were."""
        own = len(Draw._fields) - 2
        u = rng.rand(n, own + 2 * self.bands + 2 * self.pauses).T
        bands, pauses = u[own:].split((2 * self.bands, 2 * self.pauses))
        return Draw(*u[:own], bands.unflatten(0, (2, -1)), pauses.unflatten(0, (2, -1)))

    def apply(self, x: Float[Tensor, "b 1 t"], draw: Draw, white: Float[Tensor, "b t"] | None) -> Tensor:
        wave, begins, ends = self.cut(x, draw)
        time = torch.arange(x.shape[2], device=x.device)
        heard = (time >= begins[:, None]) & (time < ends[:, None])
        if self.tilt or self.bands:
            wave = self.colour(wave, draw) * heard
        if self.pauses and self.pause:
            span = (ends - begins)[:, None]
            for middle, width in zip(*draw.pauses, strict=True):
                far = (time - begins[:, None] - middle[:, None] * span).abs()
                wave = wave * (far >= 0.5 * self.pause * width[:, None] * span)
        if self.mix:
            wave = self.mixed(wave, draw) * heard
        if white is not None and self.noise:
            level = power(wave, heard) * 10 ** (-within(self.noise, draw.noise) / 10)
            wave = wave + white * level.sqrt()[:, None] * heard
        if self.gain:
            wave = wave * 10 ** (within((-self.gain, self.gain), draw.gain) / 20)[:, None]
        loudest = wave.abs().amax(1, keepdim=True).clamp(min=1)
        return (wave / loudest)[:, None]

    def cut(self, x: Float[Tensor, "b 1 t"], draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """A part of what is real, at another speed and place, (B, T); and where it begins and ends."""
        room, real = x.shape[2], lengths(x)
        if self.part == (1, 1) and self.speed == (1, 1) and not self.onset:
            return x[:, 0], torch.zeros_like(real), real
        logs = (math.log(self.speed[0]), math.log(self.speed[1]))
        speed = within(logs, draw.speed).exp()
        kept = (within(self.part, draw.part) * real).floor().clamp(min=1)  # samples
        start = (draw.start * (real - kept + 1)).floor()
        long = (kept / speed).floor().clamp(1, room)  # of the view
        begins = (self.onset * draw.onset * (room - long + 1)).floor()
        place = (torch.arange(room, device=x.device) - begins[:, None]) * speed[:, None]  # of the part, in samples
        heard = (place >= 0) & (place < (long * speed)[:, None])
        place = place.clamp(min=0).minimum((kept - 1).clamp(min=0)[:, None]) + start[:, None]
        first = place.long()  # rounds down: no place is below 0
        second = (first + 1).clamp(max=room - 1)
        share = place - first
        wave = x[:, 0].gather(1, first) * (1 - share) + x[:, 0].gather(1, second) * share
        return wave * heard, begins, begins + long

    def colour(self, wave: Float[Tensor, "b t"], draw: Draw) -> Float[Tensor, "b t"]:
        """Tilts the spectrum, and takes bands out of it."""
        size = 1 << (wave.shape[1] - 1).bit_length()  # a power of 2 is fast
        spectrum = torch.fft.rfft(wave, size)
        octave = torch.arange(1, spectrum.shape[1] + 1, device=wave.device).log2() - math.log2(spectrum.shape[1])
        decibel = within((-self.tilt, self.tilt), draw.tilt)[:, None] * (octave + 3).clamp(
            min=-3
        )  # 0 at 1/8 of the top
        gain = 10 ** (decibel / 20)
        for middle, width in zip(*draw.bands, strict=True):
            far = (octave + 4.5 * middle[:, None]).abs() - 0.5 * self.band * width[:, None]  # of the top 4.5 octaves
            gain = gain * (far / SLOPE).clamp(0, 1)
        return torch.fft.irfft(spectrum * gain, size)[:, : wave.shape[1]]

    def mixed(self, wave: Float[Tensor, "b t"], draw: Draw) -> Float[Tensor, "b t"]:
        """Clips beneath which another one of the batch is heard, whatever rank has it."""
        everyone, first = gather(wave), first_row(wave)
        others = len(everyone) - 1
        itself = torch.arange(first, first + len(wave), device=wave.device)
        mate = everyone[(itself + 1 + (draw.mate * others).long()) % len(everyone)]
        share = self.mix * draw.mix
        ratio = share / (1 - share).clamp(min=1e-3) * power(wave) / power(mate).clamp(min=1e-10)
        return wave + mate * ratio.sqrt()[:, None] if others else wave


def within(limits: tuple[float, float], u: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    return limits[0] + (limits[1] - limits[0]) * u


def power(wave: Float[Tensor, "b t"], heard: Tensor | None = None) -> Float[Tensor, " b"]:
    """The mean square of what is heard: of all samples that are not zero, if that is not given."""
    count = (wave != 0 if heard is None else heard).sum(1).clamp(min=1)
    return wave.square().sum(1) / count
