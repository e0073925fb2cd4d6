"""Files of a run folder: written whole or not at all, one run's own, and read in any version's names."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
import torch

from ssl_runner.errors import Refused
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.lock import claim, claim_new, locked
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.summary import (
    guessed_meaning,
    migrated_summary,
    protocol_of,
    read_summary,
    summarise_numbers,
)

MEANINGS = {  # by which side is better and the unit; as version 0.1 did not tell them
    ("larger", "share"): "probe/top1 test/knn/top5 finetune/choice_top1 cluster/nmi few_label/mean robustness/knn_blur",
    ("larger", "number"): "cluster/ari factors/mean geometry/health",
    ("smaller", "share"): "leakage/leaked_share test/leakage/exact_share",
    ("smaller", "number"): "held/loss test/held/error",
    (None, "share"): "few_label/probe_5_interval",
    (None, "number"): "geometry/alignment probe/l2 finetune/epoch leakage/leaked mine/safari projector/samples",
}


def test_checkpoints_are_kept_by_number_and_found_newest_first(tmp_path):
    for name in (
        ".0000001.pt.abc.tmp",
        "0000001.pt.abcdefgh.half",
    ):  # left by killed processes of 0.1 and of this version
        (tmp_path / name).write_bytes(b"half")
    for step in (5, 10, 10_000_000, 15):
        checkpoint.save(tmp_path, step, {"w": torch.full((3,), float(step))}, keep=3)
    names = ["0000010.pt", "0000015.pt", "10000000.pt"]
    assert [path.name for path in checkpoint.steps(tmp_path)] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert next(checkpoint.newest_first(tmp_path))[1]["step"] == 10_000_000
    assert not list(checkpoint.newest_first(tmp_path / "absent"))


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    checkpoint.write(path, b"old")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "nothing half-written stays"


def test_a_folder_is_one_runs_own(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(claim_new, [tmp_path] * 80))) == 80
    taken = claim(tmp_path / "a" / "b")
    assert claim(taken) == taken, "an empty folder may be given"
    for _ in range(2):
        with locked(taken), pytest.raises(Refused, match="running process"), locked(taken):
            pass
    (taken / "config.yaml").write_text("")
    with pytest.raises(Refused, match="ssl-runner resume"):
        claim(taken)


def test_a_summary_by_hand(tmp_path):
    rows = [
        {"step": 0, "knn/top1": 0.2, "held/loss": 3.0, "geometry/rankme": 7.0},
        {"step": 10, "train/loss": 0.5},
        {"step": 10, "knn/top1": 0.6, "held/loss": 1.0},
        {"step": 20, "knn/top1": 0.5, "held/loss": 2.0},
        {"step": 20, "test/knn/top1": 0.4},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({**row, "time": 1.0}) + "\n" for row in rows))
    meanings = {name: guessed_meaning(name) for name in ("knn/top1", "test/knn/top1", "held/loss", "geometry/rankme")}
    meanings = {name: guessed_meaning(name) for name in ("knn/top1", "test/knn/top1", "held/loss", "geometry/rankme")}
    summary = summarise_numbers(tmp_path, {**meanings, "probe/top1": guessed_meaning("probe/top1")}, step=20)
    first, best = {"knn/top1": 0.2, "held/loss": 3.0, "geometry/rankme": 7.0}, {"knn/top1": 0.6, "held/loss": 1.0}
    last = {"knn/top1": 0.5, "held/loss": 2.0, "test/knn/top1": 0.4}
    assert summary == summary | {"baseline": first, "final": last, "best": best, "metrics": meanings}
    first, best = {"knn/top1": 0.2, "held/loss": 3.0, "geometry/rankme": 7.0}, {"knn/top1": 0.6, "held/loss": 1.0}
    last = {"knn/top1": 0.5, "held/loss": 2.0, "test/knn/top1": 0.4}
    assert summary == summary | {"baseline": first, "final": last, "best": best, "metrics": meanings}
    assert migrated_summary(summary) == summary
    assert "raw" not in summary
    row = {"step": 0, "time": 1.0, "raw/knn/top1": 0.3, "raw/knn/top5": 0.6}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with_raw = summarise_numbers(tmp_path, meanings, step=20)
    assert with_raw == {**summary, "raw": {"knn/top1": 0.3}}, "a number without a meaning is left out"


def test_version_01_is_read_in_todays_names(tmp_path):
    old = {"status": "completed", "images_per_second": 524.1, "error": None, "best": {"probe/top1": 0.9}}
    old |= {"baseline": {"probe/top1": 0.1, "probe/l2": 0.01}, "final": {"probe/top1": 0.2, "probe/l2": 0.001}}
    old |= {"test": {"probe_top1": 0.3, "few_label_probe_5": 0.4, "leakage_knn_top1_clean": 0.5}}
    (tmp_path / "summary.json").write_text(json.dumps(old))
    summary = read_summary(tmp_path)
    names = {"test/probe/top1": 0.3, "test/few_label/probe_5": 0.4, "test/leakage/knn_top1_clean": 0.5}
    assert summary["final"] == {"probe/top1": 0.2, "probe/l2": 0.001, **names}
    assert (summary.get("test"), summary["samples_per_second"], summary["headlines"]) == (None, 524.1, ["probe/top1"])
    assert summary["metrics"]["test/probe/top1"] == guessed_meaning("probe/top1")
    assert summary["protocols"] == {name: {"version": 2} for name in ("probe", "few_label", "leakage")}
    assert {protocol_of(name) for name in names} == {"probe", "few_label", "leakage"}
    lines = ['{"step": 1, "time": 2.0, "test/knn_top1": 0.5, "speed/images_per_second": 9}', '{"step": 2, "ti']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    row = {"step": 1, "time": 2.0, "test/knn/top1": 0.5, "speed/samples_per_second": 9}
    assert read_rows(tmp_path / "metrics.jsonl") == [row]
    assert read_rows(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("torn", ["", "[]", '{"status": "comp', "[" * 100_000])
def test_a_torn_summary_is_empty(tmp_path, torn):
    (tmp_path / "summary.json").write_text(torn)
    assert read_summary(tmp_path) == read_summary(tmp_path / "absent") == {}


@pytest.mark.parametrize(("better", "unit"), MEANINGS)
def test_meanings_that_version_01_did_not_tell(better, unit):
    for name in MEANINGS[better, unit].split():
        assert guessed_meaning(name) == {"better": better, "unit": unit}, name
