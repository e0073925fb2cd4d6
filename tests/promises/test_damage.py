"""Run folders that a crash, a disk or a hand has damaged: a line and a status, or the same result, no traceback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY
from safetensors.torch import load_file
from torch import Tensor

from ssl_runner.__main__ import main
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

BARE = [*TINY, "evaluator=none", "length=2st", "log_every=1st"]
WORDS = [*TINY, "evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=4st", "save_every=4st", "keep=9"]
BINARY = bytes(range(256)) * 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never disturbed, with its checkpoints of steps 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*WORDS, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def cut(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same run, killed after step 8."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cut"
    shutil.copytree(whole, folder)
    for name in ("checkpoints/0000012.pt", "encoder.safetensors", "encoder.yaml"):
        (folder / name).unlink()
    change(folder, "summary.json", status="running")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(folder: Path, name: str, **values: Any) -> None:
    content = yaml.safe_load((folder / name).read_text())
    text = json.dumps({**content, **values}) if name.endswith("json") else yaml.safe_dump({**content, **values})
    (folder / name).write_text(text)


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def outcome(folder: Path) -> tuple[dict[str, Tensor], list, dict]:
    """What a run has come to: its encoder, what was measured, and when."""
    measured = [(row["step"], row["knn/top1"]) for row in read_rows(folder / "metrics.jsonl") if "knn/top1" in row]
    return load_file(folder / "encoder.safetensors"), measured, summary(folder)["final"]


def ends_as(folder: Path, whole: Path) -> bool:
    (a, *numbers), (b, *others) = outcome(folder), outcome(whole)
    same = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    return same and numbers == others and summary(folder)["status"] == "completed"


def said(capsys: pytest.CaptureFixture) -> str:
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return out + err


def refused(folder: Path, capsys: pytest.CaptureFixture, *words: str) -> None:
    """Resuming is refused in lines that hold these words, and nothing in the folder is touched."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in (".lock", "run.log")}
    capsys.readouterr()
    assert main(["resume", str(folder)]) == 2
    told = said(capsys)
    for word in words:
        assert word in told
    assert max(map(len, told.splitlines())) < 600
    assert {p: p.read_bytes() for p in before} == before


def test_the_cut_run_itself_goes_on(cut: Path, whole: Path) -> None:
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)


# The files of a folder

TORN: dict[str, Callable[[bytes], bytes]] = {
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
def test_a_damaged_config_is_refused(cut: Path, damage: str, capsys: pytest.CaptureFixture) -> None:
    file = cut / "config.yaml"
    damaged = TORN[damage](file.read_bytes())
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    refused(cut, capsys, "cut/config.yaml")


@pytest.mark.parametrize("damage", ["binary", "foreign", "unclosed", "number"])
def test_damaged_overrides_are_refused(cut: Path, damage: str, capsys: pytest.CaptureFixture) -> None:
    (cut / "overrides.yaml").write_bytes(TORN[damage](b""))
    refused(cut, capsys, "cut/overrides.yaml")


@pytest.mark.parametrize("content", [b"[]", b'{"status": [1]}', BINARY, b"[" * 100_000])
def test_a_damaged_summary_is_no_hindrance(cut: Path, whole: Path, content: bytes) -> None:
    (cut / "summary.json").write_bytes(content)
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)


@pytest.mark.parametrize("content", [b'{"versions": {"torch": []}, "dataset": {}}', BINARY])
def test_a_damaged_environment_is_no_hindrance(cut: Path, whole: Path, content: bytes) -> None:
    (cut / "environment.json").write_bytes(content)
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)


ROWS: dict[str, bytes] = {
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
def test_a_damaged_row_is_left_out(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(ROWS[damage] + b'\n{"step": 4, "time": 1.5, "knn/top1": NaN}\n' + ROWS[damage])
    (row,) = read_rows(file)
    assert row.keys() == {"step", "time", "knn/top1"}


def test_damaged_rows_are_no_hindrance(cut: Path, whole: Path) -> None:
    file, damage = cut / "metrics.jsonl", b"\n".join(ROWS.values())
    file.write_bytes(damage + b"\n" + file.read_bytes() + damage)
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 4, 4, 8, 8, 12, 12, 12]


def test_lost_metrics_cost_only_themselves(cut: Path, whole: Path) -> None:
    (cut / "metrics.jsonl").unlink()
    for each in cut.glob("events.out*"):
        each.write_bytes(BINARY)
    assert main(["resume", str(cut)]) == 0
    assert torch.equal(*(load_file(x / "encoder.safetensors")["mean"] for x in (cut, whole)))
    assert summary(cut)["final"] == summary(whole)["final"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.log", "summary.json", "config.yaml", "overrides.yaml", ".lock"])
def test_a_folder_in_a_files_place_is_said(cut: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    (cut / name).unlink()
    (cut / name).mkdir()
    assert main(["resume", str(cut)]) in (1, 2)
    assert name in said(capsys)


def test_what_is_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "absent", "file/below", "x" * 300):
        assert main(["resume", str(tmp_path / name)]) == 2
    told = said(capsys)
    assert told.count("holds no run") == 3
    assert "File name too long" in told


# Its checkpoints


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0.1, 0.5, 1.0])
def test_a_flipped_bit_in_the_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    cut: Path, whole: Path, at: float, capsys: pytest.CaptureFixture
) -> None:
    newest = cut / "checkpoints" / "0000008.pt"
    flip(newest, at)
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)
    told = said(capsys)
    if "resumed at step 8" not in told:  # else the bit carries nothing, as those of the archive's padding
        assert "0000008.pt cannot be read" in told
        assert "resumed at step 4" in told


def test_no_flipped_bit_changes_what_is_loaded(cut: Path) -> None:
    """Anywhere in the file: it is refused, or it is the same."""
    path = cut / "checkpoints" / "0000008.pt"
    good, sound = checkpoint.load(path), path.read_bytes()
    refusals = 0
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
def test_with_no_checkpoint_left_it_begins_anew(
    cut: Path, whole: Path, damage: str, capsys: pytest.CaptureFixture
) -> None:
    for path in checkpoint.steps(cut / "checkpoints"):
        path.write_bytes(TORN[damage](path.read_bytes()))
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)
    assert said(capsys).count("cannot be read") == 2


STATES: dict[str, Callable[[dict], Any]] = {
    "of other keys": lambda s: {"format": 1, "step": 8},
    "of numbers": lambda s: {**s, "pretext": 5, "optimizers": 6, "scalers": 7},
    "without an optimizer": lambda s: {**s, "optimizers": {}},
    "with an empty optimizer": lambda s: {**s, "optimizers": {"main": {}}},
}


@pytest.mark.parametrize("damage", STATES)
def test_a_checkpoint_that_does_not_fit_is_named(cut: Path, damage: str, capsys: pytest.CaptureFixture) -> None:
    path = cut / "checkpoints" / "0000008.pt"
    torch.save(STATES[damage](torch.load(path, weights_only=True)), path)
    assert main(["resume", str(cut)]) in (1, 2)
    told = said(capsys)
    assert "0000008.pt" in told
    assert "Error" not in told, "named by what is wrong, not by a class of Python's"
    assert "Traceback" not in (cut / "run.log").read_text()


def test_a_checkpoint_of_other_widths_is_named(cut: Path, capsys: pytest.CaptureFixture) -> None:
    content = yaml.safe_load((cut / "config.yaml").read_text())
    change(cut, "config.yaml", model={**content["model"], "widths": [8, 8, 16]})
    assert main(["resume", str(cut)]) == 1
    told = said(capsys)
    assert "0000008.pt does not fit this config" in told
    assert summary(cut)["status"] == "failed"
    change(cut, "config.yaml", model=content["model"])
    assert main(["resume", str(cut)]) == 0, "put back, it goes on"


# Its config, changed by hand


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"length": "13st"},
        {"length": "8st", "accumulate": 2},
    ],
)
def test_a_change_that_shapes_the_result_is_refused_by_name(
    cut: Path, changed: dict[str, Any], capsys: pytest.CaptureFixture
) -> None:
    change(cut, "config.yaml", **changed)
    refused(cut, capsys, "cut/config.yaml", *changed)


def test_a_nested_change_is_refused(cut: Path, capsys: pytest.CaptureFixture) -> None:
    content = yaml.safe_load((cut / "config.yaml").read_text())
    change(cut, "config.yaml", optimizer={**content["optimizer"], "lr": 0.5})
    refused(cut, capsys, "optimizer.lr changed")


def test_how_often_it_tells_and_saves_may_change(cut: Path, whole: Path) -> None:
    change(cut, "config.yaml", log_every="1st", save_every="1st", show_every="1st", keep=1)
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)
    assert [row["step"] for row in read_rows(cut / "metrics.jsonl") if "train/loss" in row] == [4, 8, 9, 10, 11, 12]
    assert [path.name for path in checkpoint.steps(cut / "checkpoints")] == ["0000012.pt"]


# Weights that overflow

EACH = ("length=4st", "save_every=1st", "evaluator=none")
MEASURED = ("evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=1st")
OVERFLOWS = {
    "in the only step": ("length=1st", "evaluator=none", "regulariser=l2", "regulariser.weight=1e4"),
    "by and by": EACH,
    "seen at the end": ("length=4st", "evaluator=none", "log_every=100%"),
    "in the features alone": ("length=4st", *MEASURED),
}


def overflown(folder: Path, capsys: pytest.CaptureFixture, *words: str) -> str:
    """What a run of too large steps says; nothing that is not finite may be left by it."""
    given = [each for each in TINY if not each.startswith("length=")]
    assert main([*given, "optimizer=sgd", "optimizer.warm_up=0st", *words, f"hydra.run.dir={folder}"]) == 1
    assert not (folder / "encoder.safetensors").exists()
    assert summary(folder)["status"] == "failed"
    for path in checkpoint.steps(folder / "checkpoints"):
        assert all(t.isfinite().all() for t in checkpoint.load(path)["pretext"].values() if t.is_floating_point())
    return said(capsys)


@pytest.mark.parametrize("case", OVERFLOWS)
def test_weights_that_overflow_are_never_saved(case: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "run"
    told = overflown(folder, capsys, "optimizer.lr=3e38", *OVERFLOWS[case])
    assert "finite" in told
    assert "optimizer.lr" in told
    assert "checkpoint" in told
    assert "Traceback" not in (folder / "run.log").read_text(), "a run that diverges is no bug"


@pytest.mark.parametrize(("optimizer", "said"), [("adamw", "not finite"), ("lars", "overflow")])
def test_a_rate_beyond_float32_ends_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, optimizer: str, said: str
) -> None:
    assert said in overflown(tmp_path / "run", capsys, f"optimizer={optimizer}", "optimizer.lr=1e300", *EACH)


# A disk that is full


def limited(bytes_: int, *words: str) -> subprocess.CompletedProcess:
    """A process that may write no file larger than this, as on a disk with so much room."""
    begin = (
        "import resource, sys; from ssl_runner.__main__ import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_}, {bytes_})); sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", begin, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(whole: Path, here: Path) -> None:
    done = limited(30_000, *WORDS, "hydra.run.dir=full")  # TensorBoard's file comes to that first
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert "File too large" in done.stdout
    assert "ssl-runner resume full" in done.stdout
    assert not (here / "full" / "encoder.safetensors").exists()
    assert summary(here / "full")["status"] == "failed"
    assert main(["resume", "full"]) == 0
    assert ends_as(here / "full", whole)


def test_a_disk_without_any_room_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_runner.run.begin.write", full)
    assert main([*BARE, "hydra.run.dir=full"]) == 2
    assert "run folder: [Errno 28] No space left" in said(capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_the_disk_refuses_stops_nothing(cut: Path, whole: Path, capsys: pytest.CaptureFixture) -> None:
    (cut / "run.log").unlink()
    (cut / "run.log").symlink_to("/dev/full")
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)
    assert "Logging error" not in said(capsys)


# Ctrl-C before the run


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_while_data_is_read_is_130(
    cut: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Shapes, "load", interrupted)
        assert main([*BARE, "hydra.run.dir=new"]) == 130
        assert not (tmp_path / "new").exists()
        assert main(["resume", str(cut)]) == 130
    assert "interrupted" in said(capsys)
    assert main(["resume", str(cut)]) == 0
    assert ends_as(cut, whole)


# Sweeps and folders


def jobs(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if (each / "encoder.safetensors").exists())


def test_a_sweep_folder_that_cannot_be_is_refused(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "file").write_text("")
    for place in ("file", "file/below", "x" * 300):
        assert main(["-m", *BARE, "seed=1,2", f"hydra.sweep.dir={place}"]) == 2
        assert main([*BARE, f"hydra.run.dir={place}"]) == 2
    told = said(capsys)
    assert told.count("is a file") == 4
    assert told.count("File name too long") == 2
    assert [each.name for each in here.iterdir()] == ["file"]


def test_a_value_given_twice_is_run_once(here: Path) -> None:
    assert main(["-m", *BARE, "seed=1,1,2,1", "hydra.sweep.dir=sweep"]) == 0
    assert jobs(here / "sweep") == ["000-seed-1", "001-seed-2"]


def test_a_sweep_by_a_pattern_over_a_group(here: Path) -> None:
    assert main(["-m", *BARE, "regulariser=glob([k*,n*])", "hydra.sweep.dir=sweep"]) == 0
    assert jobs(here / "sweep") == ["000-koleo", "001-regulariser-none"]
    assert yaml.safe_load((here / "sweep/001-regulariser-none/config.yaml").read_text())["seed"] == 0


@pytest.mark.parametrize(
    "word",
    [
        *("regulariser=glob(zz*)", "seed=glob(*)"),
        *("seed=interval(0,1)", "seed=,", "seed=1,x"),
    ],
)
def test_a_sweep_over_nothing_is_refused(here: Path, word: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["-m", *BARE, word]) == 2
    assert len(said(capsys).splitlines()) <= 3
    assert not list(here.iterdir())


def test_any_name_of_a_folder_is_taken_as_it_is(here: Path, capsys: pytest.CaptureFixture) -> None:
    name = "a [bold] [0-9] [red]x[/red] [/] %(step)s {0} ü"
    assert main([*BARE, f"hydra.run.dir='{name}/run'"]) == 0
    assert f"run folder:   {name}/run" in said(capsys)
    folder = here / name / "run"
    (folder / "summary.json").unlink()
    assert main(["resume", f"{name}/run"]) == 0
    assert main([*BARE, f"hydra.run.dir='{name}/run'"]) == 2
    assert f"{name}/run exists" in said(capsys)
