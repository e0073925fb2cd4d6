"""A run and all that it leaves; again from its own config: bit-identical, or it says in what it is not, and why."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny
from engine_toys import After
from runs import measured, same, saved, summary
from safetensors.torch import load_file, save_file

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.run_folder.diff import diff_runs
from ssl_runner.run_folder.environment import changes
from ssl_runner.run_folder.layout import WEIGHTS
from ssl_runner.run_folder.metrics import read_rows

pytestmark = pytest.mark.usefixtures("here")

LEFT = {"config.yaml", "overrides.yaml", "environment.json", "metrics.jsonl", "summary.json", "checkpoints", "run.log"}
LEFT |= {"encoder.safetensors", "encoder.yaml", "events.out"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(tiny("pretext=simclr", f"hydra.run.dir={folder}")) == 0
    return folder


@pytest.fixture
def old(here, finished, capsys):
    """The finished run, of which nothing that it printed is left."""
    capsys.readouterr()
    return Path(shutil.copytree(finished, "old"))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def state(folder):
    """Every file's content and time of change, and each folder's."""
    files = [folder, *folder.rglob("*")]
    return {file: (file.read_bytes() if file.is_file() else b"", file.stat().st_mtime_ns) for file in files}


def test_a_run_leaves_all_that_was_promised_and_is_bit_identical_again(old, capsys):
    before, done = state(old), summary(old)
    assert main(["rerun", "old", "--strict"]) == 0
    assert state(old) == before, "the old run is left alone"
    (new,) = Path("outputs/simclr-shapes").iterdir()
    assert same(old, new)
    said = capsys.readouterr().out
    assert "random encoder" in said
    assert f"tensorboard --logdir {new}" in said
    assert said.splitlines()[-1] == "bit-identical"
    assert said.startswith("code, versions, data, device and threads are as they were")
    assert f"all {len(load_file(old / WEIGHTS))} tensors are bit-identical" in said
    table = [line.split() for line in said.splitlines()]
    for part in ("baseline", "final"):
        for name, value in done[part].items():
            assert [part, name, f"{value:.6g}", f"{value:.6g}", "0"] in table
    assert (new / "config.yaml").read_text() == (old / "config.yaml").read_text()
    assert (new / "overrides.yaml").read_text() == (old / "overrides.yaml").read_text()
    assert all(words in (new / "run.log").read_text() for words in ("as they were", "step 12/12"))

    assert {file.name.split(".tfevents")[0] for file in new.iterdir()} >= LEFT
    assert len(list(new.glob("events.out.tfevents.*"))) == 1, "one writer"
    assert (done["status"], done["step"], done["steps"], done["error"]) == ("completed", 12, 12, None)
    assert done["baseline"].keys() >= {"knn/top1", "probe/top1"}
    assert done["final"].keys() >= {*done["baseline"], "test/knn/top1", "test/probe/top1"}
    assert done["headlines"] == ["knn/top1", "probe/top1", "geometry/rankme"]
    assert done["metrics"]["test/knn/top1"] == {"better": "larger", "unit": "share"}
    assert [step for step, _ in measured(new, "train/loss")] == [4, 8, 12]
    assert [step for step, _ in measured(new)] == [0, 3, 6, 9, 12]
    assert len(measured(new, "test/knn/top1")) == 1, "test is measured once"
    learnt = next(row for row in read_rows(new / "metrics.jsonl") if "train/loss" in row)
    assert learnt.keys() >= {"optimizer/lr", "optimizer/gradient_norm", "speed/samples_per_second", "speed/data_wait"}
    environment = json.loads((new / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["dataset"]


def test_an_interrupted_and_resumed_run_equals_its_rerun(monkeypatch, capsys):
    after = After(6)  # steps: amid the training averages of step 8
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "signal", property(lambda _: after.signal, lambda *_: None), raising=False)
        assert main(tiny("pretext=byol", "hydra.run.dir=old")) == 130
    shutil.copytree("old", "interrupted")
    assert main(["resume", "old"]) == 0
    assert main(["rerun", "old", "--to", "new", "--strict"]) == 0
    said = capsys.readouterr().out
    assert "left out: training averages of step 8, amid which the old run was resumed" in said
    assert said.splitlines()[-1] == "bit-identical"
    found = diff_runs(Path("interrupted"), Path("new"))
    assert found.unfinished == ["the old run is interrupted"]
    assert (found.identical, found.step) == (True, 6)
    assert found.compared >= 3, "measured at 0 and 3, logged at 4; at 6 the new one alone has measured"
    edit(Path("interrupted/summary.json"), lambda s: s.update(status="running", step=0))  # as a killed run leaves it
    found = diff_runs(Path("interrupted"), Path("new"))
    assert found.identical
    assert 4 <= found.step < 6


def test_other_data_is_said_before_the_start_and_its_numbers_after(old, capsys):
    config = (old / "config.yaml").read_text()
    assert "size: 32\n  seed: 0" in config
    (old / "config.yaml").write_text(config.replace("size: 32\n  seed: 0", "size: 32\n  seed: 1"))
    edit(old / "environment.json", lambda e: e["versions"].update(torch="1.0.0"))
    assert main(["rerun", "old", "--to", "new", "--strict"]) == 1
    said = capsys.readouterr().out
    first = said[: said.index("run folder")]
    assert "fingerprint of the data was" in first
    assert "torch was 1.0.0, is" in first
    assert "not bit-identical: largest difference" in said.splitlines()[-1]
    assert "tensors differ" in said
    assert main(["rerun", "old", "--to", "new"]) == 2, "an occupied folder"


def test_each_planted_difference_of_the_surroundings_has_its_line(old):
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
    shutil.copy(old / "environment.json", new)
    (new / "source.diff").write_text("+ another line\n")
    assert changes(old, new) == [f"uncommitted changes of the code differ: see {old / 'source.diff'} and git diff"]
    (old / "environment.json").write_text("{torn")
    assert "is not known" in changes(old, new)[0]


def test_planted_differences_of_the_result_are_seen(old):
    new = Path(shutil.copytree(old, "new"))
    found = diff_runs(old, new)
    assert found.identical
    assert (found.tensors > 4, found.unfinished) == (True, [])

    rows = [json.loads(line) for line in (new / "metrics.jsonl").read_text().splitlines()]
    slower = [{k: 2 * v if k == "time" or k.startswith("speed/") else v for k, v in row.items()} for row in rows]
    (new / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in slower))
    assert diff_runs(old, new).identical, "time and speed are no difference"
    assert diff_runs(old, new).compared == len({(r["step"], "train/loss" in r) for r in rows})

    weights = load_file(new / WEIGHTS)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] = torch.nextafter(weights[name].view(-1)[0], torch.tensor(10.0))  # one bit
    save_file(weights, new / WEIGHTS)
    found = diff_runs(old, new)
    assert not found.identical
    assert [each.where for each in found.weights] == [name]
    assert 0 < found.weights[0].size < 1e-6
    shutil.copy(old / WEIGHTS, new / WEIGHTS)

    edit(old / "summary.json", lambda s: s["final"].update({"knn/top1": s["final"]["knn/top1"] + 0.25}))
    (_, differs, _) = diff_runs(old, new).kinds
    assert [(each.where, each.size) for each in differs] == [("final knn/top1", pytest.approx(0.25))]
    edit(old / "summary.json", lambda s: s["final"].pop("knn/top1"))
    (_, differs, _) = diff_runs(old, new).kinds
    assert str(differs[0]) == "final knn/top1 in one alone"
    shutil.copy(new / "summary.json", old / "summary.json")

    lines = (new / "metrics.jsonl").read_text().splitlines()
    (new / "metrics.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert {each.where for each in diff_runs(old, new).rows} >= {"test/knn/top1 of step 12"}
    (new / "metrics.jsonl").unlink()
    assert not diff_runs(old, new).identical


def test_what_cannot_be_run_again_is_refused_in_all_its_lines(old, capsys):
    wrong = ["optimizer.lrr=1", "model=resnet", "batch_size=-2", "experiment=simclr_cifar10"]
    lines = ("did you mean optimizer.lr?", "did you mean resnet", "batch_size: given -2", "a job of its own")
    bad = Path(shutil.copytree(old, "bad"), "config.yaml")
    bad.write_text(bad.read_text().replace("batch_size: 16", "batch_size: -1\nof_old: 3"))
    for words, refusal in (
        (["rerun", "old", *wrong], lines),
        (["resume", "old", *wrong], lines),
        (["rerun", "bad"], ["batch_size: given -1", "of_old"]),
        (["rerun", "old", "hydra.run.dir=old/new"], ["old/new lies in the folder of the run"]),
        (["rerun", "old", "--to", "old/new"], ["old/new lies in the folder of the run"]),
        (["resume", "old/config.yaml"], ["type ssl-runner rerun old/config.yaml"]),
        (["rerun", "absent"], ["absent holds no run"]),
        (["--config-dir", "old", "--config-name", "config"], [f"type ssl-runner rerun {old.resolve()}/config.yaml"]),
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert all(each in said for each in refusal), words
    assert not Path("outputs").exists()


# Overrides on top of a recorded run


def test_a_changed_setting_is_said_and_no_surprise(old, capsys):
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


def test_a_harmless_change_ends_in_the_same_bits(old, capsys):
    assert main(["rerun", "old", "log_every=1st", "--to", "new"]) == 0
    said = capsys.readouterr().out
    assert "log_every: 4st -> 1st" in said
    assert f"all {len(load_file(old / WEIGHTS))} tensors are bit-identical" in said


def test_a_resumed_run_takes_harmless_changes_and_no_others(cut, whole, capsys):
    before = state(cut)
    for words in (["optimizer.lr=0.5"], ["length=13st"], ["optimizer=sgd"], ["hydra.run.dir=other"]):
        capsys.readouterr()
        assert main(["resume", "cut", *words]) == 2
        said = capsys.readouterr().err
        assert "ssl-runner rerun cut" in said or "goes on in its own folder" in said
        assert len(said.splitlines()) == 2
        assert state(cut) == before
    words = ["keep=1", "log_every=1st", "device=auto", "device.threads=1"]
    assert main(["resume", "cut", *words]) == 0
    assert (cut / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    content = files.read(cut / "config.yaml")
    assert (content["keep"], content["log_every"], content["device"]["threads"]) == (1, "1st", 1)
    assert content["choices"]["device"] == "auto"
    assert files.read(cut / "overrides.yaml", list)[-4:] == words
    assert saved(cut) == [12]
    assert main(["resume", "cut", "keep=3"]) == 0
    assert "is completed already" in capsys.readouterr().out
    assert files.read(cut / "config.yaml")["keep"] == 1
