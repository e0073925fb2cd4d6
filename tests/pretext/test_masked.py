"""SimMIM, MaskFeat, data2vec, I-JEPA and CrossMAE: what the encoder sees, what the loss is of, teachers, pictures."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, context, number, still, wander

from ssl_runner.augment.image.block_mask import MultiBlock
from ssl_runner.augment.image.mask import patchify, unpatchify
from ssl_runner.contract import Batch, Encoder, Features, Pretext, Samples
from ssl_runner.duration import Duration
from ssl_runner.layers.transformer import normalise_tokens
from ssl_runner.loss.hog import hog
from ssl_runner.model.vit import ViT
from ssl_runner.pretext import data2vec as data2vec_module
from ssl_runner.pretext import ijepa as ijepa_module
from ssl_runner.pretext.crossmae import CrossMAE
from ssl_runner.pretext.data2vec import Data2Vec
from ssl_runner.pretext.ijepa import IJEPA
from ssl_runner.pretext.maskfeat import MaskFeat
from ssl_runner.pretext.simmim import SimMIM

NARROW = {"width": 8, "depth": 1, "heads": 2}
KINDS = {
    "simmim": (SimMIM, {"unit": 4, "depth": 0}),
    "maskfeat": (MaskFeat, {"block": 2, "epsilon": 0.02}),
    "data2vec": (Data2Vec, {"block": 2}),
    "ijepa": (IJEPA, NARROW),
    "crossmae": (CrossMAE, {**NARROW, "ratio": 0.75, "normalise": True}),
}
TEACHERS = ("data2vec", "ijepa")


def vit(mean: float = 0.5, std: float = 0.25, **given) -> ViT:
    """Sixteen patches of 2 x 2 px."""
    return ViT(**{"shape": SHAPE, "mean": (mean,) * 3, "std": (std,) * 3, "width": 8, "depth": 2, "heads": 2} | given)


def task(name: str, encoder: Encoder | None = None, **settings) -> Pretext:
    torch.manual_seed(0)
    kind, own = KINDS[name]
    known = {"samples": Samples("image", SHAPE)} if name == "data2vec" else {"shape": SHAPE}
    return kind(**{"encoder": encoder or vit(), **known, "augment": still(), **own, **settings}).train()


def pixels_at(x: torch.Tensor, places: torch.Tensor, value: float) -> torch.Tensor:
    patches = patchify(x, (2, 2)).scatter(1, places[..., None].expand(-1, -1, 12), value)
    return unpatchify(patches, (2, 2), (4, 4))


def seen_patches(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(B, n) whether `value` has a gradient from each patch of images."""
    (gradient,) = torch.autograd.grad(value, x)
    return patchify(gradient.abs(), (2, 2)).sum(2) > 0


def hidden_patches_stay_hidden(name: str, encoder: Encoder | None = None) -> None:
    """Features are of shown patches alone, through attention too, and teachers give no gradient to the pixels."""
    pretext = task(name, encoder)
    x, *masks = pretext.views(batch(), context())
    x.requires_grad_()
    if name in TEACHERS:
        wander(pretext.teacher_encoder)
        value = pretext((x, *masks)).value
    else:
        value = pretext.encode(x, masks[0]).tokens.square().sum()
    shown_alone = name in ("ijepa", "crossmae")  # the mask comes as what is kept, or as what is hidden
    expected = torch.full((8, 16), not shown_alone).scatter(1, masks[0], shown_alone)
    assert torch.equal(seen_patches(value, x), expected)
    assert all(not expected.gather(1, each.flatten(1)).any() for each in masks[1:]), "a target is in the context"


@pytest.mark.parametrize("name", KINDS)
def test_no_pixel_of_a_hidden_patch_reaches_the_features(name):
    hidden_patches_stay_hidden(name)


@pytest.mark.parametrize("name", ["simmim", "maskfeat"])
def test_pixels_are_hidden_from_a_convolution_in_a_colour_that_is_learnt(name):
    pretext = task(name, Conv())
    x, masked = pretext.views(batch(), context())
    inputs = []
    pretext.encoder.register_forward_hook(lambda module, given, output: inputs.append(given[0]))
    assert pretext.token.shape == (3,)
    pretext.token.data = torch.tensor([1.0, 0.0, -2.0])
    pretext((x, masked)).value.backward()
    hidden = patchify(inputs[0], (2, 2)).gather(1, masked[..., None].expand(-1, -1, 12))
    torch.testing.assert_close(hidden, torch.tensor([0.75, 0.5, 0.0]).repeat(4).expand_as(hidden))
    torch.testing.assert_close(pixels_at(inputs[0], masked, 0.3), pixels_at(x, masked, 0.3))
    assert pretext.token.grad.all()
    assert torch.equal(pretext((pixels_at(x, masked, 0.9), masked)).embedding, pretext((x, masked)).embedding)


def through_attention(tokens, positions, token):
    return tokens


def whole_image(samples, grid, targets, size, rng, **given):
    n = grid[0] * grid[1]
    places = torch.arange(n).expand(samples, n)
    return MultiBlock(places, places[:, :size, None].transpose(1, 2).expand(-1, targets, -1))


PLANTED = {
    "simmim": ("ssl_runner.loss.patch_pixels.hide_tokens", through_attention),
    "maskfeat": ("ssl_runner.loss.patch_pixels.hide_tokens", through_attention),
    "data2vec": ("ssl_runner.pretext.data2vec.hide_tokens", through_attention),
    "ijepa": ("ssl_runner.pretext.ijepa.multi_block_masks", whole_image),
    "crossmae": (
        "ssl_runner.pretext.crossmae.random_masks",
        lambda b, n, k, rng: (rng.rand(b, n).argsort(1), rng.rand(b, n).argsort(1)),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_target_that_is_seen_through_attention_is_noticed(name, monkeypatch):
    monkeypatch.setattr(*PLANTED[name])
    with pytest.raises(AssertionError):
        hidden_patches_stay_hidden(name)


def predict_zero(pretext: Pretext) -> None:
    head = pretext.predict if name_of(pretext) != "crossmae" else pretext.predict[1]
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)


def name_of(pretext: Pretext) -> str:
    return next(name for name, (kind, _) in KINDS.items() if type(pretext) is kind)


HALVES = torch.tensor([0.5, 1.0]).repeat(4).expand(1, *SHAPE)  # 0 and 1 to an encoder of mean and std 0.5


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        *(
            ("simmim", {}, 0.5),
            ("simmim", {"normalise": True, "epsilon": 1e-6}, 1.0),
            ("crossmae", {}, 1.0),
            ("crossmae", {"normalise": False}, 0.5),
        ),
        ("maskfeat", {"epsilon": 1e-6}, 1 / 9),  # a histogram of unit length; of a pattern that is nowhere even
    ],
)
def test_the_loss_of_predicting_nothing_by_hand(name, settings, expected):
    pretext = task(name, vit(0.5, 0.5), **settings)
    x = batch(1).x if name == "maskfeat" else HALVES
    predict_zero(pretext)
    assert number(pretext(pretext.views(Batch(x, torch.arange(1)), context())).value) == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("name", ["simmim", "maskfeat", "crossmae"])
def test_the_loss_is_of_hidden_patches_in_the_order_asked_for(name):
    pretext = task(name)
    x, *masks = pretext.views(batch(), context())
    features = pretext.encode(x, masks[0])
    pretext.encode = lambda *given: features  # blind, so that only the target can change
    asked, shown = masks[-1], masks[0]
    if name == "crossmae":
        predicted, target = pretext.decode(features, asked), pretext.encoder.normalise(x)
        target = patchify(target, (2, 2))
        target = (target - target.mean(2, keepdim=True)) / target.var(2, keepdim=True, correction=0).sqrt()
    else:
        predicted = pretext.predict(features.tokens.gather(1, asked[..., None].expand(-1, -1, 8)))
        shown = torch.ones(8, 16).scatter(1, asked, 0.0).argsort(1, descending=True)[:, : 16 - asked.shape[1]]
        target = hog(x, (4, 4), 2, 9, 0.02) if name == "maskfeat" else patchify(pretext.encoder.normalise(x), (2, 2))
    error = predicted - target.gather(1, asked[..., None].expand(-1, -1, target.shape[2]))
    expected = error.abs().mean() if name == "simmim" else error.square().mean()
    value = pretext((x, *masks)).value
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    if name != "maskfeat":  # whose gradients reach one pixel beyond the patch
        assert torch.equal(pretext((pixels_at(x, shown, 0.9), *masks)).value, value)
    assert not torch.isclose(pretext((pixels_at(x, asked[:, :1], 0.9), *masks)).value, value)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_decoder_asks_shown_patches_and_pooled_features_and_a_linear_layer_asks_neither(depth):
    pretext = task("simmim", **NARROW | {"depth": depth})
    x, masked = pretext.views(batch(), context())
    seen = pretext.encode(x, masked)
    features = replace(seen, tokens=seen.tokens.detach().requires_grad_(), pooled=seen.pooled.detach().requires_grad_())
    pretext.encode = lambda *given: features
    pretext((x, masked)).value.backward()
    asked = features.tokens.grad.abs().sum(2) > 0
    hidden = torch.zeros(8, 16, dtype=torch.bool).scatter(1, masked, value=True)
    assert torch.equal(asked, torch.ones_like(hidden) if depth else hidden)
    assert (features.pooled.grad is not None) == bool(depth)
    if depth:
        assert features.pooled.grad.abs().sum(1).all()


def test_shown_patches_weigh_as_they_are_told_to():
    values = {}
    for shown in (0.0, 0.5):
        pretext = task("maskfeat", shown=shown)
        x, masked = pretext.views(batch(), context())
        error = pretext.predict(pretext.encode(x, masked).tokens) - hog(x, (4, 4), 2, 9, 0.02)
        hidden = torch.zeros(8, 16, dtype=torch.bool).scatter(1, masked, value=True)
        expected = error[hidden].square().mean() + shown * error[~hidden].square().mean()
        values[shown] = pretext((x, masked)).value
        torch.testing.assert_close(values[shown], expected)
    assert values[0.5] > values[0.0]


def test_a_unit_is_as_many_pixels_wide_as_high_also_of_patches_that_are_not():
    """Of 4 x 2 px: units of 4 px are one patch high and two wide."""

    class Tall(Conv):
        def forward(self, x, keep=None):
            maps = super().forward(x).tokens.transpose(1, 2).unflatten(2, (4, 4))
            tokens = F.avg_pool2d(maps, (2, 1)).flatten(2).transpose(1, 2)
            return Features(tokens.mean(1), tokens, (2, 4))

    pretext = task("simmim", Tall())
    assert pretext.patch == (4, 2)
    assert pretext.units.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_crossmaes_prediction_does_not_depend_on_what_else_is_asked_for():
    pretext = task("crossmae", depth=2, layers=2)
    x, keep, masked, asked = pretext.views(batch(), context())
    assert (keep.shape[1], masked.shape[1], asked.shape[1]) == (4, 12, 8)
    features = pretext.encode(x, keep)
    together = pretext.decode(features, masked)
    for place in range(3):
        alone = pretext.decode(features, masked[:, place : place + 1])
        torch.testing.assert_close(alone, together[:, place : place + 1])
    assert not torch.allclose(together[:, 0], together[:, 1])
    x, order = x[:1], torch.tensor([[0, 1], [1, 0]])  # and not on the order of what is shown
    torch.testing.assert_close(*(pretext.decode(pretext.encode(x, keep[:1, each]), asked[:1]) for each in order))
    for layer in range(2):  # each block reads its own sum of the outputs
        before = pretext.decode(features, masked)
        pretext.shares.data[0, layer] += 1
        assert not torch.allclose(pretext.decode(features, masked), before)


def layer_norm(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()


def smooth_l1(error: torch.Tensor, beta: float) -> torch.Tensor:
    size = error.abs()
    return torch.where(size < beta, size.square() / (2 * beta) if beta else size, size - beta / 2).mean()


def normalised(x: torch.Tensor, over: str) -> torch.Tensor:
    return layer_norm(x) if over == "layer" else layer_norm(x.transpose(1, 2)).transpose(1, 2)


def data2vecs_loss_is_of_normalised_targets(beta: float = 0.5, over: str = "layer") -> None:
    pretext = task("data2vec", vit(depth=3), layers=2, beta=beta, normalise=over)
    wander(pretext.teacher_encoder)
    x, masked = views = pretext.views(batch(), context())
    loss, teacher = pretext(views), pretext.teacher_encoder
    outputs = teacher.encode(teacher.embed(x), layers=[1, 2]).layers
    mean = sum(normalised(each, over) for each in outputs) / 2
    place = masked[..., None].expand(-1, -1, 8)
    target = layer_norm(mean.gather(1, place))
    z = pretext.encoder.embed(x).scatter(1, place, pretext.token.expand(8, 16, 8))
    predicted = pretext.predict(pretext.encoder.encode(z).tokens.gather(1, place))
    torch.testing.assert_close(loss.value, smooth_l1(predicted - target, beta), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.metrics["spread"], mean.std(0).mean().detach(), rtol=1e-4, atol=1e-5)


def ijepas_loss_is_of_normalised_targets(over: str = "layer") -> None:
    pretext = task("ijepa", normalise=over)
    wander(pretext.teacher_encoder)
    x, keep, targets = views = pretext.views(batch(), context())
    loss, whole = pretext(views), normalised(pretext.teacher_encoder(x).tokens, over)
    features = pretext.encoder(x, keep)
    errors = []
    for block in targets.unbind(1):  # each predicted by itself
        predicted = pretext.predictor(features.tokens, keep, block)
        errors.append(predicted - whole.gather(1, block[..., None].expand(-1, -1, 8)))
    torch.testing.assert_close(loss.value, smooth_l1(torch.stack(errors), 1.0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.metrics["spread"], whole.std(0).mean().detach())


@pytest.mark.parametrize(("beta", "over"), [(0.0, "instance"), (0.5, "layer"), (2.0, "instance")])
def test_data2vecs_target_is_the_normalised_mean_of_normalised_blocks_of_a_teacher_that_sees_all(beta, over):
    data2vecs_loss_is_of_normalised_targets(beta, over)


@pytest.mark.parametrize("over", ["layer", "instance"])
def test_ijepa_predicts_each_normalised_target_by_itself(over):
    ijepas_loss_is_of_normalised_targets(over)


def test_over_an_image_what_all_its_tokens_have_in_common_is_no_target():
    tokens, common = torch.randn(4, 16, 8), 9 * torch.randn(4, 1, 8)
    over_tokens, over_numbers = (normalise_tokens(tokens + common, over) for over in ("instance", "layer"))
    torch.testing.assert_close(over_tokens, normalise_tokens(tokens, "instance"), rtol=1e-3, atol=1e-4)
    assert (over_numbers - normalise_tokens(tokens, "layer")).abs().mean() > 0.3
    assert over_numbers.mean(1).abs().mean() > 0.5, "a token tells most of what the others are"
    torch.testing.assert_close(over_tokens.std(1, correction=0), torch.ones(4, 8), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("module", "test"),
    [(data2vec_module, data2vecs_loss_is_of_normalised_targets), (ijepa_module, ijepas_loss_is_of_normalised_targets)],
)
def test_a_target_without_normalisation_is_noticed(module, test, monkeypatch):
    monkeypatch.setattr(module.F, "layer_norm", lambda x, *given: x)
    with pytest.raises(AssertionError):
        test()


@pytest.mark.parametrize("step", [0, 15, 30, 99])
@pytest.mark.parametrize("name", TEACHERS)
def test_momentum_rises_along_a_line_and_the_teacher_follows(name, step):
    settings = {"momentum": 0.9} | ({"first_momentum": 0.5, "ramp": Duration(30, "%")} if name == "data2vec" else {})
    pretext = task(name, **settings)
    expected = 0.9 + 0.1 * step / 100 if name == "ijepa" else {0: 0.5, 15: 0.7}.get(step, 0.9)
    before = [p.clone() for p in pretext.teacher_encoder.parameters()]
    assert all(map(torch.equal, before, pretext.encoder.parameters())), "it starts as its student"
    wander(pretext.encoder)
    pretext(pretext.views(batch(), context()))
    assert all(map(torch.equal, before, pretext.teacher_encoder.parameters())), "it moves after the step"
    pretext.after_step(context(step=step), {})
    for was, now, student in zip(
        before, pretext.teacher_encoder.parameters(), pretext.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(now, expected * was + (1 - expected) * student)
    assert pretext.trained() is pretext.teacher_encoder is not pretext.encoder


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_that_is_its_student_is_noticed(name, monkeypatch):
    monkeypatch.setattr(f"ssl_runner.pretext.{name}.frozen_copy", lambda module: module)
    with pytest.raises(AssertionError):
        test_momentum_rises_along_a_line_and_the_teacher_follows(name, 15)


@pytest.mark.parametrize("name", TEACHERS)
def test_two_micro_batches_are_one_batch_and_the_teacher_moves_once(name, make):
    learners = [make(f"pretext={name}", f"accumulate={n}", "evaluator=none", folder=str(n)).learner for n in (1, 2)]
    for learner in learners:
        learner.step(0)
    one, two = (dict(learner.pretext.named_parameters()) for learner in learners)
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", TEACHERS)
def test_spread_is_nothing_if_samples_are_told_apart_by_nothing(name):
    pretext = task(name)
    x = batch(1).x.expand(8, -1, -1, -1)
    views = pretext.views(Batch(x, torch.arange(8)), context())
    assert number(pretext(views).metrics["spread"]) < 1e-4
    assert number(task(name)(task(name).views(batch(), context())).metrics["spread"]) > 0.1


def test_the_predictor_knows_places_and_its_queries_see_each_other():
    predictor = task("ijepa").predictor
    tokens, places = torch.randn(3, 5, 8), torch.tensor([[0, 3, 5, 9, 15]]).expand(3, -1)
    asked = torch.tensor([[1, 2, 7]]).expand(3, -1)
    predicted = predictor(tokens, places, asked)
    torch.testing.assert_close(predictor(tokens.flip(1), places.flip(1), asked), predicted)
    torch.testing.assert_close(predictor(tokens, places, asked.flip(1)), predicted.flip(1))
    assert not torch.allclose(predictor(tokens, places.flip(1), asked), predicted, atol=1e-3)
    assert not torch.allclose(predictor(tokens, places, asked[:, :1]), predicted[:, :1], atol=1e-5)


@pytest.mark.parametrize("name", ["simmim", "crossmae"])
def test_pictures_are_what_is_seen_and_the_same_filled_in(name):
    pretext = task(name).eval()
    x, *masks = views = pretext.views(batch(), context())
    masked = masks[0] if name == "simmim" else masks[1]
    with torch.no_grad():
        pictures = pretext.pictures(views)
        predict_zero(pretext)
        filled = pretext.pictures(views)["reconstruction"]
    assert torch.equal(pictures["masked"], pixels_at(x, masked, 0.5))
    torch.testing.assert_close(pixels_at(pictures["reconstruction"], masked, 0.5), pictures["masked"])
    assert 0 <= pictures["reconstruction"].min() <= pictures["reconstruction"].max() <= 1
    patches, true = (patchify(each, (2, 2)).gather(1, masked[..., None].expand(-1, -1, 12)) for each in (filled, x))
    expected = true.mean(2, keepdim=True).expand_as(true) if name == "crossmae" else torch.full_like(true, 0.5)
    torch.testing.assert_close(patches, expected)  # the training set's mean, or the patch's own


REFUSED = [
    *(
        (name, {"encoder": Conv()}, "Conv cannot drop tokens; use model=vit_tiny")
        for name in ("data2vec", "ijepa", "crossmae")
    ),
    ("simmim", {"unit": 6}, r"units of 3x3 do not fill a grid of 4x4 patches; type pretext\.unit=1"),
    ("simmim", {"unit": 8}, r"pretext\.unit=8 is the whole image; type pretext\.unit=2"),
    ("maskfeat", {"cell": 4}, r"pretext\.cell=4 does not divide patches of 2x2 px; type pretext\.cell=2"),
    ("ijepa", {"targets": 6}, r"6 targets of 3 patches may leave none of 16 as context; type pretext\.target=0\.125"),
    ("data2vec", {"layers": 3}, r"pretext\.layers=3: the encoder has 2 blocks, .*; type pretext\.layers=1"),
    ("crossmae", {"layers": 3}, r"pretext\.layers=3: the encoder has 2 blocks"),
    *((name, {"width": 10}, r"pretext\.width=10 must be a multiple of 4") for name in ("ijepa", "crossmae")),
    ("simmim", {"width": 10, "depth": 1}, r"pretext\.width=10 must be a multiple of 4"),
]


@pytest.mark.parametrize(("name", "settings", "sentence"), REFUSED)
def test_what_cannot_be_is_refused_with_what_to_type(name, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        task(name, **settings)


@pytest.mark.parametrize("name", KINDS)
def test_views_of_another_size_have_their_own_grid(name):
    pretext = task(name, augment=still(size=16))
    views = pretext.views(batch(), context())
    assert pretext.grid == (8, 8)
    assert pretext(views).value.isfinite()
