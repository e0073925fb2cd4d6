"""Jigsaw, relative patches and counting: what tiles show, what no longer tells their places, values by hand."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, context, number, still, train

from ssl_runner.augment.image.tiles import cut_tiles, normalise_tiles, reorder
from ssl_runner.contract import Batch, Pretext
from ssl_runner.layers.permutations import distant_permutations
from ssl_runner.model.convnet import ConvNet
from ssl_runner.pretext.counting import OUTER, Counting, halve
from ssl_runner.pretext.jigsaw import Jigsaw
from ssl_runner.pretext.relative_patch import RelativePatch, drop_colours, project_colours

TASKS = {"jigsaw": Jigsaw, "relative_patch": RelativePatch, "counting": Counting}


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


def shades(step: int, n: int = 32, grid: int = 2) -> torch.Tensor:
    """Noise that is brighter and flatter from cell to cell: what a place shows but no content tells."""
    noise = batch(n, seed=step, shape=(3, 4 * grid, 4 * grid)).x
    cell = torch.linspace(0, 1, grid * grid).view(1, 1, grid, grid).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return 0.1 + 0.6 * cell + (0.1 + 0.1 * cell) * (noise - 0.5)


def learnt(pretext: Pretext, samples, steps: int = 60) -> float:
    """Accuracy on samples that were not trained on, as batch norm has them in training."""
    train(pretext, steps, samples)
    with torch.no_grad():
        return number(pretext(pretext.views(some(samples(-1 % 2**20)), context(1000))).metrics["accuracy"])


PLACES = [("jigsaw", 2, 24), ("relative_patch", 3, 8)]  # cells a side, and how many answers there are


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("name", "grid", "answers"), PLACES)
def test_brightness_and_contrast_tell_no_place_once_tiles_are_normalised(name, grid, answers, normalise):
    shape = (3, 4 * grid, 4 * grid)
    accuracy = learnt(task(name, shape=shape, normalise=normalise), lambda step: shades(step, grid=grid))
    assert (accuracy < 1 / answers + 0.1) if normalise else (accuracy > 0.7)


def textures(step: int, n: int = 32, grid: int = 2) -> torch.Tensor:
    """A pattern of its own in each cell, in any colour and brightness."""
    patterns = batch(1, seed=99, shape=(1, 4 * grid, 4 * grid)).x
    return patterns * (0.3 + 0.7 * batch(n, seed=step, shape=(3, 1, 1)).x)


@pytest.mark.parametrize(("name", "grid", "answers"), PLACES)
def test_places_that_textures_tell_are_learnt(name, grid, answers):
    accuracy = learnt(task(name, shape=(3, 4 * grid, 4 * grid)), lambda step: textures(step, grid=grid))
    assert accuracy > 0.9


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
    with pytest.raises(ValueError, match=r"ConvNet .* patches of 2x2 px .*; type pretext\.augment\.size=16"):
        task("relative_patch", gap=0, encoder=ConvNet(shape=SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3, widths=(4, 4, 4)))
    with pytest.raises(ValueError, match="3 px of a tile and gap=2 are more than its cell's 4; type gap=1"):
        task("jigsaw", gap=2)
    with pytest.raises(ValueError, match=r"9x8 px have no equal quadrants; type pretext\.augment\.size=8"):
        task("counting", shape=(3, 9, 8))
    with pytest.raises(ValueError, match=r"ConvNet .* quadrants of 4x4 px .*; type pretext\.augment\.size=16"):
        task("counting", encoder=ConvNet(shape=SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3, widths=(4, 4, 4)))
    with pytest.raises(ValueError, match=r"3 channels, not 1; type pretext\.colour=keep"):
        task("relative_patch", encoder=Conv(channels=1), shape=(1, 8, 8), colour="drop")


def test_a_neighbour_is_placed_by_its_own_patch_and_the_centres():
    pretext = task("relative_patch", shape=(3, 12, 12), normalise=False).eval()
    views = pretext.views(batch(shape=(3, 12, 12)), context())
    z = pretext.encoder(views[0]).pooled.view(9, 8, -1)
    costs = []
    for place, patch in enumerate([0, 1, 2, 3, 5, 6, 7, 8]):  # in raster order around the fifth
        logits = pretext.head(torch.cat([z[4], z[patch]], 1))
        costs.append(F.cross_entropy(logits, torch.full((8,), place)))
    loss = pretext(views)
    torch.testing.assert_close(loss.value, torch.stack(costs).mean())
    torch.testing.assert_close(loss.embedding, z.flatten(0, 1))
    loss.value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.parameters())


def test_patches_are_of_their_places_and_pictures_show_where_they_are_thought_to_be(monkeypatch):
    pretext = task("relative_patch", shape=(3, 12, 12))
    views = pretext.views(places(8, 12), context())
    shown = views[0].view(9, 8, 3, 3, 3)
    cell = (shown[:, :, :2, 1, 1] * 12).round().long() // 4
    assert torch.equal(cell @ torch.tensor([3, 1]), torch.arange(9)[:, None].expand(9, 8))
    for turn in (0, 1):  # rightly, and each one place further
        known = F.one_hot((torch.arange(8) + turn) % 8, 8).repeat_interleave(8, 0)
        monkeypatch.setattr(pretext, "locate", lambda patches, known=known: (known, None))
        pictures = pretext.pictures(views)
        assert torch.equal(pictures["prediction"], pictures["patches"]) == (turn == 0)
        torch.testing.assert_close(pictures["prediction"][:, :, :3, 4:7], shown[1 - turn])
    monkeypatch.setattr(pretext, "locate", lambda patches: (torch.eye(8)[:1].expand(64, 8), None))
    pictures = pretext.pictures(views)  # all in the first place: their mean, and black elsewhere
    torch.testing.assert_close(pictures["prediction"][:, :, :3, :3], shown[[0, 1, 2, 3, 5, 6, 7, 8]].mean(0))
    assert not pictures["prediction"][:, :, 8:].any()


def test_colour_fringes_are_unseen_once_projected_and_no_two_channels_are_left_once_dropped():
    x = 0.3 + 0.4 * batch(40, shape=(3, 6, 6)).x
    fringe = 0.05 * batch(40, seed=1, shape=(1, 6, 6)).x * torch.tensor([-1.0, 2.0, -1.0]).view(3, 1, 1)
    torch.testing.assert_close(project_colours(x + fringe), project_colours(x))
    assert not torch.allclose(project_colours(x + fringe.abs()), project_colours(x), atol=1e-3)
    grey = x[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(project_colours(grey), grey)  # only colour is lost
    dropped = drop_colours(x, context().rng)
    kept = (dropped == x).flatten(2).all(2)  # (40, 3)
    assert kept.sum(1).tolist() == [1] * 40
    assert kept.sum(0).min() > 5
    std = dropped.flatten(2).std(2)
    assert ((std[~kept].view(40, 2) / std[kept][:, None]) < 0.02).all()
    assert (std[~kept] > 0).all()
    given = batch(shape=(3, 12, 12))
    views = {
        c: task("relative_patch", shape=(3, 12, 12), colour=c).views(given, context())[0] for c in ("keep", "project")
    }
    assert torch.equal(views["project"], project_colours(views["keep"]))


def test_the_kernels_that_halve_are_those_of_libraries_and_what_they_leave_varies():
    x = batch(6, shape=(3, 10, 12)).x
    bicubic, bilinear = (halve(x, torch.full((6,), outer)) for outer in OUTER)
    torch.testing.assert_close(halve(x, torch.zeros(6)), F.avg_pool2d(x, 2))
    torch.testing.assert_close(bicubic, F.interpolate(x, scale_factor=0.5, mode="bicubic").clamp(0, 1))
    smooth = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(bilinear[..., 1:-1, 1:-1], smooth[..., 1:-1, 1:-1])
    half, parts = task("counting", shape=(3, 16, 16)).views(batch(200, shape=(3, 16, 16)), context())
    left = half.flatten(1).var(1) / parts.unflatten(0, (4, -1)).flatten(2).var(2).mean(0)  # of noise: 1/4 by areas
    assert left.std() > 0.2 * left.mean(), "so that no threshold tells a halved image"


def test_quadrants_and_the_halved_image_are_of_their_own_sample():
    half, parts = task("counting").views(places(6), context())
    assert (half.shape, parts.shape) == ((6, 3, 4, 4), (24, 3, 4, 4))
    torch.testing.assert_close(half[:, 2].mean((1, 2)), torch.arange(6) / 6)
    assert (parts.unflatten(0, (4, 6))[:, :, 2] == (torch.arange(6) / 6).view(6, 1, 1)).all()
    corners = (parts.unflatten(0, (4, 6))[:, :, :2, 0, 0] * 8).long()
    assert (corners == torch.tensor([[0, 0], [0, 4], [4, 0], [4, 4]])[:, None]).all()


def counted(pretext: Counting, whole: torch.Tensor, parts: torch.Tensor) -> Counting:
    """The task with these counts, before its last ReLU, in the place of its head's."""
    pretext.head.forward = lambda pooled: torch.cat([whole, parts]) + 0 * pooled.sum()
    return pretext


def test_the_loss_of_counts_is_that_of_the_formula_in_float64():
    rng = torch.Generator().manual_seed(0)
    whole, parts = 3 * torch.randn(5, 4, generator=rng), torch.randn(20, 4, generator=rng)
    pretext = task("counting")
    views = pretext.views(batch(5), context())
    phi, tiles, expected = whole.double().clamp(min=0), parts.double().clamp(min=0), []
    for i in range(5):
        total = sum(tiles[5 * j + i] for j in range(4))
        expected.append(((phi[i] - total) ** 2).sum() + max(0.0, 10 - ((phi[(i + 1) % 5] - total) ** 2).sum()))
    loss = counted(pretext, whole, parts)(views)
    torch.testing.assert_close(loss.value.double(), torch.stack(expected).mean(), rtol=1e-6, atol=1e-6)
    nothing = counted(pretext, 0 * whole, 0 * parts)(views)  # the trivial answer costs the margin
    assert (nothing.value, nothing.metrics["count"]) == (10, 0)
    exact = 9 * torch.eye(5, 4)
    loss = counted(pretext, exact, (exact / 4).repeat(4, 1))(views)
    assert (loss.value, loss.metrics["distance"]) == (0, 0)


@pytest.mark.parametrize("margin", [0.0, 10.0])
def test_counts_of_nothing_are_found_without_a_margin_and_not_with_one(margin):
    pretext = task("counting", margin=margin, out=16, width=32)
    train(pretext, 60, lambda step: textures(step) * (torch.rand(32, 3, 1, 1) > 0.5))
    with torch.no_grad():
        metrics = pretext(pretext.views(some(textures(99)), context(99))).metrics
    assert (metrics["distance_of_others"] > 2 * metrics["distance"]) == (margin > 0)
    if margin == 0:
        assert metrics["count"] < 0.02


def test_all_counts_have_gradient():
    pretext = task("counting")
    pretext(pretext.views(batch(), context())).value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.parameters())


def turned_back(tiles: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return reorder(tiles, order.argsort(1))


def unequal_tiles_tell_no_place() -> None:
    test_brightness_and_contrast_tell_no_place_once_tiles_are_normalised("jigsaw", 2, 24, True)


def orders_can_be_undone() -> None:
    test_the_order_of_a_puzzle_undone_puts_each_tile_in_its_place({})


neighbours = test_a_neighbour_is_placed_by_its_own_patch_and_the_centres
counts = test_the_loss_of_counts_is_that_of_the_formula_in_float64
kernels = test_the_kernels_that_halve_are_those_of_libraries_and_what_they_leave_varies
MISTAKES = {  # where each is planted, what stands there, and the test that sees it
    "orders are undone and not done": ("jigsaw.reorder", turned_back, orders_can_be_undone),
    "tiles are not normalised": ("jigsaw.normalise_tiles", lambda tiles, *_: tiles, unequal_tiles_tell_no_place),
    "a neighbour is the centre": ("relative_patch.neighbours", lambda x: torch.cat([x[:5], x[6:]]), neighbours),
    "the other image is the image itself": ("counting.gather", lambda x: x.roll(1, 0), counts),
    "one kernel halves all": ("counting.OUTER", (0.0, 0.0), kernels),
}


@pytest.mark.parametrize(("place", "planted", "test"), MISTAKES.values(), ids=MISTAKES)
def test_a_planted_mistake_is_seen(place, planted, test, monkeypatch):
    test()
    monkeypatch.setattr(f"ssl_runner.pretext.{place}", planted)
    with pytest.raises(AssertionError):
        test()
