"""MAE of spectrograms: what is hidden of sound and of padding, what the encoder sees, the loss, planted mistakes."""

from dataclasses import replace

import pytest
import torch
from modality_toys import OFF
from toys import context

from ssl_runner.augment.audio.views import SoundViews
from ssl_runner.augment.image.mask import random_masks
from ssl_runner.contract import Batch, Samples
from ssl_runner.model.ast import AST
from ssl_runner.model.audio_convnet import AudioConvNet
from ssl_runner.model.wav_transformer import WavTransformer
from ssl_runner.pretext import mae as mae_module
from ssl_runner.pretext.mae import MAE

SAMPLES = Samples("audio", (1, 4800), rate=8000)
PATCHES = {"strips": {"mels": 40, "patch": (3, 40)}, "squares": {"mels": 24, "patch": (4, 8)}}
REAL = (4800, 2400, 700)  # samples of the clips


def task(patches: str = "strips", **settings) -> MAE:
    torch.manual_seed(0)
    encoder = AST(samples=SAMPLES, width=16, depth=2, heads=2, **PATCHES[patches])
    return MAE(encoder=encoder, samples=SAMPLES, augment=SoundViews(**OFF), **{"width": 16, "heads": 2, **settings})


def clips() -> torch.Tensor:
    noise = 0.1 * torch.randn(3, 1, SAMPLES.shape[1], generator=torch.Generator().manual_seed(1))
    return noise * (torch.arange(SAMPLES.shape[1]) < torch.tensor(REAL)[:, None, None])


@pytest.fixture(params=PATCHES)
def pretext(request) -> MAE:
    return task(request.param).eval()


@pytest.fixture
def views(pretext):
    return pretext.views(Batch(clips(), torch.arange(3)), context())


def test_of_sound_and_of_padding_each_clip_shows_its_share(pretext, views):
    x, keep, masked = views
    n, real = pretext.tokens, pretext.encoder.real(x)
    assert torch.equal(torch.cat([keep, masked], 1).sort(1).values, torch.arange(n).expand(3, n))
    for kind in (real, ~real):
        shown = kind.gather(1, keep).sum(1)
        assert ((shown - 0.4 * kind.sum(1)).abs() <= 1).all(), shown


def test_which_tokens_of_sound_are_shown_is_left_to_chance():
    real = torch.arange(12) < torch.tensor([6, 9])[:, None].repeat_interleave(3000, 0)
    keep, _ = random_masks(6000, 12, 6, context().rng, real=real)
    shown = torch.zeros(6000, 12).scatter(1, keep, 1.0)
    for part in (shown[:3000], shown[3000:]):
        torch.testing.assert_close(part.mean(0), torch.full((12,), 0.5), atol=0.04, rtol=0)
    pairs = shown[:3000, :6].T @ shown[:3000, :6] / 3000  # three of six: two of them are shown in a fifth of all
    torch.testing.assert_close(pairs[~torch.eye(6, dtype=torch.bool)], torch.full((30,), 0.2), atol=0.04, rtol=0)


def test_the_encoder_sees_sound_that_is_shown_and_nothing_else(pretext, views):
    x, keep, _ = views
    z = pretext.encoder.embed(x).detach().requires_grad_()
    pretext.encoder.embed = lambda x: z
    pretext(views).embedding.square().sum().backward()
    real = pretext.encoder.real(x)
    expected = torch.zeros_like(real).scatter(1, keep, True) & real
    assert torch.equal(z.grad.abs().sum(2) > 0, expected)


def by_hand(pretext: MAE, views: tuple) -> torch.Tensor:
    """The loss of a decoder that says 0: a clip's mean over its hidden patches of sound, a patch after another."""
    x, _, masked = views
    spectrogram, (tall, wide), columns = pretext.encoder.spectrogram(x), pretext.patch, pretext.grid[1]
    of_clips = []
    for picture, places, real in zip(spectrogram, masked.tolist(), pretext.encoder.real(x), strict=True):
        at = [(place // columns * tall, place % columns * wide) for place in places if real[place]]
        of_clips.append(torch.stack([picture[t : t + tall, b : b + wide].square().mean() for t, b in at]).mean())
    return torch.stack(of_clips).mean()


def loss_is_that_by_hand(pretext: MAE, views: tuple) -> None:
    torch.nn.init.zeros_(pretext.predict[1].weight)
    torch.nn.init.zeros_(pretext.predict[1].bias)
    torch.testing.assert_close(pretext(views).value, by_hand(pretext, views))


def test_the_loss_is_of_hidden_sound_alone_and_each_clip_counts_the_same(pretext, views):
    loss_is_that_by_hand(pretext, views)


def test_padding_that_is_counted_is_noticed(pretext, views, monkeypatch):
    monkeypatch.setattr(mae_module, "mean_of_clips", lambda error, counted: error.mean())
    with pytest.raises(AssertionError):
        loss_is_that_by_hand(pretext, views)


def padding_tells_the_decoder_nothing(pretext: MAE, views: tuple) -> None:
    x, keep, masked = views
    real, features = pretext.encoder.real(x), pretext.encoder(x, keep)
    other = torch.where(real.gather(1, keep)[..., None], features.tokens, 5.0)
    here, there = (pretext.decode(f, keep, masked, real) for f in (features, replace(features, tokens=other)))
    counted = real.gather(1, masked)
    torch.testing.assert_close(here[counted], there[counted])


def test_no_prediction_depends_on_what_stands_in_padding(pretext, views, monkeypatch):
    padding_tells_the_decoder_nothing(pretext, views)
    monkeypatch.setattr(mae_module, "attention_mask", lambda *_: None)
    with pytest.raises(AssertionError):
        padding_tells_the_decoder_nothing(pretext, views)


def test_targets_come_in_the_order_asked_for_and_pictures_have_them_where_they_were(pretext, views):
    x, keep, masked = views
    spectrogram = pretext.encoder.spectrogram(x)
    (tall, wide), columns = pretext.patch, pretext.grid[1]
    place = int(masked[0, 0])
    t, b = place // columns * tall, place % columns * wide
    torch.testing.assert_close(pretext.target(x, masked)[0][0, 0], spectrogram[0, t : t + tall, b : b + wide].flatten())
    with torch.no_grad():
        shown = pretext.pictures(views)
    upright = {name: each.flip(2).transpose(2, 3)[:, 0] for name, each in shown.items()}  # (B, frames, bands)
    torch.testing.assert_close(upright["target"], (spectrogram / 6 + 0.5).clamp(0, 1))
    assert (upright["masked"][0, t : t + tall, b : b + wide] == 0.5).all()
    t, b = int(keep[0, 0]) // columns * tall, int(keep[0, 0]) % columns * wide
    for name in ("masked", "reconstruction"):
        torch.testing.assert_close(
            upright[name][0, t : t + tall, b : b + wide], upright["target"][0, t : t + tall, b : b + wide]
        )


@pytest.mark.parametrize(("encoder", "named"), [(AudioConvNet, "AudioConvNet"), (WavTransformer, "WavTransformer")])
def test_an_encoder_without_patches_of_a_spectrogram_is_refused(encoder, named):
    with pytest.raises(ValueError, match=f"{named} has no patches of a spectrogram to hide; type model=ast_tiny"):
        MAE(encoder=encoder(samples=SAMPLES), samples=SAMPLES, augment=SoundViews(**OFF))
