"""iBOT, DINOv2, BEiT and CAPI: what student and teacher see, what losses are of, codes, clusters, centres, anchors."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_masked import pixels_at, seen_patches, vit
from toys import SHAPE, Conv, batch, context, gradients, number, still, sweep_of, wander

from ssl_runner.augment.image import block_mask
from ssl_runner.augment.image.block_mask import inverse_block_masks, varied_block_masks
from ssl_runner.contract import Context, Encoder, Pretext
from ssl_runner.duration import Duration, Length
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.patch_codes import PatchCodes
from ssl_runner.loss import token_distillation
from ssl_runner.loss.koleo import neighbour_cost
from ssl_runner.loss.sinkhorn import sinkhorn
from ssl_runner.loss.token_distillation import TokenDistillation
from ssl_runner.pretext import beit as beit_module
from ssl_runner.pretext import capi as capi_module
from ssl_runner.pretext.beit import BEiT
from ssl_runner.pretext.capi import CAPI
from ssl_runner.pretext.dinov2 import DINOv2
from ssl_runner.pretext.ibot import IBOT

THREE = dict.fromkeys(("augment", "augment_prime", "augment_local"), still())
HEADS = {"local_views": 2, "hidden": 16, "bottleneck": 8, "prototypes": 6, "block": 2}
KINDS = {
    "ibot": (IBOT, {**THREE, **HEADS}),
    "dinov2": (DINOv2, {**THREE, **HEADS}),
    "beit": (BEiT, {"augment": still(), "rows": 40, "codes": 6, "block": 2}),
    "capi": (CAPI, {"augment": still(), "width": 8, "depth": 2, "heads": 2, "clusters": 6}),
}
TEACHERS = ("ibot", "dinov2", "capi")
CPU = torch.device("cpu")


def task(name: str, encoder: Encoder | None = None, **settings) -> Pretext:
    torch.manual_seed(0)
    kind, own = KINDS[name]
    return kind(**{"encoder": encoder or vit(), "shape": SHAPE, **own, **settings}).train()


def at(step: int, steps: int = 100) -> Context:
    return Context(step, Length(steps, 10, 8), CounterRng(step, CPU), sweep_of(40))


def hidden_patches_stay_hidden(name: str) -> None:
    """Of the student's features no gradient goes to a hidden patch, through attention either; teachers give none."""
    pretext = task(name, **({"masked": 1.0, "local_views": 0} if name in ("ibot", "dinov2") else {}))
    x, *masks = pretext.views(batch(), context())
    x.requires_grad_()
    if name == "beit":
        student, hidden = pretext.encode(x, masks[0]), torch.zeros(8, 16).scatter(1, masks[0], 1.0).bool()
    elif name == "capi":
        student, hidden = pretext.encoder(x, masks[0]), torch.ones(8, 16).scatter(1, masks[0], 0.0).bool()
        assert hidden.gather(1, masks[1]).all(), "a patch that is asked for is shown"
        assert masks[1].sort(1).values.diff(dim=1).all()
    else:
        student = pretext.encode(x, *masks)
        hidden = torch.zeros(16, 16, dtype=torch.bool).scatter(1, *masks)
        assert (hidden.sum(1) == masks[1].sum(1)).all()
    assert hidden.any(1).all()
    assert torch.equal(seen_patches(student.tokens.square().sum(), x), ~hidden)
    if name in TEACHERS:
        wander(pretext.teacher_encoder)
        (gradient,) = torch.autograd.grad(pretext((x, *masks)).value, x)
        shown = pixels_at(torch.ones_like(x), hidden.float().argmax(1)[:, None], 0.0)
        assert (gradient * (1 - shown) == 0).all(), "the teacher gives gradient to the pixels"


@pytest.mark.parametrize("name", KINDS)
def test_no_pixel_of_a_hidden_patch_reaches_the_students_features(name):
    hidden_patches_stay_hidden(name)


SEEN = {
    "ibot": (TokenDistillation, "encode", lambda self, x, *masks: self.encoder(x)),
    "dinov2": (TokenDistillation, "encode", lambda self, x, *masks: self.encoder(x)),
    "beit": (beit_module, "hide_tokens", lambda tokens, positions, token: tokens),
    "capi": (capi_module, "inverse_block_masks", lambda b, grid, k, rng: (rng.rand(b, 16).argsort(1),) * 2),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_target_that_is_seen_through_attention_is_noticed(name, monkeypatch):
    monkeypatch.setattr(*SEEN[name])
    with pytest.raises(AssertionError):
        hidden_patches_stay_hidden(name)


def views_of(pretext: TokenDistillation) -> tuple:
    """Views of which some have hidden patches and some none."""
    views = pretext.views(batch(), context())
    counts = views[-1].sum(1)
    assert 0 < (counts == 0).sum() < 16
    assert len(counts.unique()) > 2
    return views


def cross_entropy(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return -(targets * (logits / 0.1).log_softmax(-1)).sum(-1)


@pytest.mark.parametrize("name", ["ibot", "dinov2"])
def test_the_loss_is_of_other_views_and_of_hidden_patches_image_by_image(name):
    pretext = task(name)
    wander(pretext.teacher_encoder, pretext.teacher_head, pretext.head)
    if name == "ibot":
        pretext.centre.normal_(), pretext.token_centre.normal_()
    pretext.sharpness.fill_(0.05)
    whole, local, places, hidden = views = views_of(pretext)
    loss = pretext(views)
    teacher, student = pretext.teacher_encoder(whole), pretext.encode(whole, places, hidden)
    heads, teacher_heads = list(pretext.head.values()), list(pretext.teacher_head.values())
    assert len(heads) == (1 if name == "ibot" else 2)
    if name == "ibot":
        targets = ((teacher_heads[0](teacher.pooled) - pretext.centre) / 0.05).softmax(1)
        tokens = ((teacher_heads[0](teacher.tokens.flatten(0, 1)) - pretext.token_centre) / 0.05).softmax(1)
        tokens = tokens.unflatten(0, (16, 16))
    else:
        targets = sinkhorn(teacher_heads[0](teacher.pooled) / 0.05, 3)
        where = torch.zeros(16, 16, dtype=torch.bool).scatter(1, places, hidden)
        tokens = torch.zeros(16, 16, 6)
        tokens[where] = sinkhorn(teacher_heads[1](teacher.tokens[where]) / 0.05, 3)
    logits = heads[0](torch.cat([student.pooled, pretext.encoder(local).pooled])).unflatten(0, (4, 8))
    pairs = [(t, v) for t in range(2) for v in range(4) if t != v]
    between = sum(cross_entropy(targets.unflatten(0, (2, 8))[t], logits[v]).mean() for t, v in pairs) / len(pairs)
    within = 0.0
    for image in range(16):
        chosen = places[image][hidden[image]]
        if len(chosen):
            own = heads[-1](student.tokens[image, chosen])
            within = within + cross_entropy(tokens[image, chosen], own).mean() / 16
    expected = between + within
    torch.testing.assert_close(loss.metrics["view_loss"], between.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.metrics["token_loss"], within.detach(), rtol=1e-4, atol=1e-4)
    if name == "dinov2":
        koleo = 0.1 * sum(neighbour_cost(view) for view in student.pooled.chunk(2))
        torch.testing.assert_close(loss.metrics["koleo"], koleo.detach())
        assert not torch.isclose(koleo, 0.1 * neighbour_cost(student.pooled)), "each view by itself"
        expected = expected + koleo
    torch.testing.assert_close(loss.value, expected, rtol=1e-4, atol=1e-4)
    loss.value.backward()
    sizes = gradients(pretext)
    assert {each for each, size in sizes.items() if size is None} == {n for n in sizes if n.startswith("teacher_")}


def an_empty_mask_costs_nothing(name: str, **settings) -> None:
    pretext = task(name, **settings or {"masked": 0.0})
    views = pretext.views(batch(), context())
    assert not views[-1].any()
    loss = pretext(views)
    loss.value.backward()
    assert loss.metrics["token_loss"] == 0
    assert loss.value.isfinite()
    assert all(p.grad.isfinite().all() for p in pretext.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["ibot", "dinov2"])
@pytest.mark.parametrize("settings", [{"masked": 0.0}, {"masked": 1.0, "ratio": (0.0, 0.0)}])
def test_views_without_hidden_patches_have_a_loss_of_zero_there(name, settings):
    an_empty_mask_costs_nothing(name, **settings)


def test_a_denominator_of_an_empty_mask_is_noticed(monkeypatch):
    def unclamped(teacher, student, hidden, temperature):
        each = -(teacher * (student / temperature).log_softmax(2)).sum(2) * hidden
        return (each.sum(1) / hidden.sum(1)).mean()

    monkeypatch.setattr(token_distillation, "token_cross_entropy", unclamped)
    with pytest.raises(AssertionError):
        an_empty_mask_costs_nothing("ibot")


def test_a_share_of_views_has_hidden_patches_and_as_many_as_the_range_says():
    pretext = task("ibot", masked=0.5, ratio=(0.25, 0.75), local_views=0)
    counts = torch.cat([pretext.views(batch(64, seed), context(seed))[2].sum(1) for seed in range(8)])
    some = counts[counts > 0]
    assert abs(len(some) / len(counts) - 0.5) < 0.06
    assert (some.min(), some.max()) == (4, 12)
    assert abs(float(some.float().mean()) - 8) < 0.5
    with pytest.raises(
        ValueError, match=r"pretext\.ratio=\[0\.5, 0\.1\] is upside down; type pretext\.ratio=\[0\.1,0\.5\]"
    ):
        task("ibot", ratio=(0.5, 0.1))


def every_patch_is_hidden_and_shown(grid: tuple[int, int] = (5, 6)) -> None:
    tokens, rng = grid[0] * grid[1], CounterRng(0, CPU)
    counts = (torch.arange(4000) % 13).long()
    places, hidden = varied_block_masks(counts, 12, grid, rng, smallest=4)
    assert torch.equal(hidden.sum(1), counts)
    assert places.sort(1).values.diff(dim=1).all(), "a patch comes twice"
    shown, _ = inverse_block_masks(4000, grid, 11, rng)
    for chosen, least in ((places[hidden], 0.3), (shown.flatten(), 0.9)):
        share = chosen.bincount(minlength=tokens).view(grid) / len(chosen) * tokens
        assert share.min() > least
        assert (share - share.flip(0)).abs().max() < 0.12
        assert (share - share.flip(1)).abs().max() < 0.12


def test_masks_have_their_counts_and_reach_every_row_and_column():
    every_patch_is_hidden_and_shown()
    shown, hidden = inverse_block_masks(50, (4, 4), 6, CounterRng(1, CPU))
    assert torch.equal(torch.cat([shown, hidden], 1).sort(1).values, torch.arange(16).expand(50, -1))
    rows, columns = (each.sort(1).values for each in (shown // 4, shown % 4))
    for lines in (rows, columns):  # one block: of what is shown, at most one gap, where it leaves the grid
        assert ((lines.diff(dim=1) > 1).sum(1) <= 1).all()


def test_a_mask_that_never_reaches_the_last_row_is_noticed(monkeypatch):
    right = block_mask.place_blocks

    def short(tall, wide, grid, rng, **given):
        blocks = right(tall.clamp(max=grid[0] - 1), wide, (grid[0] - 1, grid[1]), rng, **given)
        return F.pad(blocks, (0, grid[1]))

    monkeypatch.setattr(block_mask, "place_blocks", short)
    with pytest.raises(AssertionError):
        every_patch_is_hidden_and_shown()


def centres_are_means_over_images_and_patches() -> None:
    pretext = task("ibot")
    wander(pretext.teacher_head)
    views = views_of(pretext)
    teacher, head = pretext.teacher_encoder(views[0]), pretext.teacher_head["views_and_patches"]
    centre, token_centre = (0.1 * head(x).mean(0) for x in (teacher.pooled, teacher.tokens.flatten(0, 1)))
    pretext.after_step(context(), pretext(views).kept)
    torch.testing.assert_close(pretext.centre, centre)
    torch.testing.assert_close(pretext.token_centre, token_centre)


def test_ibots_centres_are_means_over_images_and_patches():
    centres_are_means_over_images_and_patches()


def test_a_patch_centre_divided_by_images_alone_is_noticed(monkeypatch):
    """dinov2's issue 546: the sum over patches was divided by 1."""
    right = IBOT.targets

    def of_sums(self, views, tokens, places, hidden):
        targets, token_targets, kept = right(self, views, tokens, places, hidden)
        return targets, token_targets, kept | {"token_logits": kept["token_logits"] * tokens.shape[1]}

    monkeypatch.setattr(IBOT, "targets", of_sums)
    with pytest.raises(AssertionError):
        centres_are_means_over_images_and_patches()


def test_all_micro_batches_enter_the_centres_at_once(make):
    learner = make("pretext=ibot", "pretext.local_views=1", "accumulate=2", "evaluator=none").learner
    rows, forward = [], learner.pretext.forward
    learner.pretext.forward = lambda views, group="main": (lambda loss: rows.append(loss.kept) or loss)(
        forward(views, group)
    )
    learner.step(3)
    assert len(rows) == 2
    for name, centre in (("logits", "centre"), ("token_logits", "token_centre")):
        expected = 0.1 * torch.cat([each[name] for each in rows]).mean(0)
        torch.testing.assert_close(getattr(learner.pretext, centre), expected)


def a_teacher_is_a_copy_that_follows_once_a_step(name: str) -> None:
    pretext = task(name)
    teacher, student = pretext.teacher_encoder, pretext.encoder
    assert pretext.trained() is teacher
    before = teacher.patches.weight.clone()
    assert torch.equal(before, student.patches.weight)
    wander(student)
    assert torch.equal(teacher.patches.weight, before), "the teacher is its student by reference"
    views = pretext.views(batch(), context())
    ctx = context(step=50)
    pretext.after_step(ctx, pretext(views).kept)
    share = (1 - pretext.momentum) * (math.cos(math.pi / 2) + 1) / 2
    torch.testing.assert_close(teacher.patches.weight, before.lerp(student.patches.weight, share))


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_a_copy_that_follows_once_a_step(name):
    a_teacher_is_a_copy_that_follows_once_a_step(name)


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_that_is_its_student_is_noticed(name, monkeypatch):
    module = capi_module if name == "capi" else token_distillation
    monkeypatch.setattr(module, "frozen_copy", lambda module: module)
    with pytest.raises(AssertionError):
        a_teacher_is_a_copy_that_follows_once_a_step(name)


def test_dinov2s_anchor_is_an_earlier_teacher_and_teaches_the_student_alone():
    settings = {"gram": 2.0, "gram_starts": Duration(4.0, "st"), "gram_every": Duration(3.0, "st")}
    pretext = task("dinov2", **settings)
    assert task("dinov2").anchor is None
    weight, moves = pretext.anchor.patches.weight, []
    for step in range(12):
        wander(pretext.teacher_encoder)
        before = weight.clone()
        pretext.before_step(at(step))
        if not torch.equal(before, weight):
            assert torch.equal(weight, pretext.teacher_encoder.patches.weight)
            moves.append(step)
        assert pretext.gram_weight == (2.0 if step >= 4 else 0.0)
    assert moves == [4, 7, 10]
    views = views_of(pretext)
    loss, whole = pretext(views), views[0]
    ours = F.normalize(pretext.encode(whole, *views[2:]).tokens, dim=2)
    theirs = F.normalize(pretext.anchor(whole).tokens, dim=2)
    expected = 2 * (ours @ ours.mT - theirs @ theirs.mT).square().mean()
    torch.testing.assert_close(loss.metrics["gram"], expected.detach())
    without = sum(loss.metrics[each] for each in ("view_loss", "token_loss", "koleo"))
    torch.testing.assert_close(loss.value.detach(), without + expected.detach())
    loss.value.backward()
    assert all(p.grad is None for p in pretext.anchor.parameters())


@pytest.mark.parametrize("name", ["ibot", "dinov2"])
def test_temperature_and_prototypes_have_their_schedules(name):
    warm = {
        "first_teacher_temperature": 0.04,
        "teacher_temperature": 0.08,
        "temperature_warm_up": Duration(10.0, "%"),
        "freeze": Duration(5.0, "%"),
    }
    pretext = task(name, **warm)
    for step, sharpness, rate in ((0, 0.04, 0.0), (4, 0.056, 0.0), (5, 0.06, 1.0), (10, 0.08, 1.0), (99, 0.08, 1.0)):
        pretext.before_step(at(step))
        assert number(pretext.sharpness) == pytest.approx(sharpness)
        rates = pretext.rates(at(step))
        assert {each.lr for each in rates.values()} == {rate}
        assert len(rates) == len(pretext.head)


def codes_are_of_similar_patches() -> None:
    """Six kinds of patches under noise get six codes, whatever the noise; flat ones of any noise have one."""
    torch.manual_seed(0)
    kinds = torch.cat([F.normalize(torch.randn(5, 12), dim=1) * 12**0.5, torch.zeros(1, 12)])
    patches = kinds.repeat(50, 1) + 0.1 * torch.randn(300, 12)
    tokenizer = PatchCodes(12, 6)
    tokenizer.fit(patches, 20, CounterRng(21, CPU))
    codes = tokenizer(patches.view(50, 6, 12))  # (50, 6)
    assert (codes == codes[:1]).all(), "two patches of a kind have different codes"
    assert len(codes[0].unique()) == 6
    again = tokenizer(kinds[None] + 0.1 * torch.randn(1, 6, 12))
    assert torch.equal(again, codes[:1])
    torch.testing.assert_close(tokenizer.patches(codes[:1])[0], kinds, rtol=0, atol=0.15)


def test_codes_are_of_similar_patches():
    codes_are_of_similar_patches()


def test_random_hash_tokens_are_noticed(monkeypatch):
    def hashed(self, patches):
        return (patches.sum(2) * 1e4).long() % len(self.centroids)

    monkeypatch.setattr(PatchCodes, "forward", hashed)
    with pytest.raises(AssertionError):
        codes_are_of_similar_patches()


def test_beit_makes_its_codes_at_the_first_step_and_predicts_those_of_hidden_patches():
    pretext = task("beit")
    before = pretext.tokenizer.centroids.clone()
    pretext.before_step(at(1))
    assert torch.equal(pretext.tokenizer.centroids, before)
    pretext.before_step(at(0))
    made = pretext.tokenizer.centroids.clone()
    assert not torch.equal(made, before)
    assert torch.equal(pretext.state_dict()["tokenizer.centroids"], made)
    x, masked = views = pretext.views(batch(), context())
    loss = pretext(views)
    pixels = pretext.patches(x).gather(1, masked[..., None].expand(-1, -1, 12))
    torch.testing.assert_close(pixels.unflatten(2, (4, 3)).mean(2), torch.zeros(8, 6, 3), rtol=0, atol=1e-6)
    lifted = F.normalize(torch.cat([pixels, torch.full((8, 6, 1), 12**0.5 / 2)], 2), dim=2)
    codes = torch.cdist(lifted.flatten(0, 1), made).argmin(1)
    logits = pretext.predict(pretext.encode(x, masked).tokens.gather(1, masked[..., None].expand(-1, -1, 8)))
    expected = -logits.flatten(0, 1).log_softmax(1)[torch.arange(48), codes].mean()
    torch.testing.assert_close(loss.value, expected)
    shift = torch.rand(8, 3, 1, 1) * 0.1
    assert torch.equal(pretext.tokenizer(pretext.patches(x)), pretext.tokenizer(pretext.patches(x + shift)))
    torch.nn.init.zeros_(pretext.predict.weight), torch.nn.init.zeros_(pretext.predict.bias)
    assert number(pretext(views).value) == pytest.approx(math.log(6), rel=1e-5)


@pytest.mark.parametrize(("sample", "expected"), [(20, 20), (40, 40), (100, 120), (9999, 640)])
def test_beit_reads_about_as_many_patches_as_asked(sample, expected, monkeypatch):
    pretext, sizes = task("beit", sample=sample), []
    monkeypatch.setattr(pretext.tokenizer, "fit", lambda patches, *given: sizes.append(len(patches)))
    pretext.before_step(at(0))
    assert sizes == [expected]


def test_beits_picture_is_the_image_where_it_is_shown():
    pretext = task("beit")
    pretext.before_step(at(0))
    x, masked = pretext.views(batch(), context())
    shown = pretext.pictures((x, masked))
    assert list(shown) == ["masked", "reconstruction"]
    torch.testing.assert_close(pixels_at(shown["reconstruction"], masked, 0.0), pixels_at(x, masked, 0.0))


def test_capis_clusters_are_those_of_no_image_and_of_no_place():
    """What all patches of an image have in common, and all images at a place, moves no assignment."""
    pretext = task("capi", positionwise=False)
    tokens, image, place = torch.randn(8, 16, 8), 5 * torch.randn(8, 1, 8), 5 * torch.randn(1, 16, 8)
    plain, moved, placed = (pretext.cluster(tokens + each)[0] for each in (0, image, place))
    torch.testing.assert_close(moved, plain, rtol=1e-3, atol=1e-3)
    raw = task("capi", positionwise=False, normalise="length")
    assert (raw.cluster(tokens + image)[0] - raw.cluster(tokens)[0]).abs().max() > 0.1
    assert (raw.cluster(tokens + place)[0].mean(0).std(0) > 2 * placed.mean(0).std(0)).all(), "a cluster is a place"


@pytest.mark.parametrize(("positionwise", "normalise"), [(True, "length"), (False, "length"), (True, "instance")])
def test_capis_losses_are_of_assignments_place_by_place_and_each_teaches_its_own_part(positionwise, normalise):
    pretext = task("capi", positionwise=positionwise, normalise=normalise)
    wander(pretext.teacher_encoder, pretext.predictor)
    x, shown, asked = views = pretext.views(batch(), context())
    assert (shown.shape, asked.shape) == ((8, 6), (8, 2))
    loss = pretext(views)
    tokens = pretext.teacher_encoder(x).tokens
    if normalise == "instance":
        tokens = (tokens - tokens.mean(1, keepdim=True)) / (tokens.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        tokens = tokens - tokens.mean(0)
    tokens = F.normalize(tokens, dim=2)
    logits = tokens @ pretext.clustering.weight.T + pretext.clustering.bias
    scores = logits.detach() / 0.06
    if positionwise:
        targets = torch.stack([sinkhorn(scores[:, place], 3) for place in range(16)], 1)
    else:
        targets = sinkhorn(scores.flatten(0, 1), 3).view(8, 16, 6)
    clustering = -(targets * (logits / 0.12).log_softmax(2)).sum(2).mean()
    features = pretext.encoder(x, shown)
    predicted = pretext.predictor(features.tokens, features.pooled, shown, asked)
    cosines = F.normalize(predicted, dim=2) @ F.normalize(pretext.prototypes.weight, dim=1).T
    own = targets.gather(1, asked[..., None].expand(-1, -1, 6))
    prediction = -(own * (cosines / 0.12).log_softmax(2)).sum(2).mean()
    torch.testing.assert_close(loss.metrics["clustering"], clustering.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.metrics["prediction"], prediction.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.value, clustering + prediction, rtol=1e-4, atol=1e-4)
    for value, head in ((clustering, True), (prediction, False)):
        pretext.zero_grad()
        value.backward()
        taught = {name.partition(".")[0] for name, size in gradients(pretext).items() if size}
        assert taught == ({"clustering"} if head else {"encoder", "predictor", "prototypes"})
    assert pretext.rates(context())["clustering"].lr == 0.5


def test_capis_prediction_does_not_depend_on_what_else_is_asked_for_and_knows_its_place():
    pretext = task("capi", predicted=1.0)
    x, shown, asked = pretext.views(batch(), context())
    assert asked.shape == (8, 10)
    features, order = pretext.encoder(x, shown), torch.randperm(6)
    tokens, pooled = features.tokens, features.pooled
    together = pretext.predictor(tokens, pooled, shown, asked)
    torch.testing.assert_close(pretext.predictor(tokens, pooled, shown, asked[:, 3:4]), together[:, 3:4])
    torch.testing.assert_close(pretext.predictor(tokens[:, order], pooled, shown[:, order], asked), together)
    assert not torch.allclose(pretext.predictor(tokens, pooled, shown[:, order], asked), together)
    assert not torch.allclose(pretext.predictor(tokens, 0 * pooled, shown, asked), together), (
        "pooled features are asked"
    )
    assert not torch.allclose(together[:, 0], together[:, 1])


REFUSED = [
    *((name, {"encoder": Conv()}, r"Conv cannot drop tokens; use model=vit_tiny") for name in KINDS),
    ("capi", {"width": 10}, r"pretext\.width=10 must be a multiple of 4"),
    (
        "dinov2",
        {"augment_prime": still(size=4)},
        r"differ in size, None and 4 px; type pretext\.augment_prime\.size=null",
    ),
]


@pytest.mark.parametrize(("name", "settings", "sentence"), REFUSED)
def test_what_cannot_be_is_refused_with_what_to_type(name, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        task(name, **settings)
