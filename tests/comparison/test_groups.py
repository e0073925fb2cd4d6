"""Groups of runs over seeds: which is marked as the best, and what is said if none is."""

import pytest
from comparison_toys import compared, make_run, pretext, seeds


def test_runs_are_grouped_over_seeds_and_the_best_marked(tmp_path):
    seeds(tmp_path, "a", {0: 0.80, 1: 0.82, 2: 0.81})
    seeds(tmp_path, "b", {0: 0.60, 1: 0.61, 2: 0.615}, **pretext("flip"))
    comparison = compared(tmp_path)
    assert comparison.keys == ["pretext"]
    assert [(each.settings["pretext"], len(each.runs)) for each in comparison.groups] == [("rotation", 3), ("flip", 3)]
    first, second = comparison.groups
    assert first.interval.mean == pytest.approx(0.81)
    assert first.baseline == pytest.approx(0.4)
    assert first.mean("samples_seen") == 1400 * 64
    assert second.to_best.paired
    assert comparison.best
    assert second.worse
    assert not comparison.warnings


def test_no_best_within_noise(tmp_path):
    seeds(tmp_path, "a", {0: 0.80, 1: 0.60, 2: 0.75})
    seeds(tmp_path, "b", {0: 0.70, 1: 0.65, 2: 0.73}, **pretext("flip"))
    comparison = compared(tmp_path)
    assert not comparison.best
    assert not comparison.groups[1].worse
    assert "no difference is shown" in comparison.verdict


def test_two_groups_apart_and_a_third_within_noise_mark_no_best(tmp_path):
    seeds(tmp_path, "a", {0: 0.80, 1: 0.81, 2: 0.82})
    seeds(tmp_path, "b", {0: 0.81, 1: 0.79, 2: 0.81}, **pretext("flip"))
    seeds(tmp_path, "c", {0: 0.10, 1: 0.11, 2: 0.121}, **pretext("crop"))
    comparison = compared(tmp_path)
    assert not comparison.best
    assert [each.worse for each in comparison.groups] == [False, False, True]


@pytest.mark.parametrize("smaller", [False, True])
def test_better_on_common_seeds_is_not_marked_against(tmp_path, smaller):
    """Seeds 3 and 4 are kind to all, and one group alone ran them: its mean is first, on common seeds it is behind."""
    sign = -1 if smaller else 1
    simclr = {0: 0.60, 1: 0.61, 2: 0.62, 3: 0.80, 4: 0.82}
    byol = {0: 0.65, 1: 0.663, 2: 0.668}
    seeds(tmp_path, "a", {seed: sign * value for seed, value in simclr.items()}, **pretext("simclr"))
    seeds(tmp_path, "b", {seed: sign * value for seed, value in byol.items()}, **pretext("byol"))
    comparison = compared(tmp_path, "probe/top1", smaller)
    assert [each.settings["pretext"] for each in comparison.groups] == ["simclr", "byol"]
    assert not comparison.best
    assert (comparison.groups[1].worse, comparison.groups[1].better) == (False, True)
    assert "on the seeds that both have, byol is better than the first" in comparison.verdict


def test_ahead_on_common_seeds_within_noise_is_said(tmp_path):
    seeds(tmp_path, "a", {0: 0.60, 1: 0.61, 2: 0.62, 3: 0.80, 4: 0.82}, optimizer={"lr": 0.1})
    seeds(tmp_path, "b", {0: 0.60, 1: 0.68, 2: 0.65}, optimizer={"lr": 0.2})
    comparison = compared(tmp_path)
    assert not comparison.groups[1].better
    assert "On the seeds that both have, lr 0.2 has the better mean: run the same seeds" in comparison.verdict


def test_numbers_without_spread_are_not_single_seeds(tmp_path):
    seeds(tmp_path, "a", {0: 0.0, 1: 0.0, 2: 0.0})
    seeds(tmp_path, "b", {0: 0.0, 1: 0.0, 2: 0.0}, **pretext("flip"))
    assert compared(tmp_path).verdict.endswith(
        "Where a difference does not vary over seeds, there is no spread to judge it by."
    )
    seeds(tmp_path, "c", {7: 0.1}, **pretext("crop"))
    assert "single seed" in compared(tmp_path).verdict


def test_one_seed_shows_nothing(tmp_path):
    make_run(tmp_path / "a", 0.9)
    make_run(tmp_path / "b", 0.1, **pretext("flip"))
    comparison = compared(tmp_path)
    assert not comparison.best
    assert "One seed each" in comparison.verdict


def test_a_repeated_seed_counts_once(tmp_path):
    make_run(tmp_path / "a", 0.8)
    make_run(tmp_path / "b", 0.6)
    comparison = compared(tmp_path)
    assert comparison.groups[0].values == {0: pytest.approx(0.7)}
    assert "repeats settings and seed" in comparison.warnings[0]


def test_the_front_holds_what_nothing_surpasses_in_less_time(tmp_path):
    for name, top1, seconds in (("a", 0.5, 10), ("b", 0.6, 20), ("c", 0.55, 30), ("d", 0.7, 40)):
        make_run(tmp_path / name, top1, summary={"seconds": seconds, "final": {"probe/top1": top1}}, **pretext(name))
    assert {each.settings["pretext"] for each in compared(tmp_path).groups if each.front} == {"a", "b", "d"}
