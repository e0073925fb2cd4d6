"""The HTML page: self-contained, safe, thinned curves, hundreds of runs in seconds, and no torch."""

import itertools
import json
import re
import subprocess
import sys
import time

import pytest
from comparison_toys import compared, logged, make_run, pretext, several

from ssl_runner.command.compare import main
from ssl_runner.comparison.curves import MOST, read_curves, tracks
from ssl_runner.comparison.page import embed, to_html
from ssl_runner.comparison.record import load_runs


def data_of(html: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_data_and_fetches_nothing(tmp_path):
    folder = several(tmp_path)
    logged(folder / "a-0", 50)
    html = to_html(compared(folder))
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
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", summary={"status": "failed", "error": evil}, **pretext(evil))
    html = to_html(compared(tmp_path))
    assert evil not in html
    assert html.count("</script>") == 2
    assert data_of(html)["runs"][1]["error"] == evil
    assert "<" not in embed([evil])


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
    run = make_run(tmp_path / "a")
    rows = [
        {"step": 10, "time": 1.0, "train/loss": 3.0},
        {"step": 20, "time": 2.0, "train/loss": 9.0, "train/entropy": 4.0},
        {"step": 20, "time": 2.1, "probe/top1": 0.1},
        {"step": 30, "time": 3.0, "train/loss": 8.0},
        {"step": 20, "time": 2.2, "train/loss": 2.0},
        {"step": 20, "time": 2.3, "probe/top1": 0.2},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_curves(load_runs([run])[0][0])
    assert [(row["step"], row["train/loss"]) for row in read if "train/loss" in row] == [
        (10, 3.0),
        (20, 2.0),
        (30, 8.0),
    ]
    assert [row["probe/top1"] for row in read if "probe/top1" in row] == [0.2]
    assert sum(row.get("train/entropy", 0) for row in read) == 4.0


def test_three_hundred_runs_take_seconds_and_a_page_of_a_few_megabytes(tmp_path, capsys):
    for n, (lr, decay, seed) in enumerate(itertools.product(range(10), range(10), range(3))):
        config = {"optimizer": {"lr": lr, "weight_decay": decay}, "seed": seed}
        logged(make_run(tmp_path / f"{n:03d}", 0.5 + 0.01 * lr + 0.001 * seed, **config), 150)
    began = time.perf_counter()
    assert main([str(tmp_path)]) == 0
    assert time.perf_counter() - began < 8
    assert "300 completed runs in 100 groups" in capsys.readouterr().out
    file = tmp_path / "page.html"
    assert main([str(tmp_path), "--html", str(file)]) == 0
    assert file.stat().st_size < 6e6
    assert max(len(track["step"]) for run in data_of(file.read_text())["tracks"] for track in run) <= MOST


def test_comparing_loads_no_torch(tmp_path):
    make_run(tmp_path / "a")
    words = [str(tmp_path), "--html", str(tmp_path / "page.html")]
    code = (
        f"import sys; from ssl_runner.__main__ import main; main(['compare', *{words!r}]); "
        "sys.exit(bool({'torch', 'scipy.stats', 'hydra'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True).returncode == 0
