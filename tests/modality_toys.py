"""Text and audio in small: data with planted classes, an encoder and a task for each kind. Configs name them."""

import torch
import torch.nn.functional as F
from torch import nn

from ssl_runner.contract import Data, Encoder, Features, Loss, Pretext, Samples, Split

TOPICS, COMMON, OWN, LENGTH = 4, 20, 8, 12
VOCABULARY = 1 + COMMON + OWN * TOPICS  # padding, words of every topic, words of each
RATE, TIME, BANDS = 8000, 400, 8
OFF = {
    "part": (1.0, 1.0),
    "speed": (1.0, 1.0),
    "onset": 0.0,
    "tilt": 0.0,
    "bands": 0,
    "pauses": 0,
    "mix": 0.0,
    "gain": 0.0,
}  # views of sound that change nothing


class Planted:
    """320 training rows of four classes; 80 are held out for validation, and 80 for the test."""

    rows, assets = 320, {}

    def load(self):
        y, parts = torch.arange(self.rows + 160) % TOPICS, (self.rows, 80, 80)
        x, statistics = self.draw(y, torch.Generator().manual_seed(0))
        bank, validation, test = map(Split, x.split(parts), y.split(parts))
        named = {"classes": tuple("0123"), "fingerprint": "toy", "assets": self.assets}
        return Data(bank.x, bank, validation, test, *statistics, **named)


class Sentences(Planted):
    """Sentences of 5 to 12 words; two in five are of the sentence's topic, which is its class."""

    samples = Samples("text", (LENGTH,), vocabulary=VOCABULARY)
    assets = {"words.txt": b"without these no sentence can be read"}

    def draw(self, y, rng):
        shape = (len(y), LENGTH)
        topical = 1 + COMMON + OWN * y[:, None] + torch.randint(OWN, shape, generator=rng)
        common = torch.randint(1, 1 + COMMON, shape, generator=rng)
        x = torch.where(torch.rand(shape, generator=rng) < 0.4, topical, common)
        length = torch.randint(5, LENGTH + 1, (len(y), 1), generator=rng)
        return x.masked_fill(torch.arange(LENGTH) >= length, 0).to(torch.uint8), ()


class Tones(Planted):
    """Tones of 150 to 400 samples in noise, at any loudness; the class is the pitch."""

    samples = Samples("audio", (1, TIME), rate=RATE)

    def draw(self, y, rng):
        n, time = len(y), torch.arange(TIME)
        pitch = torch.tensor([300.0, 500.0, 800.0, 1200.0])[y, None] * (0.9 + 0.2 * torch.rand(n, 1, generator=rng))
        phase, loudness = torch.rand(2, n, 1, generator=rng)
        wave = (0.2 + 0.4 * loudness) * torch.sin(2 * torch.pi * (pitch * time / RATE + phase))
        wave = wave + 0.25 * torch.randn(n, TIME, generator=rng)
        wave = wave.masked_fill(time >= torch.randint(150, TIME + 1, (n, 1), generator=rng), 0)
        return (wave.clamp(-1, 1) * 32767).to(torch.int16)[:, None], ((0.0,), (0.3,))


def average(tokens, real):
    """The mean of the tokens that are no padding."""
    return (tokens * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)


class Words(Encoder):
    """An embedding of each word beside the mean of all; padding is left out of it, and masked."""

    kinds, dim = ("text",), 16

    def __init__(self, *, samples: Samples):
        super().__init__()
        self.words, self.mix = nn.Embedding(samples.vocabulary, self.dim), nn.Linear(2 * self.dim, self.dim)

    def forward(self, x, keep=None):
        words, real = self.words(x), x != 0
        tokens = F.gelu(self.mix(torch.cat([words, average(words, real)[:, None].expand_as(words)], dim=2)))
        return Features(average(tokens, real), tokens, (x.shape[1],), real)


class Waves(Encoder):
    """Convolutions over time; frames of padding are left out of the mean, and masked."""

    kinds, dim = ("audio",), 16

    def __init__(self, *, std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("scale", torch.tensor(std))
        self.frames = nn.Sequential(nn.Conv1d(1, self.dim, 40, stride=20), nn.GELU(), nn.Conv1d(self.dim, self.dim, 1))

    def forward(self, x, keep=None):
        tokens = self.frames(x / self.scale).square().transpose(1, 2)  # (B, T / 20 - 1, dim)
        real = x.abs().unfold(2, 40, 20).amax((1, 3)) > 0
        return Features(average(tokens, real), tokens, (tokens.shape[1],), real)


class Guess(Pretext):
    def __init__(self, *, encoder: Encoder, samples: Samples):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.dim, samples.vocabulary or BANDS)

    def forward(self, views, group="main"):
        x, target = views
        pooled = self.encoder(x).pooled
        return Loss(F.smooth_l1_loss(self.head(pooled), target), {}, pooled)


class BagOfWords(Guess):
    """Tells which words a sentence has from about half of them."""

    kinds = ("text",)

    def views(self, batch, ctx):
        bag = F.one_hot(batch.x, VOCABULARY).amax(1).float()  # (B, vocabulary)
        return batch.x.masked_fill(ctx.rng.rand(*batch.x.shape) < 0.5, 0), bag


class Bands(Guess):
    """Tells the energy in bands of pitch from a noisy half of a sound."""

    kinds = ("audio",)

    def views(self, batch, ctx):
        power = torch.fft.rfft(batch.x[:, 0]).abs().square()[:, 1 : 1 + 20 * BANDS]
        noisy = batch.x + 0.05 * ctx.rng.randn(*batch.x.shape)
        return noisy[..., : TIME // 2], (power.unflatten(1, (BANDS, 20)).sum(2) + 1e-3).log()


KINDS = {  # by group, the class that a config names
    "text": {"dataset": Sentences, "model": Words, "pretext": BagOfWords},
    "audio": {"dataset": Tones, "model": Waves, "pretext": Bands},
}
