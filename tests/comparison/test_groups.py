"""Groups of runs over seeds: which is marked as the best, what is said if none is, and what may be unfair."""

import pytest
from comparison_toys import compared, make_run, pretext, seeds, several

KIND = {0: 0.60, 1: 0.61, 2: 0.62, 3: 0.80, 4: 0.82}  # seeds 3 and 4 are kind to all
CASES = {  # the groups in the order in which they come out; best; worse or better for each other; words of the verdict
    "apart": ([{0: 0.80, 1: 0.82, 2: 0.81}, {0: 0.60, 1: 0.61, 2: 0.615}], True, ["worse"], "The first is the best"),
    "noise": ([{0: 0.80, 1: 0.60, 2: 0.75}, {0: 0.70, 1: 0.65, 2: 0.73}], False, [""], "no difference is shown"),
    "a third within noise": (
        [{0: 0.80, 1: 0.81, 2: 0.82}, {0: 0.81, 1: 0.79, 2: 0.81}, {0: 0.10, 1: 0.11, 2: 0.121}],
        *(False, ["", "worse"], "between the first and 1 of 2 others"),
    ),
    "behind on common seeds": (  # one group alone ran the kind seeds: its mean is first
        [KIND, {0: 0.65, 1: 0.663, 2: 0.668}],
        *(False, ["better"], "on the seeds that both have, b is better than the first"),
    ),
    "behind on common seeds within noise": (
        [KIND, {0: 0.60, 1: 0.68, 2: 0.65}],
        *(False, [""], "On the seeds that both have, b has the better mean: run the same seeds"),
    ),
    "no spread": ([{0: 0.0, 1: 0.0, 2: 0.0}] * 2, False, [""], "does not vary over seeds, there is no spread to judge"),
    "a single seed": (
        [{7: 0.1}, *[{0: 0.0, 1: 0.0, 2: 0.0}] * 2],
        False,
        ["", ""],
        "single seed, there is no interval",
    ),
    "single seeds": ([{0: 0.9}, {0: 0.1}], False, [""], "One seed each"),
}


@pytest.mark.parametrize("smaller", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_groups_are_marked_as_their_seeds_show(tmp_path, case, smaller):
    groups, best, marks, words = CASES[case]
    for name, values in zip("abc", groups, strict=False):
        signed = {seed: -value if smaller else value for seed, value in values.items()}
        seeds(tmp_path, name, signed, **pretext(name))
    comparison = compared(tmp_path, "probe/top1", smaller)
    assert [each.settings["pretext"] for each in comparison.groups] == [*"abc"[: len(groups)]]
    assert comparison.best == best
    assert ["worse" * each.worse + "better" * each.better for each in comparison.groups] == ["", *marks]
    assert words in comparison.verdict


def test_a_group_knows_its_mean_its_baseline_and_its_pairs(tmp_path):
    comparison = compared(several(tmp_path))
    assert (comparison.keys, comparison.warnings) == (["pretext"], [])
    first, second = comparison.groups
    assert (first.interval.mean, first.baseline) == pytest.approx((0.81, 0.4))
    assert first.mean("samples_seen") == 1400 * 64
    assert second.to_best.paired
    make_run(tmp_path / "runs" / "again", 0.6)
    comparison = compared(tmp_path / "runs")
    assert comparison.groups[0].values == {0: pytest.approx(0.7), 1: 0.82, 2: 0.81}, "a repeated seed counts once"
    assert comparison.warnings == [
        "1 run repeats settings and seed of another: those of one seed count once, by their mean"
    ]


def test_the_front_holds_what_nothing_surpasses_in_less_time(tmp_path):
    for name, top1, seconds in (("a", 0.5, 10), ("b", 0.6, 20), ("c", 0.55, 30), ("d", 0.7, 40)):
        make_run(tmp_path / name, top1, summary={"seconds": seconds}, **pretext(name))
    assert {each.settings["pretext"] for each in compared(tmp_path).groups if each.front} == {"a", "b", "d"}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"commit": "b" * 40}, "commit differs, also between seeds of one group: aaaaaaaa (1 run), bbbbbbbb (1 run)"),
        ({"dirty": True}, "aaaaaaaa with changes unknown"),
        ({"dataset": "beef"}, "dataset fingerprint differs"),
        ({"versions": {"python": "3.11.7", "torch": "2.15.0"}}, "torch differs"),
        ({"device": "NVIDIA H100, float32"}, "seconds and samples/s are not comparable"),
        ({"versions": None}, "is not known"),
    ],
)
def test_what_may_be_unfair_is_said(tmp_path, environment, words):
    make_run(tmp_path / "a", 0.5)
    make_run(tmp_path / "b", 0.6, seed=1, environment=environment)
    assert any(words in line for line in compared(tmp_path).warnings)


def test_a_changed_folder_of_images_is_other_data(tmp_path):
    """The config says the same of them, the fingerprint does not: neither judged nor averaged."""
    seeds(tmp_path, "a", {0: 0.80, 1: 0.81, 2: 0.82}, environment={"dataset": "c1a55dbe00"}, **pretext("simclr"))
    seeds(tmp_path, "b", {0: 0.60, 1: 0.61, 2: 0.62}, environment={"dataset": "beef000000"}, **pretext("byol"))
    comparison = compared(tmp_path)
    assert comparison.keys == ["pretext", "data"]
    assert [each.name for each in comparison.groups] == ["simclr, data c1a55dbe", "byol, data beef0000"]
    assert not comparison.best
    assert not any(each.worse or each.to_best or each.front for each in comparison.groups)
    assert any("numbers on different data are not ranked" in line for line in comparison.warnings)
    make_run(tmp_path / "b-3", 0.7, environment={"dataset": "c1a55dbe00"}, seed=3, **pretext("byol"))
    assert len(compared(tmp_path).groups) == 3


def test_where_equal_data_lie_is_no_setting_and_other_data_have_another_fingerprint(tmp_path):
    for seed, (root, fingerprint, keys) in enumerate((("a", "feed", []), ("b", "feed", []), ("c", "beef", ["data"]))):
        make_run(tmp_path / root, 0.5, seed=seed, dataset={"root": root}, environment={"dataset": fingerprint})
        assert compared(tmp_path).keys == keys


def test_data_drawn_by_the_seed_are_no_other_data(tmp_path):
    """Each seed has data of its own, in every group: pairs of seeds share them."""
    for name, top1 in (("flip", [0.5, 0.51, 0.54]), ("crop", [0.6, 0.6, 0.6])):
        for seed in range(3):
            more = {"dataset": {"seed": seed}, "environment": {"dataset": f"feed{seed}"}, **pretext(name)}
            make_run(tmp_path / f"{name}-{seed}", top1[seed], seed=seed, **more)
    comparison = compared(tmp_path)
    assert comparison.keys == ["pretext"]
    assert [len(each.runs) for each in comparison.groups] == [3, 3]
    assert comparison.groups[1].to_best is not None


def test_the_same_changes_are_the_same_code(tmp_path):
    for seed in range(2):
        run = make_run(tmp_path / str(seed), 0.5, seed=seed, environment={"dirty": True})
        (run / "source.diff").write_text("one")
    assert not compared(tmp_path).warnings
    (run / "source.diff").write_text("two")
    assert "commit differs" in compared(tmp_path).warnings[0]


def test_precision_and_another_dataset_are_settings_and_no_surprise(tmp_path):
    make_run(tmp_path / "a", 0.5)
    make_run(tmp_path / "b", 0.6, device={"precision": "bf16"}, environment={"device": "cpu, bf16, 2 threads"})
    assert not compared(tmp_path).warnings
    make_run(tmp_path / "c", 0.7, choices={"dataset": "digits"}, environment={"dataset": "beef"})
    comparison = compared(tmp_path)
    assert comparison.keys == ["dataset", "device.precision"]
    (warning,) = comparison.warnings
    assert warning == "the datasets differ, and numbers on different data are not ranked by their differences"
    assert comparison.groups[1].to_best is None


def test_collapsed_features_are_said(tmp_path):
    for seed, verdict in enumerate(("collapsed", "healthy")):
        make_run(tmp_path / verdict, 0.5, summary={"health": {"verdict": verdict}}, seed=seed, on_collapse="warn")
    comparison = compared(tmp_path)
    assert len(comparison.groups) == 1
    assert comparison.warnings == ["features were not healthy at the end of 1 runs: collapsed (collapsed)"]
