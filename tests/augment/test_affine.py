"""Flips, turns, crops and tilts against torchvision's."""

import math

import pytest
import torch
from images import near, pictures, rng
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from ssl_runner.augment.image.geometry import crop_matrix, flip, resample, rot90
from ssl_runner.augment.image.views import Views

WHOLE = [torch.zeros(1), torch.zeros(1), torch.ones(1), torch.ones(1)]  # top, left, height, width


@pytest.mark.parametrize("shape", [(16, 16), (5, 8)])
def test_right_angles_and_flips_are_torchvisions_and_exact(shape):
    x, turns = pictures(8, 3, 9, 9), torch.tensor([0, 1, 2, 3, 4, 5, -1, 2])
    view = rot90(x, turns)
    for i, k in enumerate(turns.tolist()):
        assert torch.equal(view[i], torch.rot90(x[i], k, (1, 2)))
        assert torch.equal(view[i], TF.rotate(x[i : i + 1], 90.0 * (k % 4))[0])
    assert torch.equal(rot90(view, -turns), x)
    x = pictures(4, 2, *shape)
    view = flip(x, torch.tensor([0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1]).bool())
    assert torch.equal(view, torch.stack([x[0], TF.hflip(x[1]), TF.vflip(x[2]), TF.vflip(TF.hflip(x[3]))]))


@pytest.mark.parametrize(("shape", "size"), [((16, 16), (16, 16)), ((15, 17), (12, 12)), ((8, 8), (21, 21))])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_torchvisions(shape, size, mirrored):
    h, w = shape
    boxes = [(0, 0, h, w), (2, 1, 5, 7), (1, 0, h - 1, 6), (h - 6, w - 4, 6, 4)]
    x, both = pictures(4, 3, h, w), torch.full((4,), mirrored)
    view = resample(x, crop_matrix(*(torch.tensor(boxes) / torch.tensor([h, w, h, w])).T, both, both), size)
    for i, box in enumerate(boxes):
        want = TF.resized_crop(x[i], *box, list(size), antialias=False)
        want = TF.vflip(TF.hflip(want)) if mirrored else want
        # Pixels whose centre is within half a pixel of the crop's edge are blended across it: see resample.
        rows, columns = (math.ceil(0.5 * n / k - 0.5) if i else 0 for n, k in zip(size, box[2:], strict=True))
        inner = (slice(rows, size[0] - rows), slice(columns, size[1] - columns))
        near(view[i][:, *inner], want[:, *inner])


def test_a_crop_is_the_same_by_reflection_and_by_its_border_and_whole_pixels_are_copied():
    x = pictures(64, 3, 32, 48)
    draw = Views(scale=(0.05, 1.0), vertical_flip=0.5).draw(64, (32, 48), rng())
    draw.box[:2] = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5]])
    matrix = crop_matrix(*draw.box.T, draw.flip, draw.vertical_flip)
    for size in ((32, 48), (64, 64), (12, 12)):
        near(*(resample(x, matrix, size, edge=edge) for edge in ("reflection", "border")))
    x, box = pictures(2, 1, 12, 12), torch.tensor([[3, 2, 6, 6], [0, 6, 6, 6]]) / 12
    near(resample(x, crop_matrix(*box.T), (6, 6)), torch.stack([x[0, :, 3:9, 2:8], x[1, :, 0:6, 6:12]]))


@pytest.mark.parametrize(("h", "w", "degrees"), [(33, 33, 20.0), (33, 33, -35.0), (33, 33, 90.0), (21, 41, 30.0)])
def test_a_tilt_is_torchvisions_without_shear_or_black_corners_and_before_a_flip(h, w, degrees):
    x, angle = pictures(3, 3, h, w), torch.tensor([degrees]).deg2rad().expand(3)
    whole = [each.expand(3) for each in WHOLE]
    view = resample(x, crop_matrix(*whole, angle=angle, aspect=w / h), (h, w))
    y, z = torch.meshgrid(torch.arange(h) - h // 2, torch.arange(w) - w // 2, indexing="ij")
    disc = y**2 + z**2 < (h // 2 - 1) ** 2
    near(view[..., disc], TF.rotate(x, degrees, InterpolationMode.BILINEAR)[..., disc], 1e-4)
    assert resample(x.clamp(min=0.5), crop_matrix(*whole, angle=torch.ones(3)), (h, w)).min() > 0.49
    x, (angle, *box) = pictures(2, 3, 17, 17), torch.tensor([[0.4, 0.1, 0.2, 0.7, 0.6]] * 2).T
    tilted, flip = resample(x, crop_matrix(*box, angle=angle), (12, 12)), torch.tensor([True, False])
    flipped = resample(x, crop_matrix(*box, flip, ~flip, angle), (12, 12))
    near(flipped, torch.stack([tilted[0].flip(2), tilted[1].flip(1)]))


def test_a_much_smaller_view_is_not_aliased():
    stripes = ((torch.arange(96) + 1) // 2 % 2).float().expand(1, 1, 96, 96)
    lying, grey = stripes.transpose(2, 3)[:, :, :24], torch.full((1, 1, 24, 24), 0.5)
    crop, whole = torch.full((1,), 0.25), crop_matrix(*WHOLE)
    turned = crop_matrix(*WHOLE, angle=torch.tensor([math.pi / 2]))
    for x, matrix in ((stripes, whole), (stripes, turned), (stripes[:, :, :24], whole)):  # narrowed, but not lowered
        near(resample(x, matrix, (24, 24)), grey)
    near(resample(lying, whole, (24, 24)), lying[..., :24])
    sharp = resample(stripes, crop_matrix(crop, crop, crop, crop), (24, 24))  # as many pixels as the view has
    near(sharp, stripes[:, :, 24:48, 24:48])
    magnified = resample(stripes, crop_matrix(crop, crop, crop / 4, crop / 4), (24, 24))
    near(magnified[..., 2:-2], TF.resized_crop(stripes, 24, 24, 6, 6, [24, 24])[..., 2:-2])
    assert set(resample(stripes, whole, (24, 24), mode="nearest").unique().tolist()) <= {0.0, 1.0}
