"""Jigsaw, relative patches and counting: what tiles show, what no longer tells their places, values by hand."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, context, number, still, train

from ssl_runner.augment.image.tiles import cut_tiles, normalise_tiles
from ssl_runner.contract import Batch, Pretext
from ssl_runner.layers.permutations import distant_permutations
from ssl_runner.model.convnet import ConvNet
from ssl_runner.pretext.jigsaw import Jigsaw

TASKS = {"jigsaw": Jigsaw}


def task(name: str, **settings) -> Pretext:
    torch.manual_seed(0)
    return TASKS[name](**{"encoder": Conv(), "shape": SHAPE, "augment": still(), **settings}).train()


def some(x: torch.Tensor) -> Batch:
    return Batch(x, torch.arange(len(x)))


def places(count: int, side: int = 8) -> Batch:
    """Images whose channels are the row and the column of each pixel, and the sample."""
    axes = torch.meshgrid(torch.arange(count) / count, *(torch.arange(side) / side,) * 2, indexing="ij")
    return some(torch.stack((axes[1], axes[2], axes[0]), 1))


def test_permutations_are_those_of_the_greedy_algorithm_and_always_the_same():
    every, chosen = list(permutations(range(4))), [(0, 1, 2, 3)]
    distance = lambda a, b: sum(x != y for x, y in zip(a, b, strict=True))  # noqa: E731
    while len(chosen) < 24:
        rest = [p for p in every if p not in chosen]
        far = {p: [distance(p, q) for q in chosen] for p in rest}
        chosen.append(max(rest, key=lambda p: (sum(far[p]), min(far[p]))))
    assert distant_permutations(4, 24).tolist() == [list(p) for p in chosen]
    assert distant_permutations(4, 9).tolist() == [list(p) for p in chosen[:9]]
    nine = distant_permutations(9, 30)
    assert (nine.sort(1).values == torch.arange(9)).all()
    apart = (nine[:, None] != nine).sum(2)
    assert apart[~torch.eye(30, dtype=torch.bool)].min() >= 5  # two at random may differ in 2 places
    with pytest.raises(ValueError, match="3 tiles have 6 permutations, not 7"):
        distant_permutations(3, 7)


@pytest.mark.parametrize("settings", [{}, {"grid": 3, "permutations": 50, "gap": 0}], ids=str)
def test_the_order_of_a_puzzle_undone_puts_each_tile_in_its_place(settings):
    pretext = task("jigsaw", **settings)
    tiles, label = pretext.views(places(200), context())
    assert (label.bincount(minlength=pretext.permutations) > 0).sum() > 0.9 * pretext.permutations
    side, n = tiles.shape[2], pretext.grid**2
    tiles = tiles.unflatten(0, (n, 200))
    assert (tiles[:, :, 2] == (torch.arange(200) / 200)[:, None, None]).all(), "of its own sample"
    for i in range(200):
        corner = (tiles[:, i, :2, 0, 0] * 8).round().long() + side // 2
        cell = corner * pretext.grid // 8 @ torch.tensor([pretext.grid, 1])  # where each shown tile comes from
        assert torch.equal(cell, pretext.orders[label[i]])


@pytest.mark.parametrize("gap", [0, 1, 2, 3])
def test_no_edge_goes_on_in_the_next_tile_if_there_is_a_gap(gap):
    tiles = cut_tiles(places(500, 16).x, 2, 5, context().rng, gap) * 16
    left, right = tiles[0, :, 1, :, -1], tiles[1, :, 1, :, 0]
    assert (right - left).min() == 1 + gap  # of neighbours: 1 if they touch
    assert (tiles[2, :, 0, 0] - tiles[0, :, 0, -1]).min() == 1 + gap
    assert len(left.unique()) == 16 // 2 - 5 - gap + 1, "and the place in the cell is still drawn"
    assert tiles[0, :, :2].min() == gap // 2
    with pytest.raises(ValueError, match="tiles of 5 pixels, 4 pixels apart, do not fit 2 times into 16x16"):
        cut_tiles(places(2, 16).x, 2, 5, context().rng, 4)


def test_tiles_are_normalised_one_by_one_and_channels_together():
    tiles, mean, std = batch(6, shape=(3, 5, 5)).x, torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    z = (normalise_tiles(tiles, mean, std) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(z.mean((2, 3)), torch.zeros(6, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.square().mean((1, 2, 3)), torch.ones(6), atol=2e-3, rtol=0)
    brighter = torch.arange(1.0, 7.0).view(6, 1, 1, 1)
    torch.testing.assert_close(normalise_tiles(100 * tiles * brighter + brighter, mean, std), mean.view(3, 1, 1) + (
        std.view(3, 1, 1) * z), atol=2e-2, rtol=0)  # fmt: skip
    assert torch.equal(normalise_tiles(torch.ones(1, 3, 5, 5), mean, std), mean.view(1, 3, 1, 1).expand(1, 3, 5, 5))


def shades(step: int, n: int = 32) -> torch.Tensor:
    """Noise that is brighter and flatter from quadrant to quadrant: what a place shows but no content tells."""
    noise = batch(n, seed=step, shape=(3, 8, 8)).x
    cell = torch.arange(4.0).view(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return 0.1 + 0.2 * cell + (0.06 + 0.04 * cell) * (noise - 0.5)


def learnt(pretext: Pretext, samples, steps: int = 60) -> float:
    """Accuracy on samples that were not trained on, as batch norm has them in training."""
    train(pretext, steps, samples)
    with torch.no_grad():
        return number(pretext(pretext.views(some(samples(-1 % 2**20)), context(1000))).metrics["accuracy"])


@pytest.mark.parametrize("normalise", [True, False])
def test_brightness_and_contrast_solve_no_puzzle_once_tiles_are_normalised(normalise):
    accuracy = learnt(task("jigsaw", normalise=normalise), shades)
    assert (accuracy < 0.2) if normalise else (accuracy > 0.8)


def textures(step: int, n: int = 32) -> torch.Tensor:
    """Stripes across, along, both and none, a quadrant each, in any colour."""
    rng, row = torch.Generator().manual_seed(step), torch.arange(4) % 2
    patterns = [row.expand(4, 4), row[:, None].expand(4, 4), (row + row[:, None]) % 2, torch.rand(4, 4, generator=rng)]
    image = torch.cat([torch.cat(patterns[:2], 1), torch.cat(patterns[2:], 1)], 0).float()
    return image * (0.3 + 0.7 * torch.rand(n, 3, 1, 1, generator=rng))


def test_a_puzzle_of_textures_is_solved():
    assert learnt(task("jigsaw"), textures) > 0.9


def test_an_order_is_told_by_all_tiles_in_the_order_shown_and_each_is_encoded_by_itself():
    pretext = task("jigsaw", normalise=False).eval()
    tiles, label = views = pretext.views(batch(), context())
    shown = tiles.unflatten(0, (4, 8))
    z = [pretext.projector(pretext.encoder(each).pooled) for each in shown]
    logits = torch.stack([pretext.head(torch.cat([each[i : i + 1] for each in z], 1))[0] for i in range(8)])
    loss = pretext(views)
    torch.testing.assert_close(loss.value, F.cross_entropy(logits, label))
    assert loss.metrics["accuracy"] == (logits.argmax(1) == label).float().mean()
    torch.testing.assert_close(loss.embedding, torch.cat([pretext.encoder(each).pooled for each in shown]))
    loss.value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.parameters())


def test_pictures_show_the_puzzle_and_the_tiles_put_back(monkeypatch):
    pretext = task("jigsaw")
    tiles, label = views = pretext.views(places(8), context())
    known = F.one_hot(label, 24).float()
    monkeypatch.setattr(pretext, "solve", lambda tiles, puzzles: (known, None))
    pictures = pretext.pictures(views)
    assert pictures["puzzle"].shape == (8, 3, 8, 8)
    assert torch.equal(pictures["puzzle"][:, :, :3, :3], tiles[:8])
    assert not pictures["puzzle"][:, :, 3].any()
    row, column = pictures["solution"][:, 0, [0, 4]][:, :, 0], pictures["solution"][:, 1, 0][:, [0, 4]]
    for axis in (row, column):
        assert axis[:, 0].max() < 0.5 <= axis[:, 1].min()
    known.copy_(known.roll(1, 1))  # a wrong guess puts them back wrongly
    assert not torch.equal(pretext.pictures(views)["solution"], pictures["solution"])


def test_what_cannot_be_cut_is_refused_with_what_to_type():
    with pytest.raises(ValueError, match=r"24 orders, not 25; type pretext\.permutations=24 or pretext\.grid=3"):
        task("jigsaw", permutations=25)
    with pytest.raises(ValueError, match=r"ConvNet .* tiles of 3x3 px .*; type pretext\.augment\.size=16"):
        task("jigsaw", encoder=ConvNet(shape=SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3, widths=(4, 4, 4)))
