"""A run again from its own config: bit-identical, or it says in what it is not, and what was not as before."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny
from engine_toys import After
from safetensors.torch import load_file, save_file

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.run import session as runs
from ssl_runner.run_folder.diff import compare
from ssl_runner.run_folder.environment import changes
from ssl_runner.run_folder.layout import WEIGHTS


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(tiny("pretext=simclr", f"hydra.run.dir={folder}")) == 0
    return folder


@pytest.fixture
def old(finished: Path) -> Path:
    shutil.copytree(finished, "old")
    return Path("old")


def edit(path: Path, change: Callable[[dict], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and time of change, and each folder's."""
    return {str(f): (f.read_bytes() if f.is_file() else b"", f.stat().st_mtime_ns) for f in folder.rglob("*")}


def stop_after(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts the next run after so many steps."""

    class Planned(Interrupt, After):
        def __init__(self) -> None:
            self._before = {}
            self.turns = turns

        signal = After.signal  # type: ignore[assignment]

    monkeypatch.setattr(runs, "Interrupt", Planned)


def test_a_run_again_is_bit_identical_and_leaves_the_old_one_alone(old: Path, capsys: pytest.CaptureFixture) -> None:
    before, time = state(old), old.stat().st_mtime_ns
    capsys.readouterr()
    assert main(["rerun", "old", "--strict"]) == 0
    assert (state(old), old.stat().st_mtime_ns) == (before, time)
    (new,) = Path("outputs/simclr-shapes").iterdir()
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "bit-identical"
    assert said.startswith("code, versions, data, device and threads are as they were")
    assert f"all {len(load_file(old / WEIGHTS))} tensors are bit-identical" in said
    summary = json.loads((old / "summary.json").read_text())
    table = [line.split() for line in said.splitlines()]
    for part in ("baseline", "final"):
        for name, value in summary[part].items():
            assert [part, name, f"{value:.6g}", f"{value:.6g}", "0"] in table
    assert (new / "config.yaml").read_text() == (old / "config.yaml").read_text()
    assert (new / "overrides.yaml").read_text() == (old / "overrides.yaml").read_text()
    assert "as they were" in (new / "run.log").read_text()


def test_an_interrupted_and_resumed_run_equals_its_rerun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as here:
        stop_after(6, here)  # amid the training averages of step 8
        assert main(tiny("pretext=byol", "hydra.run.dir=old")) == 130
    shutil.copytree("old", "interrupted")
    assert main(["resume", "old"]) == 0
    assert main(["rerun", "old", "--to", "new", "--strict"]) == 0
    said = capsys.readouterr().out
    assert "left out: training averages of step 8, amid which the old run was resumed" in said
    assert said.splitlines()[-1] == "bit-identical"
    found = compare(Path("interrupted"), Path("new"))
    assert found.unfinished == ["the old run is interrupted"]
    assert found.identical
    assert found.step == 6
    assert found.compared >= 3, "measured at 0 and 3, logged at 4; at 6 the new one alone has measured"
    edit(Path("interrupted/summary.json"), lambda s: s.update(status="running", step=0))  # as a killed run leaves it
    found = compare(Path("interrupted"), Path("new"))
    assert found.identical
    assert 4 <= found.step < 6


def test_other_data_is_said_before_the_start_and_its_numbers_after(old: Path, capsys: pytest.CaptureFixture) -> None:
    config = (old / "config.yaml").read_text()
    assert "size: 32\n  seed: 0" in config
    (old / "config.yaml").write_text(config.replace("size: 32\n  seed: 0", "size: 32\n  seed: 1"))
    edit(old / "environment.json", lambda e: e["versions"].update(torch="1.0.0"))
    capsys.readouterr()
    assert main(["rerun", "old", "--to", "new", "--strict"]) == 1
    said = capsys.readouterr().out
    first = said[: said.index("run folder")]
    assert "fingerprint of the data was" in first
    assert "torch was 1.0.0, is" in first
    assert "not bit-identical: largest difference" in said.splitlines()[-1]
    assert "tensors differ" in said
    assert main(["rerun", "old", "--to", "new"]) == 2, "an occupied folder"


def test_each_planted_difference_of_the_surroundings_has_its_line(old: Path) -> None:
    new = Path(shutil.copytree(old, "new"))
    assert changes(old, new) == []
    edit(new / "environment.json", lambda e: e.update(threads=e["threads"] + 1, host="elsewhere", dataset="0" * 32))
    edit(new / "environment.json", lambda e: e.update(device="NVIDIA, bf16", commit="f" * 40, dirty=True))
    edit(new / "environment.json", lambda e: e["versions"].update(numpy="0", python="2"))
    edit(new / "environment.json", lambda e: e["versions"].pop("timm"))
    lines = changes(old, new)
    starts = ("python was", "timm was", "numpy was", "code was", "fingerprint", "device was cpu", "host was", "threads")
    assert len(lines) == len(starts)
    assert all(any(line.startswith(start) for line in lines) for start in starts), lines
    assert "OMP_NUM_THREADS=1 ssl-runner rerun old" in lines[-1]
    assert any(line.endswith("is commit fffffff, with changes") for line in lines)
    assert any("is None" in line for line in lines if line.startswith("timm"))


def test_uncommitted_changes_differ(old: Path) -> None:
    new = Path(shutil.copytree(old, "new"))
    (new / "source.diff").write_text("+ another line\n")
    assert changes(old, new) == [f"uncommitted changes of the code differ: see {old / 'source.diff'} and git diff"]
    (old / "environment.json").write_text("{torn")
    assert "is not known" in changes(old, new)[0]


def test_planted_differences_of_the_result_are_seen(old: Path) -> None:
    new = Path(shutil.copytree(old, "new"))
    same = compare(old, new)
    assert same.identical
    assert same.tensors > 4
    assert not same.unfinished

    weights = load_file(new / WEIGHTS)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] = torch.nextafter(weights[name].view(-1)[0], torch.tensor(10.0))  # one bit
    save_file(weights, new / WEIGHTS)
    found = compare(old, new)
    assert not found.identical
    assert [each.where for each in found.weights] == [name]
    assert 0 < found.weights[0].size < 1e-6
    shutil.copy(old / WEIGHTS, new / WEIGHTS)

    edit(old / "summary.json", lambda s: s["final"].update({"knn/top1": s["final"]["knn/top1"] + 0.25}))
    (_, differs, _) = compare(old, new).kinds
    assert [each.where for each in differs] == ["final knn/top1"]
    assert differs[0].size == pytest.approx(0.25)
    edit(old / "summary.json", lambda s: s["final"].pop("knn/top1"))
    (_, differs, _) = compare(old, new).kinds
    assert str(differs[0]) == "final knn/top1 in one alone"
    shutil.copy(new / "summary.json", old / "summary.json")

    rows = (new / "metrics.jsonl").read_text().splitlines()
    (new / "metrics.jsonl").write_text("\n".join(rows[:-1]) + "\n")
    assert {each.where for each in compare(old, new).rows} >= {"test/knn/top1 of step 12"}
    (new / "metrics.jsonl").unlink()
    assert not compare(old, new).identical


def test_time_and_speed_are_no_difference(old: Path) -> None:
    new = Path(shutil.copytree(old, "new"))
    rows = [json.loads(line) for line in (new / "metrics.jsonl").read_text().splitlines()]
    slower = [{k: 2 * v if k == "time" or k.startswith("speed/") else v for k, v in row.items()} for row in rows]
    (new / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in slower))
    assert compare(old, new).identical
    assert compare(old, new).compared == len({(r["step"], "train/loss" in r) for r in rows})


def test_what_cannot_be_run_again_is_refused_with_all_lines(old: Path, capsys: pytest.CaptureFixture) -> None:
    config = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(config.replace("batch_size: 16", "batch_size: -1\nof_old: 3"))
    assert main(["rerun", "old"]) == 2
    assert main(["rerun", "absent"]) == 2
    (old / "config.yaml").write_text(config)
    assert main(["rerun", "old", "--to", "old/new"]) == 2
    said = capsys.readouterr().err
    for words in ("batch_size: given -1", "of_old", "absent holds no run", "old/new lies in the folder of the run"):
        assert words in said
    assert not Path("outputs").exists()


# Overrides on top of a recorded run


def test_a_changed_setting_is_said_and_no_surprise(old: Path, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    assert main(["rerun", "old", "optimizer.lr=0.02", "optimizer=sgd", "--to", "new"]) == 0
    said = capsys.readouterr().out
    first = said[: said.index("run folder")]
    assert "settings that differ:\n" in first
    assert "  optimizer._target_: ssl_runner.optimizer.adamw.AdamW -> ssl_runner.optimizer.sgd.SGD\n" in first
    assert "  optimizer.lr: 0.001 -> 0.02\n" in first
    assert "code, versions, data, device and threads are as they were" in first
    assert said.splitlines()[-1].startswith("the settings differ, and so do the numbers: largest difference ")
    assert "not bit-identical" not in said
    new = files.read(Path("new/config.yaml"))
    assert new["choices"]["optimizer"] == "sgd"
    assert "betas" not in new["optimizer"], "the node is replaced"
    assert files.read(Path("new/overrides.yaml"), list)[-2:] == ["optimizer.lr=0.02", "optimizer=sgd"]


def test_a_harmless_change_ends_in_the_same_bits(old: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["rerun", "old", "log_every=1st", "--to", "new"]) == 0
    said = capsys.readouterr().out
    assert "log_every: 4st -> 1st" in said
    assert f"all {len(load_file(old / WEIGHTS))} tensors are bit-identical" in said


def test_what_is_typed_wrong_is_refused_in_all_its_lines(old: Path, capsys: pytest.CaptureFixture) -> None:
    wrong = ["optimizer.lrr=1", "model=resnet", "batch_size=-2", "experiment=simclr_cifar10"]
    for verb in ("rerun", "resume"):
        assert main([verb, "old", *wrong]) == 2
        said = capsys.readouterr().err
        for words in ("did you mean optimizer.lr?", "did you mean resnet", "batch_size: given -2", "a job of its own"):
            assert words in said
    assert main(["rerun", "old", "hydra.run.dir=old/new"]) == 2
    assert "lies in the folder of the run" in capsys.readouterr().err
    assert main(["resume", "old/config.yaml"]) == 2
    assert "type ssl-runner rerun old/config.yaml" in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_a_resumed_run_takes_harmless_changes_and_no_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as here:
        stop_after(6, here)
        assert main(tiny("pretext=rotation", "evaluator=none", "hydra.run.dir=cut")) == 130
    shutil.copytree("cut", "plain")
    assert main(["resume", "plain"]) == 0
    before = state(Path("cut"))
    for words in (["optimizer.lr=0.5"], ["length=13st"], ["optimizer=sgd"], ["hydra.run.dir=other"]):
        capsys.readouterr()
        assert main(["resume", "cut", *words]) == 2
        said = capsys.readouterr().err
        assert "ssl-runner rerun cut" in said or "goes on in its own folder" in said
        assert len(said.splitlines()) == 2
        assert state(Path("cut")) == before
    words = ["keep=1", "log_every=1st", "device=auto", "device.threads=1"]
    assert main(["resume", "cut", *words]) == 0
    assert (Path("cut") / WEIGHTS).read_bytes() == (Path("plain") / WEIGHTS).read_bytes()
    content = files.read(Path("cut/config.yaml"))
    assert (content["keep"], content["log_every"], content["device"]["threads"]) == (1, "1st", 1)
    assert content["choices"]["device"] == "auto"
    assert files.read(Path("cut/overrides.yaml"), list)[-4:] == words
    assert [path.name for path in Path("cut/checkpoints").iterdir()] == ["0000012.pt"]
    assert main(["resume", "cut", "keep=3"]) == 0
    assert "is completed already" in capsys.readouterr().out
    assert files.read(Path("cut/config.yaml"))["keep"] == 1
