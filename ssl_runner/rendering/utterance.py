"""Spoken words made by code: a voice and a hiss, filtered by formants that glide from phoneme to phoneme.

Ten words of the same five phonemes, so that which sounds occur, how long and how loud they are does not tell a word:
their order does. The words are the rows of a Williams square: each phoneme is twice at each place, and each follows
each other one twice, so that neither a place nor a pair tells one. E. J. Williams, "Experimental designs balanced for
the estimation of residual effects of treatments", Australian Journal of Scientific Research A 2, 1949.

Source and filter: G. Fant, "Acoustic Theory of Speech Production", 1960.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int16
from torch import Tensor

RATE, HOP, WINDOW = 8000, 128, 256  # Hz; samples
FRAME = 80  # samples, 10 ms, of which the phoneme is known
# Of each phoneme: three formants in Hz, amplitudes of voice and hiss, length in seconds.
PHONEMES = {
    "a": ((750.0, 1200.0, 2500.0), 1.0, 0.02, 0.11),
    "s": ((2900.0, 3400.0, 3800.0), 0.0, 0.6, 0.1),
    "m": ((250.0, 1000.0, 2150.0), 0.5, 0.01, 0.08),
    "u": ((320.0, 800.0, 2250.0), 0.9, 0.02, 0.1),
    "i": ((290.0, 2250.0, 2950.0), 0.9, 0.02, 0.1),
}
WORDS = ("asimu", "smaui", "musia", "uimas", "iausm", "umisa", "iuams", "aisum", "samiu", "msuai")
FACTORS = ("word", "speaker", "pitch", "tract", "tempo", "loudness", "noise", "onset")
SPEAKERS = 40
BANDWIDTHS, GAINS = (120.0, 165.0, 240.0), (1.0, 0.6, 0.35)  # Hz and amplitude of each formant
CHUNK = 100  # clips rendered at a time: so many stay in a processor's cache


class SpokenWords:
    """Factors of n clips, drawn one after another from a generator, and the clips.

    seconds: of a clip. voices: the generator of the speakers, who are the same wherever it has the same seed.
    `render` draws its noise from the same generator: rendered again, it is another draw.
    """

    def __init__(self, n: int, seconds: float, rng: torch.Generator, voices: torch.Generator):
        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=rng) * (high - low) + low

        self.seconds, self.samples, self.rng = seconds, int(seconds * RATE), rng
        self.word = (torch.arange(n) % len(WORDS))[torch.randperm(n, generator=rng)]
        self.speaker = torch.randint(SPEAKERS, (n,), generator=rng)
        self.pitch = (
            voice(SPEAKERS, 95.0, 230.0, voices)[self.speaker] * (0.12 * torch.randn(n, generator=rng)).exp()
        )  # Hz
        self.tract = voice(SPEAKERS, 0.87, 1.18, voices)[self.speaker]  # factor on all formants: shorter tract, higher
        self.accent = 1 + 0.04 * torch.randn(SPEAKERS, len(PHONEMES), 3, generator=voices)[self.speaker]
        self.tempo = uniform(0.75, 1.3)
        self.loudness, self.noise = uniform(-30.0, -6.0), uniform(5.0, 30.0)  # dB of speech; dB that noise is below it
        letters = "".join(PHONEMES)
        self.order = torch.tensor([[letters.index(letter) for letter in word] for word in WORDS])[self.word]  # (n, 5)
        usual = torch.tensor([length for *_, length in PHONEMES.values()])[self.order]
        length = usual * (0.3 * torch.randn(n, len(letters), generator=rng)).exp() / self.tempo[:, None]
        length = length * (0.92 * seconds / length.sum(1)).clamp(max=1)[:, None]
        self.onset = torch.rand(n, generator=rng) * (seconds - length.sum(1))  # s
        self.ends = self.onset[:, None] + length.cumsum(1)  # s, of each phoneme
        self.drift = uniform(0.5, 1.5, 2)  # Hz of a slow change of pitch, and its phase

    def targets(self) -> dict[str, Tensor]:
        """Factors by name, (n,). Pitch is the logarithm of Hz, tempo that of a factor, onset is in seconds."""
        speech = (self.pitch.log(), self.tract, self.tempo.log(), self.loudness, self.noise, self.onset)
        return dict(zip(FACTORS, (self.word, self.speaker, *speech), strict=True))

    def phonemes(self, hop: int = FRAME) -> Int[Tensor, "n t"]:
        """The phoneme in the middle of each frame of `hop` samples, -1 in silence."""
        time = (torch.arange(self.samples // hop) + 0.5) * hop / RATE
        return self.at(time, torch.arange(len(self.word)))

    def at(self, time: Float[Tensor, " t"], rows: Int[Tensor, " b"]) -> Int[Tensor, "b t"]:
        silent = (time < self.onset[rows, None]) | (time >= self.ends[rows, -1:])
        return self.nearest_phoneme(time, rows).masked_fill(silent, -1)

    def render(self) -> Int16[Tensor, "n 1 s"]:
        """Clips, one for each row of the factors."""
        clips = torch.empty(len(self.word), 1, self.samples, dtype=torch.int16)
        for rows in torch.arange(len(self.word)).split(CHUNK) if len(self.word) else ():
            clips[rows] = self.speak(rows)
        return clips

    def speak(self, rows: Int[Tensor, " b"]) -> Int16[Tensor, "b 1 s"]:
        b, window = len(rows), torch.hann_window(WINDOW)
        time = torch.arange(self.samples // HOP + 1) * (HOP / RATE)
        phoneme = self.at(time, rows)
        silent, phoneme = phoneme < 0, self.nearest_phoneme(time, rows)
        table = torch.tensor([formants for formants, *_ in PHONEMES.values()]) * self.accent[rows]  # (b, 5, 3)
        formants = table.gather(1, phoneme[..., None].expand(-1, -1, 3)) * self.tract[rows, None, None]
        amplitudes = torch.tensor([each[1:3] for each in PHONEMES.values()])[phoneme]  # (b, t, 2) of voice and hiss
        controls = glide(torch.cat([formants, amplitudes * ~silent[..., None]], 2))  # (b, t, 5)
        gains = self.filter(controls[..., :3])  # (b, bins, t)
        voiced, hiss = controls[..., 3:].transpose(1, 2).unbind(1)  # (b, t)
        source = torch.cat([self.pulses(rows), torch.randn(b, self.samples, generator=self.rng)])
        spectrum = torch.stft(source, WINDOW, HOP, window=window, return_complex=True)  # (2b, bins, t)
        spectrum = (spectrum[:b] * voiced[:, None] + spectrum[b:] * hiss[:, None]) * gains
        speech = torch.istft(spectrum, WINDOW, HOP, window=window, length=self.samples)
        speech = speech / speech.square().mean(1, keepdim=True).clamp(min=1e-12).sqrt()
        noise = torch.randn(b, self.samples, generator=self.rng) * 10 ** (-self.noise[rows, None] / 20)
        clips = 0.25 * (speech + noise) * 10 ** (self.loudness[rows, None] / 20)
        return (clips.clamp(-1, 1) * 32767).round().to(torch.int16)[:, None]

    def nearest_phoneme(self, time: Float[Tensor, " t"], rows: Int[Tensor, " b"]) -> Int[Tensor, "b t"]:
        """As `at`, and in silence the first or the last one: formants are in place before the voice is."""
        place = (time[:, None] >= self.ends[rows, None]).sum(2).clamp(max=self.order.shape[1] - 1)
        return self.order[rows].gather(1, place)

    def pulses(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b s"]:
        """Glottal pulses, of equal power at any pitch, whose rate drifts."""
        rate, phase = self.drift[rows, :, None].unbind(1)  # (b, 1)
        drift = 1 + 0.08 * torch.sin(2 * math.pi * (rate * torch.arange(self.samples) / RATE + phase))
        turns = torch.rand(len(rows), 1, generator=self.rng) + (self.pitch[rows, None] * drift / RATE).cumsum(1)
        whole = turns.floor()
        return whole.diff(dim=1, prepend=whole[:, :1]) * (RATE / self.pitch[rows, None]).sqrt()

    def filter(self, formants: Float[Tensor, "b t 3"]) -> Float[Tensor, "b f t"]:
        """The gain of the vocal tract at each frequency: a resonance at each formant."""
        frequency = torch.arange(WINDOW // 2 + 1)[:, None] * (RATE / WINDOW)
        resonances = (
            gain / (1 + ((frequency - formants[:, None, :, number]) / width).square())
            for number, (gain, width) in enumerate(zip(GAINS, BANDWIDTHS, strict=True))
        )
        return sum(resonances)


def voice(count: int, low: float, high: float, rng: torch.Generator) -> Float[Tensor, " count"]:
    """A number for each speaker, uniform in its logarithm."""
    return (math.log(low) + torch.rand(count, generator=rng) * math.log(high / low)).exp()


def glide(values: Float[Tensor, "b t k"]) -> Float[Tensor, "b t k"]:
    """Values smoothed over about 50 ms, as tongue and lips move."""
    kernel = torch.tensor([0.25, 0.5, 0.25]).view(1, 1, 3)
    x = F.pad(values.transpose(1, 2), (1, 1), mode="replicate")  # (b, k, t + 2)
    return F.conv1d(x.flatten(0, 1)[:, None], kernel).view(len(values), -1, values.shape[1]).transpose(1, 2)
