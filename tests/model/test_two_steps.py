"""Encoders in two steps, embed and encode: tokens that are dropped, padded or hidden, and outputs of the blocks."""

import pytest
import torch
from encoders import close, images, timm, vit

from ssl_runner.contract import Encoder

BUILD = {
    "vit mean": vit,
    "vit class": lambda: vit(pool="class"),
    "timm class": lambda: timm("test_vit"),
    "timm register, mean": lambda: timm("test_vit2"),
    "timm distilled": lambda: timm("deit_tiny_distilled_patch16_224"),
}


@pytest.fixture(params=BUILD)
def encoder(request) -> Encoder:
    """One of 24 tokens in a grid of 4 x 6."""
    built = BUILD[request.param]().eval()
    for name, parameter in built.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.ones_(parameter)  # timm's layer scale starts so near to zero that blocks would do nothing
    return built


@pytest.fixture
def x(encoder, rng) -> torch.Tensor:
    return images(rng, 2, (3, 16, 24) if "ViT" in type(encoder).__name__ else (3, 64, 96))


@torch.no_grad()
def test_forward_is_encode_of_embed_and_keeps_tokens_in_any_order(encoder, x, rng):
    whole = encoder(x)
    for features in (encoder.encode(encoder.embed(x)), encoder(x, torch.arange(24).expand(2, -1))):
        assert all(map(torch.equal, (whole.pooled, whole.tokens), (features.pooled, features.tokens)))
        assert (features.grid, features.mask, features.layers) == ((4, 6), None, ())
    flat = encoder.embed(x[..., :1, :1].expand_as(x))  # positions come after embed
    close(flat, flat[:, :1].expand_as(flat))
    # Attention knows places by the positions alone, and these travel with their tokens.
    order = torch.rand(2, 24, generator=rng).argsort(1)
    shuffled = encoder(x, order)
    expected = whole.tokens.take_along_dim(order[..., None], 1)
    close((shuffled.tokens, shuffled.pooled), (expected, whole.pooled))


def test_gradient_reaches_what_is_kept_and_nothing_else(encoder, x):
    keep = torch.tensor([[7, 0, 23], [1, 2, 3]])  # (row, column): (1, 1), (0, 0), (3, 5) and (0, 1), (0, 2), (0, 3)
    features = encoder(x.requires_grad_(), keep)
    assert (features.tokens.shape, features.grid) == ((2, 3, encoder.dim), (4, 6))
    features.pooled.square().sum().backward()
    side = x.shape[2] // 4
    seen = torch.nn.functional.max_pool2d(x.grad.abs().sum(1), side).flatten(1).gt(0)
    assert [row.nonzero().flatten().tolist() for row in seen] == [[0, 7, 23], [1, 2, 3]]


@torch.no_grad()
def test_padding_is_as_if_it_were_not_there_and_its_mask_follows_the_tokens_that_are_kept(encoder, x):
    z = encoder.embed(x)
    mask = torch.arange(24) < torch.tensor([[20], [11]])  # (2, 24)
    features = encoder.encode(z, mask=mask)
    assert torch.equal(features.mask, mask)
    assert torch.equal(encoder.encode(torch.where(mask[..., None], z, 99), mask=mask).pooled, features.pooled)
    for row, length in enumerate((20, 11)):
        alone = encoder.encode(z[row : row + 1], keep=torch.arange(length)[None])
        close((features.tokens[row, :length], features.pooled[row]), (alone.tokens[0], alone.pooled[0]))
    assert (features.pooled - encoder.encode(z).pooled).abs().max() > 1e-3
    mask, keep = torch.arange(24) != torch.tensor([[5], [6]]), torch.tensor([[5, 6, 7], [5, 6, 7]])
    features = encoder.encode(z, keep=keep, mask=mask)
    assert features.mask.tolist() == [[False, True, True], [True, False, True]]
    alone = encoder.encode(z, keep=torch.tensor([[6, 7], [5, 7]]))
    close((features.tokens[0, 1:], features.pooled), (alone.tokens[0], alone.pooled))


@torch.no_grad()
def test_under_a_causal_mask_no_token_depends_on_a_later_one_and_who_sees_nothing_sees_itself(encoder, x):
    z, causal = encoder.embed(x), torch.ones(24, 24, dtype=torch.bool).tril()
    later = z.index_copy(1, torch.tensor([10]), z[:, 20:21])
    for keep in (None, torch.tensor([[9, 4, 12, 10], [2, 9, 11, 10]])):
        place = torch.arange(24).expand(2, -1) if keep is None else keep
        before, after = (encoder.encode(each, keep=keep, visible=causal) for each in (z, later))
        assert torch.equal((before.tokens != after.tokens).any(2), place >= 10)
        assert (before.pooled != after.pooled).any(1).all()  # a mean of them, or a class token, which sees all
        free = (encoder.encode(each, keep=keep).tokens for each in (z, later))
        assert torch.ne(*free).any(2).all()
    nothing = torch.zeros(2, 24, dtype=torch.bool)
    features = encoder.encode(z, mask=nothing)
    blind, alone = (encoder.encode(z, visible=pairs) for pairs in (nothing[:1].expand(24, -1), torch.eye(24).bool()))
    assert torch.equal(blind.tokens, alone.tokens)
    assert all(each.isfinite().all() for each in (features.pooled, blind.tokens))


@torch.no_grad()
def test_layers_are_the_outputs_of_the_blocks(encoder, x):
    outputs, depth = [], len(encoder.trunk.blocks)
    for block in encoder.trunk.blocks:
        block.register_forward_hook(lambda *call: outputs.append(call[2][:, -24:]))
    features = encoder.encode(encoder.embed(x), layers=(-1, 0))
    assert all(map(torch.equal, features.layers, (outputs[depth - 1], outputs[0])))
    assert torch.equal(features.tokens, encoder(x).tokens)
    first = encoder.encode(encoder.embed(x), layers=[0], keep=torch.tensor([[3, 1], [0, 2]])).layers[0]
    assert first.shape == (2, 2, encoder.dim)
    for wrong in (depth, -depth - 1):
        with pytest.raises(ValueError, match=rf"layers=\[{wrong}\]: the encoder has {depth} blocks"):
            encoder.encode(encoder.embed(x), layers=(wrong,))
