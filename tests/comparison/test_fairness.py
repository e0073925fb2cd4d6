"""What runs do not share although their settings do not say so: code, data, machine, healthy features."""

import pytest
from comparison_toys import compared, make_run, pretext, seeds


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


def test_data_drawn_by_the_seed_are_no_other_data(tmp_path):
    """Each seed has data of its own, in every group: pairs of seeds share them."""
    for name, top1 in (("flip", 0.5), ("crop", 0.6)):
        for seed in range(3):
            more = {"dataset": {"seed": seed}, "environment": {"dataset": f"feed{seed}"}}
            make_run(
                tmp_path / f"{name}-{seed}",
                top1 + 0.01 * seed**2 * (name == "flip"),
                seed=seed,
                **pretext(name),
                **more,
            )
    comparison = compared(tmp_path)
    assert comparison.keys == ["pretext"]
    assert [len(each.runs) for each in comparison.groups] == [3, 3]
    assert comparison.groups[1].to_best is not None


def test_the_same_changes_are_the_same_code(tmp_path):
    for seed, diff in enumerate(("one", "one")):
        run = make_run(tmp_path / str(seed), 0.5, seed=seed, environment={"dirty": True})
        (run / "source.diff").write_text(diff)
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
    assert comparison.warnings == [
        "the datasets differ, and numbers on different data are not ranked by their differences"
    ]
    assert comparison.groups[1].to_best is None


def test_collapsed_features_are_said(tmp_path):
    make_run(tmp_path / "a", 0.5, summary={"health": {"verdict": "collapsed", "step": 40}}, on_collapse="warn")
    make_run(tmp_path / "b", 0.6, seed=1, summary={"health": {"verdict": "healthy"}})
    comparison = compared(tmp_path)
    assert len(comparison.groups) == 1
    assert comparison.warnings == ["features were not healthy at the end of 1 runs: a (collapsed)"]


def test_where_equal_data_lie_is_no_setting(tmp_path):
    """Other data in another folder are told by their fingerprint."""
    for seed, (root, fingerprint) in enumerate((("a", "feed"), ("b", "feed"))):
        run = {"dataset": {"root": root}, "environment": {"dataset": fingerprint}}
        make_run(tmp_path / str(seed), 0.5, seed=seed, **run)
    assert compared(tmp_path).keys == []
    make_run(tmp_path / "2", 0.5, seed=2, dataset={"root": "c"}, environment={"dataset": "beef"})
    assert compared(tmp_path).keys == ["data"]
