"""Views of clips: parts of what is real, padding as it was, what a draw says is done, and spans that are hidden."""

import math

import pytest
import torch
from modality_toys import OFF
from scipy.stats import chisquare

from ssl_runner.augment.audio.spans import hidden_spans, other_hidden
from ssl_runner.augment.audio.views import SoundViews, power
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.sound import lengths

NOISY = {"noise": (10.0, 20.0)}
CPU = torch.device("cpu")


def rng(seed=0):
    return CounterRng(seed, CPU)


@pytest.fixture
def x():
    """Tones of 500 to 2,000 Hz that last 1,000 to 3,000 of 4,000 samples."""
    long = torch.linspace(1000, 3000, 8).long()
    hertz = torch.linspace(500, 2000, 8)
    tones = 0.3 * torch.sin(2 * math.pi * hertz[:, None] * torch.arange(4000) / 8000 + 0.5)
    return (tones * (torch.arange(4000) < long[:, None]))[:, None]


def pitch(wave):
    """Hz of the loudest frequency of each clip, at 8 kHz."""
    return torch.fft.rfft(wave[:, 0], 65536).abs().argmax(1) * 8000 / 65536


def test_with_everything_off_clips_come_back_as_they_are(x):
    assert torch.equal(SoundViews(**OFF)(x, rng()), x)


@pytest.mark.parametrize(
    "settings", [{}, NOISY, {"pauses": 3, "pause": 0.4}, {"part": (0.2, 0.3), "onset": 1.0}], ids=str
)
def test_a_view_is_a_clip_of_the_same_size_whose_padding_is_exact(x, settings):
    view = SoundViews(**settings)(x, rng())
    assert (view.shape, view.dtype) == (x.shape, x.dtype)
    assert view.abs().max() <= 1
    assert (power(view[:, 0]) > 0).all(), "no view is silence, however much padding a clip has"
    if "onset" not in settings:  # a part of a third of the clip cannot reach its end
        room = 4000 - lengths(x) / 0.85 * 1.0
        assert (lengths(view) <= 4000 - 0.7 * room).all()
    silent = torch.zeros(2, 1, 400)
    assert not SoundViews(**settings)(silent, rng()).any()


def test_a_part_is_cut_of_what_is_real_and_lies_anywhere_in_it(x):
    views = SoundViews(**{**OFF, "part": (0.5, 0.5)})
    starts = []
    for seed in range(40):
        view = views(x, rng(seed))
        assert torch.equal(lengths(view), (lengths(x) / 2).floor().long())
        one = view[3, 0, : lengths(view)[3]]
        windows = x[3, 0, : lengths(x)[3]].unfold(0, len(one), 1)
        starts.append(int((windows - one).abs().sum(1).argmin()) / len(windows))
    assert min(starts) < 0.15
    assert max(starts) > 0.85


@pytest.mark.parametrize("length", [1, 2, 7])
def test_of_a_clip_of_few_samples_one_at_least_is_kept(length):
    """A part of none would begin behind the clip."""
    clips = 0.5 * (torch.arange(length) < torch.arange(length + 1)[:, None]).float()[:, None]  # the first one is silent
    for seed in range(20):
        view = SoundViews(**{**OFF, "part": (0.1, 0.2), "speed": (0.5, 4.0)})(clips, rng(seed))
        assert torch.equal((view != 0).any(2)[:, 0], torch.arange(length + 1) > 0)


def test_speed_changes_pitch_and_length_together(x):
    view = SoundViews(**{**OFF, "speed": (1.25, 1.25)})(x, rng())
    assert torch.allclose(pitch(view) / pitch(x), torch.tensor(1.25), rtol=0.01)
    assert torch.allclose(lengths(view) / lengths(x), torch.tensor(1 / 1.25), rtol=0.01)


def test_onset_puts_silence_before_and_never_cuts(x):
    view = SoundViews(**{**OFF, "onset": 1.0})(x, rng())
    for clip, moved in zip(x[:, 0], view[:, 0], strict=True):
        begins = int(moved.nonzero()[0])
        long = int(lengths(clip[None, None]))
        assert torch.equal(moved[begins : begins + long], clip[:long])
        assert not moved[begins + long :].any()


def test_noise_is_at_the_stated_ratio_and_gain_in_decibel(x):
    noisy = SoundViews(**{**OFF, "noise": (15.0, 15.0)})(x, rng()) - x
    for clip, noise, long in zip(x[:, 0], noisy[:, 0], lengths(x), strict=True):
        ratio = clip[:long].square().mean() / noise[:long].square().mean()
        assert 10 * ratio.log10() == pytest.approx(15, abs=0.5)
        assert not noise[long:].any()
    louder = SoundViews(**{**OFF, "gain": 6.0})(0.1 * x, rng())
    decibel = 10 * (power(louder[:, 0]) / power(0.1 * x[:, 0])).log10()
    assert decibel.abs().max() <= 6.001
    assert decibel.std() > 1


def test_mixing_is_of_powers_with_another_clip(x):
    view = SoundViews(**{**OFF, "mix": 0.3})(x, rng())
    heard = torch.fft.rfft(view[:, 0], 65536).abs()
    for row in range(8):
        others = [heard[row, int(each * 65536 / 8000)] for i, each in enumerate(pitch(x)) if i != row]
        assert max(others) > 3 * sorted(others)[-3], "one other tone is heard"
    share = 1 - power(x[:, 0], torch.ones_like(view[:, 0])) / power(view[:, 0], torch.ones_like(view[:, 0]))
    assert share.max() < 0.35
    alone = SoundViews(**{**OFF, "mix": 0.3})(x[:1], rng())
    assert torch.equal(alone, x[:1]), "a single clip has nothing to be mixed with"


def test_bands_are_taken_out_of_the_spectrum_and_pauses_are_silent(x):
    white = torch.randn(16, 1, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    spectrum = torch.fft.rfft(SoundViews(**{**OFF, "bands": 1, "band": 2.0})(white, rng())[:, 0], 4096).abs()
    before = torch.fft.rfft(white[:, 0], 4096).abs()
    ratio = (spectrum / before).unflatten(1, (-1, 3)).mean(2) if spectrum.shape[1] % 3 == 0 else spectrum / before
    assert ((ratio < 0.1).any(1)).float().mean() > 0.6
    assert (ratio.median(1).values > 0.8).float().mean() > 0.6
    pauses = SoundViews(**{**OFF, "pauses": 1, "pause": 0.3})(white, rng())
    share = (pauses == 0).float().mean((1, 2))
    assert share.max() <= 0.31
    assert share.mean() > 0.05


def test_each_clip_has_its_own_draw_whatever_its_batch(x):
    views = SoundViews(
        **{**OFF, "part": (0.5, 1.0), "speed": (0.8, 1.2), "onset": 0.5, "gain": 3.0, "tilt": 3.0, "bands": 1}
    )
    whole = views(x, CounterRng(3, CPU, torch.arange(8)))
    half = views(x[4:], CounterRng(3, CPU, torch.arange(4, 8)))
    assert torch.allclose(whole[4:], half, atol=1e-6)
    assert not torch.allclose(views(x, rng(1)), views(x, rng(2)))


@pytest.mark.parametrize("name", ["part", "speed", "noise"])
def test_a_range_upside_down_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} \[0.9, 0.5\] is upside down"):
        SoundViews(**{name: (0.9, 0.5)})


REAL = torch.arange(40) < torch.tensor([40, 40, 20, 12, 6, 5, 2, 1])[:, None]


def test_hidden_frames_are_spans_of_real_ones_and_one_is_shown():
    counts = torch.zeros(40)
    for seed in range(200):
        hidden = hidden_spans(REAL, 0.5, 5, rng(seed))
        assert not (hidden & ~REAL).any(), "padding is no target"
        assert hidden[:-1].any(1).all()
        assert (REAL & ~hidden).any(1).all()
        edges = torch.nn.functional.pad(hidden[0].int(), (1, 1)).diff()
        runs = (edges == -1).nonzero() - (edges == 1).nonzero()
        assert (runs >= 5).all(), "no span is shorter"
        counts += hidden[0]
    assert 0.3 < counts.mean() / 200 < 0.5
    assert counts[10:30].std() / counts.mean() < 0.15, "spans lie anywhere"


def test_distractors_are_other_hidden_frames_of_the_clip_alike_likely():
    hidden = hidden_spans(REAL, 0.5, 5, rng(1))
    others = other_hidden(hidden, 400, rng(2))
    for clip in range(6):
        (places,) = hidden[clip].nonzero(as_tuple=True)
        for frame in places.tolist():
            drawn = others[clip, frame]
            assert hidden[clip][drawn].all()
            if len(places) > 1:
                assert (drawn != frame).all(), "a distractor is never the positive"
                observed = drawn.bincount(minlength=40)[places[places != frame]]
                assert len(observed) == 1 or chisquare(observed).pvalue > 1e-5
