"""What a sweep learns of its jobs: early stop by successive halving, the objective, the tail of a metrics file."""

from pathlib import Path

import pytest

from ssl_runner.run_folder.atomic import write_json
from ssl_runner.run_folder.summary import read_summary
from ssl_runner.sweep.halving import Halving
from ssl_runner.sweep.objective import is_better_smaller, value
from ssl_runner.sweep.settings import Settings, read_settings
from ssl_runner.sweep.tail import Tail


def test_rungs_are_powers_of_eta() -> None:
    assert Halving(2, 0.1).rungs == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert Halving(3, 1 / 9).rungs == pytest.approx([1 / 9, 1 / 3])
    assert Halving(4, 0.5).rungs == [0.5]


def test_halving_by_hand() -> None:
    """Of six jobs that come to the first rung one after another, those stop that are below the best third so far."""
    halving = Halving(3, 0.25)
    stopped = {}
    for job, accuracy in zip("abcdef", (0.5, 0.6, 0.4, 0.7, 0.65, 0.1), strict=True):
        stopped[job] = halving.stop_reason(job, [(0.0, 0.9), (0.2, 0.9), (0.25, accuracy), (0.5, 0.0)]) is not None
    # a, b: too few to tell. c: best 1 of 3 had 0.6. d is best. e: best 1 of 5 has 0.7. f: best 2 of 6 have 0.65.
    assert stopped == {"a": False, "b": False, "c": True, "d": False, "e": True, "f": True}
    assert halving.stop_reason("c", [(0.25, 0.4)]) is None, "judged once at a rung"


def test_a_job_that_is_not_measured_at_a_rung_is_judged_by_its_next_measurement() -> None:
    halving = Halving(2, 0.5)
    assert halving.stop_reason("a", [(0.4, 0.1)]) is None
    assert not halving.values
    assert halving.stop_reason("a", [(0.4, 0.1), (0.9, 0.8)]) is None
    assert halving.values == {0: {"a": 0.8}}
    assert "0.2" in str(halving.stop_reason("b", [(0.6, 0.2)]))


def test_of_losses_the_smaller_is_kept() -> None:
    halving = Halving(2, 0.5, smaller=True)
    halving.remember("a", [(0.5, 0.3)])
    assert "0.4" in str(halving.stop_reason("b", [(0.5, 0.4)]))
    assert halving.stop_reason("c", [(0.5, 0.1)]) is None
    assert [is_better_smaller(each) for each in ("train/loss", "seconds", "knn/top1", "test/knn/top1")] == [1, 1, 0, 0]


def test_an_objective_is_any_number_of_a_job_that_came_to_its_end(tmp_path: Path) -> None:
    """Of a failed job `final` may hold what a random encoder had; of a stopped one it may hold nothing."""
    old = {"probe_top1": 0.6, "few_label_mean": 0.7}  # as version 0.1 called numbers on test
    final = {"knn/top1": 0.5, "loss": float("nan")}
    write_json(tmp_path / "summary.json", {"status": "completed", "final": final, "test": old, "seconds": 7})
    done = read_summary(tmp_path)
    assert value(done, [], "knn/top1") == 0.5
    assert value(done, [], "seconds") == 7.0
    assert [value(done, [], each) for each in ("test/probe/top1", "test/few_label/mean")] == [0.6, 0.7]
    assert read_settings(["sweep.metric=test/few_label_mean"])[0] == Settings(metric="test/few_label/mean")
    assert value(done, [(1, 2.0), (2, 1.5)], "train/loss") == 1.5
    assert value(done, [], "loss") is value(done, [], "status") is value(done, [], "absent") is None
    assert value({"status": "stopped", "final": {}}, [(0, 0.1), (20, 0.4)], "knn/top1") == 0.4
    assert value({**done, "status": "failed"}, [(0, 0.1)], "knn/top1") is None


def test_a_tail_reads_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path, "knn/top1")
    assert not tail.read()
    path.write_text('{"step": 1, "knn/top1": 0.1}\n{"step": 2}\n{"step": 3, "knn')
    assert tail.read()
    assert (tail.step, tail.curve) == (2, [(1, 0.1)])
    assert not tail.read(), "a part of a row is not new"
    with path.open("a") as file:
        file.write('/top1": 0.3}\ntorn\n')
    assert tail.read()
    assert (tail.step, tail.curve) == (3, [(1, 0.1), (3, 0.3)])
    (tmp_path / "new").write_text('{"step": 1, "knn/top1": 0.7}\n')
    (tmp_path / "new").rename(path)
    assert tail.read()
    assert tail.curve == [(1, 0.7)], "a run that goes on from a checkpoint writes its file anew"
