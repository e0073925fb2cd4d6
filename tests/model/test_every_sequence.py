"""Every choice of conf/model of text keeps the contract of an encoder, padding included, built as its YAML says."""

import pytest
import torch
from conftest import names_of
from toys import choice

from ssl_runner.contract import Samples
from ssl_runner.encoder.export import export
from ssl_runner.encoder.formats import FORMATS
from ssl_runner.encoder.load import TrainedEncoder

SAMPLES = Samples("text", (24,), vocabulary=50)
LIGHT = [name for name in names_of("text", "model") if "base" not in name]
LENGTHS = torch.tensor([24, 1, 9])


def build(name, **given):
    torch.manual_seed(0)
    kind, own, _ = choice("model", name)
    return kind(samples=SAMPLES, **{**own, **given})


@pytest.fixture
def x(rng):
    return torch.randint(1, 50, (3, 24), generator=rng).masked_fill(torch.arange(24) >= LENGTHS[:, None], 0)


@pytest.mark.parametrize("name", LIGHT)
def test_pooled_reaches_every_parameter_and_says_what_is_real(name, x, rng):
    encoder = build(name)
    features = encoder(x)
    assert (features.pooled.shape, features.tokens.shape) == ((3, encoder.dim), (3, 24, encoder.dim))
    assert features.grid == (24,)
    assert torch.equal(features.mask, x != 0)
    (features.pooled * torch.randn(features.pooled.shape, generator=rng)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_a_sample_alone_has_the_features_that_it_has_in_a_batch(name, x):
    encoder = build(name).eval()
    together = encoder(x)
    for row, length in enumerate(LENGTHS):
        alone = encoder(x[row : row + 1, :length])
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together.pooled[0], together.pooled[1], atol=1e-2)
    torch.testing.assert_close(encoder.encode(encoder.embed(x), mask=encoder.real(x)).pooled, together.pooled)


@pytest.mark.parametrize(("embedding", "deviation"), [(None, 1.0), (0.02, 0.02)])
@torch.no_grad()
def test_embeddings_have_the_deviation_that_was_asked_for(embedding, deviation):
    encoder = build("text_transformer_small", embedding=embedding)
    assert encoder.embed(torch.arange(1, 50)[None]).std().item() == pytest.approx(deviation, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text_transformer_tiny", "text_transformer_causal"])
def test_onnx_and_torch_export_read_ids_with_their_padding(name, x, tmp_path):
    """Each is compared with the encoder on several sizes of batches when it is made; here on short rows."""
    recipe = {"samples": {**SAMPLES._asdict(), "shape": list(SAMPLES.shape)}}
    source = TrainedEncoder(build(name).eval(), tmp_path / "encoder.safetensors", tmp_path, recipe)
    for form in ("torch", "onnx"):
        exported = export(form, source)
        assert exported.difference < 1e-4 * exported.largest
        given = FORMATS[form].use(exported.files[FORMATS[form].file], source)(x)["pooled"]
        torch.testing.assert_close(given, source.encoder(x).pooled.detach(), rtol=1e-4, atol=1e-5)


def test_the_base_model_has_berts_size():
    with torch.device("meta"):
        encoder = build("text_transformer_base")
    assert sum(p.numel() for p in encoder.blocks.parameters()) == 12 * (12 * 768**2 + 13 * 768)
