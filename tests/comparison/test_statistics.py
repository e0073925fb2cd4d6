"""Intervals and differences against scipy, and how rarely what is marked is wrong."""

import numpy as np
import pytest
import scipy.stats

from ssl_runner.comparison.render import show_count, show_difference
from ssl_runner.comparison.statistics import Difference, difference, interval, judge, quantile, seeds_needed


def excludes_zero(shown):
    return abs(shown.mean) > shown.half


def test_intervals_are_those_of_scipy_and_of_a_hand_solved_case():
    """Values 1, 2, 3: deviation 1, error 1 / sqrt 3, and t of two degrees of freedom is 4.30265."""
    halves = [interval([1, 2, 3]).half, interval([5.0]).half, quantile(1)]
    assert halves == pytest.approx([4.30265 / 3**0.5, float("inf"), 12.7062], rel=1e-5)
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.7, 0.1, 5), rng.normal(0.6, 0.2, 7)
    shown = interval(list(a))
    bounds = scipy.stats.t.interval(0.95, 4, a.mean(), scipy.stats.sem(a))
    assert (shown.mean - shown.half, shown.mean + shown.half) == pytest.approx(bounds)
    pairs, welch = (difference(dict(enumerate(a)), dict(enumerate(b, start))) for start in (0, 100))
    assert (pairs.paired, pairs.n, welch.paired) == (True, 5, False)
    peers = scipy.stats.ttest_rel(a, b[:5]), scipy.stats.ttest_ind(a, b, equal_var=False)
    for shown, peer in zip((pairs, welch), peers, strict=True):
        bounds = (*peer.confidence_interval(0.95), peer.pvalue)
        assert (shown.mean - shown.half, shown.mean + shown.half, shown.p) == pytest.approx(bounds)


def test_pairs_reveal_what_unpaired_seeds_hide():
    """Seeds move the accuracy by ten points, the setting by one: only pairs of equal seeds show it, if most are."""
    a, b = (dict(enumerate(np.linspace(0.6, 0.7, 10), start)) for start in (0, 8))
    assert not difference(a, b).paired  # two of ten seeds are common
    rng = np.random.default_rng(1)
    other = rng.normal(0.7, 0.1, 6)
    better = dict(enumerate(other + 0.01 + rng.normal(0, 0.002, 6)))
    assert [excludes_zero(difference(better, dict(enumerate(other, start)))) for start in (0, 50)] == [True, False]


def test_a_difference_without_spread_has_no_interval():
    flat = [({0: 0.5, 1: 0.5}, other) for other in ({0: 0.4, 1: 0.4}, {0: 0.5, 1: 0.5}, {5: 0.4, 6: 0.4})]
    one_seed = ({0: 0.9, 1: 0.8, 2: 0.85}, {7: 0.1})
    assert not any(excludes_zero(difference(*pair)) for pair in (*flat, one_seed))


@pytest.mark.parametrize("groups", [2, 5])
def test_equal_groups_are_rarely_told_apart(groups):
    """Of equal groups a best is marked, and any called worse, in at most 5 %, though the first is picked by looking."""
    rng = np.random.default_rng(groups)
    marked = worse = naive = 0
    for _ in range(800):
        values = rng.normal(size=(groups, 4))
        values = values[np.argsort(-values.mean(1))]
        differences = [difference(dict(enumerate(values[0])), dict(enumerate(each))) for each in values[1:]]
        best, shown_worse, _ = judge(differences)
        marked, worse = marked + best, worse + any(shown_worse)
        naive += any(map(excludes_zero, differences))
    assert max(marked, worse) / 800 < 0.07
    assert groups == 2 or naive / 800 > 0.1  # to call worse whatever excludes zero would err in far more


@pytest.mark.parametrize("larger", [True, False])
@pytest.mark.parametrize(("count", "apart"), [(2, 0.0), (2, 0.05), (3, 0.0), (3, 0.05)])
def test_unequal_seeds_rarely_mark_the_wrong_group(count, apart, larger):
    """Seeds move numbers by far more than groups do, and groups have different ones: their means have any order."""
    rng = np.random.default_rng(7)
    wrong = misled = marked = 0
    for _ in range(800):
        effect = rng.permutation(count) * apart
        values = effect[:, None] + rng.normal(size=6) * 0.3 + rng.normal(size=(count, 6)) * 0.01
        groups = [{seed: v[seed] for seed in rng.permutation(6)[: rng.integers(3, 7)]} for v in values]
        order = sorted(range(count), key=lambda g: (-1 if larger else 1) * np.mean([*groups[g].values()]))
        gain = (effect if larger else -effect)[order]
        best, *shown = judge([difference(groups[order[0]], groups[g], larger) for g in order[1:]])
        marked += best
        wrong += best and not gain[0] > gain[1:].max()
        misled += any(worse and gain[0] <= each for worse, each in zip(shown[0], gain[1:], strict=True))
        misled += any(better and gain[0] >= each for better, each in zip(shown[1], gain[1:], strict=True))
    assert wrong / 800 < 0.06
    assert misled / 800 < 0.07
    assert apart == 0 or marked / 800 > 0.2  # and it does not keep silent


def test_seeds_needed_are_enough_and_not_too_many():
    first, other = {0: 0.1, 1: 0.3, 2: 0.2}, {0: 0.0, 1: 0.0, 2: 0.15}
    shown = difference(first, other)
    assert not excludes_zero(shown)
    n, spread = seeds_needed(shown), np.std([0.1, 0.3, 0.05], ddof=1)
    assert quantile(n - 1) * spread / n**0.5 < shown.mean < quantile(n - 2) * spread / (n - 1) ** 0.5
    assert seeds_needed(difference(first, other, larger=False)) is None  # none would turn it round
    assert seeds_needed(difference({0: 0.5, 1: 0.6}, {0: 0.6, 1: 0.5})) is None  # no difference at all


def test_a_difference_that_is_rounded_to_nothing_has_no_sign_of_less():
    nothing = Difference(1e-17, 0.02, True, 2, 1.0, 1.0, 1e-17)
    assert show_difference(nothing, True) == "+0.0 ± 2.0 p"


COUNTS = {0: "0", 9216: "9,216", 9999.6: "10,000", 12_345: "12.3k", 999_499: "999k", 999_936: "1M", 1.2e6: "1.2M"}


def test_a_count_is_rounded_before_its_unit_is_chosen():
    assert {number: show_count(number) for number in COUNTS} == COUNTS
    assert (show_count(999_700_000), show_count(2.5e12)) == ("1G", "2,500G")
