"""Rank correlation of cosines and shared factors, by hand and against scipy."""

import pytest
import torch
from evaluator_toys import EVERY, numbers
from scipy.stats import spearmanr

from ssl_runner.contract import Split
from ssl_runner.evaluator.similarity import Similarity
from ssl_runner.probing.rank_correlation import spearman


def measured(x, y=None, targets=None, **settings):
    return numbers(Similarity(every=EVERY, query=Split(x, y, targets or {}), **settings))["spearman"]


def test_ranks_correlate_as_scipy_says():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, generator=rng), torch.randint(4, (200,), generator=rng).float()
    for a, b in ((x, y), (x, x**3), (x, -x), (y, y + (x > 0))):
        assert spearman(a, b) == pytest.approx(spearmanr(a.numpy(), b.numpy()).statistic)
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, torch.ones(200)) == 0


def test_features_that_are_the_factors_are_as_alike_as_these():
    """One-hot vectors of three factors: the cosine is the share that is equal."""
    rng = torch.Generator().manual_seed(0)
    factors = {name: torch.randint(n, (60,), generator=rng) for name, n in (("a", 2), ("b", 3), ("c", 4))}
    vectors = torch.cat([torch.eye(4)[each] for each in factors.values()], 1)
    factors["where"] = torch.rand(60)  # no whole number: it cannot be equal
    assert measured(vectors, None, factors) == pytest.approx(1, abs=1e-3)
    one = measured(torch.eye(4)[factors["c"]], None, factors)
    assert 0.3 < one < 0.9
    assert abs(measured(torch.randn(60, 8, generator=rng), None, factors)) < 0.1
    assert measured(-vectors + 2 * vectors.mean(0) * 0 + 1, None, factors) > 0.9, "a common part changes no order"


def test_without_factors_the_class_counts_and_labels_may_be_several():
    y = torch.arange(40) % 4
    assert measured(torch.eye(4)[y], y) == pytest.approx(1)
    tags = {"tags": torch.rand(40, 5, generator=torch.Generator().manual_seed(0)) > 0.5}
    signs = tags["tags"].float() * 2 - 1  # the cosine is twice the share of equal ones, less one
    assert measured(signs, None, tags) == pytest.approx(1, abs=1e-3)
    assert measured(torch.ones(40, 3), y) == 0, "features that are all alike say nothing"


def test_no_row_is_paired_with_itself_and_the_draw_is_the_same_again():
    y = torch.arange(3)
    with pytest.raises(ValueError, match="all pairs have the same score"):
        measured(torch.eye(3), y)  # no two rows are of a class, and a row beside itself would be
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(50) % 3
    values = [measured(x, classes, pairs=100, seed=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_rows_of_which_nothing_is_known_are_refused():
    for split in (Split(torch.ones(4, 2)), Split(torch.ones(4, 2), None, {"size": torch.rand(4)})):
        with pytest.raises(ValueError, match="the rows have no class"):
            Similarity(every=EVERY, query=split)
    with pytest.raises(ValueError, match="fewer than two samples"):
        Similarity(every=EVERY, query=Split(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)))
