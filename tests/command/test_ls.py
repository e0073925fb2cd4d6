"""`ssl-runner ls`: runs by their names, tags and numbers; and names, tags and notes, which change no result."""

import json
import os

from comparison_toys import make_run, pretext
from conftest import TINY
from runs import change, config, enter, refusal, same, summary


def several(folder):
    make_run(folder / "one", 0.9, name="my best", tags=["paper", "big"], notes="see page 3")
    make_run(folder / "two", 0.4, optimizer={"lr": 0.1}, tags="paper", **pretext("flip"))
    make_run(folder / "three", summary={"status": "failed", "error": "no disk", "final": {}}, **pretext("simclr"))
    for age, name in enumerate(("one", "two", "three")):
        os.utime(folder / name / "environment.json", (1e9 - age, 1e9 - age))


def test_runs_are_listed_newest_first_and_filtered_by_what_is_shown(here, capsys):
    several(here / "outputs")
    lines = enter(capsys, "ls").splitlines()
    heads = "state when pretext dataset steps probe % test % name tags run"
    assert lines[0].split() == heads.split()
    assert [line.split()[-1] for line in lines[1:4]] == ["one", "two", "three"]
    assert "90.0    79.0  my best  paper, big  one" in lines[1]
    assert lines[4] == "3 runs of 3"
    for words, expected in (
        (["probe>80"], "one"),
        (["-failed", "-flip"], "one"),
        (["outputs", "tags=paper", "lr>=0.1"], "two"),
        (["flip|disk"], "two three"),
        (['name="my best"'], "one"),
        (["-haste"], "one two three"),
    ):
        rows = [json.loads(line) for line in enter(capsys, ["ls", "--json", *words]).splitlines()]
        assert [row["run"] for row in rows] == expected.split(), words
    assert "1 run of 3" in enter(capsys, ["ls", "page"])
    assert "3 runs of 3; 2 more, shown by --rows 0" in enter(capsys, "ls --rows 1")


def test_a_copy_of_a_run_was_begun_when_the_run_was(here, capsys):
    several(here / "outputs")
    change(here / "outputs/two", "environment.json", begun="2001-09-09T03:47:00+0200")  # 1e9 and 20 seconds
    lines = enter(capsys, "ls").splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["two", "one", "three"]
    for other in (3, "yesterday", "9999-99-99T00:00:00+0000"):
        change(here / "outputs/two", "environment.json", begun=other)
        assert enter(capsys, "ls").splitlines()[1].split()[-1] == "two", "by when it was written"


def test_what_cannot_be_listed_is_refused(here, capsys):
    refusal(capsys, "ls", "there is no folder outputs here")
    several(here / "outputs")
    refusal(capsys, ["ls", "prob/top1>80"], "FILTER: prob/top1 is no column; nearest is probe/top1")
    refusal(capsys, "ls --rows -1", "--rows: given -1")


def test_name_tags_and_notes_change_no_result_and_may_change_later(here, capsys):
    short = [*TINY, "evaluator=none", "length=2st", "log_every=1st"]
    said = ["name=first try", "tags=[paper,v2]", "notes=with more, and better data"]
    enter(capsys, [*short, "hydra.run.dir=plain"])
    enter(capsys, [*short, *said, "hydra.run.dir=outputs/run"])
    assert same("plain", "outputs/run")
    before = summary("outputs/run")
    assert "first try  paper, v2" in enter(capsys, "ls")
    done = "outputs/run is completed already"
    enter(capsys, ["resume", "outputs/run", "tags=final", "name=null"], "outputs/run/config.yaml: name, tags\n", done)
    assert "config.yaml" not in enter(capsys, ["resume", "outputs/run", "tags=final"], done), "nothing new is written"
    assert config("outputs/run")["tags"] == "final"
    assert summary("outputs/run")["final"] == before["final"]
    assert "1 run of 1" in enter(capsys, "ls tags=final")
    change(here / "outputs/run", "config.yaml", notes="by hand")
    enter(capsys, "resume outputs/run")
    enter(capsys, "rerun outputs/run --strict --to again", "bit-identical")
    out = enter(capsys, "compare plain outputs again", "3 completed runs")
    assert "notes" not in out
    refusal(capsys, [*short, "tags=[1]"], "tags: given [1]")
