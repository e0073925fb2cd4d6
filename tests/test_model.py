"""Encoders keep the contract, each as its YAML builds it."""

import inspect
from importlib import import_module
from math import cos, prod, sin
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torchvision.models.resnet import BasicBlock

from ssl_runner.contract import Encoder, Features
from ssl_runner.layers.position import sine_cosine
from ssl_runner.model.convnet import ConvNet
from ssl_runner.model.resnet import ResNet
from ssl_runner.model.timm import Timm
from ssl_runner.model.vit import ViT, patch_of

FOLDER = Path(__file__).parents[1] / "conf" / "model"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
LIGHT = [
    name for name in NAMES if name not in ("resnet34", "resnet50", "vit_small", "vit_base")
]  # their classes have lighter ones
SHAPES = [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 64, 48)]


def colours(channels: int) -> dict:
    return {"mean": (0.5, 0.4, 0.3)[:channels], "std": (0.2, 0.25, 0.3)[:channels]}


def settings(name: str) -> tuple[type, dict]:
    given = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    module, _, kind = given.pop("_target_").rpartition(".")
    return getattr(import_module(module), kind), {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}


def build(name: str, shape: tuple[int, int, int] = (3, 32, 32)) -> Encoder:
    torch.manual_seed(0)
    kind, given = settings(name)
    return kind(shape=shape, **colours(shape[0]), **given)


def vit(shape=(3, 16, 24), **given) -> ViT:
    torch.manual_seed(0)
    return ViT(shape=shape, **colours(shape[0]), **{"width": 16, "depth": 2, "heads": 2, "patch": 4} | given)


def images(rng: torch.Generator, number: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(number, *shape, generator=rng)


def own_pooling(encoder: Encoder) -> bool:
    """Whether `pooled` is promised to be the mean of `tokens`."""
    return not isinstance(encoder, Timm)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_spells_out_every_setting_with_a_value_that_the_constructor_has(name):
    kind, given = settings(name)
    parameters = inspect.signature(kind).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    assert set(given) | {"shape", "mean", "std"} == set(parameters)
    assert {key for key, p in parameters.items() if p.default is p.empty} == {"shape", "mean", "std"}


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in LIGHT for shape in SHAPES]
    + [(name, (3, 16, 16)) for name in NAMES if name not in LIGHT],
)
@torch.no_grad()
def test_shapes(name, shape, rng):
    encoder = build(name, shape).eval()
    features = encoder(images(rng, 2, shape))
    assert isinstance(features, Features)
    number = prod(features.grid)
    assert features.pooled.shape == (2, encoder.dim)
    assert features.tokens.shape == (2, number, encoder.dim)
    assert len(features.grid) == 2
    if own_pooling(encoder):
        torch.testing.assert_close(features.pooled, features.tokens.mean(1))


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_tokens_are_in_raster_order_on_a_grid_of_rows_by_columns(name, rng):
    shape = (3, 128, 256)
    encoder = build(name, shape).eval()
    rows, columns = encoder(images(rng, 1, shape)).grid
    assert columns == 2 * rows
    if isinstance(encoder, ViT):
        encoder.blocks = nn.Identity()  # a patch is then seen by its own token alone
    for module in encoder.modules():
        if isinstance(module, BasicBlock):
            module.bn2.weight.zero_()  # the shortcuts alone, which look at few pixels around
    bright = images(rng, 1, shape)
    dark = bright.clone()
    dark[:, :, : 128 // rows, -256 // columns :] = 0  # the token at the top right
    moved = (encoder(bright).tokens - encoder(dark).tokens).norm(dim=2).view(rows, columns)
    right, top = moved[:, columns // 2 :], moved[: rows // 2]  # a map's tokens overlap, so neighbours move too
    assert right.sum() > moved.sum() / 2
    assert top.sum() > moved.sum() / 2


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_eval_mode_is_deterministic_and_keeps_samples_apart(name, rng):
    encoder = build(name).eval()
    x = images(rng, 3, (3, 32, 32))
    together = encoder(x)
    assert torch.equal(encoder(x).pooled, together.pooled)
    for row in range(3):
        alone = encoder(x[row : row + 1])
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.tokens[0], together.tokens[row], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together.pooled[0], together.pooled[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_memory_format_does_not_change_the_features(name, rng):
    encoder = build(name).eval()
    x = images(rng, 2, (3, 32, 32))
    plain = encoder(x)
    last = encoder.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last.pooled, plain.pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last.tokens, plain.tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_pooled_reaches_every_parameter(name, rng):
    """Distributed training waits for the gradient of every parameter that wants one."""
    shape = (3, 32, 32) if name in LIGHT else (3, 16, 16)
    encoder = build(name, shape)
    pooled = encoder(images(rng, 2, shape)).pooled
    (pooled * torch.randn(pooled.shape, generator=rng)).sum().backward()
    assert encoder.training
    for key, parameter in encoder.named_parameters():
        assert parameter.requires_grad, key
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0 or isinstance(encoder, Timm), key  # timm starts some layers at zero


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_normalisation_is_inside(name, rng):
    encoder = build(name).eval()
    assert {"mean", "std"} <= set(encoder.state_dict())
    assert not {"mean", "std"} & {key for key, _ in encoder.named_parameters()}
    average = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert encoder.normalise(average).abs().max() == 0
    x = images(rng, 2, (3, 32, 32))
    expected = encoder(x).pooled
    by_hand = (x - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    encoder.mean.zero_()
    encoder.std.fill_(1)
    torch.testing.assert_close(encoder(by_hand).pooled, expected)
    assert not torch.allclose(encoder(x).pooled, expected, rtol=1e-3)


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_state_dict_carries_the_whole_encoder(name, rng):
    shape = (3, 32, 32)
    first = build(name, shape)
    first(images(rng, 4, shape))  # moves the running statistics of batch norm
    kind, given = settings(name)
    second = kind(shape=shape, mean=(0.0,) * 3, std=(1.0,) * 3, **given)
    second.load_state_dict(first.state_dict())
    x = images(rng, 2, shape)
    assert torch.equal(first.eval()(x).pooled, second.eval()(x).pooled)


@pytest.mark.parametrize("name", [name for name in LIGHT if not settings(name)[0].drops_tokens])
def test_who_cannot_drop_tokens_says_which_model_can(name, rng):
    encoder = build(name).eval()
    sentence = f"{type(encoder).__name__} cannot drop tokens; use model=vit_tiny for masked methods"
    with pytest.raises(ValueError, match=sentence):
        encoder(images(rng, 2, (3, 32, 32)), torch.zeros(2, 1, dtype=torch.long))


def test_convnet_parameters_by_hand():
    def count(**given):
        encoder = ConvNet(shape=(3, 32, 32), **colours(3), **given)
        return sum(p.numel() for p in encoder.parameters())

    weights = 9 * (3 * 64 + 64 * 128 + 128 * 256)
    assert count(batch_norm=False) == weights + 64 + 128 + 256 == 370_816
    assert count(batch_norm=True) == weights + 2 * (64 + 128 + 256) == 371_264
    assert count(batch_norm=False, widths=(8,)) == 9 * 3 * 8 + 8


@torch.no_grad()
def test_convnet_by_hand():
    """An average over 3x3 pixels, of which a corner of the image has four and the max-pool takes the best."""
    encoder = ConvNet(shape=(1, 2, 4), mean=(1.0,), std=(2.0,), widths=(1,), batch_norm=False)
    encoder.layers[0].weight.fill_(1)
    encoder.layers[0].bias.fill_(-1)
    x = torch.tensor([[[[3.0, 1, 1, 1], [1, 1, 1, -1]]]])  # normalised: 1 at the left, -1 at the right
    features = encoder(x)
    # The sums are 1 1 -1 -1 in both rows; less the bias 0 0 -2 -2; nothing is left after ReLU.
    assert features.tokens.flatten().tolist() == [0, 0]
    encoder.layers[0].bias.fill_(2)  # 3 3 1 1
    features = encoder(x)
    assert features.tokens.flatten().tolist() == [3, 1]
    assert features.pooled.item() == 2
    assert features.grid == (1, 2)


def test_convnet_says_how_many_layers_fit():
    with pytest.raises(ValueError, match=r"at least 8x8, given 4x7; give model\.widths at most 2 entries"):
        ConvNet(shape=(3, 4, 7), **colours(3))
    ConvNet(shape=(3, 4, 7), **colours(3), widths=(8, 8))


@pytest.mark.parametrize(
    ("shape", "stem", "grid"),
    [
        ((3, 64, 64), "auto", (8, 8)),
        ((3, 65, 32), "auto", (3, 1)),
        ((3, 64, 64), "large", (2, 2)),
        ((3, 96, 96), "small", (12, 12)),
    ],
)
@torch.no_grad()
def test_stem_of_resnet_goes_by_the_longer_side(shape, stem, grid, rng):
    encoder = ResNet(shape=shape, **colours(3), stem=stem).eval()
    assert encoder(images(rng, 1, shape)).grid == grid


@torch.no_grad()
def test_resnet_with_the_large_stem_is_torchvisions(rng):
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=1)
    theirs.fc = nn.Identity()
    encoder = ResNet(shape=(3, 96, 96), **colours(3))
    missing, unexpected = encoder.layers.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    assert not unexpected
    x = images(rng, 2, (3, 96, 96))
    torch.testing.assert_close(encoder.eval()(x).pooled, theirs.eval()(encoder.normalise(x)))


@pytest.mark.parametrize("pool", ["mean", "class"])
@torch.no_grad()
def test_vit_that_keeps_all_tokens_sees_the_whole_image(pool, rng):
    encoder = vit(pool=pool).eval()
    x = images(rng, 2, (3, 16, 24))
    whole, everything = encoder(x), encoder(x, torch.arange(24).expand(2, -1))
    assert torch.equal(whole.tokens, everything.tokens)
    assert torch.equal(whole.pooled, everything.pooled)
    # Attention knows places by the positions alone, and these travel with their tokens.
    order = torch.stack([torch.randperm(24, generator=rng) for _ in range(2)])
    shuffled = encoder(x, order)
    torch.testing.assert_close(shuffled.tokens, whole.tokens.take_along_dim(order[..., None], 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shuffled.pooled, whole.pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "class"])
@torch.no_grad()
def test_vit_tells_where_a_patch_is(pool, rng):
    """Without positions it would see a bag of patches, and the mirrored rows of patches would be the same to it."""
    encoder = vit(pool=pool).eval()
    x = images(rng, 2, (3, 16, 24))
    moved = x.unflatten(2, (4, 4)).flip(2).flatten(2, 3)
    assert (encoder(moved).pooled - encoder(x).pooled).abs().max() > 1e-3
    encoder.positions.zero_()
    torch.testing.assert_close(encoder(moved).pooled, encoder(x).pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_vit_does_not_see_what_it_does_not_keep(pool, rng):
    encoder = vit(pool=pool).eval()
    x = images(rng, 2, (3, 16, 24)).requires_grad_()
    keep = torch.tensor([[7, 0, 23], [1, 2, 3]])  # (row, column): (1, 1), (0, 0), (3, 5) and (0, 1), (0, 2), (0, 3)
    features = encoder(x, keep)
    assert features.tokens.shape == (2, 3, 16)
    assert features.grid == (4, 6)
    features.pooled.square().sum().backward()
    seen = nn.functional.max_pool2d(x.grad.abs().sum(1), 4).flatten(1).gt(0)
    assert seen[0].nonzero().flatten().tolist() == [0, 7, 23]
    assert seen[1].nonzero().flatten().tolist() == [1, 2, 3]


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
def test_vit_reads_views_of_other_sizes(rng):
    encoder = vit((3, 32, 32)).eval()
    assert encoder(images(rng, 2, (3, 16, 16))).grid == (4, 4)
    assert encoder(images(rng, 2, (3, 16, 16))).tokens.shape == (2, 16, 16)
    torch.testing.assert_close(encoder.positions_of((8, 8)), encoder.positions)
    # Half as many places over the same image: each lies between two of the old ones. The rows' slowest sine is a line.
    own, other = encoder.positions.view(8, 8, 16), encoder.positions_of((4, 4)).view(4, 4, 16)
    for column in (1, 2):
        torch.testing.assert_close(other[1, column, 3], (own[2, 0, 3] + own[3, 0, 3]) / 2, rtol=1e-3, atol=1e-5)


def test_sine_cosine_by_hand():
    positions = sine_cosine((2, 3), 8)  # the row's sines, its cosines, the column's sines, its cosines
    for row in range(2):
        for column in range(3):
            expected = [f(place * w) for place in (row, column) for f in (sin, cos) for w in (1, 0.01)]
            torch.testing.assert_close(positions[3 * row + column], torch.tensor(expected))
    torch.testing.assert_close(sine_cosine((5,), 4)[:, 0], torch.arange(5.0).sin())
    with pytest.raises(ValueError, match=r"a width of 6 .* use a multiple of 4"):
        sine_cosine((2, 2), 6)


@pytest.mark.parametrize(
    ("name", "shape", "grid", "dim"),
    [
        ("swin_tiny_patch4_window7_224", (3, 64, 64), (2, 2), 768),  # a map with channels last
        ("deit_tiny_distilled_patch16_224", (1, 32, 64), (2, 4), 192),  # class and distillation tokens ahead
        ("cait_xxs24_224", (3, 32, 32), (2, 2), 192),  # a class token that timm does not count
    ],
)
@torch.no_grad()
def test_timm_layouts(name, shape, grid, dim, rng):
    encoder = Timm(shape=shape, **colours(shape[0]), name=name).eval()
    features = encoder(images(rng, 2, shape))
    assert features.grid == grid
    assert features.tokens.shape == (2, prod(grid), dim)
    assert features.pooled.shape == (2, dim)
    assert encoder.dim == dim


def test_timm_freezes_what_the_features_do_not_reach(rng):
    encoder = Timm(shape=(3, 32, 32), **colours(3), name="mobilenetv3_small_050")
    assert [key for key, p in encoder.named_parameters() if not p.requires_grad] == [
        "net.conv_head.weight",
        "net.conv_head.bias",
    ]
    features = encoder(images(rng, 2, (3, 32, 32)))
    torch.testing.assert_close(features.pooled, features.tokens.mean(1))
    features.pooled.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


def test_timm_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match=r"timm has no model 'resnet8teen'; nearest: .*resnet1"):
        Timm(shape=(3, 32, 32), **colours(3), name="resnet8teen")
    with pytest.raises(ValueError, match=r"inception_v3 cannot encode samples of shape \(3, 32, 32\)"):
        Timm(shape=(3, 32, 32), **colours(3), name="inception_v3")


@pytest.mark.parametrize("name", ["convnet_small", "resnet18", "vit_tiny"])
@torch.no_grad()
def test_forward_can_be_exported(name, rng):
    encoder = build(name).eval()
    x = images(rng, 2, (3, 32, 32))

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, x):
            return self.encoder(x).pooled

    graph = torch.export.export(Pooled(), (x,)).module()
    torch.testing.assert_close(graph(x), encoder(x).pooled, rtol=1e-4, atol=1e-5)
