"""Groups of runs: settings that tell them apart, which is the best over seeds, and what may be unfair."""

import io
import json

import pytest
from comparison_toys import ACCURACY, SETTINGS, compared, make_run, plain_run, pretext, seeds, several
from rich.console import Console
from runs import change

from ssl_runner.__main__ import main
from ssl_runner.comparison.export import describe
from ssl_runner.comparison.render import table_columns
from ssl_runner.comparison.settings import choices_of, differing, flat, shorten, text
from ssl_runner.sweep.run import print_comparison
from ssl_runner.sweep.settings import ranking_metric

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
NOT_RANKED = "the datasets differ, and numbers on different data are not ranked by their differences"
BEEF = {"environment": {"dataset": "beef"}}
SHARED = {  # a run each, of seeds 0, 1, ... unless it says so; keys that tell them apart; words of each warning
    "commit": (
        [{}, {"environment": {"commit": "b" * 40}}],
        *([], ["commit differs, also between seeds of one group: aaaaaaaa (1 run), bbbbbbbb (1 run)"]),
    ),
    "uncommitted changes": ([{}, {"environment": {"dirty": True}}], [], ["aaaaaaaa with changes unknown"]),
    "versions": ([{}, {"environment": {"versions": {"python": "3.11.7", "torch": "2.15"}}}], [], ["torch differs"]),
    "nothing known": ([{}, {"environment": {"versions": None}}], [], ["is not known"]),
    "device": ([{}, {"environment": {"device": "H100, float32"}}], [], ["seconds and samples/s are not comparable"]),
    "one thread, as older runs wrote it": (
        [{"environment": {"device": f"cpu, float32, 1 {word}"}} for word in ("threads", "thread")],
        *([], []),
    ),
    "precision": (
        [{}, {"device": {"precision": "bf16"}, "environment": {"device": "cpu, bf16, 2 threads"}}],
        ["device.precision"],
        [],
    ),
    "equal data elsewhere": ([{}, {"dataset": {"root": "b"}}], [], []),
    "other data elsewhere": ([{}, {"dataset": {"root": "b"}, **BEEF}], ["data"], [NOT_RANKED, "fingerprint differs"]),
    "another dataset": ([{}, {"choices": {"dataset": "digits"}, **BEEF}], ["dataset"], [NOT_RANKED]),
    "fewer images": ([{}, {"dataset": {"images": 9}}], ["dataset.images"], ["dataset.images differs: so may the rows"]),
    "data drawn by the seed": (  # in every group: pairs of seeds share them
        [
            {"seed": seed, "dataset": {"seed": seed}, "environment": {"dataset": f"feed{seed}"}, **pretext(name)}
            for name in ("flip", "crop")
            for seed in range(3)
        ],
        *(["pretext"], []),
    ),
    "features": (
        [{"summary": {"health": {"verdict": each}}, "on_collapse": "warn"} for each in ("collapsed", "healthy")],
        *([], ["features were not healthy at the end of 1 run: 0 (collapsed)"]),
    ),
    "a repeated seed": ([{}, {"seed": 0}], [], ["1 run repeats settings and seed of another: those of one seed count"]),
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
    assert (comparison.best, words in comparison.verdict) == (best, True)
    assert ["worse" * each.worse + "better" * each.better for each in comparison.groups] == ["", *marks]


def test_raw_features_stand_beside_the_random_encoder_where_they_were_measured(tmp_path):
    for name, top1, raw in (("a", 0.7, 0.55), ("b", 0.69, 0.6)):
        extra = {"raw": {"probe/top1": raw, "knn/top1": 0.2}}
        make_run(tmp_path / name, top1, summary=extra, seed=0, optimizer={"lr": raw})
    make_run(tmp_path / "old", 0.5, optimizer={"lr": 0.1})
    comparison = compared(tmp_path, "probe/top1")
    assert [(each.raw, each.baseline) for each in comparison.groups] == [(0.55, 0.4), (0.6, 0.4), (None, 0.4)]
    assert comparison.runs[0].metrics["raw/knn/top1"] == 0.2
    columns, same = table_columns(comparison, 0)
    assert (columns["raw features"], same["random"]) == (["55.0", "60.0", "-"], "40.0 %")
    assert compared(tmp_path, "raw/probe/top1").groups[0].interval.mean == 0.6
    without = compared(tmp_path / "old", "probe/top1")
    assert "raw features" not in table_columns(without, 0)[0]
    assert "raw" not in describe(without)["groups"][0]
    assert describe(comparison)["groups"][0]["raw"] == 0.55


def test_a_group_knows_its_mean_its_baseline_and_its_pairs(tmp_path):
    comparison = compared(several(tmp_path))
    first, second = comparison.groups
    assert (first.interval.mean, first.baseline) == pytest.approx((0.81, 0.4))
    assert (first.mean("samples_seen"), second.to_best.paired) == (1400 * 64, True)
    assert (comparison.keys, comparison.warnings) == (["pretext"], [])
    make_run(tmp_path / "runs" / "again", 0.6)
    values = compared(tmp_path / "runs").groups[0].values
    assert values == pytest.approx({0: 0.7, 1: 0.82, 2: 0.81}), "a repeated seed counts once"


def test_the_front_holds_what_nothing_surpasses_in_less_time(tmp_path):
    for name, top1, seconds in (("a", 0.5, 10), ("b", 0.6, 20), ("c", 0.55, 30), ("d", 0.7, 40)):
        make_run(tmp_path / name, top1, summary={"seconds": seconds}, **pretext(name))
    assert {each.settings["pretext"] for each in compared(tmp_path).groups if each.front} == {"a", "b", "d"}


@pytest.mark.parametrize("case", SHARED)
def test_what_runs_do_not_share_is_a_setting_a_warning_or_harmless(tmp_path, case):
    runs, keys, words = SHARED[case]
    for n, run in enumerate(runs):
        make_run(tmp_path / str(n), 0.5, **{"seed": n, **run})
    comparison = compared(tmp_path)
    assert comparison.keys == keys
    assert len(comparison.warnings) == len(words), comparison.warnings
    assert all(each in line for each, line in zip(words, comparison.warnings, strict=True))
    assert all((each.to_best is None) == (NOT_RANKED in words) for each in comparison.groups[1:])
    assert NOT_RANKED not in words or not comparison.verdict, "the warning says it all: an accuracy was measured"


def test_losses_of_different_tasks_are_not_ranked(tmp_path):
    """Of one task they are, with a warning if a setting of the task or its batch may have changed what is counted."""
    loss = {"loss/loss": {"better": "smaller", "unit": "number"}, "probe/top1": ACCURACY}

    def run(folder, seed, task, value, **change):
        summary = {"final": {"loss/loss": value, "probe/top1": value / 9}, "metrics": loss}
        make_run(tmp_path / folder, summary=summary, seed=seed, **pretext(task), **change)

    for seed in range(3):
        run(f"two/rotation{seed}", seed, "rotation", 1 + seed / 100)
        run(f"two/simclr{seed}", seed, "simclr", 4 + seed / 90)
        run(f"one/small{seed}", seed, "rotation", 1 + seed / 100)
        run(f"one/large{seed}", seed, "rotation", 4 + seed / 90, batch_size=128)
    comparison = compared(tmp_path / "two", "loss/loss")
    assert (comparison.best, comparison.verdict, comparison.larger_is_better("loss/loss")) == (False, "", None)
    assert [line.partition(",")[0] for line in comparison.warnings] == ["the tasks differ"]
    assert compared(tmp_path / "two", "probe/top1").best
    comparison = compared(tmp_path / "one", "loss/loss")
    assert comparison.best
    assert comparison.warnings == ["batch_size differs: so may what the loss counts, and not what was learnt alone"]


def test_a_changed_folder_of_images_is_other_data(tmp_path):
    """The config says the same of them, the fingerprint does not: neither judged nor averaged."""
    seeds(tmp_path, "a", {0: 0.80, 1: 0.81, 2: 0.82}, environment={"dataset": "c1a55dbe00"}, **pretext("simclr"))
    seeds(tmp_path, "b", {0: 0.60, 1: 0.61, 2: 0.62}, environment={"dataset": "beef000000"}, **pretext("byol"))
    comparison = compared(tmp_path)
    assert (comparison.keys, comparison.best) == (["pretext", "data"], False)
    assert [each.name for each in comparison.groups] == ["simclr, data c1a55dbe", "byol, data beef0000"]
    assert not any(each.worse or each.to_best or each.front for each in comparison.groups)
    assert any("numbers on different data are not ranked" in line for line in comparison.warnings)
    make_run(tmp_path / "b-3", 0.7, environment={"dataset": "c1a55dbe00"}, seed=3, **pretext("byol"))
    assert len(compared(tmp_path).groups) == 3


def test_the_same_changes_are_the_same_code(tmp_path):
    for seed in range(2):
        run = make_run(tmp_path / str(seed), 0.5, seed=seed, environment={"dirty": True})
        (run / "source.diff").write_text("one")
    assert not compared(tmp_path).warnings
    (run / "source.diff").write_text("two")
    assert "commit differs" in compared(tmp_path).warnings[0]


HARMLESS = {"log_every": "9st", "keep": 5, "device": {"threads": 1, "name": "cpu"}, "choices": {"device": "cpu"}}
HARMLESS |= {"dataset": {"root": "elsewhere", "workers": 3}, "evaluator": {"knn": {"k": 5}}, "seed": 1}
SIMCLR = [pretext("simclr", temperature=each) for each in (0.5, 0.1)]
CLIP = [{"optimizer": {"clip": each}} for each in (None, 1.0)]
LR, RECIPES = {"optimizer": {"lr": 0.01}}, (("simclr", 0.5), ("none", 0), ("none", 1))
VIEWS = [{"choices": {"augment@pretext.augment": a}, "pretext": {"augment": {"flip": flip}}} for a, flip in RECIPES]
TELLING = {  # configs of the runs, what tells them apart
    "lists": (
        [{}, {"model": {"widths": [32, 128]}}, {"optimizer": {"lr": 0.01, "betas": [0.9, 0.99]}}],
        ["model.widths", "optimizer.lr", "optimizer.betas"],
    ),
    "implied by a choice": ([{}, SIMCLR[0], LR], ["pretext", "optimizer.lr"]),
    "below a choice": ([{}, *SIMCLR, LR], ["pretext", "pretext.temperature", "optimizer.lr"]),
    "inner choice": (VIEWS[:2], ["pretext.augment"]),
    "below an inner choice": (VIEWS, ["pretext.augment", "pretext.augment.flip"]),
    "harmless settings, evaluators, seed": ([{}, HARMLESS], []),
    "precision": ([{}, {"device": {"precision": "bf16"}, "choices": {"device": "cpu"}}], ["device.precision"]),
    "absent in an older version": ([{}, CLIP[0]], []),
    "null or set": ([{}, *CLIP], ["optimizer.clip"]),
    "seed that follows": ([{"seed": each, "dataset": {"seed": each}} for each in (0, 1)], []),
    "seed of its own": ([{"dataset": {"seed": each}} for each in (0, 1)], ["dataset.seed"]),
}


@pytest.mark.parametrize("case", TELLING)
def test_settings_that_can_change_a_result_and_that_no_choice_implies_tell_runs_apart(case):
    configs, keys = TELLING[case]
    assert differing([plain_run(**config) for config in configs]) == keys


def test_settings_are_shown_as_they_are_typed():
    nested = {"a": {"b": [1, 2.0, None]}, "c": [{"d": True}, {"e": {}}]}
    assert flat(nested) == {"a.b": "[1,2,null]", "c.0.d": "true", "c.1.e": "{}"}
    assert text(1) == text(1.0) != text(True)
    assert [plain_run(**each).traits.get("optimizer.clip", "-") for each in ({}, *CLIP)] == ["-", "-", "1"]
    assert choices_of(SETTINGS | {"choices": {}})["pretext"] == "Rotation", "the class if there is no choice"


def test_names_are_as_short_as_they_can_be():
    keys = ["optimizer.lr", "pretext.lr", "length"]
    assert shorten(keys) == dict(zip(keys, keys, strict=True))
    assert shorten(["optimizer.lr", "dataset.test"], ["test"]) == {"optimizer.lr": "lr", "dataset.test": "dataset.test"}


def test_a_sweep_is_ranked_as_its_own_table_was(tmp_path, capsys):
    seeds(tmp_path, "a", {0: 0.9, 1: 0.9})
    for command, metric in (
        (["seed=0,1"], "probe/top1 %"),
        (["seed=0,1", "sweep.metric=test/knn/top1"], "test/knn/top1 %"),
        (["seed=0,1", "sweep.halving=3"], "knn/top1 %"),
        (["hydra/sweeper=optuna", "optimizer.lr=interval(0,1)"], "knn/top1 %"),
        (["seed=0,1", "sweep.metric=no/such"], "probe/top1 %"),
    ):
        (tmp_path / "sweep.json").write_text(json.dumps({"command": command}))
        for run in ("a-0", "a-1"):
            change(tmp_path / run, "summary.json", final={"knn/top1": 0.7, "test/knn/top1": 0.69})
        assert main(["compare", str(tmp_path)]) == 0
        assert f"  {metric}" in capsys.readouterr().out, command
        table = io.StringIO()
        print_comparison(tmp_path, ranking_metric(command), Console(file=table, width=200))
        assert f"  {metric}" in table.getvalue(), command
        assert main(["compare", str(tmp_path), "--metric", "test/probe/top1"]) == 0
        assert "  test/probe/top1 %" in capsys.readouterr().out, command
