"""Confusion matrices on the comparison page: which are found, whose name they have, and what is drawn of them."""

import json
import re

import pytest
from comparison_toys import compared, evaluated, make_run, pretext
from test_page import BROWSER, browse, key

from ssl_runner.comparison.confusions import MOST, page_confusions, read_confusions
from ssl_runner.comparison.export import page_content, to_html
from ssl_runner.comparison.record import read_run
from ssl_runner.contract import Metric
from ssl_runner.run_folder.results import result_folder, write_confusion_rows

NAMES = {"cat": 0.8, "<dog>": 0.5, "elk": None}


def matrix(folder, *rows, step=1400, names=NAMES):
    write_confusion_rows(folder, "top1", step, Metric(0.7, classes=names, confusion=rows))


@pytest.fixture
def run(tmp_path):
    """A run that has measured its validation and test rows in training, and `evaluate` some of them again."""
    folder = make_run(tmp_path / "runs" / "one", 0.8)
    matrix(folder / "evaluation/probe/validation-training", [8, 2, 0], [3, 3, 0], [0, 0, 0])
    matrix(folder / "evaluation/probe/test-training", [6, 4, 0], [0, 9, 1], [0, 0, 5])
    return folder


def measured(run, *rows, step=1400, **more):
    """A result of `evaluate` with a matrix."""
    evaluated(run, 0.7, settings_hash="0", **more | {"step": step})
    result = json.loads((run / "evaluation/probe.json").read_text())["results"][-1]
    matrix(result_folder(run / "evaluation", result), *rows, step=step)


def found(run):
    return {name: each["rows"] for name, each in read_confusions(read_run(run, "one", [])).items()}


def test_the_newest_of_each_accuracy_is_found_under_its_name(run):
    assert [*found(run)] == ["test/probe/top1", "probe/top1"]
    again, other = [[5, 5, 0], [0, 9, 1], [0, 0, 5]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    measured(run, *again, time="2026-01-02")
    measured(run, *other, time="2026-01-01", seed=1)
    measured(run, *other, dataset="digits", fingerprint="else")
    measured(run, *other, split="validation", encoder="random")
    measured(run, *other, split="validation", step=700)
    assert found(run)["test/probe/top1"] == again
    assert found(run)["probe/top1"][0] == [8, 2, 0]
    assert found(run)["test/probe/top1@digits"] == other


DAMAGE = ["", "[]", '{"number": "top1", "step": 1400, "classes": ["a"], "rows": [[1, 2]]}', "\x00", '{"number": 1}']
DAMAGE += ['{"number": "top1", "step": 1400, "classes": ["a", "b"], "rows": [[1, 2], [3, -4]]}']


@pytest.mark.parametrize("content", DAMAGE)
def test_damage_is_left_out(run, content):
    (run / "evaluation/probe/test-training/confusion.json").write_text(content)
    (run / "evaluation/probe.json").write_text('{"results": [1, {"encoder": "x"}]}')
    assert [*found(run)] == ["probe/top1"]


def test_a_page_holds_those_of_the_first_groups_as_many_as_it_can_carry(tmp_path):
    many = dict.fromkeys(map(str, range(200)), 1.0)
    for k in range(MOST // 40_000 + 2):
        folder = make_run(tmp_path / f"{k}", 0.8, **pretext(f"p{k}"))
        matrix(folder / "evaluation/knn/test-training", *[[1] * 200] * 200, names=many)
    groups = compared(tmp_path).groups
    assert [*page_confusions(groups)] == [group.runs[0].name for group in groups[: MOST // 40_000]]
    assert page_content(compared(tmp_path))["confusions"] == page_confusions(groups)


@pytest.mark.skipif(not BROWSER, reason="there is no Chromium")
def test_the_page_draws_them_and_tells_each_cell(run, tmp_path):
    make_run(tmp_path / "runs" / "two", 0.7, **pretext("flip"))
    looks = {
        "chosen": "document.getElementById('confusion').value",
        "captions": "[...document.querySelectorAll('#matrices figcaption')].map((each) => each.textContent)",
        "often": "document.querySelector('#matrices p').textContent",
        "cells": "[...document.querySelectorAll('#matrices .light, #matrices .dark')].map((e) => e.textContent)",
        "names": "[...document.querySelectorAll('#matrices text[text-anchor=end]')].map((e) => e.textContent)",
        "label": "document.querySelector('#matrices svg[role]').getAttribute('aria-label')",
        "width": "document.documentElement.scrollWidth - innerWidth",
    }
    page = tmp_path / "page.html", to_html(compared(tmp_path / "runs"))
    shown = browse(page, looks)
    assert shown["chosen"] == "test/probe/top1"
    assert shown["captions"] == ["rotation: 80.0 % of 25 rows"]
    assert shown["often"] == "Most often taken for another: cat for <dog> 40.0 %, <dog> for elk 10.0 %."
    assert shown["cells"] == ["60", "40", "90", "10", "100"]
    assert sorted(shown["names"]) == sorted([*NAMES] * 2)
    assert "test/probe/top1 of rotation: 80.0 % of 25 rows" in shown["label"]
    assert shown["width"] <= 0
    shown = browse(page, looks, confusion="probe/top1", theme="dark")
    assert (shown["chosen"], shown["cells"]) == ("probe/top1", ["80", "20", "50", "50"])
    words = "document.querySelector('#matrices p').textContent"
    acts = {
        "first": key("#matrices svg[role]", "ArrowLeft") + words,
        "left": key("#matrices svg[role]", "ArrowLeft") + words,
    }
    acts |= {"edge": key("#matrices svg[role]", "ArrowUp") + words, "off": key("#matrices svg[role]", "Escape") + words}
    done = browse(page, acts)
    assert done["first"] == "cat for <dog>: 4 of 10, 40.0 %"
    assert done["left"] == done["edge"] == "cat for itself: 6 of 10, 60.0 %"
    assert done["off"].startswith("Most often")


def test_the_page_has_no_words_of_a_class_in_its_markup(run):
    html = to_html(compared(run.parent))
    assert not re.search("<dog>", html)
