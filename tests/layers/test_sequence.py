"""The transformer over sequences: attention against a formula, padding, causality, positions, dropped tokens."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_runner.layers.sequence import SequenceBlock, SequenceEncoder, rotate


class Ids(SequenceEncoder):
    """Ids below 20 as tokens; 0 is padding."""

    kinds = ("text",)

    def __init__(self, **given):
        super().__init__(16, 2, 2, length=12, **given)
        self.words = nn.Embedding(20, 16)

    def embed(self, x):
        return self.words(x)

    def real(self, x):
        return x != 0


SETTINGS = [{"positions": p, "causal": c, "pool": pool} for p in ("rotary", "learned") for c in (False, True)
            for pool in ("mean", "last", *([] if c else ["first"]))]  # fmt: skip
every_setting = pytest.mark.parametrize("given", SETTINGS, ids=lambda each: "-".join(map(str, each.values())))


@pytest.fixture
def x(rng):
    x = torch.randint(1, 20, (4, 10), generator=rng)
    return x.masked_fill(torch.arange(10) >= torch.tensor([10, 3, 1, 7])[:, None], 0)


def build(**given):
    torch.manual_seed(0)
    encoder = Ids(**given)
    for p in encoder.parameters():  # biases and shifts too
        p.data.add_(0.1 * torch.randn_like(p))
    return encoder.eval()


@every_setting
@torch.no_grad()
def test_a_sample_alone_has_the_features_that_it_has_among_longer_ones(given, x):
    encoder = build(**given)
    together = encoder(x)
    for row, length in enumerate((10, 3, 1, 7)):
        alone = encoder(x[row : row + 1, :length])
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.tokens[0], together.tokens[row, :length], rtol=1e-5, atol=1e-6)
    longer = encoder(F.pad(x, (0, 2)))
    torch.testing.assert_close(longer.pooled, together.pooled, rtol=1e-5, atol=1e-6)


@every_setting
def test_no_gradient_reaches_padding(given, x):
    encoder = build(**given)
    z = encoder.embed(x).detach().requires_grad_()
    encoder.encode(z, mask=encoder.real(x)).pooled.square().sum().backward()
    assert not z.grad[x == 0].any()
    seen = z.grad.abs().sum(2) > 0
    assert seen[x != 0].all() or given["pool"] != "mean"


@torch.no_grad()
def test_a_mask_that_were_ignored_would_be_seen(x):
    encoder = build()
    encoder.real = lambda x: None
    assert not torch.allclose(encoder(x[1:2, :3]).pooled, encoder(x[1:2]).pooled, atol=1e-3)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_causal_tokens_see_none_that_is_later(positions, x):
    encoder = build(causal=True, positions=positions)
    z = encoder.embed(x[:1]).detach().requires_grad_()
    for place in range(10):
        (gradient,) = torch.autograd.grad(encoder.encode(z).tokens[0, place].square().sum(), z)
        assert not gradient[0, place + 1 :].any()
        assert gradient[0, : place + 1].abs().sum(1).all()
    seen = torch.ones(10, 10, dtype=torch.bool)
    with torch.no_grad():  # an attention mask on top hides, and never shows
        torch.testing.assert_close(encoder.encode(z, visible=seen).tokens, encoder.encode(z).tokens)


@torch.no_grad()
def test_a_block_is_the_formula(rng):
    """Softmax over the keys that may be seen, of products of turned queries and keys; in float64."""
    block, heads = SequenceBlock(8, 2).double(), 2
    x = torch.randn(2, 5, 8, generator=rng, dtype=torch.float64)
    angle = torch.arange(5.0, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.3], dtype=torch.float64)
    seen = torch.rand(2, 1, 5, 5, generator=rng) < 0.6
    seen |= torch.eye(5, dtype=torch.bool)
    y = F.layer_norm(x, (8,))
    parts = (y @ block.query_key_value.weight.T + block.query_key_value.bias).view(2, 5, 3, heads, 4)
    mixed = torch.zeros(2, 5, heads, 4, dtype=torch.float64)
    for b in range(2):
        for h in range(heads):
            q, k, v = parts[b, :, 0, h], parts[b, :, 1, h], parts[b, :, 2, h]
            as_complex = [torch.complex(each[:, :2], each[:, 2:]) * torch.exp(1j * angle) for each in (q, k)]
            score = (as_complex[0][:, None] * as_complex[1][None].conj()).real.sum(2) / math.sqrt(4)
            mixed[b, :, h] = score.masked_fill(~seen[b, 0], -math.inf).softmax(1) @ v
    x2 = x + block.out(mixed.flatten(2))
    expected = x2 + block.hidden(F.layer_norm(x2, (8,)))
    turn = (angle.cos()[None, None], angle.sin()[None, None])
    torch.testing.assert_close(block(x, turn, seen), expected)


@torch.no_grad()
def test_rotary_products_depend_on_distance_alone(rng):
    q, k = torch.randn(2, 1, 1, 1, 8, generator=rng, dtype=torch.float64)
    frequency = torch.tensor([1.0, 0.5, 0.1, 0.01], dtype=torch.float64)

    def product(i, j):
        angles = [(place * frequency)[None, None, None] for place in (i, j)]
        a, b = (rotate(x, (angle.cos(), angle.sin())) for x, angle in zip((q, k), angles, strict=True))
        return (a * b).sum().item()

    assert product(3, 1) == pytest.approx(product(9, 7), abs=1e-12)
    assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-3)
    assert product(0, 0) == pytest.approx((q * k).sum().item())


@every_setting
@torch.no_grad()
def test_tokens_dropped_from_behind_are_as_a_shorter_sample(given, x):
    encoder = build(**given)
    keep = torch.arange(3).expand(1, 3)
    dropped, short = encoder(x[:1], keep), encoder(x[:1, :3])
    torch.testing.assert_close(dropped.tokens, short.tokens)
    assert dropped.grid == (10,)
    later = encoder(x[:1], keep + 4)
    assert not torch.allclose(later.tokens, encoder(x[:1, 4:7]).tokens) or given["positions"] == "rotary"


@torch.no_grad()
def test_layers_are_the_outputs_of_blocks(x):
    encoder = build()
    features = encoder.encode(encoder.embed(x), mask=encoder.real(x), layers=(-1, 0))
    torch.testing.assert_close(encoder.norm(features.layers[0]), features.tokens)
    assert not torch.equal(features.layers[0], features.layers[1])
    with pytest.raises(ValueError, match=r"layers=\[2\]: the encoder has 2 blocks, 0 to 1, or -2 to -1"):
        encoder.encode(encoder.embed(x), layers=[2])


def test_dropout_is_of_training_alone(x):
    encoder = build(dropout=0.5)
    assert torch.equal(encoder(x).pooled, encoder(x).pooled)
    encoder.train()
    assert not torch.equal(encoder(x).pooled, encoder(x).pooled)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"causal": True, "pool": "first"}, "type model.pool=mean, or last"),
        ({"positions": "learned"}, "14 tokens, and the model has positions for 12"),
    ],
)
def test_what_cannot_be_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Ids(**given)(torch.ones(1, 14, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"must be a multiple of 6, twice model.heads=3"):
        SequenceEncoder(16, 1, 3, length=4)
