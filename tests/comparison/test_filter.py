"""The filter language of runs: what a user types, in Python and on the page alike."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ssl_runner import comparison
from ssl_runner.comparison.filter import filter_rows

ROWS = [
    {
        "run": "a/0",
        "pretext": "simclr",
        "optimizer.lr": 0.1,
        "test": 51.3,
        "probe/top1": 60.0,
        "tags": ["paper"],
    },
    {"run": "a/1", "pretext": "byol", "optimizer.lr": 0.01, "test": 49.0, "probe/top1": 90.0, "samples seen": 20000},
    {"run": "b/0", "pretext": "simclr", "optimizer.lr": 0.001, "test": None, "state": "failed", "name": "my Best run"},
]
FITS = {  # places of the rows that stay
    "": "012",
    "simclr": "02",
    "SimCLR": "02",
    "-simclr": "1",
    "simclr|byol": "012",
    "pretext=byol|simclr lr>=0.01": "01",
    "pretext!=byol|vicreg": "02",
    "-pretext=byol": "02",
    "-pretext!=byol": "1",
    "test>50": "0",
    "test>50%": "0",
    "test=51.3": "0",
    "probe>=60": "01",
    "probe/top1<70": "0",
    "lr<1e-2": "2",
    "lr=0.1|lr=1e-3": "02",
    "optimizer.lr=0.10": "0",
    "samples_seen>=20k": "1",
    '"samples seen">19999': "1",
    "tags=paper": "0",
    "tags=pap": "",
    "state=failed": "2",
    '"best run"': "2",
    'name="my best run"': "2",
    '-"best run" simclr': "0",
    '"a/0|x"|byol': "1",
    "a/": "01",
    "-nowhere": "012",
    "test<0": "",
}
UNKNOWN = {  # what is not understood asks for nothing, and says so
    "tset>50": ("012", ["tset", "nearest is test"]),
    "lrr<1 byol": ("1", ["lrr", "nearest is optimizer.lr"]),
    "lr<abc": ("012", ["abc is no number"]),
    "pretext>3": ("012", ["pretext has no numbers", "type pretext=3"]),
    "lr>": ("012", ["lr> lacks a value"]),
    "byol or": ("1", ["type a|b"]),
    "simclrr": ("012", ["simclrr is in no run"]),
    'name="my': ("012", ["second quotation mark"]),
    "byol|": ("012", ["a word is missing"]),
    "zzzzzz=1": ("012", ["zzzzzz is no column"]),
    "pretext=byol|lr!=0.1": ("012", ["lr!=0.1 cannot follow a |", "a word of its own"]),  # it excluded both
}
NODE = shutil.which("node")


def places(fits):
    return "".join(str(place) for place, each in enumerate(fits) if each)


def by_node(texts):
    code = (Path(comparison.__path__[0]) / "filter.js").read_text()
    code += f"console.log(JSON.stringify({json.dumps(texts)}.map((text) => filterRows(text, {json.dumps(ROWS)}))))"
    answers = json.loads(subprocess.run([NODE, "-e", code], capture_output=True, check=True, text=True).stdout)
    return [(each["fits"], each["problems"]) for each in answers]


def by_python(texts):
    return [filter_rows(text, ROWS) for text in texts]


@pytest.mark.parametrize(
    "answer", [by_python, pytest.param(by_node, marks=pytest.mark.skipif(not NODE, reason="there is no node"))]
)
def test_a_filter_is_read_as_it_is_meant_or_says_what_is_not_understood(answer):
    for (text, stay), (fits, problems) in zip(FITS.items(), answer([*FITS]), strict=True):
        assert (text, places(fits), problems) == (text, stay, [])
    for (text, (stay, words)), (fits, problems) in zip(UNKNOWN.items(), answer([*UNKNOWN]), strict=True):
        assert (text, places(fits), len(problems)) == (text, stay, 1)
        assert all(word in problems[0] for word in words), problems


def test_a_key_with_two_meanings_is_asked_about_unless_one_is_an_evaluators():
    rows = [{"pretext.t": 1.0, "evaluator.knn.t": 2.0, "a.x": 1.0, "b.x": 2.0}]
    assert filter_rows("t=1", rows) == ([True], [])
    assert filter_rows("x=1", rows) == ([True], ["x may be a.x, b.x; type one of them"])
