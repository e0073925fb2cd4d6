"""Spoken words: a Williams square, what is heard agrees with the factors, and which voice is whose."""

from collections import Counter
from itertools import pairwise

import pytest
import torch

from ssl_runner.rendering.utterance import FRAME, PHONEMES, RATE, SPEAKERS, WORDS, SpokenWords


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def spoken():
    return SpokenWords(400, 1.0, generator(0), generator(1))


@pytest.fixture(scope="module")
def clips(spoken):
    return spoken.render()


def test_neither_a_place_nor_a_pair_tells_a_word():
    assert all(sorted(word) == sorted(PHONEMES) for word in WORDS)
    for place in range(5):
        assert set(Counter(word[place] for word in WORDS).values()) == {2}
    pairs = Counter(pair for word in WORDS for pair in pairwise(word))
    assert len(pairs) == 20
    assert set(pairs.values()) == {2}


def test_phonemes_are_those_of_the_word_in_its_order(spoken):
    letters, phonemes = "".join(PHONEMES), spoken.phonemes()
    assert phonemes.shape == (400, RATE // FRAME)
    for word, frames in zip(spoken.word, phonemes.tolist(), strict=True):
        heard = [letters[each] for each in frames if each >= 0]
        runs = [each for number, each in enumerate(heard) if number == 0 or heard[number - 1] != each]
        assert "".join(runs) == WORDS[word]
        real = [number for number, each in enumerate(frames) if each >= 0]
        assert real == list(range(real[0], real[-1] + 1)), "one word, without a pause"


def test_what_is_heard_agrees_with_the_factors(spoken, clips):
    """Silence is quiet, a hiss has high frequencies and a nasal low ones, loudness and pitch are as stated."""
    phonemes, x = spoken.phonemes(), clips[:, 0].float() / 32768
    frames = x.unfold(1, FRAME, FRAME)  # (n, 100, 80)
    power = frames.square().mean(2)
    assert power[phonemes >= 0].log().mean() > power[phonemes < 0].log().mean() + 2
    rms = x.square().mean(1).sqrt()
    wanted = 0.25 * 10 ** (spoken.loudness / 20) * (1 + 10 ** (-spoken.noise / 10)).sqrt()
    assert ((rms / wanted).log() < 0.05).all()
    assert (rms / wanted).median() > 0.97, "few are clipped"
    clean = spoken.noise > 20
    spectrum = torch.fft.rfft(frames[clean] * torch.hann_window(FRAME)).abs()
    low = spectrum[..., :10].sum(2) / spectrum.sum(2)  # the share below 1 kHz
    share = {letter: low[phonemes[clean] == number].mean() for number, letter in enumerate(PHONEMES)}
    assert share["s"] < 0.6 * min(share[each] for each in "amu"), "a hiss is high"
    best = pitch_of(x[clean])
    near = ((best / spoken.pitch[clean]).log2().abs() < 0.15).float().mean()
    assert near > 0.8


def pitch_of(x):
    """Hz of the highest peak of the autocorrelation between 70 and 300 Hz."""
    spectrum = torch.fft.rfft(x, 2 * x.shape[1]).abs()
    correlation = torch.fft.irfft(spectrum.square())
    first, last = RATE // 300, RATE // 70
    return RATE / (correlation[:, first:last].argmax(1) + first).float()


def test_a_speaker_has_one_voice_in_every_part(spoken):
    other = SpokenWords(400, 1.0, generator(7), generator(1))
    for speaker in range(SPEAKERS):
        tracts = torch.cat([each.tract[each.speaker == speaker] for each in (spoken, other)])
        assert tracts.std() < 1e-6
    assert spoken.tract.std() > 0.05


def test_clips_are_a_function_of_the_seeds(spoken, clips):
    again = SpokenWords(400, 1.0, generator(0), generator(1))
    assert torch.equal(again.render(), clips)
    assert all(torch.equal(again.targets()[name], each) for name, each in spoken.targets().items())
    other = SpokenWords(400, 1.0, generator(2), generator(1))
    assert not torch.equal(other.render(), clips)


def test_what_does_not_fit_is_spoken_faster():
    short = SpokenWords(50, 0.3, generator(0), generator(1))
    assert short.render().shape == (50, 1, 2400)
    assert (short.ends <= 0.3).all()
