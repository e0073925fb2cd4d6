"""A queue holds the newest rows in the order in which they came, whatever their number at a time."""

import pytest
import torch
import torch.nn.functional as F

from ssl_runner.layers.queue import Queue


def oldest_first(queue: Queue) -> torch.Tensor:
    return queue.rows.roll(-int(queue.place), 0)


@pytest.mark.parametrize("batches", [[3, 3], [3, 3, 3], [5], [4, 5, 2], [7], [1, 12, 4], [5, 5, 5]])
def test_the_newest_rows_are_held_in_order(batches, rng):
    queue = Queue(5, 3)
    ever = [queue.rows.clone()]
    for count in batches:
        ever.append(torch.randn(count, 3, generator=rng))
        queue.enqueue(ever[-1])
    torch.testing.assert_close(oldest_first(queue), F.normalize(torch.cat(ever), dim=1)[-5:])


def test_it_starts_as_random_directions_and_all_of_it_is_state():
    torch.manual_seed(0)
    queue = Queue(2000, 8)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(2000))
    assert queue.rows.mean(0).abs().max() < 5 / (2000 * 8) ** 0.5
    queue.enqueue(torch.randn(3, 8).bfloat16())
    other = Queue(2000, 8)
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.enqueue(torch.ones(1, 8))
    assert torch.equal(queue.rows, other.rows)
    assert queue.place == other.place == 4
    assert not list(queue.parameters())
