"""Encoders one by one: outputs and counts by hand, stems, patches and positions, layouts of timm, refusals."""

from math import prod

import pytest
import torch
from encoders import close, colours, images, timm, vit
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from ssl_runner.model.airbench import Airbench
from ssl_runner.model.convnet import ConvNet
from ssl_runner.model.resnet import ResNet
from ssl_runner.model.vit import patch_of


@torch.no_grad()
def test_convnet_by_hand():
    def count(**given):
        return sum(p.numel() for p in ConvNet(shape=(3, 32, 32), **colours(3), **given).parameters())

    weights = 9 * (3 * 64 + 64 * 128 + 128 * 256)
    assert count(batch_norm=False) == weights + 64 + 128 + 256 == 370_816
    assert count(batch_norm=True) == weights + 2 * (64 + 128 + 256) == 371_264
    assert count(batch_norm=False, widths=(8,)) == 9 * 3 * 8 + 8
    with pytest.raises(ValueError, match=r"at least 8x8, given 4x7; give model\.widths at most 2 entries"):
        ConvNet(shape=(3, 4, 7), **colours(3))
    ConvNet(shape=(3, 4, 7), **colours(3), widths=(8, 8))
    # A sum over 3x3 pixels, of which a corner of the image has four, and the max-pool takes the largest.
    encoder = ConvNet(shape=(1, 2, 4), mean=(1.0,), std=(2.0,), widths=(1,), batch_norm=False)
    encoder.layers[0].weight.fill_(1)
    x = torch.tensor([[[[3.0, 1, 1, 1], [1, 1, 1, -1]]]])  # normalised: 1 at the left, -1 at the right
    for bias, tokens in ((-1, [0, 0]), (2, [3, 1])):  # the sums are 1 1 -1 -1 in both rows, before the bias and ReLU
        encoder.layers[0].bias.fill_(bias)
        features = encoder(x)
        assert features.tokens.flatten().tolist() == tokens
        assert features.pooled.item() == sum(tokens) / 2
    assert features.grid == (1, 2)


@torch.no_grad()
def test_airbench_pools_before_it_normalises():
    def built(**given):
        return Airbench(shape=(3, 9, 9), **colours(3), **given)

    weights = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    assert sum(p.numel() for p in built().parameters()) == weights + 2 * (64 + 128 + 256 + 512)
    with pytest.raises(ValueError, match=r"model\.pools has 4 entries and model\.widths 1; give as many"):
        built(widths=(8,))
    with pytest.raises(ValueError, match=r"at least 16x16, given 9x9; give model\.pools at most 3 that are true"):
        built(pools=(True,) * 4)
    encoder = built(widths=(8, 4), pools=(True, False)).eval()
    x = torch.rand(2, 3, 9, 9)
    features = encoder(x)
    assert (features.grid, encoder.dim) == ((4, 4), 4)
    one, two = (encoder.layers[i].weight for i in (0, 4))
    with_pool = F.max_pool2d(F.conv2d(encoder.normalise(x), one, padding=1), 2)
    by_hand = F.relu(F.conv2d(F.relu(with_pool / (1 + 1e-5) ** 0.5), two, padding=1) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(features.pooled, by_hand.mean((2, 3)))
    torch.testing.assert_close(features.tokens.mT.unflatten(2, (4, 4)), by_hand)


@torch.no_grad()
def test_stem_of_resnet_goes_by_the_longer_side_and_with_the_large_one_it_is_torchvisions(rng):
    stems = {(64, 64, "auto"): (8, 8), (65, 32, "auto"): (3, 1), (64, 64, "large"): (2, 2), (96, 96, "small"): (12, 12)}
    for (*size, stem), grid in stems.items():
        encoder = ResNet(shape=(3, *size), **colours(3), stem=stem).eval()
        assert encoder(images(rng, 1, (3, *size))).grid == grid
    theirs = resnet18(num_classes=1)
    theirs.fc = nn.Identity()
    encoder = ResNet(shape=(3, 96, 96), **colours(3))
    assert encoder.layers.load_state_dict(theirs.state_dict(), strict=False) == ([], [])
    x = images(rng, 2, (3, 96, 96))
    torch.testing.assert_close(encoder.eval()(x).pooled, theirs.eval()(encoder.normalise(x)))


@pytest.mark.parametrize("pool", ["mean", "class"])
@torch.no_grad()
def test_positions_tell_where_a_patch_is(pool, rng):
    """Without positions it would see a bag of patches, and the mirrored rows of patches would be the same to it."""
    encoder, x = vit(pool=pool).eval(), images(rng, 2, (3, 16, 24))
    moved = x.unflatten(2, (4, 4)).flip(2).flatten(2, 3)
    assert (encoder(moved).pooled - encoder(x).pooled).abs().max() > 1e-3
    encoder.positions.zero_()
    close(encoder(moved).pooled, encoder(x).pooled)


def test_class_token_takes_part_and_is_no_token(rng):
    encoder = vit(pool="class")
    features = encoder(images(rng, 2, (3, 16, 24)))
    assert features.tokens.shape == (2, 24, 16)
    assert not torch.allclose(features.pooled, features.tokens.mean(1))
    (features.pooled * torch.randn(2, 16, generator=rng)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
    assert vit(pool="mean").class_token is None


@torch.no_grad()
def test_features_are_read_behind_a_block_while_a_task_that_hides_tokens_trains_them_all(rng):
    whole, half, x = vit().eval(), vit(read=1).eval(), images(rng, 2, (3, 16, 24))
    half.load_state_dict(whole.state_dict())
    (first,) = whole.encode(whole.embed(x), layers=[0]).layers
    close(half(x).pooled, whole.norm(first).mean(1))
    close(half.encode(half.embed(x)).tokens, whole(x).tokens)
    close(vit(read=2).pool(whole(x).tokens, None), whole(x).pooled)
    with pytest.raises(ValueError, match=r"model.read=9: there are 2 blocks; type model.read=2 or less, or null"):
        vit(read=9)


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
def test_views_of_other_sizes_and_aspects(rng):
    encoder = vit((3, 32, 32)).eval()
    view = encoder(images(rng, 2, (3, 16, 16)))
    assert (view.grid, view.tokens.shape) == ((4, 4), (2, 16, 16))
    torch.testing.assert_close(encoder.positions_of((8, 8)), encoder.positions)
    # Half as many places over the same image: each lies between two of the old ones. The rows' slowest sine is a line.
    own, other = encoder.positions.view(8, 8, 16), encoder.positions_of((4, 4)).view(4, 4, 16)
    between = (own[2, 0, 3] + own[3, 0, 3]) / 2
    torch.testing.assert_close(other[1, 1:3, 3], between.expand(2), rtol=1e-3, atol=1e-5)
    encoder, x = vit((3, 16, 24)).eval(), images(rng, 2, (3, 24, 16))
    z = encoder.embed(x)
    assert torch.equal(encoder.encode(z, grid=(6, 4)).tokens, encoder(x).tokens)
    assert not torch.equal(encoder.encode(z).tokens, encoder(x).tokens)
    with pytest.raises(ValueError, match=r"7 tokens are no rectangle of patches; .*`keep`"):
        encoder.encode(z[:, :7])


@torch.no_grad()
def test_weights_of_version_0_1_are_read(rng):
    """The projection of the patches was `embed`; a method's own layer of that name keeps it."""
    first, second, x = vit(), vit(), images(rng, 2, (3, 16, 24))
    second.patches.weight.zero_()
    method = nn.ModuleDict({"encoder": second, "embed": nn.Linear(16, 2)})
    old = {f"encoder.{key.replace('patches.', 'embed.')}": value for key, value in first.state_dict().items()}
    old |= {"embed.weight": torch.ones(2, 16), "embed.bias": torch.ones(2)}
    keys = list(old)
    method.load_state_dict(old)
    assert torch.equal(second.eval()(x).pooled, first.eval()(x).pooled)
    assert method["embed"].weight.eq(1).all()
    assert list(old) == keys  # the caller's mapping stays as it is


@pytest.mark.parametrize(
    ("name", "shape", "grid", "dim"),
    [
        ("swin_tiny_patch4_window7_224", (3, 64, 64), (2, 2), 768),  # a map with channels last
        ("deit_tiny_distilled_patch16_224", (1, 32, 64), (2, 4), 192),  # class and distillation tokens ahead
        ("cait_xxs24_224", (3, 32, 32), (2, 2), 192),  # a class token that timm does not count
    ],
)
@torch.no_grad()
def test_layouts_of_timm(name, shape, grid, dim, rng):
    encoder = timm(name, shape).eval()
    features = encoder(images(rng, 2, shape))
    assert (features.grid, encoder.dim) == (grid, dim)
    assert (features.tokens.shape, features.pooled.shape) == ((2, prod(grid), dim), (2, dim))


def test_what_the_features_of_timm_do_not_reach_is_frozen(rng):
    encoder = timm("mobilenetv3_small_050", (3, 32, 32))
    frozen = [key for key, p in encoder.named_parameters() if not p.requires_grad]
    assert frozen == ["net.conv_head.weight", "net.conv_head.bias"]
    features = encoder(images(rng, 2, (3, 32, 32)))
    torch.testing.assert_close(features.pooled, features.tokens.mean(1))
    features.pooled.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


def test_what_timm_cannot_build_or_pool_is_refused(rng):
    with pytest.raises(ValueError, match=r"timm has no model 'resnet8teen'; nearest: .*resnet1"):
        timm("resnet8teen")
    with pytest.raises(ValueError, match=r"inception_v3 cannot encode samples of shape \(3, 32, 32\)"):
        timm("inception_v3", (3, 32, 32))
    encoder = timm("test_vit3")
    z = encoder.embed(images(rng, 1, (3, 64, 96)))
    with pytest.raises(ValueError, match=r"test_vit3 pools by map and cannot leave padding out; use model=vit_tiny"):
        encoder.encode(z, mask=torch.ones(1, 24, dtype=torch.bool))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vit_tiny_patch16_224", (3, 32, 48)),
        ("deit3_small_patch16_224", (3, 32, 48)),  # positions of patches alone, layer scale
        ("deit_tiny_distilled_patch16_224", (3, 32, 48)),  # two tokens ahead, a head of its own
        ("vit_small_patch14_reg4_dinov2", (3, 28, 42)),  # class and register tokens ahead
        ("vit_pwee_patch16_reg1_gap_256", (3, 32, 48)),  # attention beside the perceptron, a mean over patches
        ("test_vit3", (3, 32, 48)),  # pooled by attention
        ("test_vit4", (3, 48, 32)),  # positions interpolated by the size of the image
    ],
)
@torch.no_grad()
def test_plain_vision_transformers_are_in_two_steps_with_timms_features_to_the_bit(name, shape, rng):
    encoder, x = timm(name, shape).eval(), images(rng, 2, shape)
    own = encoder.net.forward_features(encoder.normalise(x))
    assert encoder.in_two_steps
    z = encoder.embed(x)
    for features in (encoder(x), encoder.encode(z), encoder(x, torch.arange(z.shape[1]).expand(2, -1))):
        assert torch.equal(features.tokens, own[:, encoder.prefix :])
        assert torch.equal(features.pooled, encoder.net.forward_head(own, pre_logits=True))
        assert features.grid == ((2, 3) if shape[2] > shape[1] else (3, 2))


@pytest.mark.parametrize(
    "name", ["resnet18", "swin_tiny_patch4_window7_224", "vit_tiny_r_s16_p8_224", "eva02_tiny_patch14_224"]
)
def test_other_models_of_timm_are_not(name):
    side = 56 if "patch14" in name else 64
    assert not timm(name, (3, side, side)).in_two_steps
