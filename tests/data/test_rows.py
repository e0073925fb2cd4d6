"""Stratified splits, subsets, channel statistics and fingerprints of rows."""

import pytest
import torch

from ssl_runner.data.split import Subset, held_out_count, stratified_split
from ssl_runner.data.statistics import fingerprint, statistics


def images(rng, n: int) -> torch.Tensor:
    return torch.randint(256, (n, 3, 4, 4), generator=rng, dtype=torch.uint8)


def test_a_class_of_two_or_more_is_on_both_sides():
    cases = {(10, 0.1): 1, (10, 0.01): 1, (10, 0.99): 9, (1, 0.5): 0, (2, 0.9): 1, (10, 0.0): 0}
    assert {case: held_out_count(*case) for case in cases} == cases


def test_the_held_out_part_has_the_same_share_of_every_class():
    y = torch.tensor([0] * 100 + [1] * 40 + [2] * 2 + [3])[torch.randperm(143, generator=torch.Generator())]
    rest, held = stratified_split(y, 0.25, seed=3)
    assert torch.equal(torch.cat([rest, held]).sort().values, torch.arange(143))
    assert torch.equal(rest, rest.sort().values)
    assert torch.equal(held, held.sort().values)
    assert y[held].bincount(minlength=4).tolist() == [25, 10, 1, 0]


def test_the_split_depends_on_its_seed_alone():
    y = torch.arange(200) % 4
    first = stratified_split(y, 0.2, seed=0)[1]
    torch.manual_seed(2)
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
    x = images(rng, 101)
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
    x = images(rng, 50)
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
