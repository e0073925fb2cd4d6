"""Log-mel as a layer: the spectrum of torch.stft, padding that nothing sees, statistics of the training rows."""

import pytest
import torch
import torch.nn.functional as F

from ssl_runner.contract import Samples
from ssl_runner.layers.sound import LogMel, fourier_kernels, lengths, mel_filters, real_frames, unit_power


def clips(n, samples, seed=0):
    """Noise of unlike loudness, of a third to all of the samples, and silence behind it."""
    rng = torch.Generator().manual_seed(seed)
    long = torch.linspace(samples // 3, samples, n).long()
    x = torch.randn(n, 1, samples, generator=rng) * torch.linspace(0.01, 0.3, n)[:, None, None]
    return x.clamp(-1, 1) * (torch.arange(samples) < long[:, None, None]), long


def test_the_spectrum_is_that_of_torch_stft():
    x = torch.randn(2, 2000, dtype=torch.float64)
    window = torch.hann_window(256, dtype=torch.float64)
    wanted = torch.stft(x, 256, 80, window=window, center=False, return_complex=True).abs().square()
    waves = F.conv1d(x[:, None], fourier_kernels(256), stride=80)
    cosine, sine = waves.chunk(2, dim=1)
    assert torch.allclose((cosine.square() + sine.square()) * window.square().sum(), wanted, atol=1e-9)


def test_bands_overlap_by_half_and_none_is_empty():
    filters = mel_filters(8000, 40, 256)
    assert torch.allclose(filters.sum(0), torch.ones(40, dtype=torch.float64))
    peaks = filters.argmax(0)
    assert (peaks[1:] >= peaks[:-1]).all()
    assert peaks[0] <= 3
    assert peaks[-1] >= 120
    hertz = torch.tensor([1000.0, 3000.0])
    tone = torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(8000) / 8000)[:, None]
    bands = LogMel(rate=8000, mels=40).bands(tone)[:, 50]
    mel = 2595 * (1 + hertz / 700).log10() / (2595 * torch.tensor(1 + 4000 / 700).log10()) * 41 - 1
    assert ((bands.argmax(1) - mel).abs() <= 1).all(), "a tone is loudest in the band of its pitch"


def test_white_noise_of_any_loudness_has_a_level_of_0():
    x = torch.randn(4, 1, 8000, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 0.1, 1, 5]).view(
        4, 1, 1
    )
    bands = LogMel(rate=8000, mels=20).bands(x)
    assert bands.exp().mean((1, 2)).sub(1).abs().max() < 0.05


def test_a_clip_has_the_same_frames_alone_and_padded_and_padding_has_none():
    layer, (x, long) = LogMel(rate=8000, mels=20, stack=3), clips(5, 4000)
    together, real = layer(x), layer.real(x)
    assert torch.equal(real.sum(1), -(-long // 80)), "a frame is real if it begins within the clip"
    assert not together[~real].any()
    for row, samples in enumerate(long):
        alone = layer(x[row : row + 1, :, :samples])[0]
        assert torch.allclose(alone, together[row, : len(alone)], atol=1e-5)
    longer = layer(F.pad(x, (0, 1000)))
    assert torch.allclose(longer[:, : together.shape[1]][real], together[real], atol=1e-5)
    assert not longer[:, together.shape[1] :].any()


def test_no_gradient_reaches_padding():
    layer, (x, long) = LogMel(rate=8000, mels=20), clips(3, 2000)
    x.requires_grad_()
    layer(x).square().sum().backward()
    for row, samples in enumerate(long):
        assert x.grad[row, 0, :samples].abs().sum() > 0
        assert not x.grad[row, 0, samples:].any()


def test_lengths_are_up_to_the_last_sample_that_is_not_zero():
    x = torch.tensor([[0.0, 0.1, 0.0, 0.2, 0.0], [0.0] * 5, [0.0, 0.0, 0.0, 0.0, -0.1]])[:, None]
    assert lengths(x).tolist() == [4, 0, 5]
    assert real_frames(lengths(x), 3, 2).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert unit_power(x).square().sum(2)[0].item() == pytest.approx(4)
    assert not unit_power(x)[1].any(), "silence is no 0 / 0"


def test_statistics_are_of_real_frames_of_training_rows():
    samples = Samples("audio", (1, 4000), rate=8000)
    rows = (clips(40, 4000)[0] * 32767).to(torch.int16)
    rows[:, :, :1000] //= 20  # soft at first: frames differ
    layer = LogMel(rate=8000, mels=12)
    layer.fit(rows, samples)
    x = samples.from_rows(rows)
    frames = layer(x)[layer.real(x)]
    assert frames.mean(0).abs().max() < 1e-3
    assert (frames.std(0) - 1).abs().max() < 1e-2
    assert {"mean", "std"} == set(layer.state_dict()), "what follows from the settings is not saved"
    other = LogMel(rate=8000, mels=12)
    other.fit(None, samples)
    assert not torch.equal(other.mean, layer.mean)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    padded = LogMel(rate=8000, mels=12)
    padded.fit(F.pad(rows, (0, 4000)), Samples("audio", (1, 8000), rate=8000))
    assert torch.allclose(padded.mean, layer.mean, atol=1e-4), "padding is not counted"


@torch.no_grad()
def test_it_stays_float32_under_autocast():
    layer, (x, _) = LogMel(rate=8000, mels=20), clips(3, 2000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), LogMel(rate=8000, mels=20)(x))
        assert layer(x).dtype == torch.float32


@pytest.mark.parametrize(("settings", "words"), [({"mels": 200}, "narrower"), ({"mels": 8, "hop": 0.1}, "no part")])
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        LogMel(rate=8000, **settings)
