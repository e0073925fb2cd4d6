"""VICRegL: where cells of views lie, which are matched, and the criterion of pairs by its formulas in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import Conv, batch, context, number, still

from ssl_runner.augment.image.geometry import cell_centres
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.pretext.vicreg import VICReg
from ssl_runner.pretext.vicregl import VICRegL, match

CROPS = Views(scale=(0.3, 0.8))


def vicregl(**settings) -> VICRegL:
    torch.manual_seed(0)
    widths = {"hidden": 16, "out": 6, "local_hidden": 16, "local_out": 5}
    given = {"encoder": Conv(), "augment": CROPS, "augment_prime": CROPS, "matches": 4}
    return VICRegL(**given | widths | settings).train()


def forget_flips(monkeypatch) -> None:
    """Views are flipped as before, and where their cells lie is as if they were not."""
    matrix, apply = Views.matrix, Views.apply

    def apply_rightly(self, x, draw):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Views, "matrix", matrix)
            return apply(self, x, draw)

    monkeypatch.setattr(Views, "apply", apply_rightly)
    monkeypatch.setattr(Views, "matrix", lambda self, x, draw: matrix(self, x, draw._replace(flip=None)))


def misplacement(**changes) -> float:
    """The largest distance in pixels between where cells are said to lie and the part of the image that they show."""
    side = torch.tensor([48.0, 32.0])
    x, y = ((torch.arange(n) + 0.5) / n for n in (48, 32))
    ramps = torch.stack([x.expand(32, 48), y[:, None].expand(32, 48), torch.zeros(32, 48)])
    recipe = still(scale=(0.2, 0.4), ratio=(0.5, 2.0), **changes)
    pretext = vicregl(augment=recipe, augment_prime=recipe)
    *images, first, second = pretext.views(Batch(ramps.expand(64, 3, 32, 48), torch.arange(64)), context())
    largest = 0.0
    for view, to_pixels in zip(images, (first, second), strict=True):
        shown = F.avg_pool2d(view, view.shape[2] // 4)[:, :2]  # (B, 2, 4, w)
        lies = cell_centres(to_pixels, tuple(shown.shape[2:]))
        off = (lies - (shown.flatten(2).mT - 0.5) * side).norm(dim=2)
        inside = (lies.abs() < side / 2 - 4).all(2)  # at its edges an image is repeated or reflected
        largest = max(largest, float(off[inside].max()))
    return largest


@pytest.mark.parametrize(
    "changes", [{}, {"flip": 0.5}, {"flip": 0.5, "size": 24}, {"flip": 0.5, "vertical_flip": 0.5, "degrees": 30.0}]
)
def test_a_cell_lies_where_the_image_has_what_it_sees(changes, monkeypatch):
    assert misplacement(**changes) < 0.05
    if "flip" in changes:
        forget_flips(monkeypatch)
        assert misplacement(**changes) > 3, "positions that leave out the flip"


def test_matches_are_the_nearest_pairs_in_the_order_of_cells():
    a, b = torch.tensor([[[0.0], [9.0], [5.0], [2.0]]]), torch.tensor([[[6.0], [2.5], [0.1]]])
    rows, matched = match(a, b, 3)
    assert (rows.tolist(), matched.tolist()) == ([[0, 2, 3]], [[2, 0, 1]])
    assert match(a, b, 4)[1].tolist() == [[2, 0, 0, 1]], "several may match one"
    places = torch.rand(3, 16, 2)
    for same in match(places, places, 16):
        assert torch.equal(same, torch.arange(16).expand(3, 16))


@pytest.mark.parametrize("flips", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_the_same_cells_of_two_views_are_matched_however_these_are_flipped(flips, monkeypatch):
    """An encoder of single pixels has the same features of a flipped view, flipped."""
    recipes = dict(zip(("augment", "augment_prime"), (still(flip=p) for p in flips), strict=True))
    pretext = vicregl(encoder=Conv(kernel=1), matches=64, **recipes)
    assert pretext(pretext.views(batch(), context())).metrics["local_invariance"] < 1e-8
    forget_flips(monkeypatch)
    wrong = pretext(pretext.views(batch(), context())).metrics["local_invariance"]
    assert (wrong > 0.01) == any(flips), "positions that leave out the flip"


def by_hand(pretext: VICRegL, views: tuple, mistake: str = "") -> Tensor:
    """The loss by loops over samples and cells, in float64."""
    features = [pretext.encoder(view) for view in views[:2]]
    z = [pretext.expander(each.pooled).double() for each in features]
    cells = [
        pretext.local_expander(each.tokens.flatten(0, 1)).double().unflatten(0, (len(z[0]), -1)) for each in features
    ]
    places = [cell_centres(m.double(), each.grid) for m, each in zip(views[2:], features, strict=True)]
    near = {"location": places, "feature": cells}
    if mistake == "backbone":
        near["feature"] = [each.tokens.double() for each in features]

    def criterion(x, y):
        if mistake == "one batch":
            x, y = x.flatten(0, 1)[:, None], y.flatten(0, 1)[:, None]
        variances = [(1 - (each.var(0) + 1e-4).sqrt()).relu().mean() for each in (x, y)]
        covariances = [torch.stack([torch.cov(slot.T) for slot in each.unbind(1)]) for each in (x, y)]
        off = [
            (c.square().sum() - c.diagonal(dim1=1, dim2=2).square().sum()) / len(c) / c.shape[2] for c in covariances
        ]
        return 25 * (x - y).square().mean() + 25 * sum(variances) / 2 + sum(off)

    local = []
    for kind, measured in near.items():
        for a, b in ((0, 1), (1, 0)):
            sides = [], []
            for i in range(len(z[0])):
                closest = []
                for n, cell in enumerate(measured[a][i]):
                    distances = [number((cell - other).norm()) for other in measured[b][i]]
                    closest.append((min(distances), n, distances.index(min(distances))))
                kept = sorted(sorted(closest)[: pretext.matches], key=lambda each: each[1])
                if mistake == kind:  # all cells keep their match
                    kept = closest
                sides[0].append(torch.stack([cells[a][i, n] for _, n, _ in kept]))
                other = cells[b].detach() if mistake == "target" else cells[b]
                sides[1].append(torch.stack([other[i, m] for _, _, m in kept]))
            local.append(criterion(*map(torch.stack, sides)) / 2)
    return pretext.global_weight * criterion(z[0][:, None], z[1][:, None]) + (1 - pretext.global_weight) * sum(local)


def gradient(pretext: VICRegL, value: Tensor) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(pretext.parameters()))])


def test_the_loss_is_vicregs_criterion_of_views_and_of_matched_cells():
    pretext = vicregl(global_weight=0.3)
    views = pretext.views(batch(6), context())
    value, right = pretext(views).value, by_hand(pretext, views)
    assert number(value) == pytest.approx(number(right), rel=1e-5)
    slope = gradient(pretext, value)
    torch.testing.assert_close(slope, gradient(pretext, right), rtol=1e-3, atol=1e-4 * float(slope.abs().max()))
    for mistake in ("backbone", "one batch", "location", "feature"):
        assert abs(number(by_hand(pretext, views, mistake)) - number(value)) > 1e-3, mistake
    one_sided = gradient(pretext, by_hand(pretext, views, "target"))
    assert (one_sided - slope).norm() > 0.1 * slope.norm(), "both cells of a pair learn"


def test_with_no_local_share_it_is_vicreg():
    pretext = vicregl(global_weight=1.0)
    vicreg = VICReg(encoder=pretext.encoder, augment=CROPS, augment_prime=CROPS, hidden=16, out=6).train()
    vicreg.expander = pretext.expander
    ours, theirs = (each(each.views(batch(), context())) for each in (pretext, vicreg))
    assert torch.equal(ours.value, theirs.value)
    assert theirs.metrics == {name: ours.metrics[name] for name in theirs.metrics}
    torch.testing.assert_close(*(gradient(vicreg, each.value) for each in (ours, theirs)))


def test_a_collapse_costs_the_variance_that_is_missing():
    pretext = vicregl()
    for head in (pretext.expander, pretext.local_expander):
        torch.nn.init.zeros_(head[-1].weight)
    value = number(pretext(pretext.views(batch(), context())).value)
    assert value == pytest.approx((0.75 + 0.25 * 2) * 25 * 0.99)  # 1 less the root of VICReg's epsilon, of both kinds


def test_the_order_of_samples_plays_no_part():
    pretext, order = vicregl(), torch.randperm(8)
    views = pretext.views(batch(), context())
    torch.testing.assert_close(pretext(tuple(each[order] for each in views)).value, pretext(views).value)


def test_more_matches_than_cells_are_refused():
    pretext = vicregl(matches=17)  # of 4 x 4 cells
    with pytest.raises(ValueError, match=r"17 of maps of 16 cells; type pretext\.matches=16"):
        pretext(pretext.views(batch(), context()))
