"""summary.json: by hand, and of version 0.1 in today's names and meanings."""

import json
from pathlib import Path

import pytest

from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.summary import guessed_meaning, migrated_summary, protocol_of, read_summary, summarise

SHARE, LOSS = {"better": "larger", "unit": "share"}, {"better": "smaller", "unit": "number"}
FIGURES = {"seconds": 1.234, "steps": 20, "samples_per_second": 9.87, "peak_memory_mb": 0.0}


def test_a_summary_by_hand(tmp_path: Path) -> None:
    rows = [
        {"step": 0, "knn/top1": 0.2, "held/loss": 3.0, "geometry/rankme": 7.0},
        {"step": 10, "train/loss": 0.5},
        {"step": 10, "knn/top1": 0.6, "held/loss": 1.0},
        {"step": 20, "knn/top1": 0.5, "held/loss": 2.0},
        {"step": 20, "test/knn/top1": 0.4},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({**row, "time": 1.0}) + "\n" for row in rows))
    meanings = {"knn/top1": SHARE, "test/knn/top1": SHARE, "held/loss": LOSS, "probe/top1": SHARE}
    meanings["geometry/rankme"] = {"better": None, "unit": "number"}
    summary = summarise("completed", tmp_path, meanings, ["knn/top1"], {"knn": {"version": 1}}, step=20, **FIGURES)
    assert summary["baseline"] == {"knn/top1": 0.2, "held/loss": 3.0, "geometry/rankme": 7.0}
    assert summary["final"] == {"knn/top1": 0.5, "held/loss": 2.0, "test/knn/top1": 0.4}
    assert summary["best"] == {"knn/top1": 0.6, "held/loss": 1.0}
    assert summary["metrics"] == {name: each for name, each in meanings.items() if name != "probe/top1"}
    assert (summary["seconds"], summary["samples_per_second"], summary["headlines"]) == (1.23, 9.9, ["knn/top1"])
    assert summary["protocols"] == {"knn": {"version": 1}}
    assert migrated_summary(summary) == summary


def test_version_01_is_read_in_todays_names(tmp_path: Path) -> None:
    old = {"status": "completed", "images_per_second": 524.1, "error": None, "best": {"probe/top1": 0.9}}
    old |= {"baseline": {"probe/top1": 0.1, "probe/l2": 0.01}, "final": {"probe/top1": 0.2, "probe/l2": 0.001}}
    old |= {"test": {"probe_top1": 0.3, "few_label_probe_5": 0.4, "leakage_knn_top1_clean": 0.5}}
    (tmp_path / "summary.json").write_text(json.dumps(old))
    summary = read_summary(tmp_path)
    names = {"test/probe/top1": 0.3, "test/few_label/probe_5": 0.4, "test/leakage/knn_top1_clean": 0.5}
    assert summary["final"] == {"probe/top1": 0.2, "probe/l2": 0.001, **names}
    assert "test" not in summary
    assert summary["samples_per_second"] == 524.1
    assert summary["metrics"]["test/probe/top1"] == SHARE
    assert summary["headlines"] == ["probe/top1"]
    assert summary["protocols"] == {name: {"version": 2} for name in ("probe", "few_label", "leakage")}
    assert {protocol_of(name) for name in names} == {"probe", "few_label", "leakage"}


@pytest.mark.parametrize("torn", [None, "", "[]", '{"status": "comp', "[" * 100_000])
def test_a_torn_summary_is_empty(tmp_path: Path, torn: str | None) -> None:
    if torn is not None:
        (tmp_path / "summary.json").write_text(torn)
    assert read_summary(tmp_path) == {}


def test_rows_of_version_01_are_read_in_todays_names(tmp_path: Path) -> None:
    lines = ['{"step": 1, "time": 2.0, "test/knn_top1": 0.5, "speed/images_per_second": 9}', '{"step": 2, "ti']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    row = {"step": 1, "time": 2.0, "test/knn/top1": 0.5, "speed/samples_per_second": 9}
    assert read_rows(tmp_path / "metrics.jsonl") == [row]
    assert read_rows(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize(
    ("better", "unit", "names"),
    [
        (
            "larger",
            "share",
            "probe/top1 test/knn/top5 finetune/choice_top1 cluster/nmi few_label/mean robustness/knn_blur",
        ),
        ("larger", "number", "cluster/ari factors/mean geometry/health"),
        ("smaller", "share", "leakage/leaked_share test/leakage/exact_share"),
        ("smaller", "number", "held/loss test/held/error"),
        (None, "share", "few_label/probe_5_interval"),
        (None, "number", "geometry/alignment probe/l2 finetune/epoch leakage/leaked mine/safari projector/samples"),
    ],
)
def test_meanings_that_version_01_did_not_tell(better: str | None, unit: str, names: str) -> None:
    for name in names.split():
        assert guessed_meaning(name) == {"better": better, "unit": unit}, name
