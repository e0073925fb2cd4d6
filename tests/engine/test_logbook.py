"""metrics.jsonl and TensorBoard's events of a run that was resumed: no row is there twice."""

import itertools
import json

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_runner.engine.logbook import Logbook


def test_a_logbook_drops_what_will_be_written_again(tmp_path):
    book = Logbook(tmp_path)
    for step in (0, 5, 10):
        book.scalars(step, step / 10, {"knn/top1": step / 100})
    book.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "kn')  # torn by a crash
    again = Logbook(tmp_path, start=5)
    assert again.has(5, "knn")
    assert not again.has(10, "knn")
    again.scalars(10, 1.0, {"knn/top1": 0.9})
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["knn/top1"]) for row in lines] == [(0, 0.0), (5, 0.05), (10, 0.9)]
    assert all(a["time"] <= b["time"] for a, b in itertools.pairwise(lines))


def test_tensorboard_sees_one_curve_over_a_resume(tmp_path):
    for start, steps in ((0, (0, 5, 10)), (5, (10, 15))):
        book = Logbook(tmp_path, start)
        for step in steps:
            book.scalars(step, 0.0, {"train/loss": step + start})
        book.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(e.step, e.value) for e in events] == [(0, 0.0), (5, 5.0), (10, 15.0), (15, 20.0)]
