"""Order of an epoch: a permutation that depends on its generator alone, and mixes the rows of a window of shards."""

import pytest
import torch

from ssl_runner.contract import Samples
from ssl_runner.data.changed_rows import ChangedRows
from ssl_runner.data.order import Stretches, epoch_order, windowed_order
from ssl_runner.data.rows import SAMPLED, Subset, evenly_spaced
from ssl_runner.duration import Duration, Length
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.seed import derive

SIZES = torch.tensor([7, 1, 0, 30, 12, 5, 0, 9, 16, 3])


class Sharded:
    """Rows, each of which is its number, in stretches."""

    def __init__(self, sizes=SIZES, window=3):
        self.x = torch.arange(int(sizes.sum()), dtype=torch.int32).view(-1, 1, 1, 1)
        self.expected = []
        self.stretches = Stretches(sizes, window, self.expected.append)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stretch_of(rows, sizes=SIZES):
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes)[rows].tolist()


def test_rows_without_stretches_and_a_window_of_all_of_them_are_permuted_by_randperm():
    expected = torch.randperm(83, generator=seeded(3))
    assert torch.equal(epoch_order(torch.zeros(83, 1), seeded(3)), expected)
    assert torch.equal(windowed_order(SIZES, 8, seeded(3)), expected)  # of eight stretches that have rows
    assert not torch.equal(windowed_order(SIZES, 7, seeded(3)), expected)


@pytest.mark.parametrize("window", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", range(10))
def test_every_row_comes_once_and_no_more_stretches_than_the_window_are_open_at_a_time(window, seed):
    order = windowed_order(SIZES, window, seeded(seed))
    assert order.sort().values.tolist() == list(range(83))
    assert torch.equal(order, windowed_order(SIZES, window, seeded(seed)))
    stretches = stretch_of(order)
    spans = {s: (stretches.index(s), len(order) - 1 - stretches[::-1].index(s)) for s in stretches}
    for place in range(len(order)):
        assert sum(first <= place <= last for first, last in spans.values()) <= window


def test_epochs_differ_and_the_rows_of_a_stretch_do_too():
    first, second = (windowed_order(SIZES, 1, seeded(seed)) for seed in (1, 2))
    assert list(dict.fromkeys(stretch_of(first))) != list(dict.fromkeys(stretch_of(second)))
    largest = [[row for row in order.tolist() if 8 <= row < 38] for order in (first, second)]
    assert largest[0] != largest[1] != list(range(8, 38))


def test_the_rows_of_a_stretch_are_spread_evenly_over_its_window():
    """Of 400 stretches, each row lies at most half a window from its stretch's place, on average a quarter."""
    window, sizes = 40, torch.full((400,), 25)
    order = windowed_order(sizes, window, seeded(0))
    time = torch.empty(10_000).index_copy_(0, order, torch.arange(10_000) / 25)
    away = time.view(400, 25) - time.view(400, 25).mean(1, keepdim=True)
    inner = (time.view(400, 25).mean(1) - 200).abs() < 150
    assert 0.9 < away[inner].abs().mean() / (window / 4) < 1.1
    assert away[inner].abs().max() < window * 0.75
    for ends in (slice(0, 25), slice(-25, None)):
        orders = [windowed_order(sizes, window, seeded(seed))[ends] for seed in range(20)]
        mixed = sum(len(set(stretch_of(rows, sizes))) for rows in orders) / 20
        assert mixed == pytest.approx(20 * (1 - 0.95**25), abs=1), "half a window of stretches is open at both ends"


def test_rows_are_told_in_which_order_their_stretches_come():
    rows = Sharded()
    order = epoch_order(rows, seeded(5))
    assert rows.expected == [list(dict.fromkeys(stretch_of(order)))]
    half = torch.arange(0, 83, 2)
    for view in (Subset(rows, half), ChangedRows(Subset(rows, half), half, "none", None, 0.0, "pixels")):
        order = half[epoch_order(view, seeded(5))]
        assert rows.expected.pop() == list(dict.fromkeys(stretch_of(order)))
        assert view.stretches.sizes.tolist() == [4, 0, 0, 15, 6, 3, 0, 4, 8, 2]
    assert Subset(rows, half.flip(0)).stretches is None
    assert Subset(torch.zeros(4, 1), torch.arange(2)).stretches is None


def test_rows_to_measure_come_from_a_few_stretches():
    assert evenly_spaced(torch.zeros(10, 1), 4).tolist() == [0, 2, 5, 7]
    index = evenly_spaced(Sharded(), 20)
    assert index.tolist() == sorted(set(index.tolist()))
    assert len(index) == 20
    assert len(set(stretch_of(index))) == SAMPLED
    assert len(evenly_spaced(Sharded(), 1000)) < 83
    assert len(evenly_spaced(Sharded(torch.tensor([3, 4])), 1000)) == 7


def test_steps_of_sharded_rows_resume_by_position_and_are_shared_among_ranks(monkeypatch):
    """The rows of a step are a function of (seed, step), and the ranks' shares make up those of one process."""

    def loader():
        length = Length.of(Duration(3.0, "ep"), 83, 12)
        return Loader(
            Sharded(), Samples("image", (1, 1, 1)), length=length, seed=0, device=torch.device("cpu"), accumulate=1
        )

    whole = loader()
    steps = [whole.index(step) for step in range(18)]
    assert torch.equal(torch.cat(steps[12:]), epoch_order(Sharded(), seeded(derive(0, "shuffle", 2)))[:72])
    for epoch in range(3):
        assert len(set(torch.cat(steps[6 * epoch : 6 * epoch + 6]).tolist())) == 72
    assert torch.equal(loader().index(15), steps[15]), "a process that begins in the midst of an epoch"
    ranks = []
    for rank in range(3):
        monkeypatch.setattr("ssl_runner.device.ranks.rank_and_count", lambda rank=rank: (rank, 3))
        ranks.append(loader().index(15))
    assert torch.equal(torch.cat(ranks), steps[15])
