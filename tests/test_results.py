"""The results table, on made-up run folders."""

import json
import runpy
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[1] / "scripts" / "results.py"
main = runpy.run_path(str(SCRIPT))["main"]


def make(folder: Path, summary: dict | None = None, config: dict | None = None) -> Path:
    folder.mkdir(parents=True)
    numbers = {
        "status": "completed",
        "step": 1400,
        "steps": 1400,
        "seconds": 1234.56,
        "images_per_second": 4321.0,
        "peak_memory_mb": 512.0,
        "baseline": {"knn/top1": 0.3333, "probe/top1": 0.4, "probe/l2": 0.001},
        "final": {"knn/top1": 0.71, "probe/top1": 0.80125, "probe/l2": 0.0001},
        "best": {"knn/top1": 0.72, "probe/top1": 0.80125},
        "test": {"knn_top1": 0.7, "probe_top1": 0.79, "probe_l2": 0.0001},
        "error": None,
    }
    settings = {
        "choices": {"pretext": "rotation", "dataset": "shapes", "model": "convnet_small", "optimizer": "adamw"},
        "pretext": {"_target_": "ssl_runner.pretext.rotation.Rotation"},
        "dataset": {"_target_": "ssl_runner.dataset.shapes.Shapes"},
        "model": {"_target_": "ssl_runner.model.convnet.ConvNet"},
        "seed": 3,
        "length": "20ep",
    }
    (folder / "summary.json").write_text(json.dumps(numbers | (summary or {})))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | (config or {})))
    return folder


def table(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_one_run(tmp_path, capsys):
    run = make(tmp_path / "2026-01-31_12-00-00-1f3a")
    assert main([str(run)]) == 0
    heads, rule, row = table(capsys)
    assert heads == ["run", "pretext", "dataset", "model", "seed", "length", "knn", "probe", "test", "s", "images/s"]
    assert rule == ["---"] * len(heads)
    assert row[:6] == [run.name, "rotation", "shapes", "convnet_small", "3", "20ep"]
    assert row[6:] == ["33.33 → 71.00", "40.00 → 80.12", "70.00 / 79.00", "1,235", "4,321"]


def test_a_tree_of_runs_in_the_order_of_their_paths_and_none_twice(tmp_path, capsys):
    make(tmp_path / "outputs/rotation-shapes/b")
    make(tmp_path / "outputs/rotation-shapes/a")
    nested = make(tmp_path / "outputs/sweeps/lr/000-lr-0.1")
    (tmp_path / "outputs/rotation-shapes/unstarted").mkdir()
    assert main([str(tmp_path / "outputs"), str(nested)]) == 0
    names = [row[0] for row in table(capsys)[2:]]
    assert names == ["rotation-shapes/a", "rotation-shapes/b", "sweeps/lr/000-lr-0.1"]


def test_what_was_not_measured_is_a_dash(tmp_path, capsys):
    """Runs with different evaluators share the columns; an interrupted run says how far it came."""
    make(tmp_path / "a", {"baseline": {"knn/top1": 0.5}, "final": {"knn/top1": 0.6}, "test": {"knn_top1": 0.55}})
    make(tmp_path / "b", {"status": "interrupted", "step": 70, "final": {}, "test": {}})
    assert main([str(tmp_path)]) == 0
    heads, _, a, b = table(capsys)
    assert heads[6:9] == ["knn", "probe", "test"]
    assert a[6:9] == ["50.00 → 60.00", "- → -", "55.00 / -"]
    assert b[0] == "b (interrupted at step 70 of 1,400)"
    assert b[6:9] == ["33.33 → -", "40.00 → -", ""]


def test_runs_that_were_not_evaluated(tmp_path, capsys):
    make(tmp_path / "a", {"baseline": {}, "final": {}, "best": {}, "test": {}})
    assert main([str(tmp_path)]) == 0
    heads, _, row = table(capsys)
    assert heads[5:] == ["length", "test", "s", "images/s"]
    assert len(row) == len(heads)


def test_without_choices_the_class_is_named(tmp_path, capsys):
    make(tmp_path / "a", config={"choices": {}})
    assert main([str(tmp_path / "a")]) == 0
    assert table(capsys)[2][1:4] == ["Rotation", "Shapes", "ConvNet"]


def test_a_bar_in_a_name_does_not_make_a_column(tmp_path, capsys):
    make(tmp_path / "a|b")
    main([str(tmp_path)])
    assert "| a\\|b |" in capsys.readouterr().out


@pytest.mark.parametrize("torn", ['{"status": "comp', "[]", "{}", ""])
def test_a_torn_summary_is_named_and_the_rest_shown(tmp_path, capsys, torn):
    make(tmp_path / "good")
    (make(tmp_path / "bad") / "summary.json").write_text(torn)
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert [line.split(" ")[1] for line in printed.out.splitlines()[2:]] == ["good"]
    assert printed.err.count("\n") == 1
    assert f"{tmp_path / 'bad'} is left out: " in printed.err


def test_a_missing_config_is_named(tmp_path, capsys):
    (make(tmp_path / "bad") / "config.yaml").unlink()
    assert main([str(tmp_path)]) == 1
    assert "config.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "words"), [("absent", "is no folder"), (".", "holds no run")])
def test_no_runs_is_an_error_in_one_line(tmp_path, capsys, name, words):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / name)])
    assert words in capsys.readouterr().err.splitlines()[-1]
