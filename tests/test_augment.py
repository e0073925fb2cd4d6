"""Augmentation: every sample by its own draw, the draw as it is distributed in torchvision, and the same pictures."""

import inspect
import math
from pathlib import Path

import pytest
import torch
import yaml
from scipy.stats import ks_2samp, kstest
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as TF

from ssl_runner.augment.image.blur import blur
from ssl_runner.augment.image.colour import LUMA, basis, products_are_exact, recolour, solarise
from ssl_runner.augment.image.geometry import crop_matrix, flip, resample, rot90
from ssl_runner.augment.image.views import Draw, Views

CONF = Path(__file__).parents[1] / "conf" / "augment"
OFF = {"scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}
EVERYTHING = {"vertical_flip": 0.5, "degrees": 30.0, "blur": 0.5, "solarise": 0.5}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 8, c: int = 3, h: int = 16, w: int = 16, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures that use most of [0, 1]."""
    x = torch.rand(n, c, h // 3 + 2, w // 3 + 2, generator=generator(seed))
    return F.interpolate(x, (h, w), mode="bilinear", align_corners=False)


def chosen(draw: Draw, rows: torch.Tensor) -> Draw:
    return Draw(*(None if field is None else field[rows] for field in draw))


def shift(b: float = 1.0, c: float = 1.0, s: float = 1.0, h: float = 0.0, n: int = 8) -> list[torch.Tensor]:
    return [torch.full((n,), value) for value in (b, c, s, h)]


class TestDraws:
    def test_each_sample_has_its_own(self):
        draw = Views(**EVERYTHING).draw(64, (32, 32), generator())
        for field in (draw.box, draw.angle, draw.colour[draw.colour[:, 0] != 1], draw.sigma[draw.sigma > 0]):
            assert len(field.unique(dim=0)) > 0.9 * len(field) > 20
        view = Views(**EVERYTHING)(pictures(1).expand(16, -1, -1, -1), generator())
        assert len(view.unique(dim=0)) == 16

    @pytest.mark.parametrize("settings", [{}, EVERYTHING, {"size": 11, "blur": 1.0}, {**OFF, "flip": 0.5}])
    def test_a_view_does_not_depend_on_its_batch_mates(self, settings):
        views, x = Views(**settings), pictures(12)
        draw = views.draw(12, (16, 16), generator())
        whole = views.apply(x, draw)
        rows = torch.tensor([7, 2, 9])
        torch.testing.assert_close(views.apply(x[rows], chosen(draw, rows)), whole[rows], rtol=0, atol=1e-6)
        others = pictures(12, seed=1)
        others[rows] = x[rows]
        assert torch.equal(views.apply(others, draw)[rows], whole[rows])

    def test_the_same_generator_gives_the_same_views(self):
        views, x = Views(**EVERYTHING), pictures()
        rng = generator(5)
        first, second = views(x, rng), views(x, rng)
        assert torch.equal(first, views(x, generator(5)))
        assert not torch.equal(first, second)
        torch.manual_seed(0)
        assert torch.equal(first, views(x, generator(5))), "the global generator has a say"

    def test_one_setting_leaves_the_draws_of_the_others_alone(self):
        plain, all_on = (Views(**settings).draw(64, (32, 32), generator()) for settings in ({}, EVERYTHING))
        for name in ("box", "flip", "colour"):
            assert torch.equal(getattr(plain, name), getattr(all_on, name)), name
        assert plain.vertical_flip is plain.angle is plain.sigma is plain.solarise is None

    def test_a_batch_of_which_none_or_one_is_chosen(self):
        x = pictures(3)
        views = Views(**OFF, blur=0.5, solarise=0.5, blur_sigma=(1.0, 1.0))
        draw = views.draw(3, (16, 16), generator())
        for rows in ([], [1], [0, 1, 2]):
            sigma, inverted = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
            sigma[rows], inverted[rows] = 1.0, True
            view = views.apply(x, draw._replace(sigma=sigma, solarise=inverted))
            torch.testing.assert_close(view, solarise(blur(x, sigma), inverted), rtol=0, atol=1e-6)
            untouched = [i for i in range(3) if i not in rows]
            assert torch.equal(view[untouched], x[untouched])

    def test_images_are_left_as_they_were(self):
        x = pictures()
        before = x.clone()
        some = {"blur": 0.5, "solarise": 0.5}
        for settings in (
            EVERYTHING,
            {**OFF, "jitter": 1.0},
            {**OFF, "blur": 1.0},
            {**OFF, "flip": 1.0},
            {**OFF, **some},
            {**OFF, "solarise": 1.0},
        ):
            Views(**settings)(x, generator())
            assert torch.equal(x, before)


class TestProbability:
    @pytest.mark.parametrize("shape", [(16, 16), (7, 13)])
    def test_everything_off_is_the_identity(self, shape):
        x = pictures(4, 3, *shape)
        assert torch.equal(Views(**OFF)(x, generator()), x)
        assert torch.equal(Views(**OFF, size=None, blur_sigma=(1.0, 1.0))(x, generator()), x)

    def test_zero_and_one(self):
        x, rng = pictures(), generator()
        assert torch.equal(Views(**{**OFF, "flip": 1.0})(x, rng), x.flip(3))
        assert torch.equal(Views(**OFF, vertical_flip=1.0)(x, rng), x.flip(2))
        assert torch.equal(Views(**OFF, solarise=1.0)(x, rng), torch.where(x >= 0.5, 1 - x, x))
        grey = Views(**{**OFF, "grey": 1.0})(x, rng)
        assert torch.equal(grey[:, 0], grey[:, 1])
        assert torch.equal(grey[:, 0], grey[:, 2])
        assert (Views(**OFF, blur=1.0, blur_sigma=(1.0, 1.0))(x, rng) != x).flatten(1).any(1).all()
        assert (Views(**{**OFF, "jitter": 1.0})(x, rng) != x).flatten(1).any(1).all()

    @pytest.mark.parametrize("name", ["flip", "vertical_flip", "jitter", "grey", "blur", "solarise"])
    def test_a_share_of_the_samples_is_touched_and_the_others_are_bit_exact(self, name):
        x = pictures(1).expand(2000, -1, -1, -1)
        touched = (Views(**{**OFF, "blur_sigma": (1.0, 1.0), name: 0.3})(x, generator()) != x).flatten(1).any(1)
        assert abs(touched.float().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)

    def test_the_draws_of_a_sample_are_independent(self):
        draw = Views(flip=0.5, vertical_flip=0.5, jitter=1.0, degrees=10.0, solarise=0.5).draw(
            10_000, (32, 32), generator()
        )
        size, colour = draw.box[:, 2:].prod(1), draw.colour[draw.colour[:, 2] > 0]
        columns = [draw.box[:, 0], draw.angle, draw.flip, draw.vertical_flip, draw.solarise, size, *draw.colour.T]
        related = torch.corrcoef(torch.stack([column.float() for column in columns])) - torch.eye(len(columns))
        related[0, 5] = related[5, 0] = 0  # a large crop has less room above it
        assert related.abs().max() < 0.045
        assert torch.corrcoef(colour.T).triu(1).abs().max() < 0.045


class TestDistribution:
    N = 10_000

    @pytest.mark.parametrize(
        ("shape", "scale", "ratio"),
        [
            ((32, 32), (0.2, 1.0), (3 / 4, 4 / 3)),
            ((96, 64), (0.08, 1.0), (3 / 4, 4 / 3)),
            ((17, 45), (0.5, 1.0), (3 / 4, 4 / 3)),  # the centre box is often fallen back on
            ((45, 17), (0.9, 1.0), (1.0, 1.2)),  # always
        ],
    )
    def test_crops_are_those_of_torchvision(self, shape, scale, ratio):
        image = torch.zeros(1, *shape)
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(self.N)])
        ours = Views(scale=scale, ratio=ratio).draw(self.N, shape, generator(1)).box
        ours = ours * torch.tensor([shape[0], shape[1], shape[0], shape[1]])
        torch.testing.assert_close(ours, ours.round(), rtol=0, atol=1e-4)
        ours, theirs = ours.round().double(), theirs.double()
        assert (ours[:, :2] >= 0).all()
        assert (ours[:, :2] + ours[:, 2:] <= torch.tensor(shape)).all()
        for name, of in {
            "top": lambda box: box[:, 0],
            "left": lambda box: box[:, 1],
            "height": lambda box: box[:, 2],
            "width": lambda box: box[:, 3],
            "area": lambda box: box[:, 2] * box[:, 3],
            "ratio": lambda box: box[:, 3] / box[:, 2],
            "corner": lambda box: box[:, 0] - box[:, 1],
        }.items():
            assert ks_2samp(of(ours), of(theirs), method="asymp").pvalue > 1e-3, name
            spread = of(theirs).std() / math.sqrt(self.N)
            assert abs(of(ours).mean() - of(theirs).mean()) <= 6 * spread + 1e-9, name

    @pytest.mark.parametrize("shape", [(8, 20), (21, 9), (41, 7)])
    def test_where_no_try_fits_it_is_the_box_in_the_centre_of_torchvision(self, shape):
        scale, ratio = (0.95, 1.0), (0.9, 1.1)
        box = Views(scale=scale, ratio=ratio).draw(50, shape, generator()).box
        want = RandomResizedCrop.get_params(torch.zeros(1, *shape), list(scale), list(ratio))
        assert (box * torch.tensor([*shape, *shape])).round().unique(dim=0).tolist() == [list(want)]

    def test_colours_are_uniform_in_their_ranges(self):
        views = Views(jitter=1.0, grey=0.0, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
        drawn = views.draw(self.N, (8, 8), generator()).colour
        for column, low, high in zip(drawn.T, (0.6, 0.0, 0.8, -0.1), (1.4, 2.5, 1.2, 0.1), strict=True):
            assert low - 1e-6 <= column.min() < low + 0.01 * (high - low)
            assert high - 0.01 * (high - low) < column.max() <= high + 1e-6
            assert abs(column.mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * self.N)
            assert kstest(column, "uniform", (low, high - low)).pvalue > 1e-3

    def test_jitter_and_grey_are_two_draws(self):
        drawn = Views(jitter=0.8, grey=0.2).draw(self.N, (8, 8), generator()).colour
        jittered, grey = drawn[:, 0] != 1, drawn[:, 2] == 0
        assert torch.equal(jittered, drawn[:, 1] != 1)
        assert torch.equal(jittered, drawn[:, 3] != 0)
        assert abs(jittered.float().mean() - 0.8) < 0.016
        assert abs(grey.float().mean() - 0.2) < 0.016
        assert abs((jittered & grey).float().mean() - 0.16) < 0.016

    def test_angles_and_widths_are_uniform(self):
        draw = Views(degrees=30.0, blur=1.0, blur_sigma=(0.1, 2.0)).draw(self.N, (8, 8), generator())
        assert kstest(draw.angle.rad2deg(), "uniform", (-30, 60)).pvalue > 1e-3
        assert kstest(draw.sigma, "uniform", (0.1, 1.9)).pvalue > 1e-3
        assert draw.angle.abs().max() <= math.radians(30)


class TestGeometry:
    def test_rot90_is_torchvisions_and_exact(self):
        x, turns = pictures(8, 3, 9, 9), torch.tensor([0, 1, 2, 3, 4, 5, -1, 2])
        view = rot90(x, turns)
        for i, k in enumerate(turns.tolist()):
            assert torch.equal(view[i], torch.rot90(x[i], k, (1, 2)))
            assert torch.equal(view[i], TF.rotate(x[i : i + 1], 90.0 * (k % 4))[0])
        assert torch.equal(rot90(view, -turns), x)

    @pytest.mark.parametrize("shape", [(16, 16), (5, 8)])
    def test_flip_is_torchvisions_and_exact(self, shape):
        x = pictures(4, 2, *shape)
        horizontal, vertical = torch.tensor([0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1]).bool()
        view = flip(x, horizontal, vertical)
        assert torch.equal(view, torch.stack([x[0], TF.hflip(x[1]), TF.vflip(x[2]), TF.vflip(TF.hflip(x[3]))]))

    @pytest.mark.parametrize(("shape", "size"), [((16, 16), (16, 16)), ((15, 17), (12, 12)), ((8, 8), (21, 21))])
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_a_crop_is_torchvisions(self, shape, size, mirrored):
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
            torch.testing.assert_close(view[i][:, *inner], want[:, *inner], rtol=0, atol=1e-5)
            if i == 0:
                torch.testing.assert_close(view[i], want, rtol=0, atol=1e-5)

    def test_a_crop_is_the_same_by_reflection_and_by_its_border(self):
        x = pictures(64, 3, 32, 48)
        draw = Views(scale=(0.05, 1.0), vertical_flip=0.5).draw(64, (32, 48), generator())
        draw.box[:2] = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5]])
        matrix = crop_matrix(*draw.box.T, draw.flip, draw.vertical_flip)
        for size in ((32, 48), (64, 64), (12, 12)):
            reflected, cut = (resample(x, matrix, size, edge=edge) for edge in ("reflection", "border"))
            torch.testing.assert_close(reflected, cut, rtol=0, atol=1e-5)

    def test_whole_pixels_are_copied(self):
        x = pictures(2, 1, 12, 12)
        box = torch.tensor([[3, 2, 6, 6], [0, 6, 6, 6]]) / 12
        view = resample(x, crop_matrix(*box.T), (6, 6))
        torch.testing.assert_close(view, torch.stack([x[0, :, 3:9, 2:8], x[1, :, 0:6, 6:12]]), rtol=0, atol=1e-5)

    def test_a_tilt_is_torchvisions(self):
        x, degrees = pictures(3, 3, 33, 33), torch.tensor([20.0, -35.0, 90.0])
        zero, one = torch.zeros(3), torch.ones(3)
        view = resample(x, crop_matrix(zero, zero, one, one, angle=degrees.deg2rad()), (33, 33))
        y, z = torch.meshgrid(torch.arange(33) - 16, torch.arange(33) - 16, indexing="ij")
        disc = y**2 + z**2 < 15**2
        for i in range(3):
            want = TF.rotate(x[i], degrees[i].item(), InterpolationMode.BILINEAR)
            torch.testing.assert_close(view[i][:, disc], want[:, disc], rtol=0, atol=1e-4)

    def test_a_tilt_does_not_shear_and_leaves_no_black_corner(self):
        x, degrees = pictures(1, 1, 21, 41), torch.tensor([30.0])
        zero, one = torch.zeros(1), torch.ones(1)
        view = resample(x, crop_matrix(zero, zero, one, one, angle=degrees.deg2rad(), aspect=41 / 21), (21, 41))
        y, z = torch.meshgrid(torch.arange(21) - 10, torch.arange(41) - 20, indexing="ij")
        disc = y**2 + z**2 < 9**2
        want = TF.rotate(x, 30.0, InterpolationMode.BILINEAR)
        torch.testing.assert_close(view[..., disc], want[..., disc], rtol=0, atol=1e-4)
        assert resample(x.clamp(min=0.5), crop_matrix(zero, zero, one, one, angle=one), (21, 41)).min() > 0.49

    def test_a_flip_comes_after_the_tilt(self):
        x, no, yes = pictures(1, 3, 17, 17), torch.tensor([False]), torch.tensor([True])
        box, angle = torch.tensor([[0.1, 0.2, 0.7, 0.6]]).T, torch.tensor([0.4])
        tilted = resample(x, crop_matrix(*box, angle=angle), (12, 12))
        mirrored = resample(x, crop_matrix(*box, yes, no, angle), (12, 12))
        torch.testing.assert_close(mirrored, tilted.flip(3), rtol=0, atol=1e-5)
        upset = resample(x, crop_matrix(*box, no, yes, angle), (12, 12))
        torch.testing.assert_close(upset, tilted.flip(2), rtol=0, atol=1e-5)

    def test_a_much_smaller_view_is_not_aliased(self):
        stripes = ((torch.arange(96) + 1) // 2 % 2).float().expand(1, 1, 96, 96)
        zero, one = torch.zeros(1), torch.ones(1)
        view = resample(stripes, crop_matrix(zero, zero, one, one), (24, 24))
        torch.testing.assert_close(view, torch.full_like(view, 0.5), rtol=0, atol=1e-5)
        crop = torch.full((1,), 0.25)  # as many pixels as the view has
        sharp = resample(stripes, crop_matrix(crop, crop, crop, crop), (24, 24))
        torch.testing.assert_close(sharp, stripes[:, :, 24:48, 24:48], rtol=0, atol=1e-5)
        magnified = resample(stripes, crop_matrix(crop, crop, crop / 4, crop / 4), (24, 24))
        want = TF.resized_crop(stripes, 24, 24, 6, 6, [24, 24])
        torch.testing.assert_close(magnified[..., 2:-2], want[..., 2:-2], rtol=0, atol=1e-5)
        turned = resample(stripes, crop_matrix(zero, zero, one, one, angle=one * math.pi / 2), (24, 24))
        torch.testing.assert_close(turned, torch.full_like(view, 0.5), rtol=0, atol=1e-5)
        flat = resample(stripes[:, :, :24], crop_matrix(zero, zero, one, one), (24, 24))  # narrowed, but not lowered
        torch.testing.assert_close(flat, torch.full_like(view, 0.5), rtol=0, atol=1e-5)
        lying = stripes.transpose(2, 3)[:, :, :24]
        sharp = resample(lying, crop_matrix(zero, zero, one, one), (24, 24))
        torch.testing.assert_close(sharp, lying[..., :24], rtol=0, atol=1e-5)
        nearest = resample(stripes, crop_matrix(zero, zero, one, one), (24, 24), mode="nearest")
        assert set(nearest.unique().tolist()) <= {0.0, 1.0}


class TestColour:
    # torchvision weighs red with 0.2989, here it is 0.299: greys differ by up to 1e-4 before they are stretched.
    @pytest.mark.parametrize("c", [1, 3])
    @pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
    def test_brightness_contrast_and_saturation_are_torchvisions(self, c, factor):
        x = pictures(8, c, 9, 14)
        tolerance = {"rtol": 0, "atol": 2e-4}
        torch.testing.assert_close(recolour(x, *shift(b=factor)), TF.adjust_brightness(x, factor), **tolerance)
        torch.testing.assert_close(recolour(x, *shift(c=factor)), TF.adjust_contrast(x, factor), **tolerance)
        torch.testing.assert_close(recolour(x, *shift(s=factor)), TF.adjust_saturation(x, factor), **tolerance)

    def test_saturation_zero_is_grey(self):
        x = pictures()
        want = TF.rgb_to_grayscale(x, num_output_channels=3)
        torch.testing.assert_close(recolour(x, *shift(s=0.0)), want, rtol=0, atol=2e-4)

    def test_one_matrix_is_any_order_of_the_four(self):
        x = 0.4 + 0.2 * pictures()  # far from 0 and 1, where torchvision clamps
        b, c, s, h = 1.2, 0.7, 1.3, 0.07
        at_once = recolour(x, *shift(b, c, s, h))
        single = [shift(b=b), shift(c=c), shift(s=s), shift(h=h)]
        for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
            view = x
            for i in order:
                view = recolour(view, *single[i])
            torch.testing.assert_close(view, at_once, rtol=0, atol=1e-6)
        theirs = TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(x, b), c), s)
        torch.testing.assert_close(recolour(x, *shift(b, c, s)), theirs, rtol=0, atol=2e-4)

    def test_hue_turns_about_grey(self):
        x = 0.4 + 0.2 * pictures()
        luma = torch.tensor(LUMA).view(3, 1, 1)
        turned = recolour(x, *shift(h=0.2))
        torch.testing.assert_close((turned * luma).sum(1), (x * luma).sum(1), rtol=0, atol=1e-6)
        torch.testing.assert_close(recolour(turned, *shift(h=-0.2)), x, rtol=0, atol=1e-6)
        torch.testing.assert_close(recolour(x, *shift(h=1.0)), x, rtol=0, atol=1e-6)
        grey = x[:, :1].expand(-1, 3, -1, -1)
        torch.testing.assert_close(recolour(grey, *shift(h=0.3)), grey, rtol=0, atol=1e-6)

    def test_hue_goes_the_way_of_torchvision(self):
        x = 0.4 + 0.2 * pictures()
        red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
        assert recolour(red, *shift(h=1 / 3, n=1)).argmax(1) == 1
        assert recolour(red, *shift(h=-1 / 3, n=1)).argmax(1) == 2
        for turns in (-0.1, 0.05, 0.1):
            ours = (recolour(x, *shift(h=turns)) - x).flatten()
            theirs = (TF.adjust_hue(x, turns) - x).flatten()
            assert F.cosine_similarity(ours, theirs, 0) > 0.5

    def test_each_sample_has_its_own_mean_and_factors(self):
        x = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.6)])
        parameters = [torch.tensor(v) for v in ([1.0, 1.5], [0.0, 0.5], [1.0, 1.0], [0.0, 0.0])]
        view = recolour(x, *parameters)  # flat pictures: contrast moves nothing
        torch.testing.assert_close(view[:, 0, 0, 0], torch.tensor([0.2, 0.9]))

    def test_an_untouched_sample_is_bit_exact_and_the_range_is_kept(self):
        x = pictures()
        assert torch.equal(recolour(x, *shift()), x)
        view = recolour(x, *shift(b=3.0, c=2.0))
        assert view.min() >= 0
        assert view.max() == 1

    def test_products_of_low_precision_do_not_round_colours(self):
        x, factors = pictures(), shift(1.2, 0.7, 1.3, 0.07)
        exact = recolour(x, *factors)
        before = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("medium")
            assert torch.equal(recolour(x, *shift()), x)
            torch.testing.assert_close(recolour(x, *factors), exact, rtol=0, atol=1e-6)
        finally:
            torch.set_float32_matmul_precision(before)

    def test_solarise_is_torchvisions_on_the_chosen(self):
        x = pictures(2)
        x[:, 0, 0, 0] = 0.25
        view = solarise(x, torch.tensor([True, False]), threshold=0.25)
        assert torch.equal(view[0], TF.solarize(x[0], 0.25))
        assert view[0, 0, 0, 0] == 0.75
        assert torch.equal(view[1], x[1])


class TestBlur:
    @pytest.mark.parametrize(("shape", "radius"), [((16, 16), 1), ((13, 20), 3), ((7, 7), 6), ((130, 11), 4)])
    def test_is_torchvisions_by_its_own_width(self, shape, radius):
        x, sigma = pictures(4, 3, *shape), torch.tensor([0.1, 0.5, 1.0, 2.0])
        view = blur(x, sigma, radius)
        for i, s in enumerate(sigma.tolist()):
            want = TF.gaussian_blur(x[i], [2 * radius + 1] * 2, [s, s])
            torch.testing.assert_close(view[i], want, rtol=0, atol=1e-5)

    def test_zero_is_bit_exact_and_the_kernel_is_a_tenth_of_the_side(self):
        x, sigma = pictures(3), torch.tensor([0.0, 1.0, 0.0])
        assert torch.equal(blur(x, sigma)[::2], x[::2])
        for side, width in ((32, 3), (96, 9), (224, 23), (5, 3)):
            point = torch.zeros(1, 1, side, side)
            point[..., side // 2, side // 2] = 1
            assert (blur(point, torch.tensor([50.0]))[0, 0, side // 2] > 0).sum() == width
        one = torch.rand(1, 1, 1, 4, generator=generator())
        torch.testing.assert_close(blur(one, torch.ones(1)), one)


class TestViews:
    @pytest.mark.parametrize("c", [1, 2, 3, 4])
    @pytest.mark.parametrize("shape", [(32, 32), (7, 13), (20, 9), (1, 5)])
    @pytest.mark.parametrize("size", [None, 8, 15])
    def test_any_channels_shape_and_size_stay_in_range(self, c, shape, size):
        x = (torch.rand(16, c, *shape, generator=generator()) > 0.5).float()
        view = Views(size=size, **EVERYTHING)(x, generator())
        assert view.shape == (16, c, *((size, size) if size else shape))
        assert view.dtype == torch.float32
        assert view.isfinite().all()
        assert view.min() >= 0
        assert view.max() <= 1

    def test_white_is_not_exceeded_by_a_rounding(self):
        for settings in ({**OFF, "scale": (0.2, 1.0)}, {**OFF, "degrees": 30.0}, {**OFF, "blur": 1.0}):
            assert Views(**settings)(torch.ones(256, 1, 33, 33), generator()).max() <= 1

    def test_a_size_alone_resizes_the_whole_image(self):
        x = pictures(2, 3, 14, 20)
        want = TF.resize(x, [16, 16], antialias=False)
        torch.testing.assert_close(Views(**OFF, size=16)(x, generator()), want, rtol=0, atol=1e-5)

    def test_grey_images_of_three_channels_stay_grey(self):
        x = pictures(16, 1).expand(-1, 3, -1, -1)
        view = Views(jitter=1.0, hue=0.5)(x, generator())
        torch.testing.assert_close(view[:, :1].expand(-1, 3, -1, -1), view, rtol=0, atol=1e-6)

    def test_one_channel_has_no_colour_to_change(self):
        x = pictures(16, 1)
        assert torch.equal(Views(**{**OFF, "grey": 1.0})(x, generator()), x)
        plain = Views(**{**OFF, "jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "hue": 0.5})
        assert torch.equal(plain(x, generator()), x)

    @pytest.mark.parametrize("degrees", [0.0, 30.0])
    def test_the_recipe_is_the_sum_of_its_parts(self, degrees):
        views, x = Views(jitter=1.0, blur=0.5, solarise=0.5, degrees=degrees), pictures()
        draw = views.draw(8, (16, 16), generator())
        view = resample(x, crop_matrix(*draw.box.T, draw.flip, draw.vertical_flip, draw.angle), (16, 16))
        want = solarise(blur(recolour(view, *draw.colour.T), draw.sigma), draw.solarise)
        torch.testing.assert_close(views.apply(x, draw), want, rtol=0, atol=1e-6)

    def test_refuses_a_range_upside_down(self):
        with pytest.raises(ValueError, match=r"scale \[0.9, 0.2\] is upside down; write .* \[0.2, 0.9\]"):
            Views(scale=(0.9, 0.2))

    def test_makes_nothing_on_the_default_device(self):
        """A tensor made without a word on its device would be on the default one, and mix with none of the others."""
        x, turns = pictures(), torch.arange(8)
        basis.cache_clear()
        for settings in ({}, {"size": 5}, {**OFF, "flip": 0.5}):
            with torch.device("meta"):
                view = rot90(Views(**{**EVERYTHING, **settings})(x, generator()), turns)
            assert view.device == x.device


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_choice_spells_out_every_setting(path):
    settings = yaml.safe_load(path.read_text())
    assert settings.pop("_target_") == "ssl_runner.augment.image.views.Views"
    assert list(settings) == list(inspect.signature(Views).parameters)
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    x = pictures()
    view = Views(**settings)(x, generator())
    assert view.shape == x.shape
    if path.stem == "none":
        assert torch.equal(view, x)
    if path.stem == "simclr":
        assert settings == {name: p.default for name, p in inspect.signature(Views).parameters.items()}


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="torch before 2.9 has no such setting")
def test_precisions_of_products_may_be_set_either_way():
    """Torch raises an error at the older question once the newer settings were used, be it for another device."""
    x = pictures()
    assert products_are_exact()
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert torch.equal(recolour(x, *shift()), x)
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        assert not products_are_exact()
        assert torch.equal(recolour(x, *shift()), x)
    finally:
        torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "ieee"
