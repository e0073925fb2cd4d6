"""Triples of the ABX task, each cell and pair weighing alike; alignment against the recurrence as it is written."""

import pytest
import torch

from ssl_runner.probing.abx import draw_triples, error_rate
from ssl_runner.probing.dtw import align, warped_distances

Y = torch.tensor([0, 0, 0, 1, 1, 2])
SPEAKER = torch.tensor([0, 0, 1, 0, 1, 0])


def by_recurrence(distance, n, m):
    """Least sum and its length, cell by cell; of equal sums a diagonal step, then one in the first sequence."""
    best = {}
    for i in range(n):
        for j in range(m):
            ways = [best[k] for k in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if k in best] or [(0.0, 0)]
            total, length = min(ways, key=lambda way: way[0])
            best[i, j] = total + float(distance[i, j]), length + 1
    return best[n - 1, m - 1][0] / best[n - 1, m - 1][1]


def test_an_alignment_is_that_of_the_recurrence_whatever_lies_behind_the_end():
    rng = torch.Generator().manual_seed(0)
    distance = torch.rand(40, 6, 9, generator=rng, dtype=torch.float64)
    n, m = (torch.randint(1, most + 1, (40,), generator=rng) for most in (6, 9))
    wanted = [by_recurrence(d, i, j) for d, i, j in zip(distance, n.tolist(), m.tolist(), strict=True)]
    for behind in (0.0, 9.0):
        rows, columns = torch.arange(6)[:, None] < n[:, None, None], torch.arange(9) < m[:, None, None]
        spoilt = torch.where(rows & columns, distance, behind)
        torch.testing.assert_close(align(spoilt, n, m).tolist(), wanted, rtol=0, atol=1e-12)
    one = align(distance[:, :, :1], n, torch.ones_like(m))
    torch.testing.assert_close(one, torch.stack([d[:i, 0].mean() for d, i in zip(distance, n.tolist(), strict=True)]))


def test_a_sequence_that_is_said_slower_is_as_near_as_itself():
    """Angles over pi: right angles are a half; frames that are repeated cost nothing; lengths do not matter."""
    a, b = torch.eye(3)[[0, 1, 2, 2, 2]], torch.eye(3)[[0, 0, 0, 1, 2]]
    opposite, long = -torch.eye(3)[[0, 0, 0, 0, 0]], 7 * a
    tokens = torch.stack([a, b, opposite, long])
    pairs, lengths = torch.tensor([[0, 1], [0, 3], [2, 0], [0, 2]]), torch.tensor([5, 5, 1, 5])
    near = warped_distances(tokens, lengths, pairs)
    torch.testing.assert_close(near[:2], torch.zeros(2), rtol=0, atol=3e-4)  # the angle of rounding
    torch.testing.assert_close(near[2:], torch.full((2,), (1 + 4 * 0.5) / 5))
    assert torch.equal(warped_distances(tokens, lengths, pairs.flip(0)), near.flip(0))


def test_triples_within_and_across_are_those_that_can_be_told_off_by_hand():
    drawn = {mode: draw_triples(Y, SPEAKER, mode, 999, 0) for mode in ("within", "across")}
    told = {
        mode: {*zip(each.a.tolist(), each.b.tolist(), each.x.tolist(), strict=True)} for mode, each in drawn.items()
    }
    # Two rows of class 0 are speaker 0's; rows 2 and 4 are all that speaker 1 has said, and class 2 has one row.
    assert told["within"] == {(0, 3, 1), (1, 3, 0), (0, 5, 1), (1, 5, 0)}
    across = {(0, 3, 2), (1, 3, 2), (0, 5, 2), (1, 5, 2), (2, 4, 0), (2, 4, 1)}
    assert told["across"] == across | {(3, 0, 4), (3, 1, 4), (3, 5, 4), (4, 2, 3)}
    everyone = draw_triples(Y, torch.zeros_like(Y), "any", 999, 0)
    assert len(everyone.a) == 3 * 2 * 3 + 2 * 1 * 4
    assert not (everyone.a == everyone.x).any()
    with pytest.raises(ValueError, match="no triple"):
        draw_triples(torch.arange(6), SPEAKER, "any", 999, 0)


def test_cells_weigh_alike_and_then_pairs_of_categories():
    """A class with many rows, or in many groups, weighs no more; a tie is half an error."""
    triples = draw_triples(Y, SPEAKER, "across", 999, 0)
    wrong = {(0, 1): 1.0, (1, 0): 0.0}  # of pairs of classes; others: a tie
    errors = torch.tensor([wrong.get((int(Y[a]), int(Y[b])), 0.5) for a, b in zip(triples.a, triples.b, strict=True)])
    assert error_rate(errors, torch.full_like(errors, 0.5), triples) == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
    only = (triples.a == 2).float()  # two of the four triples of (0, 1), and one cell of two
    assert error_rate(only, torch.full_like(only, 0.5), triples) == pytest.approx(0.5 / 4)


@pytest.mark.parametrize("most", [40, 400])
def test_a_draw_is_of_the_triples_evenly_and_the_same_again(most):
    y, speaker = torch.arange(120) % 4, torch.arange(120) // 4 % 3
    for mode in ("within", "across"):
        every, drawn = (draw_triples(y, speaker, mode, size, 0) for size in (10**6, most))
        assert len(every.a) == (4 * 10) * (3 * 3 * 10) * (9 if mode == "within" else 20)
        assert most - 36 < len(drawn.a) <= most
        known = {*zip(every.a.tolist(), every.b.tolist(), every.x.tolist(), strict=True)}
        assert known >= {*zip(drawn.a.tolist(), drawn.b.tolist(), drawn.x.tolist(), strict=True)}
        assert len(drawn.pair) == 36
        assert drawn.cell.bincount().unique().numel() == 1
        again, other = (draw_triples(y, speaker, mode, most, seed) for seed in (0, 1))
        assert torch.equal(again.x, drawn.x)
        assert not torch.equal(other.x, drawn.x)
    few = draw_triples(y, speaker, "within", 5, 0)
    assert (len(few.a), len(few.pair)) == (5, 5)
