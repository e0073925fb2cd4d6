"""Models of timm: layouts of their features, frozen parameters, refusals. Two steps: test_two_steps.py."""

from math import prod

import pytest
import torch
from encoders import images, timm

from ssl_runner.run.preflight import read_job


@pytest.mark.parametrize(
    ("name", "shape", "grid", "dim"),
    [
        ("swin_tiny_patch4_window7_224", (3, 64, 64), (2, 2), 768),  # a map with channels last
        ("deit_tiny_distilled_patch16_224", (1, 32, 64), (2, 4), 192),  # class and distillation tokens ahead
        ("cait_xxs24_224", (3, 32, 32), (2, 2), 192),  # a class token that timm does not count
    ],
)
@torch.no_grad()
def test_layouts(name, shape, grid, dim, rng):
    encoder = timm(name, shape).eval()
    features = encoder(images(rng, 2, shape))
    assert features.grid == grid
    assert features.tokens.shape == (2, prod(grid), dim)
    assert features.pooled.shape == (2, dim)
    assert encoder.dim == dim


def test_what_the_features_do_not_reach_is_frozen(rng):
    encoder = timm("mobilenetv3_small_050", (3, 32, 32))
    frozen = [key for key, p in encoder.named_parameters() if not p.requires_grad]
    assert frozen == ["net.conv_head.weight", "net.conv_head.bias"]
    features = encoder(images(rng, 2, (3, 32, 32)))
    torch.testing.assert_close(features.pooled, features.tokens.mean(1))
    features.pooled.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match=r"timm has no model 'resnet8teen'; nearest: .*resnet1"):
        timm("resnet8teen")
    with pytest.raises(ValueError, match=r"inception_v3 cannot encode samples of shape \(3, 32, 32\)"):
        timm("inception_v3", (3, 32, 32))


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
    everything = torch.arange(z.shape[1]).expand(2, -1)
    for features in (encoder(x), encoder.encode(z), encoder(x, everything)):
        assert torch.equal(features.tokens, own[:, encoder.prefix :])
        assert torch.equal(features.pooled, encoder.net.forward_head(own, pre_logits=True))
        assert features.grid == ((2, 3) if shape[2] > shape[1] else (3, 2))


@pytest.mark.parametrize(
    "name", ["resnet18", "swin_tiny_patch4_window7_224", "vit_tiny_r_s16_p8_224", "eva02_tiny_patch14_224"]
)
def test_others_are_not(name):
    encoder = timm(name, (3, 56, 56) if "eva" in name else (3, 64, 64))
    assert not encoder.in_two_steps


def test_head_that_cannot_leave_padding_out_says_so(rng):
    encoder = timm("test_vit3")
    z = encoder.embed(images(rng, 1, (3, 64, 96)))
    with pytest.raises(ValueError, match=r"test_vit3 pools by map and cannot leave padding out; use model=vit_tiny"):
        encoder.encode(z, mask=torch.ones(1, 24, dtype=torch.bool))


@pytest.mark.parametrize(("name", "problems"), [("test_vit", 0), ("test_efficientnet", 1)])
def test_a_masked_method_takes_plain_vision_transformers_alone(name, problems, composer):
    words = ["dataset.images=100", "pretext=mae", "model=timm", f"model.name={name}", "device=cpu", "evaluator=none"]
    refused = read_job(composer.compose(words).content)[1]
    assert refused == ["pretext: Timm cannot drop tokens; use model=vit_tiny for masked methods"] * problems
