"""Encoders of sound: padding changes nothing, statistics are of training rows, two steps are one, programs agree."""

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import in_turn, names
from toys import choice

from ssl_runner.config.compose import TREE
from ssl_runner.contract import Samples
from ssl_runner.encoder.export import export
from ssl_runner.encoder.load import TrainedEncoder

RATE = 8000
AUDIO = [name for name in names("model") if "audio" in choice("model", name)[0].kinds]
TINY = [name for name in AUDIO if not name.endswith("small")]
SAMPLES = Samples("audio", (1, 4000), rate=RATE)


def build(name, samples=SAMPLES, train=None, **given):
    torch.manual_seed(0)
    kind, own, _ = choice("model", name)
    known = {"samples": samples, "train": train}
    wanted = inspect.signature(kind).parameters
    return kind(**{key: each for key, each in known.items() if key in wanted}, **{**own, **given})


def sounds(n=5, samples=4000):
    rng = torch.Generator().manual_seed(0)
    long = torch.linspace(samples // 4, samples, n).long()
    x = 0.1 * torch.randn(n, 1, samples, generator=rng)
    return x.clamp(-1, 1) * (torch.arange(samples) < long[:, None, None]), long


BANDS = {"ast_bands": ("ast_tiny", {"mels": 40, "patch": (5, 10)}), "two_layers": ("mel_gru", {"depth": 2})}


@pytest.fixture(params=[*TINY, *BANDS])
def encoder(request):
    name, given = BANDS.get(request.param, (request.param, {}))
    return build(name, **given).eval()


@torch.no_grad()
def test_a_clip_has_the_same_features_alone_and_padded_in_a_batch(encoder):
    x, long = sounds()
    together = encoder(x)
    assert torch.equal(together.mask, encoder.real(x))
    for row, samples in enumerate(long):
        alone, real = encoder(x[row : row + 1, :, :samples]), together.mask[row]
        assert torch.allclose(alone.pooled[0], together.pooled[row], atol=2e-5)
        assert torch.allclose(alone.tokens[0][alone.mask[0]], together.tokens[row][real], atol=2e-5)
    longer = encoder(F.pad(x, (0, 2000)))
    assert torch.allclose(longer.pooled, together.pooled, atol=2e-5), "zeros behind change nothing"
    assert longer.mask.sum() == together.mask.sum()
    assert not torch.allclose(together.pooled[0], together.pooled[1], atol=1e-2)


def test_no_gradient_reaches_padding(encoder):
    x, long = sounds()
    x.requires_grad_()
    (encoder(x).pooled * torch.randn(5, encoder.dim)).sum().backward()
    for row, samples in enumerate(long):
        assert x.grad[row, 0, :samples].any()
        assert not x.grad[row, 0, samples:].any()


@torch.no_grad()
def test_how_loud_a_clip_is_changes_nothing_and_silence_is_finite(encoder):
    x, _ = sounds()
    assert torch.allclose(encoder(0.2 * x).pooled, encoder(x).pooled, atol=1e-3)
    silent = encoder(torch.zeros(2, 1, 4000))
    assert silent.pooled.isfinite().all()
    assert not silent.mask.any()


@torch.no_grad()
def test_two_steps_are_one(encoder):
    x, _ = sounds()
    if not encoder.in_two_steps:
        for act, given in ((encoder, [x, torch.zeros(5, 1, dtype=torch.long)]), (encoder.embed, [x])):
            with pytest.raises(ValueError, match="cannot drop tokens; use model=ast_tiny"):
                act(*given)
        return
    whole, z, real = encoder(x), encoder.embed(x), encoder.real(x)
    parts = encoder.encode(z, mask=real, layers=(-1,))
    assert torch.equal(parts.pooled, whole.pooled)
    assert torch.equal(parts.tokens, whole.tokens)
    n = z.shape[1]
    assert parts.layers[0].shape == z.shape == (5, n, encoder.dim)
    assert torch.Size(parts.grid).numel() == n
    keep = torch.arange(0, n, 2).expand(5, -1)
    few = encoder(x, keep)
    assert few.tokens.shape[1] == keep.shape[1]
    assert torch.equal(few.mask, real[:, ::2])
    with pytest.raises(ValueError, match="layers"):
        encoder.encode(z, layers=(7,))


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_tokens_are_in_order_of_time(name):
    """What is heard late changes late tokens; of a recurrent network, no earlier one."""
    encoder, (x, _) = build(name).eval(), sounds()
    changed = x[-1:].clone()
    changed[..., 3000:] = changed[..., 3000:].flip(-1)
    moved = (encoder(changed).tokens - encoder(x[-1:]).tokens).norm(dim=2)[0]
    z = (encoder.embed(changed) - encoder.embed(x[-1:])).norm(dim=2)[0] if encoder.in_two_steps else moved
    place = len(z) * 3 // 4
    assert z[place + 1 :].mean() > 5 * z[: place - 2].mean()
    if getattr(encoder, "causal", False):
        assert not moved[: place - 2].any()


@pytest.mark.parametrize("name", AUDIO)
def test_yaml_is_the_constructor_and_every_parameter_learns(name):
    _, own, defaults = choice("model", name)
    written = yaml.safe_load((TREE / "model" / f"{name}.yaml").read_text())
    settable = set(defaults) - {"samples", "train"}
    assert set(own) == settable == set(written) - {"_target_"}
    if name in TINY:
        encoder = build(name)
        (encoder(sounds()[0]).pooled * torch.randn(5, encoder.dim)).sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in TINY if "train" in choice("model", name)[2]])
def test_statistics_come_with_the_weights(name):
    x, _ = sounds(20)
    rows = (x * 32767).to(torch.int16)
    first, second = build(name, train=rows).eval(), build(name).eval()
    assert not torch.allclose(first(x).pooled, second(x).pooled, atol=1e-3)
    assert torch.equal(build(name, train=rows).eval()(x).pooled, first(x).pooled), "nothing is drawn for them"
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x).pooled, second(x).pooled)


@pytest.mark.parametrize("name", in_turn(TINY))
def test_a_program_says_the_same_for_any_batch(name):
    """Both are compared with the encoder on several sizes of batches when they are made."""
    recipe = {"samples": {**SAMPLES._asdict(), "shape": list(SAMPLES.shape)}}
    source = TrainedEncoder(build(name).eval(), Path("run/encoder.safetensors"), Path("run"), recipe)
    for form in ("torch", "onnx"):
        exported = export(form, source)
        assert exported.difference < 1e-3 * exported.largest


@torch.no_grad()
def test_the_recurrence_is_that_of_torch():
    encoder, torchs = build("mel_gru"), torch.nn.GRU(64, 64, batch_first=True)
    for name, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), encoder.context[0].weights, strict=True):
        getattr(torchs, f"{name}_l0").copy_(weight)
    z = encoder.embed(sounds()[0])
    assert torch.allclose(encoder.encode(z).tokens, torchs(z)[0], atol=1e-6)


def test_other_rates_have_tokens_of_as_many_seconds():
    encoder = build("ast_tiny", Samples("audio", (1, 16000), rate=16000))
    assert encoder(torch.randn(2, 1, 16000).clamp(-1, 1)).tokens.shape[1] == 34


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("ast_tiny", {"patch": (3, 7)}, "do not divide model.mels=40"),
        ("ast_tiny", {"width": 60}, "multiple of 8"),
        ("audio_convnet", {"kernel": 4}, "model.kernel=5"),
        ("wav_transformer_tiny", {"strides": (5, 4)}, "a kernel and a stride for each layer"),
        ("mel_gru", {"mels": 300}, "type fewer"),
    ],
)
def test_what_cannot_be_is_refused(name, given, words):
    with pytest.raises(ValueError, match=words):
        build(name, **given)
