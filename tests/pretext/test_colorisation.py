"""Colorisation: Lab by published values, bins and weights by hand, what the encoder sees, what is learnt."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, context, number, still, train

from ssl_runner.augment.image.lab import colour_bins, lab_to_rgb, rgb_to_lab
from ssl_runner.contract import Batch
from ssl_runner.layers.decoder import MapDecoder
from ssl_runner.pretext.colorisation import Colorisation


def colorisation(**settings) -> Colorisation:
    torch.manual_seed(0)
    given = {"encoder": Conv(), "shape": SHAPE, "augment": still(), "stride": 2}
    return Colorisation(**given | settings).train()


def image(*rgb: float, n: int = 1) -> torch.Tensor:
    return torch.tensor(rgb).float().view(1, 3, 1, 1).expand(n, 3, 8, 8).contiguous()


LAB = {
    (1, 1, 1): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
    (1, 0, 0): (53.24, 80.09, 67.20),
    (0, 1, 0): (87.73, -86.18, 83.18),
    (0, 0, 1): (32.30, 79.19, -107.86),
    (0.5, 0.5, 0.5): (53.39, 0, 0),
}


@pytest.mark.parametrize(("rgb", "lab"), LAB.items())
def test_lab_is_that_of_published_tables_and_back(rgb, lab):
    x = torch.tensor(rgb).float().view(1, 3, 1, 1)
    torch.testing.assert_close(rgb_to_lab(x).flatten(), torch.tensor(lab).float(), atol=0.01, rtol=0)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=1e-5, rtol=0)


def test_lab_is_undone_and_colours_that_no_screen_has_are_put_at_its_border():
    x = batch(8).x
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=2e-5, rtol=0)
    beyond = lab_to_rgb(torch.tensor([50.0, 200.0, -200.0]).view(1, 3, 1, 1))
    assert 0 <= beyond.min() < beyond.max() <= 1


def test_bins_are_a_grid_around_grey_that_holds_every_colour():
    bins = colour_bins(10.0)
    assert len(bins) == 261
    assert [0.0, 0.0] in bins.tolist()
    assert torch.equal(bins % 10, torch.zeros_like(bins))
    ab = rgb_to_lab(batch(200).x)[:, 1:].permute(0, 2, 3, 1).flatten(0, 2)
    assert (ab[:, None] - bins).abs().amax(2).amin(1).max() < 5 + 1  # a bin that no colour was seen in is near


def test_a_colour_is_shared_among_its_five_nearest_bins():
    pretext = colorisation()
    index, share = pretext.nearest(torch.tensor([3.0, 2.0]).view(1, 2, 1, 1), 5)
    torch.testing.assert_close(share.sum(3), torch.ones(1, 1, 1))
    assert pretext.bins[index[0, 0, 0, 0]].tolist() == [0, 0]
    expected = {}
    for place in pretext.bins.double().tolist():
        expected[tuple(place)] = ((place[0] - 3) ** 2 + (place[1] - 2) ** 2) / (2 * 5**2)
    nearest = sorted(expected, key=expected.get)[:5]
    weight = torch.tensor([-expected[each] for each in nearest]).double().exp()
    assert [tuple(each) for each in pretext.bins[index[0, 0, 0]].tolist()] == nearest
    torch.testing.assert_close(share.flatten().double(), weight / weight.sum(), rtol=1e-5, atol=1e-6)


def begin(pretext: Colorisation, *images: torch.Tensor) -> None:
    sweep = [Batch(x, torch.arange(len(x))) for x in images]
    pretext.before_step(dataclasses.replace(context(), sweep=lambda: iter(sweep)))


@pytest.mark.parametrize("rebalance", [0.5, 0.1, 1.0])
def test_rare_colours_weigh_more_by_the_formula_of_the_paper(rebalance):
    pretext = colorisation(rebalance=rebalance)
    red, blue, grey = image(1, 0, 0, n=3), image(0, 0, 1), image(0.5, 0.5, 0.5, n=7)
    begin(pretext, red, torch.cat([blue, grey]))  # grey images count for nothing
    places = [pretext.nearest(rgb_to_lab(x[:1])[:, 1:, :1, :1], 1)[0].item() for x in (red, blue)]
    p, bins = torch.zeros(261).double(), pretext.bins.double()
    p[places[0]], p[places[1]] = 0.75, 0.25
    smoothed = torch.zeros(261).double()
    for one in places:
        kernel = (-(bins - bins[one]).square().sum(1) / 50).exp()
        smoothed += p[one] * kernel / kernel.sum()
    weight = 1 / ((1 - rebalance) * smoothed + rebalance / 261)
    torch.testing.assert_close(pretext.weight.double(), weight / (smoothed * weight).sum(), rtol=1e-4, atol=1e-5)
    assert number((pretext.weight * smoothed).sum()) == pytest.approx(1, rel=1e-4)
    assert (pretext.weight[places[1]] > pretext.weight[places[0]]) == (rebalance < 1)
    old = pretext.weight.clone()
    pretext.before_step(context(step=1))
    assert torch.equal(pretext.weight, old)
    assert torch.equal(pretext.state_dict()["weight"], old)


def test_the_encoder_sees_lightness_and_no_colour():
    pretext = colorisation()
    grey, colours = pretext.views(batch(), context())
    assert torch.equal(grey, grey[:, :1].expand_as(grey))
    lab = rgb_to_lab(grey)
    torch.testing.assert_close(lab[:, 0], rgb_to_lab(colours)[:, 0], atol=1e-3, rtol=0)
    assert lab[:, 1:].abs().max() < 1e-3
    light = torch.full((1, 1, 8, 8), 55.0)
    pair = [torch.cat([light, torch.full_like(light, a), torch.full_like(light, b)], 1) for a, b in ((20, 5), (-9, 30))]
    both = pretext.views(Batch(lab_to_rgb(torch.cat(pair)), torch.arange(2)), context())
    torch.testing.assert_close(
        both[0][0], both[0][1], atol=1e-4, rtol=0
    )  # of equal lightness: nothing tells them apart
    embedding = pretext((grey, colours)).embedding
    assert torch.equal(pretext((grey, colours.flip(1))).embedding, embedding)


@pytest.mark.parametrize("loss", ["classification", "regression"])
def test_the_loss_is_that_of_the_formula_and_grey_images_are_left_out(loss):
    pretext = colorisation(loss=loss).eval()
    rng = torch.Generator().manual_seed(1)
    pretext.weight.uniform_(0.5, 2, generator=rng)
    grey, colours = pretext.views(batch(3), context())
    colours[2] = 0.5
    output = pretext.decoder(pretext.encoder(grey).tokens).double()
    ab, total = F.avg_pool2d(rgb_to_lab(colours)[:, 1:], 2).double(), 0.0
    for i in range(2):
        for row in range(4):
            for column in range(4):
                place, out = ab[i, :, row, column], output[i, :, row, column]
                if loss == "regression":
                    total += ((out - place / 50) ** 2).mean()
                    continue
                distance = (pretext.bins.double() - place).square().sum(1)
                near = distance.argsort()[:5]
                share = (-distance[near] / 50).exp()
                share, p = share / share.sum(), out.exp() / out.exp().sum()
                total -= pretext.weight[near[0]].double() * (share * p[near].log()).sum()
    torch.testing.assert_close(pretext((grey, colours)).value.double(), total / (3 * 16), rtol=1e-5, atol=1e-6)
    none = pretext((grey, torch.full_like(colours, 0.5)))
    assert none.value == 0


def test_the_annealed_mean_is_between_mode_and_mean():
    pretext = colorisation()
    output = torch.full((1, 261, 1, 1), -100.0)
    output[0, [3, 90]] = torch.tensor([0.38 * 2.0, 0.0]).view(2, 1, 1)
    share = torch.tensor([2.0, 0.0]).softmax(0)
    expected = share[0] * pretext.bins[3] + share[1] * pretext.bins[90]
    torch.testing.assert_close(pretext.colours(output).flatten(), expected)


@pytest.mark.parametrize("loss", ["classification", "regression"])
def test_colours_that_lightness_tells_are_found_and_shown(loss, monkeypatch):
    """Dark is blue and bright is yellow."""

    def samples(step: int) -> torch.Tensor:
        bright = (torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(step)) > 0.5).float()
        return bright * image(0.9, 0.8, 0.1) + (1 - bright) * image(0.1, 0.2, 0.6)

    pretext = colorisation(loss=loss, stride=1, encoder=Conv(kernel=1))
    begin(pretext, samples(0))
    monkeypatch.setattr(pretext, "before_step", lambda ctx: None)  # the loop's contexts have no sweep
    train(pretext, 100, samples)
    with torch.no_grad():
        views = pretext.eval().views(Batch(samples(-1 % 999), torch.arange(16)), context(5))
        assert pretext(views).metrics["ab_error"] < 12
        pictures = pretext.pictures(views)
    assert torch.equal(pictures["target"], views[1])
    assert (pictures["colouring"] - views[1]).abs().mean() < 0.1 < (pictures["grey"] - views[1]).abs().mean()


def test_what_has_no_colours_is_refused_with_what_to_type():
    with pytest.raises(ValueError, match=r"images of 1 channels .*; type pretext=inpainting"):
        colorisation(encoder=Conv(channels=1), shape=(1, 8, 8))
    with pytest.raises(ValueError, match=r"augment\.grey=0\.2 .*; type pretext\.augment\.grey=0"):
        colorisation(augment=still(grey=0.2))
    with pytest.raises(ValueError, match=r"no colours to predict; type pretext=inpainting"):
        begin(colorisation(), image(0.3, 0.3, 0.3, n=4))


@pytest.mark.parametrize(("grid", "size", "steps"), [((4, 4), (8, 8), 1), ((4, 4), (32, 32), 3), ((3, 5), (28, 40), 4)])
def test_a_map_is_decoded_in_steps_of_two_at_most_and_keeps_places(grid, size, steps):
    decoder = MapDecoder(6, grid, 3, size, width=16).eval()
    assert len(decoder.steps) == steps
    tokens = torch.zeros(2, grid[0] * grid[1], 6)
    base = decoder(tokens)
    assert base.shape == (2, 3, *size)
    tokens[0, 0], tokens[1, -1] = 5, 5
    moved = (decoder(tokens) - base).abs().sum(1)
    assert moved[0, 0, 0] > 0 < moved[1, -1, -1]
    assert moved[0, -1, -1] == 0 == moved[1, 0, 0]
    assert torch.equal(MapDecoder(6, (2, 2), 1, (2, 2)).steps(tokens), tokens)
