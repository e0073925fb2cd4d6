"""Text and audio in small: data with planted classes, an encoder and a task for each kind. Configs name them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_runner.contract import Batch, Context, Data, Encoder, Features, Loss, Pretext, Samples, Split

TOPICS, COMMON, OWN, LENGTH = 4, 20, 8, 12
VOCABULARY = 1 + COMMON + OWN * TOPICS  # padding, words of every topic, words of each
RATE, TIME, BANDS = 8000, 400, 8


def splits(x: Tensor, y: Tensor, held: int, **more) -> Data:
    """The last rows are held out: for validation, and as many for the test."""
    kept = len(x) - 2 * held
    train, validation, test = ((x[a:b], y[a:b]) for a, b in ((0, kept), (kept, kept + held), (kept + held, len(x))))
    names = tuple(str(number) for number in range(int(y.max()) + 1))
    bank, *others = (Split(*each) for each in (train, validation, test))
    return Data(train[0], bank, *others, classes=names, fingerprint="toy", **more)


class Sentences:
    """Sentences of 5 to 12 words; two in five are of the sentence's topic, which is its class."""

    def __init__(self, *, rows: int = 320, held: int = 80):
        self.samples, self.rows, self.held = Samples("text", (LENGTH,), vocabulary=VOCABULARY), rows, held

    def load(self) -> Data:
        rng = torch.Generator().manual_seed(0)
        n = self.rows + 2 * self.held
        y = torch.arange(n) % TOPICS
        topical = 1 + COMMON + OWN * y[:, None] + torch.randint(OWN, (n, LENGTH), generator=rng)
        common = torch.randint(1, 1 + COMMON, (n, LENGTH), generator=rng)
        x = torch.where(torch.rand(n, LENGTH, generator=rng) < 0.4, topical, common)
        length = torch.randint(5, LENGTH + 1, (n, 1), generator=rng)
        return splits(x.masked_fill(torch.arange(LENGTH) >= length, 0).to(torch.uint8), y, self.held)


class Words(Encoder):
    """An embedding of each word beside the mean of all; padding is left out of it, and masked."""

    kinds = ("text",)

    def __init__(self, *, samples: Samples, width: int = 16):
        super().__init__()
        self.dim = width
        self.words = nn.Embedding(samples.vocabulary, width)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        real = x != 0
        words = self.words(x)
        mean = self.average(words, real)[:, None].expand_as(words)
        tokens = F.gelu(self.mix(torch.cat([words, mean], dim=2)))
        return Features(self.average(tokens, real), tokens, (x.shape[1],), real)

    @staticmethod
    def average(tokens: Tensor, real: Tensor) -> Tensor:
        return (tokens * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)


class BagOfWords(Pretext):
    """Tells which words a sentence has from a part of them."""

    kinds = ("text",)

    def __init__(self, *, encoder: Encoder, samples: Samples, hidden: float = 0.5):
        super().__init__()
        self.encoder, self.hidden = encoder, hidden
        self.head = nn.Linear(encoder.dim, samples.vocabulary)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        bag = F.one_hot(batch.x, self.head.out_features).amax(1).float()  # (B, vocabulary)
        hidden = torch.rand(batch.x.shape, generator=ctx.rng, device=batch.x.device) < self.hidden
        return batch.x.masked_fill(hidden, 0), bag

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, bag = views
        pooled = self.encoder(x).pooled
        return Loss(F.binary_cross_entropy_with_logits(self.head(pooled)[:, 1:], bag[:, 1:]), {}, pooled)


class Tones:
    """Tones of 150 to 400 samples in noise, at any loudness; the class is the pitch."""

    def __init__(self, *, rows: int = 320, held: int = 80):
        self.samples, self.rows, self.held = Samples("audio", (1, TIME), rate=RATE), rows, held

    def load(self) -> Data:
        rng = torch.Generator().manual_seed(0)
        n = self.rows + 2 * self.held
        y = torch.arange(n) % TOPICS
        pitch = torch.tensor([300.0, 500.0, 800.0, 1200.0])[y, None] * (0.9 + 0.2 * torch.rand(n, 1, generator=rng))
        phase, loudness = torch.rand(2, n, 1, generator=rng)
        time = torch.arange(TIME) / RATE
        wave = (0.2 + 0.4 * loudness) * torch.sin(2 * torch.pi * (pitch * time + phase))
        wave = wave + 0.25 * torch.randn(n, TIME, generator=rng)
        wave = wave.masked_fill(torch.arange(TIME) >= torch.randint(150, TIME + 1, (n, 1), generator=rng), 0)
        x = (wave.clamp(-1, 1) * 32767).to(torch.int16)[:, None]
        return splits(x, y, self.held, mean=(0.0,), std=(0.3,))


class Waves(Encoder):
    """Convolutions over time; frames of padding are left out of the mean, and masked."""

    kinds = ("audio",)

    def __init__(self, *, shape: tuple[int, int], std: tuple[float, ...], width: int = 16):
        super().__init__()
        self.dim = width
        self.register_buffer("scale", torch.tensor(std))
        self.frames = nn.Sequential(nn.Conv1d(shape[0], width, 40, stride=20), nn.GELU(), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        tokens = self.frames(x / self.scale).square().transpose(1, 2)  # (B, T / 20 - 1, width)
        real = x.abs().unfold(2, 40, 20).amax((1, 3)) > 0
        return Features(Words.average(tokens, real), tokens, (tokens.shape[1],), real)


class Bands(Pretext):
    """Tells the energy in bands of pitch from a noisy half of a sound."""

    kinds = ("audio",)

    def __init__(self, *, encoder: Encoder, noise: float = 0.05):
        super().__init__()
        self.encoder, self.noise = encoder, noise
        self.head = nn.Linear(encoder.dim, BANDS)

    def views(self, batch: Batch, ctx: Context) -> tuple:
        power = torch.fft.rfft(batch.x[:, 0]).abs().square()[:, 1 : 1 + 20 * BANDS]
        target = (power.unflatten(1, (BANDS, 20)).sum(2) + 1e-3).log()
        noise = torch.randn(batch.x.shape, generator=ctx.rng, device=batch.x.device)
        return (batch.x + self.noise * noise)[..., : TIME // 2], target

    def forward(self, views: tuple, group: str = "main") -> Loss:
        x, target = views
        pooled = self.encoder(x).pooled
        return Loss(F.smooth_l1_loss(self.head(pooled), target), {}, pooled)


KINDS = {  # what a config folder has to say of them: group, name, class
    "text": {"dataset": Sentences, "model": Words, "pretext": BagOfWords},
    "audio": {"dataset": Tones, "model": Waves, "pretext": Bands},
}
