"""Runs compared: what is found, what is shown as different, what the numbers may be said to show."""

import csv
import fcntl
import io
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import yaml

from ssl_runner.command.compare import main
from ssl_runner.comparison.metric import evaluator_of, is_share, larger_is_better
from ssl_runner.comparison.page import content, embedded, page
from ssl_runner.comparison.record import Run, load
from ssl_runner.comparison.settings import choices_of, differing, flat, short, text
from ssl_runner.comparison.statistics import difference, interval, quantile, seeds_needed, standing
from ssl_runner.comparison.table import Comparison, Unknown, compare
from ssl_runner.comparison.thin import MOST, curves, tracks

SETTINGS = {
    "choices": {"pretext": "rotation", "dataset": "shapes", "model": "convnet", "optimizer": "adamw", "device": "auto"},
    "pretext": {"_target_": "ssl_runner.pretext.rotation.Rotation", "copies": "all"},
    "dataset": {"_target_": "ssl_runner.dataset.shapes.Shapes", "images": 1000, "seed": 0},
    "model": {"_target_": "ssl_runner.model.convnet.ConvNet", "widths": [32, 64]},
    "optimizer": {"_target_": "ssl_runner.optimizer.adamw.AdamW", "lr": 0.001},
    "device": {"name": "auto", "precision": "float32", "threads": None},
    "evaluator": {"knn": {"k": 20, "every": "50%"}, "probe": {"l2": [0.1, 0.01], "every": "50%"}},
    "length": "20ep",
    "batch_size": 64,
    "log_every": "50st",
    "seed": 0,
}
SUMMARY = {
    "status": "completed",
    "step": 1400,
    "steps": 1400,
    "seconds": 100.0,
    "images_per_second": 4321.0,
    "baseline": {"knn/top1": 0.3, "probe/top1": 0.4, "probe/l2": 0.001},
    "final": {"knn/top1": 0.7, "probe/top1": 0.8, "probe/l2": 0.0001},
    "best": {"knn/top1": 0.72, "probe/top1": 0.81},
    "test": {"knn_top1": 0.69, "probe_top1": 0.79},
    "error": None,
}
ENVIRONMENT = {
    "versions": {"python": "3.11.7", "torch": "2.14.0"},
    "commit": "a" * 40,
    "dirty": False,
    "host": "one",
    "device": "cpu, float32, 2 threads",
    "dataset": "feed",
}

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def merged(a: dict, b: dict) -> dict:
    both = {key: merged(a[key], b[key]) for key in a.keys() & b.keys() if isinstance(a[key], dict) and b[key]}
    return a | b | {key: value for key, value in both.items() if isinstance(b[key], dict)}


def make(
    folder: Path, top1: float | None = None, *, summary: dict | None = None, environment: dict | None = None, **config
) -> Path:
    """A run folder with a probe's accuracy; keys of the config as keywords, a mapping adds to the one that is there."""
    folder.mkdir(parents=True)
    numbers = SUMMARY | ({} if top1 is None else {"final": {"probe/top1": top1}}) | (summary or {})
    (folder / "summary.json").write_text(json.dumps(numbers))
    (folder / "config.yaml").write_text(yaml.dump(merged(SETTINGS, config), Dumper=DUMPER))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT | (environment or {})))
    return folder


def pretext(name: str, **more) -> dict:
    return {"choices": {"pretext": name}, "pretext": {"_target_": f"ssl_runner.pretext.{name}.X", **more}}


def compared(folder: Path, *words) -> Comparison:
    runs, problems, broken = load([folder])
    assert not problems
    assert not broken
    return compare(runs, *words)


def seeds(folder: Path, name: str, values: dict[int, float], **more) -> None:
    for seed, value in values.items():
        make(folder / f"{name}-{seed}", value, seed=seed, **more)


# Statistics


def test_intervals_are_those_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.7, 0.1, 5), rng.normal(0.6, 0.2, 7)
    shown = interval(list(a))
    low, high = scipy.stats.t.interval(0.95, 4, a.mean(), scipy.stats.sem(a))
    assert (shown.mean - shown.half, shown.mean + shown.half) == pytest.approx((low, high))
    paired = difference(dict(enumerate(a)), dict(enumerate(b)))
    peer = scipy.stats.ttest_rel(a, b[:5])
    assert (paired.paired, paired.n) == (True, 5)
    bounds = peer.confidence_interval(0.95)
    assert (paired.mean - paired.half, paired.mean + paired.half, paired.p) == pytest.approx((*bounds, peer.pvalue))
    welch = difference(dict(enumerate(a)), dict(enumerate(b, 100)))
    peer = scipy.stats.ttest_ind(a, b, equal_var=False)
    assert not welch.paired
    bounds = peer.confidence_interval(0.95)
    assert (welch.mean - welch.half, welch.mean + welch.half, welch.p) == pytest.approx((*bounds, peer.pvalue))


def test_a_hand_solved_case():
    """Values 1, 2, 3: deviation 1, error 1 / sqrt 3, and t of two degrees of freedom is 4.3027."""
    assert interval([1, 2, 3]).half == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert interval([5.0]).half == float("inf")
    assert quantile(1) == pytest.approx(12.7062, rel=1e-5)


def test_pairs_reveal_what_unpaired_seeds_hide():
    """Seeds move the accuracy by ten points, the setting by one: only pairs of equal seeds show it."""
    rng = np.random.default_rng(1)
    base = rng.normal(0.7, 0.1, 6)
    better, other = base + 0.01 + rng.normal(0, 0.002, 6), base
    assert difference(dict(enumerate(better)), dict(enumerate(other))).excludes_zero
    assert not difference(dict(enumerate(better)), dict(enumerate(other, 50))).excludes_zero


def test_too_few_equal_seeds_are_not_taken_for_all():
    a, b = dict(enumerate(np.linspace(0.6, 0.7, 10))), dict(enumerate(np.linspace(0.6, 0.7, 10), 8))
    assert not difference(a, b).paired  # two of ten seeds are common


def test_a_difference_without_spread_has_no_interval():
    for other in ({0: 0.4, 1: 0.4}, {0: 0.5, 1: 0.5}, {5: 0.4, 6: 0.4}):
        assert not difference({0: 0.5, 1: 0.5}, other).excludes_zero
    assert not difference({0: 0.9, 1: 0.8, 2: 0.85}, {7: 0.1}).excludes_zero  # one seed


@pytest.mark.parametrize("groups", [2, 5])
def test_equal_groups_are_rarely_told_apart(groups):
    """Of equal groups a best is marked, and any called worse, in at most 5 %, although the first is picked by looking.

    Calling worse whatever excludes zero would err in far more.
    """
    rng = np.random.default_rng(groups)
    marked = worse = naive = 0
    for _ in range(800):
        values = rng.normal(size=(groups, 4))
        values = values[np.argsort(-values.mean(1))]
        found = [difference(dict(enumerate(values[0])), dict(enumerate(each))) for each in values[1:]]
        shown = standing(found, larger=True)
        marked, worse = marked + shown.best, worse + any(shown.worse)
        naive += any(each.excludes_zero for each in found)
    assert marked / 800 < 0.07
    assert worse / 800 < 0.07
    assert groups == 2 or naive / 800 > 0.1


@pytest.mark.parametrize("larger", [True, False])
@pytest.mark.parametrize(("count", "apart"), [(2, 0.0), (2, 0.05), (3, 0.0), (3, 0.05)])
def test_unequal_seeds_rarely_mark_the_wrong_group(count, apart, larger):
    """Seeds move numbers by far more than groups do, and groups have different ones: their means have any order.

    The group that is marked is the best in truth, but for 5 %; so are those that are called worse or better.
    """
    rng = np.random.default_rng(7)
    wrong = misled = marked = 0
    for _ in range(800):
        effect = rng.permutation(count) * apart
        values = effect[:, None] + rng.normal(size=6) * 0.3 + rng.normal(size=(count, 6)) * 0.01
        groups = [{seed: v[seed] for seed in rng.permutation(6)[: rng.integers(3, 7)]} for v in values]
        order = sorted(range(count), key=lambda g: (-1 if larger else 1) * np.mean([*groups[g].values()]))
        gain = (effect if larger else -effect)[order]
        shown = standing([difference(groups[order[0]], groups[g]) for g in order[1:]], larger)
        marked += shown.best
        wrong += shown.best and not gain[0] > gain[1:].max()
        misled += any(worse and gain[0] <= each for worse, each in zip(shown.worse, gain[1:], strict=True))
        misled += any(better and gain[0] >= each for better, each in zip(shown.better, gain[1:], strict=True))
    assert wrong / 800 < 0.06
    assert misled / 800 < 0.07
    assert apart == 0 or marked / 800 > 0.2  # and it does not keep silent


def test_seeds_needed_are_enough_and_not_too_many():
    shown = difference({0: 0.1, 1: 0.3, 2: 0.2}, {0: 0.0, 1: 0.0, 2: 0.15})
    assert not shown.excludes_zero
    n, spread = seeds_needed(shown, larger=True), np.std([0.1, 0.3, 0.05], ddof=1)
    assert n is not None
    assert quantile(n - 1) * spread / n**0.5 < shown.mean < quantile(n - 2) * spread / (n - 1) ** 0.5
    assert seeds_needed(shown, larger=False) is None  # none would turn it round
    assert seeds_needed(difference({0: 0.5, 1: 0.6}, {0: 0.6, 1: 0.5}), larger=True) is None  # no difference at all


# Which settings differ


def plain(**config) -> Run:
    whole = merged(SETTINGS, config)
    return Run(
        folder=Path(), name="", status="completed", choices=choices_of(whole), settings=flat(whole), seed=whole["seed"]
    )


def test_nested_settings_and_lists_that_differ_are_found():
    runs = [plain(), plain(model={"widths": [32, 128]}), plain(optimizer={"lr": 0.01, "betas": [0.9, 0.99]})]
    assert differing(runs) == ["model.widths", "optimizer.lr", "optimizer.betas"]
    assert flat({"a": {"b": [1, 2.0, None]}, "c": [{"d": True}, {"e": {}}]}) == {
        "a.b": "[1,2,null]",
        "c.0.d": "true",
        "c.1.e": "{}",
    }
    assert text(1) == text(1.0) != text(True)


def test_what_a_choice_implies_is_not_shown():
    runs = [plain(), plain(**pretext("simclr", temperature=0.5)), plain(optimizer={"lr": 0.01})]
    assert differing(runs) == ["pretext", "optimizer.lr"]
    runs.append(plain(**pretext("simclr", temperature=0.1)))
    assert differing(runs) == ["pretext", "pretext.temperature", "optimizer.lr"]


def test_an_inner_choice_is_a_setting_below_the_outer_one():
    def run(recipe: str, flip: float) -> Run:
        return plain(choices={"augment@pretext.augment": recipe}, pretext={"augment": {"flip": flip}})

    assert differing([run("simclr", 0.5), run("none", 0)]) == ["pretext.augment"]
    assert differing([run("simclr", 0.5), run("none", 0), run("none", 1)]) == [
        "pretext.augment",
        "pretext.augment.flip",
    ]


def test_what_cannot_change_a_result_is_left_out():
    runs = [
        plain(),
        plain(seed=1, log_every="9st", keep=5, device={"threads": 1, "name": "cpu"}, choices={"device": "cpu"}),
    ]
    runs.append(plain(evaluator={"knn": {"every": "1ep"}}))
    assert differing(runs) == []
    assert differing([plain(), plain(device={"precision": "bf16"}, choices={"device": "cpu"})]) == ["device.precision"]


def test_a_seed_below_a_group_that_follows_the_run_is_a_seed():
    assert differing([plain(seed=s, dataset={"seed": s}) for s in (0, 1)]) == []
    assert differing([plain(seed=0, dataset={"seed": s}) for s in (0, 1)]) == ["dataset.seed"]


def test_only_the_evaluator_of_the_metric_counts():
    runs = [plain(), plain(evaluator={"knn": {"k": 5}})]
    assert differing(runs, "probe") == []
    assert differing(runs, "knn") == ["evaluator.knn.k"]
    named = {"probe/top1": "probe", "test/knn_top1": "knn", "gain/probe/top1": "probe", "baseline/knn/top1": "knn"}
    for metric, evaluator in named.items():
        assert evaluator_of(metric, runs) == evaluator
    assert evaluator_of("test/probe/top1", runs) is None


def test_without_choices_the_class_is_named():
    assert choices_of(SETTINGS | {"choices": {}})["pretext"] == "Rotation"


def test_names_are_as_short_as_they_can_be():
    assert short(["optimizer.lr", "pretext.lr", "length"]) == {
        "optimizer.lr": "optimizer.lr",
        "pretext.lr": "pretext.lr",
        "length": "length",
    }
    assert short(["optimizer.lr", "dataset.test"], ["test"]) == {"optimizer.lr": "lr", "dataset.test": "dataset.test"}


# Groups


def test_runs_are_grouped_over_seeds_and_the_best_marked(tmp_path):
    seeds(tmp_path, "a", {0: 0.80, 1: 0.82, 2: 0.81})
    seeds(tmp_path, "b", {0: 0.60, 1: 0.61, 2: 0.615}, **pretext("flip"))
    made = compared(tmp_path)
    assert made.keys == ["pretext"]
    assert [(each.settings["pretext"], len(each.runs)) for each in made.groups] == [("rotation", 3), ("flip", 3)]
    first, second = made.groups
    assert first.interval.mean == pytest.approx(0.81)
    assert first.baseline == pytest.approx(0.4)
    assert first.images_seen == 1400 * 64
    assert second.to_best.paired
    assert made.best
    assert second.worse
    assert not made.warnings


def test_no_best_within_noise(tmp_path):
    seeds(tmp_path, "a", {0: 0.80, 1: 0.60, 2: 0.75})
    seeds(tmp_path, "b", {0: 0.70, 1: 0.65, 2: 0.73}, **pretext("flip"))
    made = compared(tmp_path)
    assert not made.best
    assert not made.groups[1].worse
    assert "no difference is shown" in made.verdict


def test_two_groups_apart_and_a_third_within_noise_mark_no_best(tmp_path):
    seeds(tmp_path, "a", {0: 0.80, 1: 0.81, 2: 0.82})
    seeds(tmp_path, "b", {0: 0.81, 1: 0.79, 2: 0.81}, **pretext("flip"))
    seeds(tmp_path, "c", {0: 0.10, 1: 0.11, 2: 0.121}, **pretext("crop"))
    made = compared(tmp_path)
    assert not made.best
    assert [each.worse for each in made.groups] == [False, False, True]


@pytest.mark.parametrize("smaller", [False, True])
def test_better_on_common_seeds_is_not_marked_against(tmp_path, smaller):
    """Seeds 3 and 4 are kind to all, and one group alone ran them: its mean is first, on common seeds it is behind."""
    sign = -1 if smaller else 1
    simclr = {0: 0.60, 1: 0.61, 2: 0.62, 3: 0.80, 4: 0.82}
    byol = {0: 0.65, 1: 0.663, 2: 0.668}
    seeds(tmp_path, "a", {seed: sign * value for seed, value in simclr.items()}, **pretext("simclr"))
    seeds(tmp_path, "b", {seed: sign * value for seed, value in byol.items()}, **pretext("byol"))
    made = compared(tmp_path, "probe/top1", smaller)
    assert [each.settings["pretext"] for each in made.groups] == ["simclr", "byol"]
    assert not made.best
    assert (made.groups[1].worse, made.groups[1].better) == (False, True)
    assert "on the seeds that both have, byol is better than the first" in made.verdict


def test_ahead_on_common_seeds_within_noise_is_said(tmp_path):
    seeds(tmp_path, "a", {0: 0.60, 1: 0.61, 2: 0.62, 3: 0.80, 4: 0.82}, optimizer={"lr": 0.1})
    seeds(tmp_path, "b", {0: 0.60, 1: 0.68, 2: 0.65}, optimizer={"lr": 0.2})
    made = compared(tmp_path)
    assert not made.groups[1].better
    assert "On the seeds that both have, lr 0.2 has the better mean: run the same seeds" in made.verdict


def test_numbers_without_spread_are_not_single_seeds(tmp_path):
    seeds(tmp_path, "a", {0: 0.0, 1: 0.0, 2: 0.0})
    seeds(tmp_path, "b", {0: 0.0, 1: 0.0, 2: 0.0}, **pretext("flip"))
    assert compared(tmp_path).verdict.endswith(
        "Where a difference does not vary over seeds, there is no spread to judge it by."
    )
    seeds(tmp_path, "c", {7: 0.1}, **pretext("crop"))
    assert "single seed" in compared(tmp_path).verdict


def test_one_seed_shows_nothing(tmp_path):
    make(tmp_path / "a", 0.9)
    make(tmp_path / "b", 0.1, **pretext("flip"))
    made = compared(tmp_path)
    assert not made.best
    assert "One seed each" in made.verdict


def test_a_repeated_seed_counts_once(tmp_path):
    make(tmp_path / "a", 0.8)
    make(tmp_path / "b", 0.6)
    made = compared(tmp_path)
    assert made.groups[0].values == {0: pytest.approx(0.7)}
    assert "repeats settings and seed" in made.warnings[0]


def test_smaller_is_better_for_a_loss_and_on_demand(tmp_path):
    make(tmp_path / "a", summary={"final": {"held/loss": 2.0}})
    make(tmp_path / "b", summary={"final": {"held/loss": 1.0}}, **pretext("flip"))
    assert compared(tmp_path, "held/loss").groups[0].interval.mean == 1.0
    assert compared(tmp_path, "best/probe/top1", True).larger is False


@pytest.mark.parametrize(
    ("larger", "names"),
    [
        (True, "probe/top1 test/knn_top5 gain/probe/top1 test/probe/top1@digits#1a2b3c leakage/knn_top1_clean"),
        (True, "cluster/nmi test/cluster_ari few_label/mean test/few_label_probe_5 robustness/knn_blur factors/mean"),
        (False, "held/loss test/held_error leakage/leaked_share"),
        (None, "geometry/alignment gain/geometry/rankme probe/l2 finetune/epoch few_label/probe_5_interval"),
        (None, "projector/trustworthiness mine/safari leakage/leaked speed/seconds"),
    ],
)
def test_what_is_better_is_known_of_some_metrics(larger, names):
    for name in names.split():
        assert larger_is_better(name) is larger, name


def test_shares_are_told_in_per_cent_wherever_they_were_measured():
    assert all(map(is_share, ("test/few_label_mean", "few_label/mean@digits", "leakage/knn_top1_clean", "best/x/top1")))
    assert not any(map(is_share, ("geometry/std", "cluster/ari", "probe/l2", None)))


def geometric(folder: Path) -> None:
    for name, value in (("simclr", 0.1), ("byol", 0.9)):
        for seed in range(3):
            final = {"geometry/alignment": value + 0.01 * value * seed**2, "geometry/rankme": 9.0 + seed}
            summary = {"final": final, "baseline": {}, "best": {}, "test": {}}
            make(folder / f"{name}-{seed}", summary=summary, seed=seed, **pretext(name))


def test_numbers_of_unknown_direction_are_shown_and_not_judged(tmp_path, capsys):
    geometric(tmp_path)
    made = compared(tmp_path)
    assert made.metric is None
    assert "No accuracy was measured; --metric takes geometry/alignment, geometry/rankme" in made.verdict
    made = compared(tmp_path, "geometry/alignment")
    assert made.larger is None
    assert not made.best
    assert all(each.to_best is None and not each.front and not each.worse for each in made.groups)
    assert made.verdict.count("--larger or --smaller") == 1
    assert main([str(tmp_path), "--metric", "geometry/alignment"]) == 0
    out = capsys.readouterr().out
    assert "best" not in out.replace("better", "").splitlines()[3]
    assert "--larger or --smaller" in " ".join(out.split())
    assert content(made)["larger"] is None
    for smaller, first in ((True, "simclr"), (False, "byol")):
        made = compared(tmp_path, "geometry/alignment", smaller, not smaller)
        assert (made.best, made.larger, made.groups[0].settings["pretext"]) == (True, not smaller, first)


def test_the_page_knows_the_direction_of_each_metric(tmp_path):
    final = {"probe/top1": 0.5, "held/loss": 1.0, "geometry/rankme": 3.0}
    make(tmp_path / "a", summary={"final": final})
    make(tmp_path / "b", summary={"final": final}, **pretext("flip"))
    known = {each["name"]: each["larger"] for each in content(compared(tmp_path))["metrics"]}
    assert (known["probe/top1"], known["held/loss"], known["geometry/rankme"]) == (True, False, None)
    make(tmp_path / "c", choices={"dataset": "digits"}, environment={"dataset": "beef"})
    assert not any(each["larger"] for each in content(compared(tmp_path))["metrics"])


def test_the_front_holds_what_nothing_surpasses_in_less_time(tmp_path):
    for name, top1, seconds in (("a", 0.5, 10), ("b", 0.6, 20), ("c", 0.55, 30), ("d", 0.7, 40)):
        make(tmp_path / name, top1, summary={"seconds": seconds, "final": {"probe/top1": top1}}, **pretext(name))
    assert {each.settings["pretext"] for each in compared(tmp_path).groups if each.front} == {"a", "b", "d"}


def test_the_metric_falls_back_and_may_be_missing(tmp_path):
    make(tmp_path / "a", summary={"final": {"knn/top1": 0.5}})
    assert compared(tmp_path).metric == "knn/top1"
    make(tmp_path / "b", summary={"final": {}}, **pretext("flip"))
    made = compared(tmp_path)
    assert [each.interval is None for each in made.groups] == [False, True]
    assert "knn/top1 was not measured in 1 of 2 completed runs" in made.warnings
    with pytest.raises(Unknown, match="knn/top1"):
        compared(tmp_path, "kn/top1")


def test_runs_that_were_not_evaluated(tmp_path, capsys):
    make(tmp_path / "a", summary={"baseline": {}, "final": {}, "best": {}, "test": {}})
    assert compared(tmp_path).metric is None
    assert main([str(tmp_path), "--html", str(tmp_path / "page.html")]) == 0
    assert "seconds" in capsys.readouterr().out


# Fairness


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"commit": "b" * 40}, "commit differs, also between seeds of one group: aaaaaaaa (1 run), bbbbbbbb (1 run)"),
        ({"dirty": True}, "aaaaaaaa with changes unknown"),
        ({"dataset": "beef"}, "dataset fingerprint differs"),
        ({"versions": {"python": "3.11.7", "torch": "2.15.0"}}, "torch differs"),
        ({"device": "NVIDIA H100, float32"}, "seconds and images/s are not comparable"),
        ({"versions": None}, "is not known"),
    ],
)
def test_what_may_be_unfair_is_said(tmp_path, environment, words):
    make(tmp_path / "a", 0.5)
    make(tmp_path / "b", 0.6, seed=1, environment=environment)
    assert any(words in line for line in compared(tmp_path).warnings)


def test_a_changed_folder_of_images_is_other_data(tmp_path):
    """The config says the same of them, the fingerprint does not: neither judged nor averaged."""
    seeds(tmp_path, "a", {0: 0.80, 1: 0.81, 2: 0.82}, environment={"dataset": "c1a55dbe00"}, **pretext("simclr"))
    seeds(tmp_path, "b", {0: 0.60, 1: 0.61, 2: 0.62}, environment={"dataset": "beef000000"}, **pretext("byol"))
    made = compared(tmp_path)
    assert made.keys == ["pretext", "data"]
    assert [each.name for each in made.groups] == ["simclr, data c1a55dbe", "byol, data beef0000"]
    assert not made.best
    assert not any(each.worse or each.to_best or each.front for each in made.groups)
    assert any("numbers on different data are not ranked" in line for line in made.warnings)
    make(tmp_path / "b-3", 0.7, environment={"dataset": "c1a55dbe00"}, seed=3, **pretext("byol"))
    assert len(compared(tmp_path).groups) == 3


def test_data_drawn_by_the_seed_are_no_other_data(tmp_path):
    """Each seed has data of its own, in every group: pairs of seeds share them."""
    for name, top1 in (("flip", 0.5), ("crop", 0.6)):
        for seed in range(3):
            more = {"dataset": {"seed": seed}, "environment": {"dataset": f"feed{seed}"}}
            make(
                tmp_path / f"{name}-{seed}",
                top1 + 0.01 * seed**2 * (name == "flip"),
                seed=seed,
                **pretext(name),
                **more,
            )
    made = compared(tmp_path)
    assert made.keys == ["pretext"]
    assert [len(each.runs) for each in made.groups] == [3, 3]
    assert made.groups[1].to_best is not None


def test_where_equal_data_lie_is_no_setting():
    def run(seed: int, root: str, fingerprint: str) -> Run:
        whole = merged(SETTINGS, {"seed": seed, "dataset": {"root": root, "seed": seed}})
        more = {"settings": flat(whole), "seed": seed, "environment": {"dataset": fingerprint}}
        return Run(folder=Path(), name="", status="completed", choices=choices_of(whole), **more)

    assert differing([run(0, "a", "feed"), run(0, "b", "feed"), run(1, "b", "beef")]) == []
    assert differing([run(0, "a", "feed"), run(0, "b", "beef")]) == ["dataset.root"]


def test_the_same_changes_are_the_same_code(tmp_path):
    for seed, diff in enumerate(("one", "one")):
        run = make(tmp_path / str(seed), 0.5, seed=seed, environment={"dirty": True})
        (run / "source.diff").write_text(diff)
    assert not compared(tmp_path).warnings
    (run / "source.diff").write_text("two")
    assert "commit differs" in compared(tmp_path).warnings[0]


def test_precision_and_another_dataset_are_settings_and_no_surprise(tmp_path):
    make(tmp_path / "a", 0.5)
    make(tmp_path / "b", 0.6, device={"precision": "bf16"}, environment={"device": "cpu, bf16, 2 threads"})
    assert not compared(tmp_path).warnings
    make(tmp_path / "c", 0.7, choices={"dataset": "digits"}, environment={"dataset": "beef"})
    made = compared(tmp_path)
    assert made.keys == ["dataset", "device.precision"]
    assert made.warnings == ["the datasets differ, and numbers on different data are not ranked by their differences"]
    assert made.groups[1].to_best is None


def test_ways_of_measuring_in_training_are_told_apart(tmp_path):
    make(tmp_path / "a", 0.5)
    make(tmp_path / "b", 0.6, seed=1, evaluator={"probe": {"l2": [0.5]}})
    made = compared(tmp_path)
    assert len(made.groups) == 2
    assert "not measured in the same way" in made.warnings[0]


def test_collapsed_features_are_said(tmp_path):
    make(tmp_path / "a", 0.5, summary={"health": {"verdict": "collapsed", "step": 40}}, on_collapse="warn")
    make(tmp_path / "b", 0.6, seed=1, summary={"health": {"verdict": "healthy"}})
    made = compared(tmp_path)
    assert len(made.groups) == 1
    assert made.warnings == ["features were not healthy at the end of 1 runs: a (collapsed)"]


# What `ssl-runner evaluate` wrote


def evaluated(run: Path, value: float, **more) -> None:
    row = {"protocol": "probe", "version": 1, "settings": {}, "settings_hash": "aa", "dataset": "shapes"}
    row |= {"fingerprint": "feed", "split": "test", "seed": 0, "encoder": "encoder.safetensors", "step": 1400}
    row |= {"value": value, "values": {"top1": value, "note": None}, "seconds": 1.0, "time": "2026-01-31T12:00:00"}
    file = run / "evaluation" / "probe.json"
    before = json.loads(file.read_text())["results"] if file.exists() else []
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"protocol": "probe", "results": [*before, row | more]}))


def test_evaluations_are_metrics(tmp_path):
    run = make(tmp_path / "a")
    evaluated(run, 0.3, encoder="random", step=0)
    evaluated(run, 0.5, step=700)  # of a checkpoint in between
    evaluated(run, 0.8)
    evaluated(run, 0.9, dataset="digits", fingerprint="beef")
    evaluated(run, 0.7, split="validation")
    made = compared(tmp_path, "test/probe/top1")
    group = made.groups[0]
    assert (group.interval.mean, group.baseline) == (0.8, 0.3)
    assert made.warnings == ["1 results of checkpoints before the last step are left out"]
    assert compared(tmp_path, "test/probe/top1@digits").groups[0].interval.mean == 0.9
    assert compared(tmp_path, "validation/probe/top1").groups[0].test.mean == 0.8


def test_ways_of_evaluating_are_never_mixed(tmp_path):
    for seed, (settings, version) in enumerate((("aa", 1), ("aa", 1), ("bb", 1), ("aa", 2))):
        evaluated(make(tmp_path / str(seed), seed=seed), 0.1 * seed, settings_hash=settings, version=version)
    made = compared(tmp_path, "test/probe/top1")
    assert made.groups[0].values == {0: 0.0, 1: pytest.approx(0.1)}
    assert "measured in 3 ways" in made.warnings[0]
    other = next(name for name in re.findall(r"test/probe/top1#\w+", made.warnings[0])[1:])
    assert len(compared(tmp_path, other).groups[0].values) == 1


def test_where_it_was_evaluated_is_compared(tmp_path):
    for seed, device in enumerate(("cpu, 2 threads", "NVIDIA H100")):
        run = make(tmp_path / str(seed), seed=seed)
        versions = {"torch": f"2.{13 + seed}.0", "python": "3.11"}
        evaluated(run, 0.5, device=device, versions=versions, commit="a" * 40, files="probe", dataset_settings={})
    warnings = compared(tmp_path, "test/probe/top1").warnings
    assert [line.split(": ")[1] for line in warnings] == [
        "torch of the evaluation differs",
        "device of the evaluation differs",
    ]
    assert not compared(tmp_path, "probe/top1").warnings


# Finding and reading


def test_a_tree_of_runs_in_the_order_of_their_paths_and_none_twice(tmp_path):
    make(tmp_path / "outputs/rotation-shapes/b")
    make(tmp_path / "outputs/rotation-shapes/a")
    nested = make(tmp_path / "outputs/sweeps/lr/000-lr-0.1")
    (tmp_path / "outputs/unstarted").mkdir()
    (tmp_path / "outputs/again").symlink_to(nested)
    (nested / "circle").symlink_to(tmp_path / "outputs")
    runs, problems, broken = load([tmp_path / "outputs", nested])
    assert [run.name for run in runs] == ["again", "rotation-shapes/a", "rotation-shapes/b"]
    assert not problems + broken


def test_a_foreign_config_is_no_run(tmp_path):
    make(tmp_path / "run")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/config.yaml").write_text("a: 1")
    assert len(load([tmp_path])[0]) == 1


@pytest.mark.parametrize(
    ("file", "torn"),
    [
        *itertools.product(["summary.json"], ['{"status": "comp', "[]", "{}", "", "[" * 100_000]),
        *itertools.product(["config.yaml"], ["a: [", "[]", "", "a: 1", "\x00", None]),
    ],
)
def test_a_torn_run_is_named_and_the_rest_shown(tmp_path, capsys, file, torn):
    make(tmp_path / "good")
    bad = make(tmp_path / "bad")
    (bad / file).unlink() if torn is None else (bad / file).write_text(torn)
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "1 completed run:" in printed.out
    assert printed.err.count("\n") == 1
    assert f"{bad} is left out: " in printed.err


@pytest.mark.parametrize("torn", ["environment.json", "evaluation/probe.json"])
def test_a_torn_lesser_file_is_named_and_the_run_shown(tmp_path, capsys, torn):
    run = make(tmp_path / "run")
    evaluated(run, 0.5)
    (run / torn).write_text('{"results": [{"a": 1}, ')
    assert main([str(run)]) == 1
    printed = capsys.readouterr()
    assert torn in printed.err
    assert "80.0" in printed.out


def test_unfinished_runs_are_apart_with_what_to_type(tmp_path, capsys):
    make(tmp_path / "good")
    failed = {"status": "failed", "step": 350, "final": {}, "error": "the loss is not finite"}
    make(tmp_path / "a b", summary=failed)
    killed, running = (make(tmp_path / name, summary={"status": "running"}) for name in ("killed", "running"))
    begun = make(tmp_path / "begun")
    (begun / "summary.json").unlink()
    (begun / "overrides.yaml").write_text("[]")
    for run in (killed, running):
        (run / ".lock").touch()
    with (running / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = compared(tmp_path)
        assert main([str(tmp_path)]) == 0
    assert {run.name: run.status for run in made.unfinished} == {
        "a b": "failed",
        "begun": "killed",
        "killed": "killed",
        "running": "running",
    }
    assert [run.name for group in made.groups for run in group.runs] == ["good"]
    out = " ".join(capsys.readouterr().out.split())
    assert "350 of 1,400 the loss is not finite" in out
    assert f"ssl-runner resume '{tmp_path}/a b'" in out
    assert f"resume {killed}" in out
    assert f"resume {running}" not in out


def test_what_would_stop_again_is_told_how_not_to(tmp_path, capsys):
    ended = {"status": "stopped", "error": "features collapsed", "health": {"verdict": "collapsed"}}
    stops = make(tmp_path / "stops", summary=ended, on_collapse="stop")
    make(tmp_path / "warns", summary=ended, on_collapse="warn")  # mended already
    make(tmp_path / "halved", summary={**ended, "health": None, "error": "not among the best"}, on_collapse="stop")
    assert main([str(tmp_path)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "resume" in line]
    assert lines == [
        f"ssl-runner resume {tmp_path}/halved",
        f"put on_collapse: warn into {stops}/config.yaml, then ssl-runner resume {stops}",
        f"ssl-runner resume {tmp_path}/warns",
    ]


@pytest.mark.parametrize(("name", "words"), [("absent", "is no folder"), (".", "holds no run")])
def test_no_runs_is_an_error_in_one_line(tmp_path, capsys, name, words):
    assert main([str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


# Output


def several(folder: Path) -> Path:
    seeds(folder / "runs", "a", {0: 0.80, 1: 0.82, 2: 0.81})
    seeds(folder / "runs", "b|c", {0: 0.60, 1: 0.61, 2: 0.615}, **pretext("flip"))
    make(folder / "runs/stopped", summary={"status": "stopped", "error": "collapsed | at step 4"})
    return folder / "runs"


def test_the_table_fits_and_says_what_matters(tmp_path, capsys):
    assert main([str(several(tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "resume" not in line) <= 120
    assert lines[3].split()[:3] == ["pretext", "probe/top1", "%"]
    assert lines[4].split()[:5] == ["rotation", "81.0", "±", "2.5", "best"]
    assert lines[5].split()[:7] == ["flip", "60.8", "±", "1.9", "-20.2", "±", "1.9"]


def test_many_differing_settings_share_a_column(tmp_path, capsys):
    for n in range(40):
        make(tmp_path / str(n), 0.5, optimizer={f"setting_{k}": n * k for k in range(1, 8)})
    assert main([str(tmp_path), "--rows", "5"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    assert "setting_7=70" in out
    assert "... 35 more groups" in out


def test_markdown_escapes_and_marks_the_best(tmp_path, capsys):
    folder = several(tmp_path)
    assert main(["--markdown", str(folder)]) == 0  # a folder is no FILE to write
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| pretext | probe/top1 % |")
    assert lines[4].startswith("| rotation | **81.0 ± 2.5** | **best f** |")
    assert any("collapsed \\| at step 4" in line for line in lines)


def test_csv_has_a_row_for_each_run(tmp_path, capsys):
    assert main([str(several(tmp_path)), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run"] for row in rows] == ["a-0", "a-1", "a-2", "b|c-0", "b|c-1", "b|c-2", "stopped"]
    assert {row["pretext"] for row in rows} == {"rotation", "flip"}
    assert float(rows[1]["probe/top1"]) == 0.82
    assert float(rows[1]["gain/probe/top1"]) == pytest.approx(0.42)
    assert float(rows[1]["test/probe_top1"]) == 0.79
    assert rows[6]["status"] == "stopped"


def test_json_holds_everything(tmp_path, capsys):
    assert main([str(several(tmp_path)), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["best_is_shown"]
    assert made["groups"][1]["values"] == {"0": 0.6, "1": 0.61, "2": 0.615}
    assert made["groups"][1]["to_first"]["kind"] == "paired"
    assert len(made["runs"]) == 7


def test_files_are_written_and_one_format_goes_to_standard_output(tmp_path, capsys):
    folder, file = several(tmp_path), tmp_path / "table.csv"
    assert main([str(folder), "--csv", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert file.read_text().startswith("run,status")
    assert main([str(folder), "--csv", "--json"]) == 2
    assert main([str(folder), "--html", str(folder)]) == 2
    assert main([str(folder), "--csv", str(tmp_path / "no/such.csv")]) == 2
    assert main([str(folder), "--metric", "probe/top"]) == 2
    assert "possible are probe/top1" in capsys.readouterr().err


# The page


def logged(run: Path, rows: int) -> None:
    lines = [{"step": 10 * k, "epoch": 0.1, "time": 0.5 * k, "train/loss": 2.0 / (1 + k)} for k in range(rows)]
    lines += [{"step": 10 * k, "time": 0.5 * k, "probe/top1": 0.01 * k} for k in range(0, rows, max(1, rows // 4))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "tr')


def data_of(html: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_data_and_fetches_nothing(tmp_path):
    folder = several(tmp_path)
    logged(folder / "a-0", 50)
    html = page(compared(folder))
    data = data_of(html)
    assert [run["name"] for run in data["runs"]][:2] == ["a-0", "a-1"]
    assert [group["runs"] for group in data["groups"]] == [[0, 1, 2], [3, 4, 5]]
    assert data["curves"] == ["probe/top1", "train/loss"]
    quality, losses = sorted(data["tracks"][0], key=lambda track: [*track["values"]])
    assert quality["values"] == {"0": [0, 0.12, 0.24, 0.36, 0.48]}
    assert losses["step"] == [10 * k for k in range(50)]
    assert losses["values"]["1"][1] == 1.0
    assert data["t"][:2] == pytest.approx([12.7062, 4.3027], abs=1e-4)
    assert "{{" not in html.replace(json.dumps(data), "")
    assert not re.search(
        r"https?://|\bsrc\s*=|@import|url\((?!#)|\bfetch\(|XMLHttpRequest|<link rel=\"stylesheet", html
    )
    assert "default-src 'none'" in html


def test_a_name_cannot_end_the_script(tmp_path):
    evil = "</script><script>alert(1)</script><!--"
    make(tmp_path / "a")
    make(tmp_path / "b", summary={"status": "failed", "error": evil}, **pretext(evil))
    html = page(compared(tmp_path))
    assert evil not in html
    assert html.count("</script>") == 2
    assert data_of(html)["runs"][1]["error"] == evil
    assert "<" not in embedded([evil])


def test_curves_are_thinned_and_keep_their_ends():
    rows = [{"step": k, "time": float(k), "a": float(k % 2), "b": 1.0} for k in range(10_001)]
    (track,) = tracks(rows, ["a", "b"], 100)
    assert len(track["step"]) == len(track["values"][0]) == 100
    assert (track["step"][0], track["step"][-1]) == (0, 10_000)
    assert (track["values"][0][0], track["values"][0][-1]) == (0, 0)
    assert track["values"][0][50] == pytest.approx(0.5, abs=0.02)  # a mean, and no lucky point
    assert track["values"][1] == [1] * 100


def test_a_step_that_was_logged_again_counts_as_it_was_last(tmp_path):
    """The run went back to step 10; what was measured at a step is another row than what the training logged there."""
    run = make(tmp_path / "a")
    rows = [
        {"step": 10, "time": 1.0, "train/loss": 3.0},
        {"step": 20, "time": 2.0, "train/loss": 9.0, "train/entropy": 4.0},
        {"step": 20, "time": 2.1, "probe/top1": 0.1},
        {"step": 30, "time": 3.0, "train/loss": 8.0},
        {"step": 20, "time": 2.2, "train/loss": 2.0},
        {"step": 20, "time": 2.3, "probe/top1": 0.2},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = curves(load([run])[0][0])
    assert [(row["step"], row["train/loss"]) for row in read if "train/loss" in row] == [
        (10, 3.0),
        (20, 2.0),
        (30, 8.0),
    ]
    assert [row["probe/top1"] for row in read if "probe/top1" in row] == [0.2]
    assert sum(row.get("train/entropy", 0) for row in read) == 4.0


def test_metrics_that_were_measured_differently_are_not_offered(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b", evaluator={"knn": {"k": 5}}, seed=1)
    names = [each["name"] for each in content(compared(tmp_path))["metrics"]]
    assert "probe/top1" in names
    assert not any("knn" in name for name in names)


def test_three_hundred_runs_take_seconds_and_a_page_of_a_few_megabytes(tmp_path, capsys):
    for n, (lr, decay, seed) in enumerate(itertools.product(range(10), range(10), range(3))):
        config = {"optimizer": {"lr": lr, "weight_decay": decay}, "seed": seed}
        logged(make(tmp_path / f"{n:03d}", 0.5 + 0.01 * lr + 0.001 * seed, **config), 150)
    began = time.perf_counter()
    assert main([str(tmp_path)]) == 0
    assert time.perf_counter() - began < 8
    assert "300 completed runs in 100 groups" in capsys.readouterr().out
    file = tmp_path / "page.html"
    assert main([str(tmp_path), "--html", str(file)]) == 0
    assert file.stat().st_size < 6e6
    assert max(len(track["step"]) for run in data_of(file.read_text())["tracks"] for track in run) <= MOST


def test_comparing_loads_no_torch(tmp_path):
    make(tmp_path / "a")
    words = [str(tmp_path), "--html", str(tmp_path / "page.html")]
    code = (
        f"import sys; from ssl_runner.__main__ import main; main(['compare', *{words!r}]); "
        "sys.exit(bool({'torch', 'scipy.stats', 'hydra'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True).returncode == 0
