"""Instance discrimination and PIRL: a softmax over all training rows, whose weights are means of embeddings."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, colours, context, number, still, train

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.layers.bank import Bank
from ssl_runner.loss.instance import own_row
from ssl_runner.model.convnet import ConvNet
from ssl_runner.pretext.instance_discrimination import InstanceDiscrimination
from ssl_runner.pretext.pirl import PIRL

CROPS = Views(scale=(0.5, 1.0))


def discrimination(**settings) -> InstanceDiscrimination:
    torch.manual_seed(0)
    given = {"encoder": Conv(), "augment": CROPS, "rows": 20, "out": 8}
    return InstanceDiscrimination(**given | settings).train()


def pirl(**settings) -> PIRL:
    torch.manual_seed(0)
    given = {"encoder": Conv(), "shape": SHAPE, "augment": CROPS, "augment_tiles": CROPS, "rows": 20, "out": 8}
    return PIRL(**given | settings).train()


def test_a_bank_by_hand():
    bank = Bank(3, 2, momentum=0.5)
    bank.rows.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    z, index = torch.tensor([[9.0, 0.0], [0.0, 7.0], [-1.0, 0.0]]), torch.tensor([1, 2, 1])
    bank.update(z, index)  # row 1 is there twice, and the last counts
    half = 0.5**0.5
    torch.testing.assert_close(bank.rows, torch.tensor([[1.0, 0.0], [-half, half], [half, half]]))
    bank.momentum = 0.0
    bank.update(z[:2], index[:2])
    torch.testing.assert_close(bank.rows, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))


@pytest.mark.parametrize("task", [discrimination, pirl])
def test_a_bank_begins_with_the_embeddings_of_a_sweep(task):
    pretext, given = task(), Batch(batch(20).x, torch.arange(20).flip(0))
    ctx = dataclasses.replace(context(), sweep=lambda: iter([Batch(given.x[:12], given.index[:12]), given]))
    pretext.before_step(ctx)
    expected = F.normalize(pretext.projector(pretext.encoder(given.x).pooled), dim=1)
    torch.testing.assert_close(pretext.bank.rows, expected.flip(0))
    old = pretext.bank.rows.clone()
    pretext.before_step(dataclasses.replace(ctx, step=1))
    assert torch.equal(pretext.bank.rows, old)


def test_a_bank_resumes_and_begins_anew_with_another_number_of_rows():
    bank, same, other = Bank(5, 4, 0.5), Bank(5, 4, 0.5), Bank(6, 4, 0.5)
    same.load_state_dict(bank.state_dict())
    assert torch.equal(same.rows, bank.rows)
    fresh = other.rows.clone()
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.rows, fresh)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


def test_the_softmax_over_the_bank_is_that_of_the_formula_and_costs_log_n_at_a_collapse():
    rng = torch.Generator().manual_seed(0)
    z, rows = torch.randn(4, 3, generator=rng), F.normalize(torch.randn(6, 3, generator=rng), dim=1)
    index = torch.tensor([5, 0, 2, 2])
    value, nearest = own_row(z, rows, index, 0.1)
    unit, weights = F.normalize(z.double(), dim=1), rows.double()
    p = torch.stack([(unit @ weights[j] / 0.1).exp() for j in range(6)], 1)
    torch.testing.assert_close(value.double(), -(p[range(4), index] / p.sum(1)).log().mean(), rtol=1e-6, atol=1e-6)
    assert torch.equal(nearest, p.argmax(1) == index)
    assert number(own_row(z, rows[:1].expand(6, 3), index, 0.1)[0]) == pytest.approx(math.log(6), rel=1e-6)
    shuffled = torch.randperm(6, generator=rng)  # whatever the order of the training set
    torch.testing.assert_close(own_row(z, rows[shuffled], shuffled.argsort()[index], 0.1)[0], value)


@pytest.mark.parametrize("task", [discrimination, pirl])
def test_rows_move_after_the_step_towards_embeddings_of_their_own_samples(task):
    pretext = task()
    given = Batch(batch(4).x, torch.tensor([7, 3, 19, 0]))
    views = pretext.views(given, context())
    first, old = pretext(views), pretext.bank.rows.clone()
    assert torch.equal(pretext(views).value, first.value), "the forward pass moves no row"
    assert torch.equal(pretext.bank.rows, old)
    pretext.after_step(context(), first.kept)
    expected = old.clone()
    for row, z in zip((7, 3, 19, 0), first.embedding.detach()[:4], strict=True):
        expected[row] = F.normalize((old[row] + F.normalize(z, dim=0)) / 2, dim=0)
    torch.testing.assert_close(pretext.bank.rows, expected)
    assert pretext(views).value < first.value


@pytest.mark.parametrize("own", [True, False])
def test_accumulated_micro_batches_learn_what_one_batch_learns_and_a_wrong_index_does_not(own, make, monkeypatch):
    """A softmax over the bank has samples that never meet, so that gradients are equal but for batch norm."""
    words = ("pretext=instance_discrimination", "evaluator=none", "model.batch_norm=false", "optimizer=sgd")
    if not own:  # planted: each micro-batch counts its samples from 0
        views = InstanceDiscrimination.views
        renumbered = lambda self, b, ctx: views(self, Batch(b.x, torch.arange(len(b.x))), ctx)  # noqa: E731
        monkeypatch.setattr(InstanceDiscrimination, "views", renumbered)
    states = []
    for accumulate in (1, 4):
        learner = make(*words, f"accumulate={accumulate}", folder=f"{accumulate}").learner
        learner.step(0)
        states.append(learner.pretext.state_dict())
    same = [torch.allclose(one, states[1][name], atol=1e-5) for name, one in states[0].items()]
    assert all(same) == own


def test_samples_are_told_apart_by_their_colour_once_their_rows_have_learnt_it():
    light = Views(scale=(0.5, 1.0), jitter=0.0, grey=0.0)
    pretext = discrimination(augment=light, rows=32, out=16)
    train(pretext, 60, lambda step: colours(0))
    with torch.no_grad():
        views = pretext.eval().views(Batch(colours(0), torch.arange(32)), context(7))
        assert pretext(views).metrics["accuracy"] > 0.5
        assert pretext((views[0].roll(1, 0), views[1])).metrics["accuracy"] < 0.2


def test_pirl_brings_views_and_tiles_to_the_memory_of_their_sample_that_tiles_never_enter():
    pretext = pirl(tile_weight=0.3)
    torch.nn.init.normal_(pretext.bank.rows)
    image, tiles, index = views = pretext.views(batch(), context())
    loss = pretext(views)
    f = pretext.projector(pretext.encoder(image).pooled)
    parts = pretext.tile_projector(pretext.encoder(tiles).pooled)  # (4 * 8, out), place after place
    g = torch.stack([pretext.tiles_projector(torch.cat([parts[8 * k + i] for k in range(4)])) for i in range(8)])
    costs = [own_row(each, pretext.bank.rows, index, 0.1)[0] for each in (g, f)]
    torch.testing.assert_close(loss.value, 0.3 * costs[0] + 0.7 * costs[1])
    torch.testing.assert_close(loss.embedding, torch.cat([f, g]))
    torch.testing.assert_close(loss.kept["embedding"], f)
    loss.value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.parameters())


def test_pirls_tiles_are_small_squares_of_their_own_sample_in_an_order_of_its_own():
    x = torch.arange(192.0).view(1, 3, 8, 8).expand(40, -1, -1, -1) / 192
    image, tiles, _ = pirl(augment=still(), augment_tiles=still()).views(Batch(x, torch.arange(40)), context())
    assert torch.equal(image, x)
    assert tiles.shape == (160, 3, 3, 3)
    cell = (tiles[:, 0, 0, 0] * 64 * 3).round().long()
    cell = cell // 8 // 4 * 2 + cell % 8 // 4
    assert (cell.view(4, 40).sort(0).values == torch.arange(4)[:, None]).all()
    assert len(cell.view(4, 40).unique(dim=1)[0]) > 10


def test_pirl_refuses_tiles_that_cannot_be_encoded_with_what_to_type():
    with pytest.raises(ValueError, match=r"ConvNet .* tiles of 3x3 px .*; type pretext\.augment_tiles\.size=16"):
        pirl(encoder=ConvNet(shape=SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3, widths=(4, 4, 4)))
