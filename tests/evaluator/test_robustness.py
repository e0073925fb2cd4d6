"""Robustness: names and means of its numbers, a feature that is hit and one that is not, few images at once."""

import pytest
import torch
from evaluator_toys import EVERY, IMAGE, Pixels, encoded, numbers
from PIL import Image

from ssl_runner.augment.image.corruption import CORRUPTIONS, STRENGTHS
from ssl_runner.contract import Features, Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.evaluator import robustness as robustness_file
from ssl_runner.evaluator.robustness import Robustness


@pytest.fixture(scope="module")
def shapes():
    return Shapes(images=400, test=200, validation=0.0).load()


def robustness(bank, query, folder, classes=10, **settings):
    settings = {"bank": bank, "query": query, "classes": classes, "folder": folder, **settings}
    return Robustness(every=EVERY, sample=IMAGE, **settings)


def test_its_numbers_have_names_and_means_and_a_picture(shapes, tmp_path):
    few, folder = Split(shapes.test.x[:60], shapes.test.y[:60]), tmp_path / "new" / "folder"
    encoder = Pixels()
    values = numbers(robustness(shapes.bank, few, folder), encoder, encoded(encoder))
    steps = {f"{name}_{kind}_{strength}" for name in ("knn", "probe") for kind in CORRUPTIONS for strength in STRENGTHS}
    means = {f"{name}_{kind}" for name in ("knn", "probe") for kind in (*CORRUPTIONS, "mean", "clean")}
    assert set(values) == steps | means
    for name in ("knn", "probe"):
        for kind in CORRUPTIONS:
            five = [values[f"{name}_{kind}_{strength}"] for strength in STRENGTHS]
            assert values[f"{name}_{kind}"] == pytest.approx(sum(five) / 5)
        assert values[f"{name}_mean"] == pytest.approx(sum(values[f"{name}_{kind}"] for kind in CORRUPTIONS) / 6)
    assert [each.name for each in folder.iterdir()] == ["robustness.png"]
    with Image.open(folder / "robustness.png") as picture:
        assert picture.size[0] > 500


def test_accuracy_suffers_where_a_feature_is_hit_and_nowhere_else(tmp_path):
    """The class is the image's contrast. Shrinking it is fatal, a grey square in the corner is not."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    x = 128 + pattern * (20 + 40 * y.view(-1, 1, 1, 1)) + 4 * torch.randn(200, 3, 32, 32, generator=rng)
    bank = Split(x.round().clamp(0, 255).to(torch.uint8), y)

    class Contrast(Pixels):
        def forward(self, x, keep=None):
            pooled = torch.stack([x.std((1, 2, 3)), torch.ones(len(x))], 1)
            return Features(pooled, pooled[:, None], (1,))

    def measured(query, **settings):
        return numbers(robustness(bank, query, tmp_path, 2, k=5, **settings), Contrast(), encoded(Contrast()))

    values = measured(bank, corruptions=("contrast", "brightness"))
    assert values["probe_clean"] == 1
    assert values["probe_contrast_5"] == 0.5
    assert values["probe_brightness_1"] == 1
    assert values["probe_mean"] == pytest.approx((values["probe_contrast"] + values["probe_brightness"]) / 2)
    mixed = torch.randperm(200, generator=rng)
    some = measured(Split(bank.x[mixed], y[mixed]), corruptions=("brightness",), samples=50)
    assert some["probe_clean"] == some["knn_clean"] == some["probe_brightness_1"] == 1


def test_each_encoder_meets_the_same_images_and_few_at_once(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness_file, "AT_ONCE", 16)
    first, second = Pixels(), Pixels()
    for seed, encoder in enumerate((first, second)):
        torch.manual_seed(seed)
        evaluator = robustness(shapes.bank, shapes.test, tmp_path, corruptions=("noise",), samples=40)
        numbers(evaluator, encoder, lambda x: torch.rand(len(x), 48, generator=torch.Generator().manual_seed(0)))
    assert len(first.seen) == 15  # 40 rows in batches of 16, at five strengths
    assert max(len(each) for each in first.seen) == 16
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))


def test_too_many_neighbours_are_refused(tmp_path):
    split = Split(torch.zeros(9, 3, 32, 32, dtype=torch.uint8), torch.zeros(9).long())
    with pytest.raises(ValueError, match=r"use evaluator\.robustness\.k=9"):
        robustness(split, split, tmp_path)
