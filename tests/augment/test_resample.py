"""Flips, turns, crops and tilts against torchvision's."""

import math

import pytest
import torch
from images import generator, near, pictures
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from ssl_runner.augment.image.geometry import crop_matrix, flip, resample, rot90
from ssl_runner.augment.image.views import Views

WHOLE = [torch.zeros(1), torch.zeros(1), torch.ones(1), torch.ones(1)]  # top, left, height, width


def test_rot90_is_torchvisions_and_exact():
    x, turns = pictures(8, 3, 9, 9), torch.tensor([0, 1, 2, 3, 4, 5, -1, 2])
    view = rot90(x, turns)
    for i, k in enumerate(turns.tolist()):
        assert torch.equal(view[i], torch.rot90(x[i], k, (1, 2)))
        assert torch.equal(view[i], TF.rotate(x[i : i + 1], 90.0 * (k % 4))[0])
    assert torch.equal(rot90(view, -turns), x)


@pytest.mark.parametrize("shape", [(16, 16), (5, 8)])
def test_flip_is_torchvisions_and_exact(shape):
    x = pictures(4, 2, *shape)
    horizontal, vertical = torch.tensor([0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1]).bool()
    view = flip(x, horizontal, vertical)
    assert torch.equal(view, torch.stack([x[0], TF.hflip(x[1]), TF.vflip(x[2]), TF.vflip(TF.hflip(x[3]))]))


@pytest.mark.parametrize(("shape", "size"), [((16, 16), (16, 16)), ((15, 17), (12, 12)), ((8, 8), (21, 21))])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_torchvisions(shape, size, mirrored):
    h, w = shape
    boxes = [(0, 0, h, w), (2, 1, 5, 7), (1, 0, h - 1, 6), (h - 6, w - 4, 6, 4)]
    x = pictures(4, 3, h, w)
    top, left, height, width = (torch.tensor(boxes) / torch.tensor([h, w, h, w])).T
    both = torch.full((4,), mirrored)
    view = resample(x, crop_matrix(top, left, height, width, both, both), size)
    for i, box in enumerate(boxes):
        want = TF.resized_crop(x[i], *box, list(size), antialias=False)
        if mirrored:
            want = TF.vflip(TF.hflip(want))
        # Pixels whose centre is within half a pixel of the crop's edge are blended across it: see resample.
        rows, columns = (math.ceil(0.5 * n / k - 0.5) for n, k in zip(size, box[2:], strict=True))
        inner = (slice(rows, size[0] - rows), slice(columns, size[1] - columns))
        near(view[i][:, *inner], want[:, *inner])
        if i == 0:
            near(view[i], want)


def test_a_crop_is_the_same_by_reflection_and_by_its_border():
    x = pictures(64, 3, 32, 48)
    draw = Views(scale=(0.05, 1.0), vertical_flip=0.5).draw(64, (32, 48), generator())
    draw.box[:2] = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5]])
    matrix = crop_matrix(*draw.box.T, draw.flip, draw.vertical_flip)
    for size in ((32, 48), (64, 64), (12, 12)):
        reflected, cut = (resample(x, matrix, size, edge=edge) for edge in ("reflection", "border"))
        near(reflected, cut)


def test_whole_pixels_are_copied():
    x = pictures(2, 1, 12, 12)
    box = torch.tensor([[3, 2, 6, 6], [0, 6, 6, 6]]) / 12
    view = resample(x, crop_matrix(*box.T), (6, 6))
    near(view, torch.stack([x[0, :, 3:9, 2:8], x[1, :, 0:6, 6:12]]))


def test_a_tilt_is_torchvisions():
    x, degrees = pictures(3, 3, 33, 33), torch.tensor([20.0, -35.0, 90.0])
    zero, one = torch.zeros(3), torch.ones(3)
    view = resample(x, crop_matrix(zero, zero, one, one, angle=degrees.deg2rad()), (33, 33))
    y, z = torch.meshgrid(torch.arange(33) - 16, torch.arange(33) - 16, indexing="ij")
    disc = y**2 + z**2 < 15**2
    for i in range(3):
        want = TF.rotate(x[i], degrees[i].item(), InterpolationMode.BILINEAR)
        near(view[i][:, disc], want[:, disc], 1e-4)


def test_a_tilt_does_not_shear_and_leaves_no_black_corner():
    x, degrees = pictures(1, 1, 21, 41), torch.tensor([30.0])
    zero, one = torch.zeros(1), torch.ones(1)
    view = resample(x, crop_matrix(zero, zero, one, one, angle=degrees.deg2rad(), aspect=41 / 21), (21, 41))
    y, z = torch.meshgrid(torch.arange(21) - 10, torch.arange(41) - 20, indexing="ij")
    disc = y**2 + z**2 < 9**2
    want = TF.rotate(x, 30.0, InterpolationMode.BILINEAR)
    near(view[..., disc], want[..., disc], 1e-4)
    assert resample(x.clamp(min=0.5), crop_matrix(zero, zero, one, one, angle=one), (21, 41)).min() > 0.49


def test_a_flip_comes_after_the_tilt():
    x, no, yes = pictures(1, 3, 17, 17), torch.tensor([False]), torch.tensor([True])
    box, angle = torch.tensor([[0.1, 0.2, 0.7, 0.6]]).T, torch.tensor([0.4])
    tilted = resample(x, crop_matrix(*box, angle=angle), (12, 12))
    mirrored = resample(x, crop_matrix(*box, yes, no, angle), (12, 12))
    near(mirrored, tilted.flip(3))
    upset = resample(x, crop_matrix(*box, no, yes, angle), (12, 12))
    near(upset, tilted.flip(2))


def test_a_much_smaller_view_is_not_aliased():
    stripes = ((torch.arange(96) + 1) // 2 % 2).float().expand(1, 1, 96, 96)
    view = resample(stripes, crop_matrix(*WHOLE), (24, 24))
    near(view, torch.full_like(view, 0.5))
    crop = torch.full((1,), 0.25)  # as many pixels as the view has
    sharp = resample(stripes, crop_matrix(crop, crop, crop, crop), (24, 24))
    near(sharp, stripes[:, :, 24:48, 24:48])
    magnified = resample(stripes, crop_matrix(crop, crop, crop / 4, crop / 4), (24, 24))
    want = TF.resized_crop(stripes, 24, 24, 6, 6, [24, 24])
    near(magnified[..., 2:-2], want[..., 2:-2])
    turned = resample(stripes, crop_matrix(*WHOLE, angle=torch.tensor([math.pi / 2])), (24, 24))
    near(turned, torch.full_like(view, 0.5))
    flat = resample(stripes[:, :, :24], crop_matrix(*WHOLE), (24, 24))  # narrowed, but not lowered
    near(flat, torch.full_like(view, 0.5))
    lying = stripes.transpose(2, 3)[:, :, :24]
    sharp = resample(lying, crop_matrix(*WHOLE), (24, 24))
    near(sharp, lying[..., :24])
    nearest = resample(stripes, crop_matrix(*WHOLE), (24, 24), mode="nearest")
    assert set(nearest.unique().tolist()) <= {0.0, 1.0}
