"""The datasets that need neither files nor network: shapes, digits, utterances."""

from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits

from ssl_runner.contract import Data, Dataset
from ssl_runner.data.check import STORED, check_data
from ssl_runner.dataset.digits import Digits
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.dataset.utterances import Utterances


@pytest.fixture(scope="module")
def shapes() -> Data:
    return Shapes(images=1000, test=100).load()


DATASETS = [
    *(Shapes(images=205, test=0, size=16), Digits(), Digits(size=16, validation=0.0)),
    *(Utterances(clips=205, test=30, seconds=0.3), Utterances(clips=100, test=0, validation=0.0, seconds=0.5)),
]


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_the_constructor_says_is_what_is_loaded(dataset: Dataset):
    data = dataset.load()
    assert (data.train.shape, data.train.dtype) == (
        (dataset.rows, *dataset.samples.shape),
        STORED[dataset.samples.kind][0],
    )
    assert data.bank.x is data.train
    assert len(data.bank.y) == dataset.rows
    assert (data.validation is None, data.test is None) == (dataset.validation == 0, dataset.test == 0)
    assert len(data.mean) == len(data.std) == dataset.samples.shape[0]
    assert data.bank.y.unique().tolist() == list(range(len(data.classes)))
    assert tuple(data.bank.targets) == getattr(dataset, "targets", ())
    assert tuple(data.bank.tokens) == getattr(dataset, "tokens", ())
    assert not check_data(data, dataset.samples)
    assert data.fingerprint == dataset.load().fingerprint


def test_validation_and_test_have_every_class_and_no_training_image(shapes):
    splits = (shapes.bank, shapes.validation, shapes.test)
    assert [split.y.bincount().tolist() for split in splits] == [[90] * 10, [10] * 10, [10] * 10]
    assert len(torch.cat([split.x for split in splits]).flatten(1).unique(dim=0)) == 1100
    as_many = Shapes(images=100, test=100, size=16).load()
    assert len(torch.cat([as_many.train, as_many.test.x]).flatten(1).unique(dim=0)) == 190
    for split in splits:
        assert torch.equal(split.targets["shape"], split.y)
        assert {len(target) for target in split.targets.values()} == {len(split.y)}


def test_images_depend_on_their_seed_alone_and_not_on_threads(shapes, request):
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(4)
    torch.manual_seed(5)
    assert Shapes(images=1000, test=100).load().fingerprint == shapes.fingerprint
    same, other = (Shapes(images=500, test=100, seed=seed).load().test.x for seed in (0, 1))
    assert torch.equal(same, shapes.test.x)
    assert not torch.equal(other, same)


def test_clips_depend_on_their_seed_alone_and_not_on_threads(request):
    few = Utterances(clips=200, test=40, seconds=0.3).load()
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(4)
    torch.manual_seed(5)
    same, other = (Utterances(clips=100, test=40, seconds=0.3, seed=seed).load().test for seed in (0, 1))
    assert torch.equal(same.x, few.test.x)
    assert not torch.equal(other.x, same.x)
    assert all(torch.equal(same.targets[name], each) for name, each in few.test.targets.items())
    assert torch.equal(same.tokens["phoneme"], few.test.tokens["phoneme"])
    for split in (few.bank, few.validation):
        assert {len(each) for each in (*split.targets.values(), *split.tokens.values())} == {len(split.x)}
        assert torch.equal(split.targets["word"], split.y)


def test_digits_are_scikit_learns_split_once_and_enlarged_they_are_the_same():
    bundle, data, large = load_digits(), Digits().load(), Digits(size=32).load()
    pixels = (torch.from_numpy(bundle.images).flatten(1) * 255 / 16).round().int().tolist()
    parts = (data.bank, data.validation, data.test)
    own = [(x.flatten().tolist(), int(y)) for part in parts for x, y in zip(part.x, part.y, strict=True)]
    assert sorted(own) == sorted(zip(pixels, bundle.target.tolist(), strict=True))
    shrunk = torch.nn.functional.avg_pool2d(large.test.x.float(), 4).flatten(1)
    nearest = torch.cdist(shrunk, data.test.x.float().flatten(1)).argmin(1)
    assert (nearest == torch.arange(len(nearest))).float().mean() > 0.98
