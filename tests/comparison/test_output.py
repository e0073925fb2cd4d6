"""Output of a comparison: terminal, Markdown, CSV, JSON."""

import csv
import io
import json

import pytest
from comparison_toys import compared, make_run, several

from ssl_runner.command.compare import main


def test_the_table_fits_and_says_what_matters(tmp_path, capsys):
    assert main([str(several(tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "resume" not in line) <= 120
    assert lines[3].split()[:3] == ["pretext", "probe/top1", "%"]
    assert lines[4].split()[:5] == ["rotation", "81.0", "±", "2.5", "best"]
    assert lines[5].split()[:7] == ["flip", "60.8", "±", "1.9", "-20.2", "±", "1.9"]


def test_many_differing_settings_share_a_column(tmp_path, capsys):
    for n in range(40):
        make_run(tmp_path / str(n), 0.5, optimizer={f"setting_{k}": n * k for k in range(1, 8)})
    assert main([str(tmp_path), "--rows", "5"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    assert "setting_7=70" in out
    assert "... 35 more groups" in out


def test_markdown_escapes_and_marks_the_best(tmp_path, capsys):
    folder = several(tmp_path)
    assert main(["--markdown", str(folder)]) == 0  # a folder is no FILE to write
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| pretext | probe/top1 % |")
    assert lines[4].startswith("| rotation | **81.0 ± 2.5** | **best f** |")
    assert any("collapsed \\| at step 4" in line for line in lines)


def test_csv_has_a_row_for_each_run(tmp_path, capsys):
    assert main([str(several(tmp_path)), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run"] for row in rows] == ["a-0", "a-1", "a-2", "b|c-0", "b|c-1", "b|c-2", "stopped"]
    assert {row["pretext"] for row in rows} == {"rotation", "flip"}
    assert float(rows[1]["probe/top1"]) == 0.82
    assert float(rows[1]["gain/probe/top1"]) == pytest.approx(0.42)
    assert float(rows[1]["test/probe/top1"]) == 0.79
    assert rows[6]["status"] == "stopped"


def test_json_holds_everything(tmp_path, capsys):
    assert main([str(several(tmp_path)), "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["best_is_shown"]
    assert comparison["groups"][1]["values"] == {"0": 0.6, "1": 0.61, "2": 0.615}
    assert comparison["groups"][1]["to_first"]["kind"] == "paired"
    assert len(comparison["runs"]) == 7


def test_files_are_written_and_one_format_goes_to_standard_output(tmp_path, capsys):
    folder, file = several(tmp_path), tmp_path / "table.csv"
    assert main([str(folder), "--csv", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert file.read_text().startswith("run,status")
    assert main([str(folder), "--csv", "--json"]) == 2
    assert main([str(folder), "--html", str(folder)]) == 2
    assert main([str(folder), "--csv", str(tmp_path / "no/such.csv")]) == 2
    assert main([str(folder), "--metric", "probe/top"]) == 2
    assert "possible are probe/top1" in capsys.readouterr().err


def test_runs_that_were_not_evaluated(tmp_path, capsys):
    make_run(tmp_path / "a", summary={"baseline": {}, "final": {}, "best": {}})
    assert compared(tmp_path).metric is None
    assert main([str(tmp_path), "--html", str(tmp_path / "page.html")]) == 0
    assert "seconds" in capsys.readouterr().out
