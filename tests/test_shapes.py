"""Rows parted by class, and the two datasets that need no network."""

import typing

import pytest
import torch

from ssl_runner.contract import Data, Dataset
from ssl_runner.data.split import Subset, held_out_count, stratified_split
from ssl_runner.data.statistics import fingerprint, statistics
from ssl_runner.dataset.digits import Digits
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.rendering.pictograms import OUTLINES
from ssl_runner.rendering.scene import Scene
from ssl_runner.rendering.texture import triangle_wave


@pytest.fixture(scope="module")
def shapes() -> Data:
    return Shapes(images=1000, test=100).load()


# Rows


@pytest.mark.parametrize(
    ("count", "share", "held"), [(10, 0.1, 1), (10, 0.01, 1), (10, 0.99, 9), (1, 0.5, 0), (2, 0.9, 1), (10, 0.0, 0)]
)
def test_a_class_of_two_or_more_is_on_both_sides(count, share, held):
    assert held_out_count(count, share) == held


def test_the_held_out_part_has_the_same_share_of_every_class():
    y = torch.tensor([0] * 100 + [1] * 40 + [2] * 2 + [3])[torch.randperm(143, generator=torch.Generator())]
    rest, held = stratified_split(y, 0.25, seed=3)
    assert torch.equal(torch.cat([rest, held]).sort().values, torch.arange(143))
    assert torch.equal(rest, rest.sort().values)
    assert torch.equal(held, held.sort().values)
    assert y[held].bincount(minlength=4).tolist() == [25, 10, 1, 0]


def test_the_split_depends_on_its_seed_alone():
    y = torch.arange(200) % 4
    torch.manual_seed(1)
    first = stratified_split(y, 0.2, seed=0)[1]
    torch.manual_seed(2)
    torch.rand(5)
    assert torch.equal(first, stratified_split(y, 0.2, seed=0)[1])
    assert not torch.equal(first, stratified_split(y, 0.2, seed=1)[1])


def test_statistics_of_a_hand_solved_case():
    x = torch.zeros(2, 2, 1, 2, dtype=torch.uint8)
    x[0, 0], x[:, 1] = 255, 51
    mean, std = statistics(x)
    assert mean == pytest.approx((0.5, 0.2))
    assert std == pytest.approx((0.5, 1 / 255))  # the second channel is constant


def test_statistics_read_evenly_spaced_rows_in_chunks(rng, monkeypatch):
    monkeypatch.setattr("ssl_runner.data.statistics.CHUNK", 200)
    x = torch.randint(256, (101, 3, 4, 4), generator=rng, dtype=torch.uint8)
    mean, std = statistics(Subset(x, torch.arange(101)))
    assert mean == pytest.approx((x.double() / 255).mean((0, 2, 3)).tolist())
    assert std == pytest.approx((x.double() / 255).std((0, 2, 3), correction=0).tolist())
    assert statistics(x[:100], limit=10) == statistics(x[:100:10])


def test_statistics_refuse_what_they_cannot_measure():
    with pytest.raises(ValueError, match="no rows"):
        statistics(torch.zeros(0, 3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="float32"):
        statistics(torch.zeros(1, 3, 2, 2))


def test_a_fingerprint_is_of_bytes_shape_and_type(rng, monkeypatch):
    x = torch.randint(256, (50, 3, 4, 4), generator=rng, dtype=torch.uint8)
    whole = fingerprint(x)
    assert whole == fingerprint(Subset(x.flip(0), torch.arange(50).flip(0)))
    monkeypatch.setattr("ssl_runner.data.statistics.CHUNK", 100)
    assert whole == fingerprint(x.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3))
    other = x.clone()
    other[49, 2, 3, 3] ^= 1
    parts = [(other,), (x.view(50, 3, 2, 8),), (x.view(torch.int8),), (x[:25], x[25:]), (x, x[:0])]
    assert len({whole, *(fingerprint(*part) for part in parts)}) == 6


def test_a_subset_reads_the_rows_that_it_names(rng):
    x = torch.rand(10, 2, generator=rng)
    rows = Subset(x, torch.tensor([7, 1, 3]))
    assert (len(rows), rows.shape) == (3, (3, 2))
    assert torch.equal(rows[torch.tensor([2, 0])], x[[3, 7]])


# Both datasets


@pytest.mark.parametrize("dataset", [Shapes(images=205, test=0, size=16), Digits(), Digits(size=16, validation=0.0)])
def test_what_the_constructor_says_is_what_is_loaded(dataset: Dataset):
    data = dataset.load()
    assert data.train.shape == (dataset.rows, *dataset.samples.shape)
    assert data.train.dtype == torch.uint8
    assert data.bank.x is data.train
    assert len(data.bank.y) == dataset.rows
    assert (data.validation is None) == (dataset.validation == 0)
    assert (data.test is None) == (dataset.test == 0)
    assert len(data.mean) == len(data.std) == dataset.samples.shape[0]
    assert data.bank.y.unique().tolist() == list(range(len(data.classes)))
    assert data.fingerprint == dataset.load().fingerprint


@pytest.mark.parametrize("dataset", [Shapes, Digits])
def test_the_signature_is_a_schema(dataset):
    assert set(typing.get_type_hints(dataset.__init__, include_extras=True)) >= {"validation", "test", "size", "seed"}


# Shapes


def test_validation_and_test_have_every_class_and_no_training_image(shapes):
    assert shapes.bank.y.bincount().tolist() == [90] * 10
    assert shapes.validation.y.bincount().tolist() == [10] * 10
    assert shapes.test.y.bincount().tolist() == [10] * 10
    rows = torch.cat([shapes.train, shapes.validation.x, shapes.test.x]).flatten(1)
    assert len(rows.unique(dim=0)) == 1100
    as_many = Shapes(images=100, test=100, size=16).load()
    assert len(torch.cat([as_many.train, as_many.test.x]).flatten(1).unique(dim=0)) == 190
    for split in (shapes.bank, shapes.validation, shapes.test):
        assert torch.equal(split.targets["shape"], split.y)
        assert {len(factor) for factor in split.targets.values()} == {len(split.y)}


def test_images_depend_on_their_seed_alone(shapes):
    torch.manual_seed(5)
    again = Shapes(images=500, test=100).load()
    assert fingerprint(again.test.x) == fingerprint(shapes.test.x)
    assert fingerprint(Shapes(images=500, test=100, seed=1).load().test.x) != fingerprint(shapes.test.x)


def test_threads_do_not_change_a_byte(shapes):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert Shapes(images=1000, test=100).load().fingerprint == shapes.fingerprint
    finally:
        torch.set_num_threads(threads)


def bare(n: int, **causes: float) -> Scene:
    """Scenes of white shapes on black, without clutter, some causes set by hand."""
    scene = Scene(n, 32, torch.Generator().manual_seed(0))
    scene.background.zero_()
    scene.colour.fill_(1)
    scene.rods.fill_(9)
    for name, value in causes.items():
        getattr(scene, name).fill_(value)
    return scene


def test_the_factors_are_what_is_drawn():
    scene = bare(200)
    white = scene.render().float().mean(1) > 127
    axis = (torch.arange(32) + 0.5) / 32 - 0.5
    x, y = scene.targets()["position"].T[..., None, None]
    distance = ((axis - x).square() + (-axis[:, None] - y).square()).sqrt() * white  # y points up
    radius = scene.targets()["size"] / 2
    assert white.flatten(1).any(1).all()
    assert (distance.flatten(1).max(1).values <= 1.03 * radius + 1 / 32).all()
    assert (distance.flatten(1).max(1).values >= 0.8 * radius - 1 / 32).all()
    assert not white[:, 0].any()  # nor is a shape cut off by the edge of the image
    assert not white[:, :, -1].any()


def test_tilt_turns_counter_clockwise():
    upright, turned = (bare(100, x=0, y=0, tilt=tilt).render().float().mean(1) for tilt in (0, 90))
    assert (upright.rot90(1, (1, 2)) - turned).abs().gt(40).float().mean() < 0.001  # noise is of another draw
    assert (upright - turned).abs().gt(40).float().mean() > 0.02


def test_every_shape_has_an_up_and_none_is_another_one_turned():
    axis = torch.linspace(-1, 1, 65)
    x, y = axis.expand(1, 65, 65), -axis[:, None].expand(1, 65, 65)
    masks = {name: outline(x, y)[0] < 0 for name, outline in OUTLINES.items()}
    for name, mask in masks.items():
        for other, reference in masks.items():
            for turns in range(4):
                turned = mask.rot90(turns)
                same = (turned & reference).sum() / (turned | reference).sum()
                assert (name == other and turns == 0) or same < 0.85, (name, other, turns)


def test_no_other_factor_says_anything_of_the_class():
    scene = Scene(4000, 16, torch.Generator().manual_seed(0))
    for name, factor in scene.targets().items():
        if name != "shape":
            factor = factor.float().view(4000, -1)
            means = torch.stack([factor[scene.shape == label].mean(0) for label in range(10)])
            assert (means - factor.mean(0)).abs().lt(4.5 * factor.std(0) / 400**0.5).all(), name


def test_textures_are_drawn_and_do_not_say_what_is_up():
    scene = bare(3000, radius=1e-6)  # all but the shape
    scene.background[:, 1] = 1
    images = scene.render().float().mean(1)
    assert scene.texture.bincount().tolist() == pytest.approx([600] * 5, rel=0.15)
    for kind in range(5):
        x = images[scene.texture == kind]
        assert x.flatten(1).std(1).mean() > 20
        for edge in (x[:, :4] - x[:, -4:], (x[..., :4] - x[..., -4:]).mT):
            assert edge.mean().abs() < 4.5 * edge.mean((1, 2)).std() / len(x) ** 0.5


def test_clutter_is_drawn():
    scene = bare(50, radius=1e-6)
    scene.rods.zero_()
    assert (scene.render().float().mean(1) > 60).flatten(1).any(1).all()


def test_a_triangle_wave():
    turns = torch.tensor([[[0.0, 0.25, 0.5, 1.0, -0.5, 1.75]]])
    assert triangle_wave(turns).flatten().tolist() == [1, 0.5, 0, 1, 0, 0.5]


# Digits


def test_digits_are_scikit_learns_and_parted_once():
    bundle = pytest.importorskip("sklearn.datasets").load_digits()
    data = Digits().load()
    parts = [data.bank, data.validation, data.test]
    assert sum(len(part.y) for part in parts) == 1797
    images = torch.cat([part.x for part in parts]).flatten(1)
    reference = torch.from_numpy(bundle.images).flatten(1) * 255 / 16
    key = lambda rows: sorted(map(tuple, rows.round().int().tolist()))  # noqa: E731
    assert key(images.float()) == key(reference)
    label = {tuple(row): y for row, y in zip(reference.round().int().tolist(), bundle.target, strict=True)}
    assert all(label[tuple(x.flatten().tolist())] == y for part in parts for x, y in zip(part.x, part.y, strict=True))


def test_an_enlarged_digit_is_the_same_digit():
    small, large = (Digits(size=size).load().test.x.float() for size in (8, 32))
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    nearest = torch.cdist(shrunk.flatten(1), small.flatten(1)).argmin(1)
    assert (nearest == torch.arange(len(small))).float().mean() > 0.98
