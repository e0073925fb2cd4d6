"""Run folders found at any depth and read; what is torn is named, what is unfinished stands apart."""

import itertools

import pytest
from comparison_toys import compared, evaluated, make_run
from runs import put

from ssl_runner.command.compare import main
from ssl_runner.comparison.record import load_runs
from ssl_runner.run_folder.lock import locked

TORN = [
    *itertools.product(["summary.json"], ['{"status": "comp', "[]", "{}", "", "[" * 100_000]),
    *itertools.product(["config.yaml"], ["a: [", "[]", "", "a: 1", "\x00", None]),
]


def test_a_tree_of_runs_in_the_order_of_their_paths_and_none_twice(tmp_path):
    for name in ("rotation-shapes/b", "rotation-shapes/a", "sweeps/lr/000-lr-0.1"):
        nested = make_run(tmp_path / "outputs" / name)
    (tmp_path / "outputs" / "unstarted").mkdir()
    put(tmp_path / "outputs/foreign/config.yaml", "a: 1")
    (tmp_path / "outputs/again").symlink_to(nested)
    (nested / "circle").symlink_to(tmp_path / "outputs")
    (nested / "itself").symlink_to("itself")
    runs, problems, broken = load_runs([tmp_path / "outputs", nested])
    assert [run.name for run in runs] == ["again", "rotation-shapes/a", "rotation-shapes/b"]
    assert not problems + broken


@pytest.mark.parametrize(("file", "torn"), TORN)
def test_a_torn_run_is_named_and_the_rest_shown(tmp_path, capsys, file, torn):
    make_run(tmp_path / "good")
    bad = make_run(tmp_path / "bad")
    (bad / file).unlink() if torn is None else (bad / file).write_text(torn)
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert ("1 completed run:" in printed.out, printed.err.count("\n")) == (True, 1)
    assert f"{bad} is left out: " in printed.err


@pytest.mark.parametrize(
    ("file", "end"), [("environment.json", ", "), ("evaluation/probe.json", ", "), ("evaluation/probe.json", "]}")]
)
def test_a_torn_lesser_file_is_named_and_the_run_shown(tmp_path, capsys, file, end):
    run = make_run(tmp_path / "run")
    evaluated(run, 0.5)
    (run / file).write_text('{"results": [{"a": 1}' + end)
    assert main([str(run)]) == 1
    printed = capsys.readouterr()
    assert (file in printed.err, "80.0" in printed.out) == (True, True)


def test_unfinished_runs_are_apart_with_what_to_type(tmp_path, capsys):
    make_run(tmp_path / "good")
    end = {"status": "failed", "step": 350, "final": {}, "error": "the loss is not finite"}
    make_run(tmp_path / "a b", summary=end)
    killed, running = (make_run(tmp_path / name, summary={"status": "running"}) for name in ("killed", "running"))
    begun = make_run(tmp_path / "begun")
    (begun / "summary.json").unlink()
    (begun / "overrides.yaml").write_text("[]")
    (killed / ".lock").touch()
    with locked(running):
        comparison = compared(tmp_path)
        assert main([str(tmp_path)]) == 0
    statuses = {"a b": "failed", "begun": "not begun", "killed": "killed", "running": "running"}
    assert {run.name: run.status for run in comparison.unfinished} == statuses
    assert [run.name for group in comparison.groups for run in group.runs] == ["good"]
    out = " ".join(capsys.readouterr().out.split())
    resumed = (f"ssl-runner resume '{tmp_path}/a b'", f"resume {killed}")
    assert all(words in out for words in ("350 of 1,400 the loss is not finite", *resumed))
    assert f"resume {running}" not in out


def test_what_would_stop_again_is_told_how_not_to(tmp_path, capsys):
    ended = {"status": "stopped", "error": "features collapsed", "health": {"verdict": "collapsed"}}
    make_run(tmp_path / "stops", summary=ended, on_collapse="stop")
    make_run(tmp_path / "warns", summary=ended, on_collapse="warn")  # mended already
    make_run(tmp_path / "halved", summary={**ended, "health": None, "error": "not among the best"}, on_collapse="stop")
    assert main([str(tmp_path)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "resume" in line]
    words = ("halved", "stops on_collapse=warn", "warns")
    assert lines == [f"ssl-runner resume {tmp_path}/{each}" for each in words]


@pytest.mark.parametrize(("name", "words"), [("absent", "is no folder"), (".", "holds no run")])
def test_no_runs_is_an_error_in_one_line(tmp_path, capsys, name, words):
    assert main([str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
