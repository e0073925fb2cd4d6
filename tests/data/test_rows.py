"""Rows: stratified splits, subsets, channel statistics, fingerprints, and rows resized to another shape."""

import time

import pytest
import torch

from ssl_runner.data.resize import ResizedRows
from ssl_runner.data.rows import Subset, fingerprint, held_out_count, statistics, stratified_split


def images(rng, n: int) -> torch.Tensor:
    return torch.randint(256, (n, 3, 4, 4), generator=rng, dtype=torch.uint8)


def test_the_held_out_part_has_the_same_share_of_every_class_and_depends_on_its_seed_alone():
    cases = {(10, 0.1): 1, (10, 0.01): 1, (10, 0.99): 9, (1, 0.5): 0, (2, 0.9): 1, (10, 0.0): 0}
    assert {case: held_out_count(*case) for case in cases} == cases
    y = torch.tensor([0] * 100 + [1] * 40 + [2] * 2 + [3])[torch.randperm(143, generator=torch.Generator())]
    rest, held = stratified_split(y, 0.25, seed=3)
    assert sorted(rest.tolist() + held.tolist()) == list(range(143))
    assert all(torch.equal(rows, rows.sort().values) for rows in (rest, held))
    assert y[held].bincount(minlength=4).tolist() == [25, 10, 1, 0]
    torch.manual_seed(2)
    assert torch.equal(held, stratified_split(y, 0.25, seed=3)[1])
    assert not torch.equal(held, stratified_split(y, 0.25, seed=1)[1])


def test_a_split_of_many_classes_takes_no_look_at_all_rows_for_each():
    y = torch.arange(200_000) % 20_000
    times = [time.process_time()]
    rest, held = stratified_split(y, 0.1, seed=0)
    times.append(time.process_time())
    for each in range(1_000):
        (y == each).nonzero()
    times.append(time.process_time())
    assert times[1] - times[0] < 5 * (times[2] - times[1])  # a look for each class is 20 times as many
    assert len(held) == 20_000 == len(y[held].unique())
    assert len(rest) == 180_000


def test_statistics_are_those_of_evenly_spaced_rows(rng, monkeypatch):
    monkeypatch.setattr("ssl_runner.data.rows.CHUNK", 200)
    x = torch.zeros(2, 2, 1, 2, dtype=torch.uint8)
    x[0, 0], x[:, 1] = 255, 51
    assert statistics(x) == (pytest.approx((0.5, 0.2)), pytest.approx((0.5, 1 / 255)))  # the second one is constant
    x = images(rng, 101)
    std, mean = torch.std_mean(x.double() / 255, (0, 2, 3), correction=0)
    expected = pytest.approx(mean.tolist()), pytest.approx(std.tolist())
    assert statistics(Subset(x, torch.arange(101))) == expected
    assert statistics(x[:100], limit=10) == statistics(x[:100:10])
    for wrong, message in ((x[:0], "no rows"), (x.float(), "float32")):
        with pytest.raises(ValueError, match=message):
            statistics(wrong)


def test_a_subset_reads_the_rows_that_it_names_and_a_fingerprint_is_of_bytes_shape_and_type(rng, monkeypatch):
    x = images(rng, 50)
    rows = Subset(x, torch.tensor([7, 1, 3]))
    assert (len(rows), rows.shape) == (3, (3, 3, 4, 4))
    assert torch.equal(rows[torch.tensor([2, 0])], x[[3, 7]])
    whole = fingerprint(x)
    assert whole == fingerprint(Subset(x.flip(0), torch.arange(50).flip(0)))
    monkeypatch.setattr("ssl_runner.data.rows.CHUNK", 100)
    assert whole == fingerprint(x.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3))
    other = x.clone()
    other[49, 2, 3, 3] ^= 1
    parts = [(other,), (x.view(50, 3, 2, 8),), (x.view(torch.int8),), (x[:25], x[25:]), (x, x[:0])]
    assert len({whole, *(fingerprint(*part) for part in parts)}) == 6


def test_rows_are_resized_with_antialiasing_and_grey_is_the_luma() -> None:
    grey = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).expand(3, 1, 2, 2)
    assert torch.equal(ResizedRows(grey, (3, 2, 2))[torch.tensor([2, 0])], grey[:2].expand(2, 3, 2, 2))
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert torch.equal(ResizedRows(red, (1, 4, 4))[torch.tensor([0])], torch.full((1, 1, 4, 4), 76, dtype=torch.uint8))
    board = (torch.arange(64).view(1, 1, 8, 8) // 8 + torch.arange(8)) % 2 * 255  # becomes its mean, not a colour of it
    small = ResizedRows(board.to(torch.uint8), (1, 2, 2))[torch.tensor([0])]
    assert ((small.float() - 127.5).abs() < 20).all()
    with pytest.raises(ValueError, match="2 channels"):
        ResizedRows(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), (3, 4, 4))
