"""Run folders that a crash, a disk or a hand has damaged: a line and a status, or the same result, no traceback."""

import json

import pytest
import torch
from runs import change, config, measured, said, same, saved, summary

from ssl_runner.__main__ import main
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

BINARY = bytes(range(256)) * 8


def ends_as(folder, whole):
    return same(folder, whole) and measured(folder) == measured(whole) and summary(folder)["status"] == "completed"


def goes_on(cut, whole):
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)


def refused(folder, capsys, *words):
    """Resuming is refused in lines that hold these words, and nothing in the folder is touched."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in (".lock", "run.log")}
    capsys.readouterr()
    assert main(["resume", str(folder)]) == 2
    told = said(capsys)
    assert all(word in told for word in words), told
    assert max(map(len, told.splitlines())) < 600
    assert {p: p.read_bytes() for p in before} == before


def test_the_cut_run_itself_goes_on(cut, whole):
    goes_on(cut, whole)


# The files of a folder

TORN = {
    "empty": lambda b: b"",
    "torn": lambda b: b[: len(b) // 2 + 3],
    "binary": lambda b: BINARY,
    "zeros": lambda b: b"\0" * len(b),  # what some file systems leave of a file after a power cut
    "list": lambda b: b"[1, 2]\n",
    "number": lambda b: b"7\n",
    "unclosed": lambda b: b"a: [1, {\n",
    "tagged": lambda b: b"!!python/object/apply:os.getcwd []\n",
    "foreign": lambda b: b"lr: 0.1\n1: 2\n2026-01-01: x\n? [a, b]\n: c\n",
    "unhashable": lambda b: b"? {a: b}\n: c\n",
    "untrusted": lambda b: b.replace(b"ssl_runner.pretext.rotation.Rotation", b"os.getcwd"),
    "no class": lambda b: b.replace(b"ssl_runner.pretext.rotation.Rotation", b"ssl_runner.pretext.rotation"),
    "dates": lambda b: b.replace(b"seed: 0", b"seed: 2026-01-01"),
    "names": lambda b: b.replace(b"pretext: rotation", b"pretext: [rotation]"),
}


@pytest.mark.parametrize("damage", TORN)
def test_a_damaged_config_is_refused(cut, damage, capsys):
    file = cut / "config.yaml"
    damaged = TORN[damage](file.read_bytes())
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    refused(cut, capsys, "cut/config.yaml")


@pytest.mark.parametrize("damage", ["binary", "foreign", "unclosed", "number"])
def test_damaged_overrides_are_refused(cut, damage, capsys):
    (cut / "overrides.yaml").write_bytes(TORN[damage](b""))
    refused(cut, capsys, "cut/overrides.yaml")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("summary.json", content) for content in (b"[]", b'{"status": [1]}', BINARY, b"[" * 100_000)),
        *(("environment.json", content) for content in (b'{"versions": {"torch": []}, "dataset": {}}', BINARY)),
    ],
)
def test_what_a_run_only_tells_is_no_hindrance(cut, whole, name, content):
    (cut / name).write_bytes(content)
    goes_on(cut, whole)


ROWS = {
    "no mapping": b'[1]\n3\nnull\n"x"\n\n',
    "no step": b'{"a": 1}\n{"step": 4}\n{"time": 1.0}\n',
    "words": b'{"step": "4", "time": 1.0}\n{"step": 4, "time": "noon"}\n{"step": null, "time": null}\n',
    "worded values": b'{"step": 4, "time": 1.0, "knn/top1": "high"}\n{"step": 4, "time": 1.0, "knn/top1": null}\n',
    "lists": b'{"step": [4], "time": 1.0}\n{"step": 4, "time": 1.0, "knn/top1": [1]}\n',
    "long number": b'{"step": ' + b"4" * 5000 + b', "time": 1.0}\n',
    "deep": b"[" * 100_000 + b"\n",
    "binary": BINARY,
}


@pytest.mark.parametrize("damage", ROWS)
def test_a_damaged_row_is_left_out(tmp_path, damage):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(ROWS[damage] + b'\n{"step": 4, "time": 1.5, "knn/top1": NaN}\n' + ROWS[damage])
    (row,) = read_rows(file)
    assert row.keys() == {"step", "time", "knn/top1"}


def test_damaged_rows_are_no_hindrance(cut, whole):
    file, damage = cut / "metrics.jsonl", b"\n".join(ROWS.values())
    file.write_bytes(damage + b"\n" + file.read_bytes() + damage)
    goes_on(cut, whole)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 4, 4, 8, 8, 12, 12, 12]


def test_lost_metrics_cost_only_themselves(cut, whole):
    (cut / "metrics.jsonl").unlink()
    for each in cut.glob("events.out*"):
        each.write_bytes(BINARY)
    assert main(["resume", str(cut)]) == 0
    assert same(cut, whole)


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.log", "summary.json", "config.yaml", "overrides.yaml", ".lock"])
def test_a_folder_in_a_files_place_is_said(cut, name, capsys):
    (cut / name).unlink()
    (cut / name).mkdir()
    assert main(["resume", str(cut)]) in (1, 2)
    assert name in said(capsys)


def test_what_is_no_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for verb in ("resume", "rerun"):
        for name in ("file", "absent", "file/below", "x" * 300):
            assert main([verb, str(tmp_path / name)]) == 2, (verb, name)
    told = said(capsys)
    assert told.count("holds no run") == 4
    assert told.count("is a file, and a run goes on in its folder") == 1
    assert told.count("File name too long") == 2


# Its checkpoints


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0.1, 0.5, 1.0])
def test_a_flipped_bit_in_the_newest_checkpoint_costs_only_the_steps_since_the_one_before(cut, whole, at, capsys):
    flip(cut / "checkpoints" / "0000008.pt", at)
    goes_on(cut, whole)
    told = said(capsys)
    if "resumed at step 8" not in told:  # else the bit carries nothing, as those of the archive's padding
        assert "0000008.pt cannot be read" in told
        assert "resumed at step 4" in told


def test_no_flipped_bit_changes_what_is_loaded(cut):
    """Anywhere in the file: it is refused, or it is the same."""
    path = cut / "checkpoints" / "0000008.pt"
    good, sound, refusals = checkpoint.load(path), path.read_bytes(), 0
    for at in range(0, len(sound), len(sound) // 97):
        path.write_bytes(sound)
        flip(path, at / (len(sound) - 1))
        try:
            found = checkpoint.load(path)
        except checkpoint.Unreadable:
            refusals += 1
        else:
            assert found["step"] == 8
            for name, value in good["pretext"].items():
                assert torch.equal(found["pretext"][name], value), (at, name)
    assert refusals > 50


@pytest.mark.parametrize("damage", ["torn", "zeros"])
def test_with_no_checkpoint_left_it_begins_anew(cut, whole, damage, capsys):
    for path in checkpoint.steps(cut / "checkpoints"):
        path.write_bytes(TORN[damage](path.read_bytes()))
    goes_on(cut, whole)
    assert said(capsys).count("cannot be read") == 2


STATES = {
    "of other keys": lambda s: {"format": 1, "step": 8},
    "of numbers": lambda s: {**s, "pretext": 5, "optimizers": 6, "scalers": 7},
    "without an optimizer": lambda s: {**s, "optimizers": {}},
    "with an empty optimizer": lambda s: {**s, "optimizers": {"main": {}}},
}


@pytest.mark.parametrize("damage", STATES)
def test_a_checkpoint_that_does_not_fit_is_named(cut, damage, capsys):
    path = cut / "checkpoints" / "0000008.pt"
    torch.save(STATES[damage](torch.load(path, weights_only=True)), path)
    assert main(["resume", str(cut)]) in (1, 2)
    told = said(capsys)
    assert "0000008.pt" in told
    assert "Error" not in told, "named by what is wrong, not by a class of Python's"
    assert "Traceback" not in (cut / "run.log").read_text()


def test_a_checkpoint_of_other_widths_is_named(cut, capsys):
    content = config(cut)
    change(cut, "config.yaml", model={**content["model"], "widths": [8, 8, 16]})
    assert main(["resume", str(cut)]) == 1
    assert "0000008.pt does not fit this config" in said(capsys)
    assert summary(cut)["status"] == "failed"
    change(cut, "config.yaml", model=content["model"])
    assert main(["resume", str(cut)]) == 0, "put back, it goes on"


# Its config, changed by hand


@pytest.mark.parametrize("changed", [{"seed": 1}, {"length": "13st"}, {"length": "8st", "accumulate": 2}])
def test_a_change_that_shapes_the_result_is_refused_by_name(cut, changed, capsys):
    change(cut, "config.yaml", **changed)
    refused(cut, capsys, "cut/config.yaml", *changed)


def test_a_nested_change_is_refused(cut, capsys):
    change(cut, "config.yaml", optimizer={**config(cut)["optimizer"], "lr": 0.5})
    refused(cut, capsys, "optimizer.lr changed")


def test_how_often_it_tells_and_saves_may_change(cut, whole):
    change(cut, "config.yaml", log_every="1st", save_every="1st", show_every="1st", keep=1)
    goes_on(cut, whole)
    assert [step for step, _ in measured(cut, "train/loss")] == [4, 8, 9, 10, 11, 12]
    assert saved(cut) == [12]
