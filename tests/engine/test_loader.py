"""Batches of training rows: order and place are functions of (seed, step), whatever the rows lie in."""

import random
import threading

import numpy as np
import pytest
import torch

from ssl_runner.contract import Samples
from ssl_runner.duration import Duration, Length
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.seed import derive, seed_everything

ROWS = torch.arange(23, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
IMAGES = Samples("image", (3, 2, 2))


class Streamed:
    """Rows that are fetched on demand, as from a disk."""

    def __init__(self, x):
        self.x, self.threads = x, set()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        return self.x[index]


def loader(source=ROWS, *, batch_size=4, samples=IMAGES, seed=0, accumulate=1):
    length, cpu = Length.of(Duration(1.0, "ep"), len(source), batch_size), torch.device("cpu")
    return Loader(source, samples, length=length, seed=seed, device=cpu, accumulate=accumulate)


def test_an_epoch_is_a_permutation_and_each_epoch_another():
    plain = loader()
    assert plain.length.steps_per_epoch == 5
    first, second = (torch.cat([plain.index(step) for step in range(e * 5, e * 5 + 5)]) for e in (0, 1))
    assert len(set(first.tolist())) == 20
    assert first.tolist() != second.tolist()
    assert torch.equal(loader().index(7), second[8:12]), "the place in training alone decides"
    assert not torch.equal(loader(seed=1).index(0), first[:4])


def test_batches_carry_the_rows_that_their_index_names_and_a_sweep_every_row_in_order():
    batches, sweep = loader(batch_size=6, accumulate=3).batches(2), list(loader(batch_size=5).sweep())
    assert [len(b.x) for b in batches] == [2, 2, 2]
    for batch in (*batches, *sweep):
        torch.testing.assert_close(batch.x, ROWS[batch.index].float() / 255, rtol=0, atol=0)
    assert torch.cat([b.index for b in sweep]).tolist() == list(range(23))
    assert [len(b.x) for b in loader(batch_size=11).sweep()] == [8, 8, 7], "a batch norm cannot take a single row"


def test_audio_and_text_arrive_as_their_kind():
    """Audio in 16 bits becomes numbers in [-1, 1], zeros staying exact; ids stay ids, in whatever they are stored."""
    for samples, stored, dtype, expected in (
        (Samples("audio", (1, 3), rate=8000), [-32768, 16384, 0], torch.int16, [-1.0, 0.5, 0.0]),
        (Samples("text", (3,), vocabulary=300), [3, 200, 0], torch.uint8, [3, 200, 0]),
    ):
        rows = torch.tensor(stored, dtype=dtype).expand(5, *samples.shape)
        (batch,) = loader(rows, samples=samples).batches(0)
        torch.testing.assert_close(batch.x, torch.tensor(expected).expand(4, *samples.shape), rtol=0, atol=0)


def test_streamed_and_resident_rows_give_the_same(monkeypatch):
    resident, source = loader(), Streamed(ROWS)
    monkeypatch.setattr("ssl_runner.engine.loader.RESIDENT_BYTES", 10)
    streamed = loader(source)
    assert streamed.resident is None
    for step in (0, 1, 2, 7, 8, 3):
        torch.testing.assert_close(resident.batches(step), streamed.batches(step), rtol=0, atol=0)
    assert any(name.startswith("fetch") for name in source.threads), "the next batch is fetched ahead"
    torch.testing.assert_close(list(resident.sweep()), list(streamed.sweep()), rtol=0, atol=0)
    streamed.close()


@pytest.mark.parametrize("source", [ROWS, Streamed(ROWS)], ids=["a tensor", "rows of a file"])
def test_rows_are_copied_into_memory_only_if_there_is_enough(source, monkeypatch):
    monkeypatch.setattr("ssl_runner.engine.loader.available_memory", lambda: 10)
    each = loader(source)
    assert (each.resident is None) == (source is not ROWS)
    each.close()


def test_seeds_differ_by_purpose_and_place_and_reach_every_global_generator():
    """torch draws as after torch.manual_seed, also if the other devices are left out."""
    places = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 1, 1), (0, "a", 11), (0, "a", "1", "")]
    seeds = {derive(*place): place for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 and seed == derive(*place) for seed, place in seeds.items())
    drawn = []
    for _ in range(2):
        seed_everything(3, "step", 7)
        drawn.append((torch.rand(2).tolist(), float(np.random.rand()), random.random()))  # noqa: NPY002
    torch.manual_seed(derive(3, "step", 7))
    assert drawn[0] == drawn[1] == (torch.rand(2).tolist(), *drawn[0][1:])
