"""The vision transformer: patches, positions, class token, weights of version 0.1. Two steps: test_two_steps.py."""

import pytest
import torch
from encoders import images, vit

from ssl_runner.model.vit import patch_of

POOLS = pytest.mark.parametrize("pool", ["mean", "class"])


@POOLS
@torch.no_grad()
def test_positions_tell_where_a_patch_is(pool, rng):
    """Without positions it would see a bag of patches, and the mirrored rows of patches would be the same to it."""
    encoder = vit(pool=pool).eval()
    x = images(rng, 2, (3, 16, 24))
    moved = x.unflatten(2, (4, 4)).flip(2).flatten(2, 3)
    assert (encoder(moved).pooled - encoder(x).pooled).abs().max() > 1e-3
    encoder.positions.zero_()
    torch.testing.assert_close(encoder(moved).pooled, encoder(x).pooled, rtol=1e-4, atol=1e-5)


def test_class_token_takes_part_and_is_no_token(rng):
    encoder = vit(pool="class")
    features = encoder(images(rng, 2, (3, 16, 24)))
    assert features.tokens.shape == (2, 24, 16)
    assert not torch.allclose(features.pooled, features.tokens.mean(1))
    (features.pooled * torch.randn(2, 16, generator=rng)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
    assert vit(pool="mean").class_token is None


def test_patch_goes_by_the_size_of_the_image():
    squares = {8: 2, 28: 4, 32: 4, 48: 4, 64: 8, 96: 8, 128: 16, 224: 16, 30: 5}
    assert {side: patch_of(side, side) for side in squares} == squares
    assert patch_of(64, 48) == 8
    with pytest.raises(ValueError, match=r"no patch of about 8 px divides 97x97; .*out of \[1, 97\]"):
        patch_of(97, 97)
    with pytest.raises(ValueError, match=r"patch=5 does not divide 32x48; these do: \[1, 2, 4, 8, 16\]"):
        vit((3, 32, 48), patch=5)
    with pytest.raises(ValueError, match=r"width=18 must be a multiple of 4 and of model\.heads=2"):
        vit(width=18)


@torch.no_grad()
def test_views_of_other_sizes(rng):
    encoder = vit((3, 32, 32)).eval()
    view = encoder(images(rng, 2, (3, 16, 16)))
    assert (view.grid, view.tokens.shape) == ((4, 4), (2, 16, 16))
    torch.testing.assert_close(encoder.positions_of((8, 8)), encoder.positions)
    # Half as many places over the same image: each lies between two of the old ones. The rows' slowest sine is a line.
    own, other = encoder.positions.view(8, 8, 16), encoder.positions_of((4, 4)).view(4, 4, 16)
    for column in (1, 2):
        torch.testing.assert_close(other[1, column, 3], (own[2, 0, 3] + own[3, 0, 3]) / 2, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_tokens_of_a_view_of_another_aspect_need_its_grid(rng):
    encoder, x = vit((3, 16, 24)).eval(), images(rng, 2, (3, 24, 16))
    z = encoder.embed(x)
    assert torch.equal(encoder.encode(z, grid=(6, 4)).tokens, encoder(x).tokens)
    assert not torch.equal(encoder.encode(z).tokens, encoder(x).tokens)
    with pytest.raises(ValueError, match=r"7 tokens are no rectangle of patches; .*`keep`"):
        encoder.encode(z[:, :7])


@torch.no_grad()
def test_weights_of_version_0_1_are_read(rng):
    """The projection of the patches was `embed`; a method's own layer of that name keeps it."""
    first, second = vit(), vit()
    second.patches.weight.zero_()
    method = torch.nn.ModuleDict({"encoder": second, "embed": torch.nn.Linear(16, 2)})
    old = {f"encoder.{key.replace('patches.', 'embed.')}": value for key, value in first.state_dict().items()}
    old |= {"embed.weight": torch.ones(2, 16), "embed.bias": torch.ones(2)}
    keys = list(old)
    method.load_state_dict(old)
    x = images(rng, 2, (3, 16, 24))
    assert torch.equal(second.eval()(x).pooled, first.eval()(x).pooled)
    assert method["embed"].weight.eq(1).all()
    assert list(old) == keys  # the caller's mapping stays as it is
