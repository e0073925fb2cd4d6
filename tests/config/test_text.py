"""Text of the user is text: what is typed for a key that takes text arrives as it was typed, in every verb."""

import contextlib
import os
from pathlib import Path

import pytest
import yaml
from conftest import TINY
from image_trees import paint_classes
from runs import config, enter, put, refusal

from ssl_runner.__main__ import main
from ssl_runner.config.compose import Composer
from ssl_runner.config.grammar import parse_override
from ssl_runner.config.recorded import read_recorded
from ssl_runner.config.text import as_typed

FOLDER = ("dataset=image_folder", "evaluator=none")
SAME = [
    "~/x",
    "a=b",
    "(1) [x]",
    "naïve 画像",
    "a,b",
    "1e3",
    "true",
    "null",
    "2024_01_01",
    " a ",
    "~",
    "it's (x)",
    "#;&",
]
SAME += ["[a,b]", "{a:1}", "a\\b", "C:\\data", "%s 100%", "str(1)", "interval(0,1)", "a\nb", "inf", "0x10", "", "$x"]
SAME += ["[" * 160, "9" * 4400]
READ = {
    "'a b'": "a b",
    '"a,b"': "a,b",
    "' 1e3'": " 1e3",
    "a\\,b": "a,b",
    "${oc.env:PLACE}/x": "/p/x",
    "'it\\'s'": "it's",
}
TABLE = {text: text for text in SAME} | READ


def root_of(composed):
    assert not composed.problems
    return composed.content["dataset"]["root"]


@pytest.mark.parametrize("typed", TABLE, ids=lambda typed: repr(typed[:20]))
def test_a_text_arrives_as_typed(composer, typed, monkeypatch, whole):
    monkeypatch.setenv("PLACE", "/p")
    assert root_of(composer.compose([*FOLDER, f"dataset.root={typed}"])) == TABLE[typed]
    jobs, problems = composer.expand(["seed=1,2", *FOLDER, f"dataset.root={typed}".replace(",", r"\,")])
    assert not problems
    if "," not in typed:  # in a sweep a comma has a meaning
        assert [root_of(composer.compose(job)) for job in jobs] == [TABLE[typed]] * 2
    changed, _ = read_recorded(whole, ["dataset=mnist", f"dataset.root={typed}"])  # of resume and rerun
    assert root_of(changed) == TABLE[typed]
    evaluated = Composer(name="evaluate").compose(["dataset=mnist", f"dataset.root={typed}"])
    assert root_of(evaluated) == TABLE[typed]
    for key in ("run.dir", "sweep.dir", "sweep.subdir") if typed != "null" else ():
        composed = composer.compose([f"hydra.{key}={typed}"])
        assert (composed.folder or composed.sweep_folder or composed.subfolder or "") == TABLE[typed]


SWEPT = {"~/a,~/b": ["~/a", "~/b"], "'a,b',c": ["a,b", "c"], "'a,b'": ["a,b"], "1e3,true": ["1e3", "true"]}
SWEPT |= {"2024_01_01, b": ["2024_01_01", "b"], "naïve,a b": ["naïve", "a b"], "(1,2) [x]": ["(1,2) [x]"]}


@pytest.mark.parametrize("typed", SWEPT)
def test_a_comma_sweeps_after_m_unless_it_is_quoted(typed, capsys):
    shown = enter(capsys, ["-m", "--cfg", "job", *FOLDER, f"dataset.root={typed}"])
    assert [each["dataset"]["root"] for each in yaml.safe_load_all(shown)] == SWEPT[typed]
    jobs, _ = Composer().expand([f"optimizer.lr={word}" for word in ("1e-3,0.1",)])
    assert jobs == [["optimizer.lr=0.001"], ["optimizer.lr=0.1"]], "what a sweep knows its jobs by stays"


def test_null_is_none_if_it_may_be_and_other_kinds_are_as_hydra_reads_them(composer):
    composed = composer.compose([*FOLDER, "dataset.root=x", "dataset.size=null", "dataset.cache=true", "seed=1_0"])
    assert (composed.content["dataset"]["size"], composed.content["dataset"]["cache"]) == (None, True)
    assert composed.content["seed"] == 10
    assert composer.compose([*FOLDER, "dataset.root=x", "dataset.cache=~/c=d"]).content["dataset"]["cache"] == "~/c=d"
    assert composer.compose(["hydra.run.dir=null"]).folder is None


def test_a_class_that_is_not_ours_has_text_where_its_file_has(tmp_path):
    put(tmp_path / "dataset/theirs.yaml", {"_target_": "theirs.Data", "root": "here", "number": 3, "open": "???"})
    words = ["dataset=theirs", "dataset.root=1e3", "dataset.number=1e3", "dataset.open=~/x"]
    content = Composer(tmp_path).compose(words).content["dataset"]
    assert (content["root"], content["number"], content["open"]) == ("1e3", 1000.0, "~/x")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["optimizer.lr=(1"], "optimizer.lr=(1: cannot be read as key=value"),
        (["length=(1"], "length=(1: cannot be read as key=value"),
        (["dataset=(1", "dataset.root=x"], "dataset: given (1; possible are"),
        (["pretext=simclar", "pretext.temperature=1"], "did you mean simclr?"),
        ([*FOLDER, "dataset.root=${"], "dataset.root: "),
        (["seed=1,2"], "is a sweep over several values; type -m"),
        (["model.widths=" + "[" * 600 + "]" * 600], "cannot be read"),
        (["seed=" + "1" * 4400], "cannot be read"),
        (["~evaluator"], "type evaluator=none"),
        (["~dataset"], "type dataset=NAME, of audio_folder"),
        (["~regulariser"], "type regulariser=none"),
        (["+dataset=shapes"], "type dataset=shapes"),
        (["++dataset=shapes"], "type dataset=shapes"),
        (["++hydra=x"], "hydra: is not used here; possible are hydra.run.dir"),
        (["hydra=null"], "hydra: is not used here; possible are hydra.run.dir"),
        (["~hydra"], "hydra: is not used here; possible are hydra.run.dir"),
        (["~hydra.run.dir"], "hydra.run.dir: is not used here"),
        (["hydra.run={dir:x}"], "hydra.run: is not used here"),
        (["evaluate", ".", "hydra.run.dir=x"], "type --to FOLDER"),
        (["hydra.sweep.dir=x"], "hydra.sweep.dir: names the folder of a sweep"),
        (["hydra.sweep.subdir=x"], "hydra.sweep.subdir: is a setting of a sweep; type -m"),
    ],
)
def test_what_cannot_be_is_one_line_and_no_false_second_one(words, line, capsys, here):
    refusal(capsys, words, line)


def test_a_list_of_texts_that_cannot_be_read_says_what_to_quote():
    with pytest.raises(ValueError, match=r"""put quotes around a text, as in "a.b='\[~/c\]'"$"""):
        as_typed(parse_override("a.b=[~/c]"), list[str])


def test_a_deletion_that_can_be_is_one(composer):
    composed = composer.compose(["~evaluator.probe", "~augment@pretext.augment", "~evaluator.geometry.samples"])
    assert sorted(composed.content["evaluator"]) == ["geometry", "knn"]
    assert "samples" not in composed.content["evaluator"]["geometry"]


ODD = "a=b (1) [x] naïve 画像 %s, ~"


@pytest.mark.slow
def test_data_and_runs_with_odd_names_go_through_every_verb(here, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    paint_classes(here / ODD / "train")
    small = [each for each in TINY if not each.startswith(("dataset", "length", "log_every"))]
    words = [*small, "dataset=image_folder", "evaluator=none", "length=2st", "log_every=1st"]
    enter(capsys, [*words, f"dataset.root=~/{ODD}", f"hydra.run.dir=run {ODD}", "batch_size=8"], f"run {ODD}")
    run = f"run {ODD}"
    assert config(run)["dataset"]["root"] == f"~/{ODD}"
    assert f"dataset.root=~/{ODD}" in yaml.safe_load(Path(run, "overrides.yaml").read_text())
    enter(capsys, ["resume", run, f"dataset.root={here / ODD}"], "is completed already")
    enter(capsys, ["rerun", run, f"dataset.root={here / ODD}", "--to", f"2 {run}"], "bit-identical")
    assert config(f"2 {run}")["dataset"]["root"] == str(here / ODD)
    evaluated = ["evaluate", run, "knn", "evaluator.knn.k=1", "dataset=image_folder", f"dataset.root=~/{ODD}"]
    enter(capsys, evaluated, f"written to {run}/evaluation")
    enter(capsys, ["compare", run, f"2 {run}"], "2 completed runs")
    enter(capsys, ["save", run, "odd", "--to", f"to {ODD}"], f"--config-dir 'to {ODD}'")
    shown = enter(capsys, ["--config-dir", f"to {ODD}", "--cfg", "job", "experiment=odd", f"dataset.root=~/{ODD}"])
    assert yaml.safe_load(shown)["dataset"]["root"] == f"~/{ODD}"


LONG = "x" * 300
LONG_NAMES = ["evaluate LONG", "evaluate run --to LONG", "compare LONG", "rerun LONG"]
LONG_NAMES += [
    "rerun run --to LONG",
    "rerun run --config-dir LONG",
    "export LONG",
    "export run --to LONG",
    "save LONG a",
]
LONG_NAMES += ["save run a --to LONG", "save run LONG", "--config-dir LONG", "--config-name LONG", "hydra.run.dir=LONG"]
LONG_NAMES += ["-m hydra.sweep.dir=LONG seed=1", "-m hydra.sweep.subdir=LONG seed=1", "-m sweep.resume=LONG"]
LONG_NAMES += ["resume LONG", "dataset=mnist dataset.root=LONG dataset.download=false"]


@pytest.mark.parametrize("line", LONG_NAMES)
def test_a_name_that_no_file_can_have_is_refused_and_leaves_nothing(line, run, capsys):
    refusal(capsys, line.replace("LONG", LONG), "x" * 100)


@pytest.mark.parametrize(
    "line", ["dataset.root=NAME", "hydra.run.dir=NAME", "resume NAME", "evaluate NAME", "compare NAME"]
)
def test_a_name_that_is_no_utf8_is_named(line, here, capsys):
    refusal(capsys, line.replace("NAME", os.fsdecode(b"\xff")), "\\xff: is no UTF-8")


def test_a_terminal_that_is_no_utf8_shows_what_it_can(here, monkeypatch):
    with Path("shown").open("w", encoding="latin-1") as file, contextlib.redirect_stdout(file):
        assert main(["--cfg", "job", *FOLDER, "dataset.root=naïve 画像"]) == 0
    assert "naïve \\u753b\\u50cf" in Path("shown").read_text(encoding="latin-1")
