"""Raw features of samples, without any network: a bag of words, mean and deviation of log-mel bands, small pictures.

What an encoder is worth shows beside them: on easy data they do better than an encoder that has learnt much.

Words: counts of ids (Harris, Distributional structure, 1954); of a large vocabulary they are hashed with a sign, as in
Weinberger, Dasgupta, Langford, Smola, Attenberg: Feature hashing for large scale multitask learning, ICML 2009,
arXiv 0902.2206. Sound: as in layers/sound.py.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Samples
from ssl_runner.layers.sound import lengths, mel_filters, unit_power

SIDE = 8  # pixels of a picture
COUNTS = 2048  # of words, at most
BANDS = 40
WINDOW, HOP = 0.025, 0.01  # seconds
QUIET = 1e-5  # of the mean power, which silence is not below

Raw = Callable[[Tensor], Float[Tensor, "b d"]]


def raw_features(samples: Samples) -> Raw:
    """Samples, as an encoder takes them, to features of their kind."""
    if samples.kind == "image":
        return small_pictures
    if samples.kind == "text":
        return partial(word_counts, vocabulary=samples.vocabulary)
    return partial(band_statistics, rate=samples.rate)


def small_pictures(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
    """The mean colours of 8 x 8 parts, or the pixels themselves if there are fewer."""
    height, width = (min(SIDE, side) for side in x.shape[2:])
    return F.adaptive_avg_pool2d(x, (height, width)).flatten(1)


def word_counts(x: Int[Tensor, "b l"], *, vocabulary: int) -> Float[Tensor, "b d"]:
    """How often each id occurs, padding aside; of more than 2,048 ids, signed sums over ids of one hash."""
    place, sign = x, (x > 0).float()
    if vocabulary > COUNTS:
        mixed = x * 2654435761 % 2**32  # Knuth's multiplicative hash
        place, sign = mixed // 2**16 % COUNTS, sign * (1 - 2 * (mixed // 2**15 % 2))
    return sign.new_zeros(len(x), min(vocabulary, COUNTS)).scatter_add_(1, place, sign)  # whole numbers: in any order


def band_statistics(x: Float[Tensor, "b 1 t"], *, rate: int) -> Float[Tensor, "b d"]:
    """Mean and deviation over time of the log power in 40 mel bands, at unit loudness; zeros behind are left out."""
    window, hop = (max(2, round(seconds * rate)) for seconds in (WINDOW, HOP))
    x = F.pad(x, (0, max(0, window - x.shape[2])))
    length = lengths(x)
    frames = unit_power(x)[:, 0].unfold(1, window, hop)  # (B, n, window)
    windowed = frames * torch.hann_window(window, device=x.device)
    spectrum = torch.fft.rfft(windowed, 2 * window).abs().square() / window  # finer than the narrowest band
    filters = mel_filters(rate, BANDS, 2 * window).to(spectrum)  # (f, BANDS)
    bands = (spectrum @ filters + QUIET).log()
    first = torch.arange(frames.shape[1], device=x.device) * hop
    real = ((first + window <= length[:, None]) | (first == 0))[:, :, None]  # (B, n, 1); the first frame always
    count = real.sum(1)
    mean = (bands * real).sum(1) / count
    deviation = ((bands - mean[:, None]).square() * real).sum(1) / count
    return torch.cat([mean, deviation.sqrt()], 1)
