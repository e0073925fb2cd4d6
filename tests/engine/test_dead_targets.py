"""Targets that are dead while features live: a codebook that has collapsed, tokens that are all told right."""

import pytest
from torch import nn

from ssl_runner.engine.collapse import diagnose
from ssl_runner.engine.dead_targets import find_remedies, find_sign


def log(name, values, group=""):
    """Rows of a run whose features are healthy: a log line of the task and a measurement at each step."""
    for step, value in enumerate(values):
        yield {"step": 10 * step, "geometry/std": 0.5, "geometry/rank": 20.0}
        yield {"step": 10 * step, f"train/{group}{name}": value, "train/loss": 1.0}


CASES = {  # number, its values, the step since which targets are dead, words
    "few codes": ("codes_in_use", [0.4, 0.09, 0.05, 0.04], 10, "targets are a few codes (train/codes_in_use 0.04)"),
    "a transient": ("codes_in_use", [0.4, 0.05, 0.05, 0.4], None, ""),
    "not yet": ("codes_in_use", [0.4, 0.4, 0.05, 0.05], None, ""),
    "enough codes": ("codes_in_use", [0.4, 0.12, 0.11, 0.11], None, ""),
    "trivial": ("masked_accuracy", [0.1, 0.999, 1.0, 1.0], 10, "told without learning (train/masked_accuracy 1)"),
    "nearly right": ("masked_accuracy", [0.1, 0.98, 0.98, 0.98], None, ""),
    "never right": ("masked_accuracy", [0.0, 0.0, 0.0, 0.0], 0, "no hidden token is ever told right"),
    "right at last": ("masked_accuracy", [0.0, 0.0, 0.0, 0.001], None, ""),
    "another number": ("accuracy", [1.0, 1.0, 1.0, 1.0], None, ""),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("group", ["", "main_"])
def test_three_log_lines_in_a_row_say_so(case, group):
    name, values, since, words = CASES[case]
    health = diagnose([*log(name, values, group)])
    if since is None:
        assert health.verdict == "healthy"
    else:
        assert (health.verdict, health.since) == ("shrinking", since)
        assert words.replace("train/", f"train/{group}") in str(health)


def test_of_several_dead_numbers_the_first_that_was_logged_speaks():
    """Also in a process that orders sets in another way: names are hashed with a seed of its own."""
    names = [f"train/{letter}_codes_in_use" for letter in "hgfedcba"]
    rows = [{"step": step, **dict.fromkeys(names, 0.01)} for step in range(3)]
    assert names[0] in find_sign(rows).text
    pretext = nn.Module()
    vars(pretext).update(units=64, codes=32)
    assert [each.remedy for each in find_remedies(find_sign(rows), pretext)] == ["pretext.codes=8", "pretext.units=16"]


def test_features_that_have_collapsed_are_the_worse_news():
    rows = [*log("codes_in_use", [0.01] * 4)]
    collapsed = [{**row, "geometry/std": 0.0} if row["step"] and "geometry/std" in row else row for row in rows]
    assert diagnose(rows).verdict == "shrinking"
    assert diagnose(collapsed).verdict == "collapsed"


@pytest.mark.parametrize(
    ("name", "value", "settings", "remedy"),
    [
        ("codes_in_use", 0.01, {"diversity": 0.0}, "pretext.diversity=0.1"),
        ("codes_in_use", 0.01, {"diversity": 0.1}, "pretext.diversity=0.3"),
        ("codes_in_use", 0.01, {"units": 64}, "pretext.units=16"),
        ("masked_accuracy", 1.0, {"ratio": 0.1}, "pretext.ratio=0.55"),
        ("masked_accuracy", 0.0, {"ratio": 0.8}, "pretext.ratio=0.4"),
        ("masked_accuracy", 0.0, {}, None),
    ],
)
def test_the_remedy_is_a_setting_that_the_task_has(name, value, settings, remedy):
    pretext = nn.Module()
    vars(pretext).update(settings)
    found = [each.remedy for each in find_remedies(find_sign([*log(name, [value] * 3)]), pretext)]
    assert found == ([] if remedy is None else [remedy])
    assert not list(find_remedies(None, pretext))
