"""AIM and NEPA: what each prediction has seen, what the loss is of, the palette, refusals, pictures, collapse."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, context, number, still, sweep_of, train

from ssl_runner.augment.image.mask import patchify, unpatchify
from ssl_runner.contract import Batch, Context, Pretext
from ssl_runner.layers.causal import causal_pairs, prefix_pairs
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.model.vit import ViT
from ssl_runner.pretext import nepa as nepa_module
from ssl_runner.pretext.aim import AIM
from ssl_runner.pretext.nepa import NEPA

PREFIX = torch.tensor([1, 3, 8, 15])  # of 16 patches


def vit(mean: float = 0.5, std: float = 0.25, **given) -> ViT:
    """Sixteen patches of 2 x 2 px."""
    return ViT(**{"shape": SHAPE, "mean": (mean,) * 3, "std": (std,) * 3, "width": 8, "depth": 2, "heads": 2} | given)


def task(kind: type, encoder=None, **settings) -> Pretext:
    torch.manual_seed(0)
    own = {"width": 16, "colours": 4} if kind is AIM else {}
    return kind(encoder=encoder or vit(), shape=SHAPE, augment=still(), **own | settings).train()


def predictions(pretext: Pretext, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is said of patches 1 to 15 of four images, and from which of them on the loss is of it."""
    if isinstance(pretext, AIM):
        return pretext.predict(x, PREFIX)[1], PREFIX
    said = []
    similarity = F.cosine_similarity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nepa_module.F, "cosine_similarity", lambda a, b, dim: said.append(a) or similarity(a, b, dim=dim))
        pretext((x,))
    return said[0], torch.ones(4, dtype=torch.int64)


@torch.no_grad()
def no_prediction_has_seen_its_target(kind: type, **settings) -> None:
    pretext, x = task(kind, **settings), batch(4).x
    before, first = predictions(pretext, x)
    for changed in range(16):
        patches = patchify(x, (2, 2))
        patches[:, changed] = 1 - patches[:, changed]
        moved = (predictions(pretext, unpatchify(patches, (2, 2), (4, 4)))[0] != before).any(2)  # (4, 15)
        for row, start in enumerate(first.tolist()):
            expected = torch.arange(1, 16) > changed
            expected[: start - 1] = changed < start  # a prediction in the prefix has seen all of it, and nothing else
            assert torch.equal(moved[row], expected), f"patch {changed}, image {row}"


CASES = [(AIM, {"target": "pixels"}), (AIM, {"target": "colours"}), (NEPA, {})]


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_a_patch_is_predicted_from_those_before_it_alone(kind, settings):
    no_prediction_has_seen_its_target(kind, **settings)


def without_shift(self, x, prefix):
    """The output at a patch is compared with that patch."""
    features = self.encoder.encode(self.encoder.embed(x), visible=prefix_pairs(self.causal, prefix))
    return features, self.head(features.tokens[:, 1:]).float()


@pytest.mark.parametrize(
    ("kind", "name", "planted"),
    [
        (AIM, "aim.causal_pairs", lambda n: torch.ones(n, n, dtype=torch.bool)),
        (AIM, "aim.causal_pairs", lambda n: torch.ones(n, n, dtype=torch.bool).tril(1)),
        (AIM, "aim.prefix_pairs", lambda causal, prefix: prefix_pairs(causal, prefix + 1)),
        (AIM, "aim.AIM.predict", without_shift),
        (NEPA, "nepa.causal_pairs", lambda n: torch.ones(n, n, dtype=torch.bool)),
    ],
)
def test_a_target_that_is_seen_through_attention_or_for_lack_of_a_shift_is_noticed(kind, name, planted, monkeypatch):
    monkeypatch.setattr(f"ssl_runner.pretext.{name}", planted)
    with pytest.raises(AssertionError):
        no_prediction_has_seen_its_target(kind)


def test_the_encoder_attends_to_all_patches_when_it_is_measured():
    for kind in (AIM, NEPA):
        encoder, x = task(kind).trained().eval(), batch(1).x
        later = x.clone()
        later[..., -1, -1] = 1 - later[..., -1, -1]
        assert (encoder(x).tokens != encoder(later).tokens).any(2).all()
        torch.testing.assert_close(encoder(x).pooled, encoder(x).tokens.mean(1))


def test_pairs_of_a_prefix_by_hand_and_of_each_sample_as_if_alone():
    rows = [["1000", "1100", "1110", "1111"], ["1110", "1110", "1110", "1111"]]
    expected = torch.tensor([[[mark == "1" for mark in row] for row in each] for each in rows])
    assert torch.equal(prefix_pairs(causal_pairs(4), torch.tensor([1, 3])), expected)
    encoder, pairs = vit().eval(), prefix_pairs(causal_pairs(16), PREFIX)
    z, keep = encoder.embed(batch(4).x), torch.rand(4, 16).argsort(1)[:, :7]
    for kept in (None, keep):
        together = encoder.encode(z, visible=pairs, keep=kept).tokens
        alone = [
            encoder.encode(z[row, None], visible=pairs[row], keep=None if kept is None else kept[row, None]).tokens
            for row in range(4)
        ]
        torch.testing.assert_close(together, torch.cat(alone))


def test_the_prefix_is_of_each_sample_and_of_every_length():
    _, prefix = task(AIM).views(batch(400), context())
    assert sorted(set(prefix.tolist())) == list(range(1, 16))


def aims_loss(target: str, normalise: bool) -> None:
    pretext, x = task(AIM, target=target, normalise=normalise), batch(4).x
    predicted, loss = pretext.predict(x, PREFIX)[1].double(), pretext((x, PREFIX))
    patches = patchify(pretext.encoder.normalise(x), (2, 2)).double()
    if normalise:
        patches = (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True, correction=0) + 0.1).sqrt()
    losses = []
    for row, start in enumerate(PREFIX.tolist()):
        of_patches = []
        for k in range(start, 16):
            said = predicted[row, k - 1]
            if target == "pixels":
                of_patches.append((said - patches[row, k]).square().mean())
                continue
            logits = said.view(4, 4)  # pixels of the patch, colours
            distance = torch.cdist(patchify(x, (2, 2))[row, k].view(4, 3).double(), pretext.palette.double())
            of_patches.append(-logits.log_softmax(1).gather(1, distance.argmin(1)[:, None]).mean())
        losses.append(sum(of_patches) / len(of_patches))
    torch.testing.assert_close(loss.value.double(), sum(losses) / 4, rtol=1e-4, atol=1e-5)
    halves = [pretext((x[part], PREFIX[part])).value for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(sum(halves) / 2, loss.value)  # micro-batches


@pytest.mark.parametrize(("target", "normalise"), [("pixels", False), ("pixels", True), ("colours", False)])
def test_aims_loss_is_of_the_next_patch_behind_the_prefix(target, normalise):
    aims_loss(target, normalise)


def test_accuracy_is_of_patches_behind_the_prefix_alone(monkeypatch):
    """Those within could be copied: what predicts them has seen them."""
    pretext, x = task(AIM, target="colours"), batch(4).x
    told = F.one_hot(pretext.colour_of(x), 4).float()  # (4, 15, pixels, colours)
    prefix = torch.tensor([15, 8, 8, 1])
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        within = ~pretext.asked(prefix)[..., None, None]
        logits = sign * torch.where(within, -told, told)  # wrong there, if right elsewhere
        monkeypatch.setattr(pretext, "predict", lambda x, _, said=logits: (pretext.encoder(x), said.flatten(2)))
        assert number(pretext((x, prefix)).metrics["accuracy"]) == expected


def test_a_loss_of_patches_in_the_prefix_is_noticed(monkeypatch):
    monkeypatch.setattr(AIM, "asked", lambda self, prefix: torch.ones(len(prefix), 15, dtype=torch.bool))
    with pytest.raises(AssertionError):
        aims_loss("pixels", False)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"normalise": False}, 0.5), ({"epsilon": 1e-6}, 1.0), ({"target": "colours", "colours": 8}, math.log(8))],
)
def test_the_loss_of_predicting_nothing_by_hand(settings, expected):
    pretext = task(AIM, vit(0.5, 0.5), **settings)
    torch.nn.init.zeros_(pretext.head[-1].weight)
    torch.nn.init.zeros_(pretext.head[-1].bias)
    halves = torch.tensor([0.5, 1.0]).repeat(4).expand(4, *SHAPE)  # 0 and 1 to an encoder of mean and std 0.5
    assert number(pretext((halves, PREFIX)).value) == pytest.approx(expected, rel=1e-4)


def test_the_palette_is_made_of_the_training_pixels_once():
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.2, 0.8], [0.5, 0.5, 0.5], [0.9, 0.9, 0.9]])  # two on a line to 0
    rows = colours.repeat(10, 1)[:, :, None, None].expand(-1, -1, 8, 8)
    pretext, before = task(AIM, target="colours", colours=12), {}
    for step in (1, 0):
        rng = CounterRng(0, torch.device("cpu"))
        pretext.before_step(Context(step, context().length, rng, lambda: iter([Batch(rows, torch.arange(40))])))
        before[step] = pretext.palette.clone()
    assert not torch.equal(before[1], before[0])
    assert torch.cdist(colours, pretext.palette).min(1).values.max() < 1e-3
    x, place = rows[:4], pretext.colour_of(rows[:4])
    assert place.shape == (4, 15, 4)
    torch.testing.assert_close(pretext.palette[place[:, 0, 0]], x[:, :, 0, 0], rtol=0, atol=1e-3)
    assert "palette" in pretext.state_dict()
    assert "palette" not in task(AIM).state_dict()
    task(AIM).before_step(Context(0, context().length, rng, sweep_of(5)))


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"normalise": False}, {"normalise": True}, {"target": "colours"}])
def test_the_picture_is_the_prefix_and_what_is_predicted_behind_it(settings):
    pretext, x = task(AIM, **settings).eval(), batch(4).x
    picture = patchify(pretext.pictures((x, PREFIX))["prediction"], (2, 2))
    true = patchify(x, (2, 2))
    for row, start in enumerate(PREFIX.tolist()):
        assert torch.equal(picture[row, :start], true[row, :start])
        assert not torch.isclose(picture[row, start:], true[row, start:]).all(1).any()
    if settings.get("normalise"):  # the true mean and variance of each patch
        torch.nn.init.zeros_(pretext.head[-1].weight)
        torch.nn.init.zeros_(pretext.head[-1].bias)
        flat = patchify(pretext.pictures((x, PREFIX))["prediction"], (2, 2))[0, 1:]
        expected = pretext.encoder.normalise(x)
        expected = patchify(expected, (2, 2))[0, 1:].mean(1, keepdim=True) * 0.25 + 0.5
        torch.testing.assert_close(flat, expected.expand_as(flat))
    if settings.get("target"):
        assert torch.cdist(picture[0, 1:].reshape(-1, 3), pretext.palette).min(1).values.max() < 2e-3


def nepas_loss() -> None:
    pretext, x = task(NEPA), batch(4).x
    z = pretext.encoder.embed(x)
    tokens = pretext.encoder.encode(z, visible=torch.ones(16, 16).tril().bool()).tokens.double()
    cosine = [
        (tokens[b, k - 1] @ z[b, k].double()) / (tokens[b, k - 1].norm() * z[b, k].double().norm())
        for b in range(4)
        for k in range(1, 16)
    ]
    torch.testing.assert_close(pretext((x,)).value.double(), -sum(cosine) / len(cosine), rtol=1e-4, atol=1e-5)


def test_nepas_loss_is_the_cosine_with_the_embedding_of_the_next_patch():
    nepas_loss()


def test_an_embedding_of_the_same_patch_is_noticed(monkeypatch):
    similarity = F.cosine_similarity
    monkeypatch.setattr(nepa_module.F, "cosine_similarity", lambda a, b, dim: similarity(a[:, 1:], b[:, :-1], dim=dim))
    with pytest.raises(AssertionError):
        nepas_loss()


def test_embeddings_have_no_gradient_as_targets():
    """The last patch is a target alone, under causal attention: what its pixels do to the loss is nothing."""
    for stopped in (True, False):
        pretext, x = task(NEPA, stop_gradient=stopped), batch(4).x.requires_grad_()
        (gradient,) = torch.autograd.grad(pretext((x,)).value, x)
        assert patchify(gradient.abs(), (2, 2)).sum(2)[:, :15].all()
        assert bool(patchify(gradient.abs(), (2, 2))[:, 15].any()) is not stopped


def test_the_spread_shows_that_embeddings_have_become_alike():
    spreads = {}
    for stopped in (True, False):
        pretext = task(NEPA, stop_gradient=stopped)
        train(pretext, 60, lambda step: batch(16, step).x)
        spreads[stopped] = number(pretext((batch(32, 99).x,)).metrics["spread"])
    assert spreads[False] < 0.5 * spreads[True]
    assert number(task(NEPA)((batch(1).x.expand(8, -1, -1, -1),)).metrics["spread"]) < 1e-4


@pytest.mark.parametrize("kind", [AIM, NEPA])
def test_what_cannot_be_causal_is_refused(kind):
    with pytest.raises(ValueError, match="learns nothing from causal attention; type model=vit_mini"):
        task(kind, vit(pool="class"))
    with pytest.raises(ValueError, match="Conv cannot drop tokens"):
        task(kind, Conv())
