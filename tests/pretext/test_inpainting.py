"""Inpainting: holes of each kind, what the encoder sees, the loss by hand, a filling that surroundings tell."""

import pytest
import torch
from toys import SHAPE, Conv, batch, context, number, still, train

from ssl_runner.augment.image.holes import draw_holes
from ssl_runner.contract import Batch
from ssl_runner.pretext.inpainting import Inpainting


def inpainting(**settings) -> Inpainting:
    torch.manual_seed(0)
    given = {"encoder": Conv(), "shape": SHAPE, "augment": still(), "region": "random"}
    return Inpainting(**given | settings).train()


@pytest.mark.parametrize("share", [0.001, 0.25, 0.999])
@pytest.mark.parametrize("region", ["random", "blocks", "centre"])
def test_a_hole_has_its_share_and_is_never_nothing_or_all(region, share):
    holes = draw_holes(300, (16, 20), region, share, 4, context().rng)
    area = holes.sum((1, 2))
    assert 0 < area.min() <= area.max() < 320
    if region != "blocks":
        assert area.unique().numel() == 1
    if share == 0.25:
        assert {"random": 80, "centre": 81, "blocks": 75}[region] == area.max()
    covered = holes.float().mean(0)
    if region == "centre":
        assert holes.unique(dim=0).shape[0] == 1
        assert torch.equal(holes[0], holes[0].flip(0)) or holes[0].sum() % 2
    elif share == 0.25:
        assert len(holes.unique(dim=0)) > 150
        assert covered.min() > 0, "anywhere, up to the border"


def test_a_random_hole_is_of_connected_parts_and_cells_say_how_large():
    cut = {cells: draw_holes(200, (32, 32), "random", 0.25, cells, context().rng) for cells in (3, 12)}
    edges = {cells: (holes[:, 1:] != holes[:, :-1]).float().mean() for cells, holes in cut.items()}
    assert edges[3] < 0.5 * edges[12] < 0.5 * 2 * 0.25 * 0.75, "noise a pixel has 2 s (1 - s) of edges"


def test_the_encoder_sees_the_mean_colour_in_the_hole_and_the_image_around_it():
    encoder = Conv()
    encoder.mean.copy_(torch.tensor([0.2, 0.4, 0.6]))
    pretext = inpainting(encoder=encoder)
    holed, x, hole = views = pretext.views(batch(), context())
    assert torch.equal(x, batch().x)
    inside = hole[:, None].expand_as(x)
    assert torch.equal(holed[~inside], x[~inside])
    assert (encoder.normalise(holed)[inside] == 0).all()
    other = torch.where(hole[:, None], 1 - x, x)
    assert torch.equal(pretext((holed, other, hole)).embedding, pretext(views).embedding)


@pytest.mark.parametrize("overlap", [0, 1])
def test_the_loss_is_of_the_hole_alone_and_of_its_rim_if_wanted(overlap, monkeypatch):
    pretext = inpainting(overlap=overlap, region="centre")
    holed, x, hole = pretext.views(batch(), context())
    assert hole[0].nonzero().aminmax(dim=0)[0].tolist() == [2, 2]  # rows and columns 2 to 5
    guess = x + 0.1 * hole[:, None]
    guess[:, :, 0, 0] += 9  # far from the hole
    monkeypatch.setattr(pretext, "fill", lambda tokens: guess)
    area, rim = 16, 20 * overlap
    assert number(pretext((holed, x, hole)).value) == pytest.approx(0.01 * area / (area + 10 * rim), rel=1e-4)
    assert number(pretext((holed, x, hole)).metrics["psnr"]) == pytest.approx(20, abs=1e-3)
    guess[:, :, 1, 1] += 1  # on the rim
    expected = (0.01 * area + 10 * overlap) / (area + 10 * rim)
    assert number(pretext((holed, x, hole)).value) == pytest.approx(expected, rel=1e-4)
    guess.copy_(torch.where(hole[:, None], x, 7))
    assert (pretext((holed, x, hole)).value == 0) == (overlap == 0), "a perfect filling costs nothing"


def test_places_reach_each_other_channel_by_channel():
    pretext = inpainting().eval()
    tokens = torch.randn(2, 16, 12)
    mixed = torch.stack([tokens[:, :, d] @ pretext.channel_wise[d] for d in range(12)], 2)
    torch.testing.assert_close(pretext.fill(tokens), pretext.decoder(mixed).sigmoid())
    moved = tokens.clone()
    moved[:, 0] += 1
    assert ((pretext.fill(moved) - pretext.fill(tokens)).abs().sum(1) > 0).all(), "one token reaches every pixel"


def test_what_the_surroundings_tell_is_filled_in_and_shown():
    """One pattern in each image's own colour; the mean colour in the hole would have the variance for an error."""
    pattern = batch(1, seed=999).x

    def samples(step: int) -> torch.Tensor:
        return (pattern + batch(16, seed=step).x[..., :1, :1]) / 2

    pretext = inpainting(width=32, region="blocks")
    train(pretext, 120, samples)
    x = samples(5000)
    with torch.no_grad():
        holed, target, hole = views = pretext.eval().views(Batch(x, torch.arange(16)), context(7))
        error, pictures = pretext(views).value, pretext.pictures(views)
    assert error < 0.5 * x.var(0).mean()
    outside = ~hole[:, None].expand_as(x)
    assert torch.equal(pictures["filled"][outside], target[outside])
    assert torch.equal(pictures["filled"][~outside], pretext.fill(pretext.encoder(holed).tokens)[~outside])
    assert (pictures["filled"] - target).square().mean() < 0.5 * (holed - target).square().mean()


def test_all_parts_learn():
    pretext = inpainting()
    pretext(pretext.views(batch(), context())).value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.parameters())
