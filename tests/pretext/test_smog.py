"""SMoG: groups that the batch moves before its loss, who has a gradient, and what becomes of groups without rows."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toys import Conv, batch, colours, context, gradients, number, still, sweep_of, wander

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.duration import Duration
from ssl_runner.layers.k_means import k_means
from ssl_runner.pretext import smog
from ssl_runner.pretext.smog import SMoG


def task(**settings) -> SMoG:
    torch.manual_seed(0)
    small = {"hidden": 16, "out": 8, "prototypes": 6, "memory": 20, "regroup": Duration(5, "st")}
    return SMoG(**{"encoder": Conv(), "augment": Views(scale=(0.5, 1.0)), **small, **settings}).train()


def unit(x):
    return F.normalize(x, dim=-1)


def moved_one_by_one(groups, rows, momentum):
    """Each group by itself, in a loop over the rows that it is nearest to."""
    own = [[row for row in rows if int((groups @ row).argmax()) == k] for k in range(len(groups))]
    return torch.stack(
        [
            unit(momentum * group + (1 - momentum) * torch.stack(members).mean(0)) if members else group
            for group, members in zip(groups, own, strict=True)
        ]
    )


def test_groups_move_by_hand():
    pretext = task(out=2, prototypes=3, group_momentum=0.5)
    pretext.group_features.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    rows = torch.tensor([[0.8, 0.6], [0.8, -0.6], [0.6, 0.8]])  # two of the first, one of the second
    expected = torch.tensor([[1.0, 0.0], [0.3, 0.9], [-1.0, 0.0]])
    torch.testing.assert_close(pretext.moved(rows), unit(expected))
    pretext.group_momentum = 1.0
    torch.testing.assert_close(pretext.moved(rows), pretext.group_features)
    pretext.group_momentum = 0.0
    torch.testing.assert_close(pretext.moved(rows)[:2], torch.tensor([[1.0, 0.0], [0.6, 0.8]]))


def test_the_loss_is_the_cross_entropy_of_the_teachers_group_among_groups_that_the_student_has_moved():
    pretext = task()
    wander(pretext.teacher_encoder, pretext.teacher_projector)
    views = pretext.views(batch(), context())
    before = pretext.group_features.clone()
    loss = pretext(views)
    assert torch.equal(pretext.group_features, before), "forward changes nothing"
    z = pretext.projector(pretext.encoder(views[0]).pooled)
    target = unit(pretext.teacher_projector(pretext.teacher_encoder(views[1]).pooled))
    chosen = [int((before @ row).argmax()) for row in target]
    groups = moved_one_by_one(before, unit(z), 0.9)
    terms = [-(unit(p) @ groups.T / 0.1).log_softmax(0)[c] for p, c in zip(pretext.predictor(z), chosen, strict=True)]
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(loss.value, expected)
    torch.testing.assert_close(loss.embedding, z)
    assert number(loss.metrics["perplexity"]) == pytest.approx(
        math.exp(-sum(p * math.log(p) for p in (chosen.count(k) / 8 for k in set(chosen)))), rel=1e-5
    )
    weight = pretext.projector[0].weight
    through_groups, fixed = (
        torch.autograd.grad(
            F.cross_entropy(unit(pretext.predictor(z)) @ each.T / 0.1, torch.tensor(chosen)), weight, retain_graph=True
        )[0]
        for each in (groups, groups.detach())
    )
    loss.value.backward()
    torch.testing.assert_close(weight.grad, through_groups, rtol=1e-3, atol=1e-5)
    assert (weight.grad - fixed).abs().max() > 100 * (weight.grad - through_groups).abs().max()
    sizes = gradients(pretext)
    assert {name for name, size in sizes.items() if size is None} == {n for n in sizes if n.startswith("teacher_")}


def test_groups_permute_freely_and_cost_their_logarithm_if_they_are_equal():
    pretext = task()
    views = pretext.views(batch(), context())
    value = pretext(views).value
    pretext.group_features.copy_(pretext.group_features[torch.randperm(6)])
    torch.testing.assert_close(pretext(views).value, value)
    pretext.group_features.copy_(pretext.group_features[:1].expand(6, -1).clone())
    pretext.group_momentum = 1.0
    loss = pretext(views)
    assert number(loss.value) == pytest.approx(math.log(6), rel=1e-5)
    assert number(loss.metrics["perplexity"]) == 1


@torch.no_grad()
def test_the_next_step_begins_with_the_groups_that_the_loss_saw():
    pretext = task()
    views = pretext.views(batch(), context())
    loss = pretext(views)
    rows = unit(loss.embedding)
    seen, old = pretext.moved(rows), pretext.recent.rows.clone()
    teacher = pretext.teacher_projector[0].weight.clone()
    wander(pretext.projector)
    pretext.after_step(context(), loss.kept)
    torch.testing.assert_close(pretext.group_features, seen)
    torch.testing.assert_close(pretext.recent.rows, torch.cat([rows, old[8:]]))
    torch.testing.assert_close(pretext.teacher_projector[0].weight, teacher.lerp(pretext.projector[0].weight, 0.02))


def test_with_micro_batches_groups_move_once_a_step_by_the_whole_batch(make, monkeypatch):
    words = ("pretext.prototypes=8", "pretext.regroup=100%", "accumulate=2", "evaluator=none")
    learner = make("pretext=smog", *words).learner
    pretext, steps, after_step = learner.pretext, [], SMoG.after_step
    monkeypatch.setattr(SMoG, "after_step", lambda self, ctx, kept: (steps.append(kept), after_step(self, ctx, kept)))
    groups, teacher = pretext.group_features.clone(), pretext.teacher_projector[0].weight.clone()
    learner.step(3)
    (kept,) = steps
    assert len(kept["rows"]) == 16
    torch.testing.assert_close(pretext.group_features, moved_one_by_one(groups, kept["rows"], 0.9))
    torch.testing.assert_close(pretext.teacher_projector[0].weight, teacher.lerp(pretext.projector[0].weight, 0.02))


@pytest.mark.parametrize("mistake", ["", "rows of its own rank", "others have no gradient"])
def test_ranks_move_groups_by_the_rows_of_all(mistake, monkeypatch):
    pretext = task(group_momentum=0.3).eval()  # batch norm of a row alone
    views = pretext.views(batch(), context())
    weight = pretext.projector[0].weight

    def learnt(parts):
        value = torch.stack([pretext(part).value for part in parts]).mean()
        return torch.stack([value, torch.autograd.grad(value, weight)[0].norm()])

    alone = learnt([views])
    rows = unit(pretext.projector(pretext.encoder(views[0]).pooled))
    gathered = {"": lambda own: rows, "rows of its own rank": lambda own: own}
    monkeypatch.setattr(smog, "gather", gathered.get(mistake, lambda own: rows.detach()))
    assert torch.allclose(learnt(list(zip(*(view.chunk(2) for view in views), strict=True))), alone) == (not mistake)


@torch.no_grad()
def test_groups_are_made_of_a_sweep_at_first_and_then_of_the_memory_when_they_are_due_and_it_is_full():
    pretext = task(augment=still(), iterations=30)
    ctx = replace(context(), sweep=sweep_of(40))  # 13 + 13 + 13, and a row that is left out
    pretext.before_step(ctx)
    z = torch.cat([pretext.projector(pretext.encoder(part.x).pooled) for part in list(ctx.sweep())[:3]])
    first = pretext.group_features.clone()
    chosen = (unit(z) @ first.T).argmax(1)
    for k in chosen.unique():  # a fixed point of k-means
        torch.testing.assert_close(first[k], unit(unit(z)[chosen == k].sum(0)))
    again = task(augment=still(), iterations=30)
    again.before_step(replace(context(), sweep=ctx.sweep))
    assert torch.equal(again.group_features, first)
    due = []
    for step in range(1, 12):  # of 8 rows
        pretext.recent.rows.copy_(unit(torch.randn(20, 8)))
        wander(pretext.encoder, pretext.projector)
        old, seen = pretext.group_features.clone(), copy.deepcopy(pretext.state_dict())
        pretext.before_step(context(step, step))
        if not torch.equal(pretext.group_features, old):
            due.append(step)
            expected, _ = k_means(pretext.recent.rows, 6, 30, context(step, step).rng)
            assert torch.equal(pretext.group_features, expected)
            assert torch.equal(pretext.teacher_projector[0].weight, pretext.projector[0].weight)
        else:
            assert all(torch.equal(each, seen[name]) for name, each in pretext.state_dict().items())
    assert due == [5, 10]
    pretext.regroup, old = Duration(1, "st"), pretext.group_features.clone()
    pretext.before_step(context(2, 2))
    assert torch.equal(pretext.group_features, old)  # 16 rows of 20 are real ones
    pretext.before_step(context(3, 3))
    assert not torch.equal(pretext.group_features, old)


MISTAKES = {
    "": (),
    "groups without rows are never made anew": ("perplexity",),
    "a group is that of another sample": ("accuracy",),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_smog_finds_what_views_share_and_its_numbers_show_what_goes_wrong(mistake):
    crops = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
    never = "never" in mistake
    pretext = task(augment=crops, hidden=32, prototypes=24, memory=128, regroup=Duration(1000 if never else 20, "st"))
    pretext.group_features.copy_(unit(pretext.group_features[:1] + 0.02 * torch.randn(24, 8)))  # nearly one group
    optimizer = torch.optim.Adam([p for p in pretext.parameters() if p.requires_grad], 1e-2)
    numbers = []
    for step in range(1, 110):
        ctx = context(step, step)
        with torch.no_grad():
            pretext.before_step(ctx)
            student, teacher = pretext.views(Batch(colours(step), torch.arange(32)), ctx)
        optimizer.zero_grad()
        loss = pretext((student, teacher.roll(int("another" in mistake), 0)))
        loss.value.backward()
        optimizer.step()
        numbers.append(torch.stack([loss.metrics[name] for name in ("perplexity", "accuracy")]))
        with torch.no_grad():
            pretext.after_step(ctx, loss.kept)
    found = dict(zip(("perplexity", "accuracy"), torch.stack(numbers[-15:]).mean(0).tolist(), strict=True))
    wrong = {name for name, least in {"perplexity": 12, "accuracy": 0.4}.items() if found[name] < least}
    assert wrong == set(MISTAKES[mistake]), found


def test_a_memory_holds_a_row_for_each_group():
    with pytest.raises(ValueError, match=r"20 rows are too few for 30 groups; type pretext\.memory=960"):
        task(prototypes=30)
