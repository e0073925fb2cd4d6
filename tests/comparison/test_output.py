"""Output of a comparison: terminal, Markdown, CSV, JSON, and an HTML page that is self-contained and safe."""

import csv
import io
import itertools
import json
import re
import time

import pytest
from comparison_toys import compared, logged, make_run, pretext, several
from runs import start

from ssl_runner.command.compare import main
from ssl_runner.comparison.curves import MOST, read_curves, tracks
from ssl_runner.comparison.export import embed, to_html


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = several(tmp_path_factory.mktemp("several"))
    logged(folder / "a-0", 50)
    return folder


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def show(capsys, folder, *words):
    assert main([str(folder), *words]) == 0
    return capsys.readouterr().out


def test_the_table_fits_and_says_what_matters(folder, capsys):
    lines = show(capsys, folder).splitlines()
    assert max(len(line) for line in lines if "resume" not in line) <= 120
    assert lines[3].split()[:3] == ["pretext", "probe/top1", "%"]
    assert lines[4].split()[:5] == ["rotation", "81.0", "±", "2.5", "best"]
    assert lines[5].split()[:7] == ["flip", "60.8", "±", "1.9", "-20.2", "±", "1.9"]


def test_many_differing_settings_share_a_column(tmp_path, capsys):
    for n in range(40):
        make_run(tmp_path / str(n), 0.5, optimizer={f"setting_{k}": n * k for k in range(1, 8)})
    out = show(capsys, tmp_path, "--rows", "5")
    assert max(map(len, out.splitlines())) <= 120
    assert all(words in out for words in ("setting_7=70", "... 35 more groups"))


def test_markdown_escapes_and_marks_the_best(folder, capsys):
    assert main(["--markdown", str(folder)]) == 0  # a folder is no FILE to write
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| pretext | probe/top1 % |")
    assert lines[4].startswith("| rotation | **81.0 ± 2.5** | **best f** |")
    assert lines[5].startswith("| flip | 60.8 ± 1.9 |")
    assert any("collapsed \\| at step 4" in line for line in lines)


def test_csv_has_a_row_for_each_run_and_json_holds_everything(folder, capsys):
    rows = list(csv.DictReader(io.StringIO(show(capsys, folder, "--csv"))))
    assert [row["run"] for row in rows] == ["a-0", "a-1", "a-2", "b|c-0", "b|c-1", "b|c-2", "stopped"]
    assert {row["pretext"] for row in rows} == {"rotation", "flip"}
    numbers = [float(rows[1][f"{stage}probe/top1"]) for stage in ("", "gain/", "test/")]
    assert numbers == pytest.approx([0.82, 0.42, 0.79])
    assert rows[6]["status"] == "stopped"
    comparison = json.loads(show(capsys, folder, "--json"))
    assert (comparison["best_is_shown"], len(comparison["runs"])) == (True, 7)
    second = comparison["groups"][1]
    assert (second["values"], second["to_first"]["kind"]) == ({"0": 0.6, "1": 0.61, "2": 0.615}, "paired")


def test_files_are_written_and_one_format_goes_to_standard_output(folder, tmp_path, capsys):
    file = tmp_path / "table.csv"
    assert json.loads(show(capsys, folder, "--csv", str(file), "--json"))
    assert file.read_text().startswith("run,status")
    for words in (["--csv", "--json"], ["--html", str(folder)], ["--csv", str(tmp_path / "no/such.csv")]):
        assert main([str(folder), *words]) == 2
    assert main([str(folder), "--metric", "probe/top"]) == 2
    assert "possible are probe/top1" in capsys.readouterr().err


def test_runs_that_were_not_evaluated_are_compared_without_torch(tmp_path):
    make_run(tmp_path / "a", summary={"baseline": {}, "final": {}, "best": {}})
    assert compared(tmp_path).metric is None
    code = "import sys; from ssl_runner.__main__ import main; status = main(sys.argv[1:]); "
    code += "sys.exit(status or bool({'torch', 'scipy.stats', 'hydra'} & {*sys.modules}))"
    words = ("compare", str(tmp_path), "--html", str(tmp_path / "page.html"))
    process = start(*words, program=("-c", code))
    output = process.communicate(timeout=60)[0]
    assert (process.returncode, "seconds" in output) == (0, True), output


def test_the_page_holds_the_data_and_fetches_nothing(folder):
    html = to_html(compared(folder))
    data = data_of(html)
    assert [run["name"] for run in data["runs"]][:2] == ["a-0", "a-1"]
    assert [group["runs"] for group in data["groups"]] == [["a-0", "a-1", "a-2"], ["b|c-0", "b|c-1", "b|c-2"]]
    assert data["curves"] == ["probe/top1", "train/loss"]
    quality, losses = sorted(data["tracks"][0], key=lambda track: [*track["values"]])
    assert quality["values"] == {"0": [0, 0.12, 0.24, 0.36, 0.48]}
    assert losses["step"] == [10 * k for k in range(50)]
    assert losses["values"]["1"][1] == 1.0
    assert data["t"][:2] == pytest.approx([12.7062, 4.3027], abs=1e-4)
    assert "{{" not in html.replace(json.dumps(data), "")
    fetching = r"https?://|\bsrc\s*=(?!\"data:)|@import|url\((?!#)|\bfetch\(|XMLHttpRequest|<link rel=\"stylesheet"
    assert not re.search(fetching, html)
    assert "default-src 'none'" in html


def test_a_name_cannot_end_the_script(tmp_path):
    evil = "</script><script>alert(1)</script><!--"
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", summary={"status": "failed", "error": evil}, **pretext(evil))
    html = to_html(compared(tmp_path))
    assert (evil in html, html.count("</script>"), "<" in embed([evil])) == (False, 2, False)
    assert data_of(html)["runs"][1]["error"] == evil


def test_curves_are_thinned_and_keep_their_ends():
    a, b = ({k: (float(k), value(k)) for k in range(10_001)} for value in (lambda k: k % 2, lambda k: 1.0))
    (track,) = tracks({"a": a, "b": b}, ["a", "b"], 100)
    steps, (first, second) = track["step"], (track["values"][0], track["values"][1])
    assert len(steps) == len(first) == 100
    assert (steps[0], steps[-1], first[0], first[-1]) == (0, 10_000, 0, 0)
    assert first[50] == pytest.approx(0.5, abs=0.02)  # a mean, and no lucky point
    assert second == [1] * 100


def test_a_step_that_was_logged_again_counts_as_it_was_last(tmp_path):
    """The run went back to step 10; what was measured at a step is another row than what the training logged there."""
    rows = [
        {"step": 10, "time": 1.0, "train/loss": 3.0},
        {"step": 20, "time": 2.0, "train/loss": 9.0, "train/entropy": 4.0},
        {"step": 20, "time": 2.1, "probe/top1": 0.1},
        {"step": 30, "time": 3.0, "train/loss": 8.0},
        {"step": 20, "time": 2.2, "train/loss": 2.0},
        {"step": 20, "time": 2.3, "probe/top1": 0.2, "test/probe/top1": 0.3},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    once = {"probe/top1": {20: (2.3, 0.2)}, "train/entropy": {20: (2.0, 4.0)}}
    assert read_curves(tmp_path) == {"train/loss": {10: (1.0, 3.0), 20: (2.2, 2.0), 30: (3.0, 8.0)}, **once}


def test_a_long_run_is_read_as_no_more_points_than_a_page_shows(tmp_path):
    """Means of equal bins; what was logged together stays together, up to the last step of a late resume."""
    steps = [5_000_000 + n for n in range(10_000)]
    rows = ({"step": step, "time": float(n), "a": n % 2, "b": n} for n, step in enumerate(steps))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = read_curves(tmp_path)
    first, *others, last = curves["a"]
    assert [*curves["b"]] == [first, *others, last]
    assert (len(others), first, last, curves["b"][last]) == (MOST - 2, steps[0], steps[-1], (9999.0, 9999.0))
    assert {round(curves["a"][step][1], 1) for step in others} == {0.5}


@pytest.mark.slow
def test_three_hundred_runs_take_seconds_and_a_page_of_a_few_megabytes(tmp_path, capsys):
    for n, (lr, decay, seed) in enumerate(itertools.product(range(10), range(10), range(3))):
        config = {"optimizer": {"lr": lr, "weight_decay": decay}, "seed": seed}
        logged(make_run(tmp_path / f"{n:03d}", 0.5 + 0.01 * lr + 0.001 * seed, **config), 150)
    began, file = time.process_time(), tmp_path / "page.html"
    assert "300 completed runs in 100 groups" in show(capsys, tmp_path)
    assert time.process_time() - began < 8
    show(capsys, tmp_path, "--html", str(file))
    assert file.stat().st_size < 1.5e6
    assert max(len(track["step"]) for run in data_of(file.read_text())["tracks"] for track in run) <= MOST
