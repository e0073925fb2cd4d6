"""Every choice of conf/model for images keeps the contract of an encoder, built as its YAML says."""

import pytest
import torch
from conftest import names_of
from encoders import close, colours, images
from torch import nn
from torchvision.models.resnet import BasicBlock
from toys import choice

from ssl_runner.contract import Encoder, Features
from ssl_runner.model.timm import Timm
from ssl_runner.model.vit import ViT

HEAVY = ("resnet34", "resnet50", "vit_small", "vit_base")  # their classes have lighter choices
LIGHT = [name for name in names_of("image", "model") if name not in HEAVY]
SHAPES = [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 64, 48)]


def build(name: str, shape: tuple[int, int, int] = (3, 32, 32), **given) -> Encoder:
    torch.manual_seed(0)
    kind, own, _ = choice("model", name)
    return kind(shape=shape, **{**colours(shape[0]), **own, **given})


@pytest.fixture(params=LIGHT)
def encoder(request) -> Encoder:
    return build(request.param).eval()


@pytest.fixture
def x(rng) -> torch.Tensor:
    return images(rng, 3, (3, 32, 32))


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in LIGHT for shape in SHAPES] + [(name, (3, 16, 16)) for name in HEAVY],
)
def test_shapes_and_pooled_reaches_every_parameter(name, shape, rng):
    """Distributed training waits for the gradient of every parameter that wants one."""
    encoder = build(name, shape)
    features = encoder(images(rng, 2, shape))
    assert isinstance(features, Features)
    rows, columns = features.grid
    assert (features.pooled.shape, features.tokens.shape) == ((2, encoder.dim), (2, rows * columns, encoder.dim))
    if not isinstance(encoder, Timm):  # whose heads have poolings of their own
        torch.testing.assert_close(features.pooled, features.tokens.mean(1))
    if shape[1:] != (8, 8):  # of which some networks leave a single position, whose neighbours' weights meet nothing
        (features.pooled * torch.randn(features.pooled.shape, generator=rng)).sum().backward()
        assert encoder.training
        for key, parameter in encoder.named_parameters():  # timm starts some layers at zero
            assert parameter.grad is not None, key
            assert parameter.grad.any() or isinstance(encoder, Timm), key


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_tokens_are_in_raster_order_on_a_grid_of_rows_by_columns(name, rng):
    shape = (3, 128, 256)
    encoder = build(name, shape).eval()
    rows, columns = encoder(images(rng, 1, shape)).grid
    assert columns == 2 * rows
    if isinstance(encoder, ViT):
        encoder.blocks = nn.Sequential()  # a patch is then seen by its own token alone
    for module in encoder.modules():
        if isinstance(module, BasicBlock):
            module.bn2.weight.zero_()  # the shortcuts alone, which look at few pixels around
    bright = images(rng, 1, shape)
    dark = bright.clone()
    dark[:, :, : 128 // rows, -256 // columns :] = 0  # the token at the top right
    moved = (encoder(bright).tokens - encoder(dark).tokens).norm(dim=2).view(rows, columns)
    # A map's tokens overlap, so neighbours move too.
    assert min(moved[:, columns // 2 :].sum(), moved[: rows // 2].sum()) > moved.sum() / 2


@torch.no_grad()
def test_eval_mode_is_deterministic_whatever_the_batch_and_the_memory_format(encoder, x):
    together = encoder(x)
    assert torch.equal(encoder(x).pooled, together.pooled)
    for row in range(3):
        alone = encoder(x[row : row + 1])
        close((alone.pooled[0], alone.tokens[0]), (together.pooled[row], together.tokens[row]))
    assert not torch.allclose(together.pooled[0], together.pooled[1], rtol=1e-4, atol=1e-5)
    last = encoder.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    close((last.pooled, last.tokens), (together.pooled, together.tokens))


@torch.no_grad()
def test_normalisation_is_inside(encoder, x):
    assert {"mean", "std"} <= set(encoder.state_dict()) - {key for key, _ in encoder.named_parameters()}
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in colours(3).values())
    assert encoder.normalise(mean.expand(2, 3, 4, 4)).abs().max() == 0
    expected = encoder(x).pooled
    encoder.mean.zero_()
    encoder.std.fill_(1)
    torch.testing.assert_close(encoder((x - mean) / std).pooled, expected)
    assert not torch.allclose(encoder(x).pooled, expected, rtol=1e-3)


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_state_dict_carries_the_whole_encoder(name, x):
    first = build(name)
    first(x)  # moves the running statistics of batch norm
    second = build(name, mean=(0.0,) * 3, std=(1.0,) * 3)
    for parameter in second.parameters():
        parameter.zero_()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(x).pooled, second.eval()(x).pooled)


def test_who_cannot_drop_tokens_says_which_model_can(encoder, x):
    keep = torch.zeros(3, 1, dtype=torch.long)
    if encoder.in_two_steps:
        assert encoder(x, keep).tokens.shape[1] == 1
        return
    sentence = f"{type(encoder).__name__} cannot drop tokens; use model=vit_tiny for masked methods"
    for act, given in ((encoder, [x, keep]), (encoder.embed, [x]), (encoder.encode, [torch.zeros(3, 4, encoder.dim)])):
        with pytest.raises(ValueError, match=sentence):
            act(*given)
