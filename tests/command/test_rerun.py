"""A run and all that it leaves; again from its own config: bit-identical, or it says in what it is not, and why."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny
from runs import change, config, enter, measured, refusal, same, saved, summary
from safetensors.torch import load_file, save_file

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.run_folder.atomic import read_json, write_json
from ssl_runner.run_folder.diff import diff_runs
from ssl_runner.run_folder.environment import changes
from ssl_runner.run_folder.layout import WEIGHTS
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.testing.promises import After

pytestmark = pytest.mark.usefixtures("here")

LEFT = {"config.yaml", "overrides.yaml", "environment.json", "metrics.jsonl", "summary.json", "checkpoints", "run.log"}
LEFT |= {"encoder.safetensors", "encoder.yaml", "events.out"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(tiny("pretext=simclr", f"hydra.run.dir={folder}")) == 0
    return folder


@pytest.fixture
def old(finished):
    return Path(shutil.copytree(finished, "old"))


def tensors(folder):
    return len(load_file(folder / WEIGHTS))


def state(folder):
    """Every file's content and time of change, and each folder's."""
    files = [folder, *folder.rglob("*")]
    return {file: (file.read_bytes() if file.is_file() else b"", file.stat().st_mtime_ns) for file in files}


def test_a_run_leaves_all_that_was_promised_and_is_bit_identical_again(old, capsys):
    before, done = state(old), summary(old)
    said = enter(capsys, "rerun old --strict", "random encoder", f"all {tensors(old)} tensors are bit-identical")
    assert state(old) == before, "the old run is left alone"
    (new,) = Path("outputs/simclr-shapes").iterdir()
    assert same(old, new)
    assert f"tensorboard --logdir {new}" in said
    assert said.startswith("code, versions, data, device and threads are as they were")
    table = [line.split() for line in said.splitlines()]
    assert table[-1] == ["bit-identical"]
    for part in ("baseline", "final"):
        for name, value in done[part].items():
            assert [part, name, f"{value:.6g}", f"{value:.6g}", "0"] in table
    assert all((new / name).read_text() == (old / name).read_text() for name in ("config.yaml", "overrides.yaml"))
    assert all(words in (new / "run.log").read_text() for words in ("as they were", "step 12/12"))

    assert {file.name.split(".tfevents")[0] for file in new.iterdir()} >= LEFT
    assert len(list(new.glob("events.out.tfevents.*"))) == 1, "one writer"
    assert (done["status"], done["step"], done["steps"], done["error"]) == ("completed", 12, 12, None)
    assert done["baseline"].keys() >= {"knn/top1", "probe/top1"}
    assert done["final"].keys() >= {*done["baseline"], "test/knn/top1", "test/probe/top1"}
    assert done["headlines"] == ["knn/top1", "probe/top1", "geometry/rankme"]
    assert done["metrics"]["test/knn/top1"] == {"better": "larger", "unit": "share", "majority": 0.1}
    steps = {"train/loss": [4, 8, 12], "knn/top1": [0, 3, 6, 9, 12], "test/knn/top1": [12]}  # test is measured once
    assert {name: [step for step, _ in measured(new, name)] for name in steps} == steps
    learnt = next(row for row in read_rows(new / "metrics.jsonl") if "train/loss" in row)
    assert learnt.keys() >= {"optimizer/lr", "optimizer/gradient_norm", "speed/samples_per_second", "speed/data_wait"}
    environment = read_json(new / "environment.json")
    assert (environment["versions"]["torch"], bool(environment["dataset"])) == (torch.__version__, True)


def test_an_interrupted_and_resumed_run_equals_its_rerun(monkeypatch, capsys):
    after = After(6)  # steps: amid the training averages of step 8
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "signal", property(lambda _: after.signal, lambda *_: None), raising=False)
        assert main(tiny("pretext=byol", "hydra.run.dir=old")) == 130
    shutil.copytree("old", "interrupted")
    assert main(["resume", "old"]) == 0
    line = "left out: training averages of step 8, amid which the old run was resumed"
    assert enter(capsys, "rerun old --to new --strict", line).splitlines()[-1] == "bit-identical"
    both = Path("interrupted"), Path("new")
    diff = diff_runs(*both)
    assert (diff.unfinished, diff.identical, diff.step) == (["the old run is interrupted"], True, 6)
    assert diff.compared >= 3, "measured at 0 and 3, logged at 4; at 6 the new one alone has measured"
    change(both[0], "summary.json", status="running", step=0)  # as a killed run leaves it
    assert diff_runs(*both).identical
    assert 4 <= diff_runs(*both).step < 6


def test_other_data_is_said_before_the_start_and_its_numbers_after(old, capsys):
    assert config(old)["dataset"]["seed"] == 0
    change(old, "config.yaml", dataset={"seed": 1})
    change(old, "environment.json", versions={"torch": "1.0.0"})
    first, _, rest = enter(capsys, "rerun old --to new --strict", status=1).partition("run folder")
    assert all(words in first for words in ("fingerprint of the data was", "torch was 1.0.0, is"))
    assert "not bit-identical: largest difference" in rest.splitlines()[-1]
    assert "tensors differ" in rest
    assert main(["rerun", "old", "--to", "new"]) == 2, "an occupied folder"


def test_each_planted_difference_of_the_surroundings_has_its_line(old):
    new = Path(shutil.copytree(old, "new"))
    assert changes(old, new) == []
    other = {"threads": 99, "host": "elsewhere", "dataset": "0" * 32, "device": "NVIDIA, bf16"}
    change(new, "environment.json", **other, commit="f" * 40, dirty=True, versions={"numpy": "0", "python": "2"})
    change(old, "environment.json", versions={"absent": "1"})
    lines = changes(old, new)
    starts = ["python was", "absent was 1, is None", "numpy was", "code was.*is commit fffffff, with changes$"]
    starts += ["fingerprint", "device was cpu", "host was", "threads.*OMP_NUM_THREADS=1 ssl-runner rerun old"]
    assert len(lines) == len(starts)
    assert all(any(re.match(start, line) for line in lines) for start in starts), lines
    assert lines[-1].startswith("threads")
    shutil.copy(old / "environment.json", new)
    (new / "source.diff").write_text("+ another line\n")
    assert changes(old, new) == [f"uncommitted changes of the code differ: see {old / 'source.diff'} and git diff"]
    (old / "environment.json").write_text("{torn")
    assert "is not known" in changes(old, new)[0]


def test_planted_differences_of_the_result_are_seen(old):
    new = Path(shutil.copytree(old, "new"))
    diff = diff_runs(old, new)
    assert (diff.identical, diff.tensors > 4, diff.unfinished) == (True, True, [])

    rows = read_rows(new / "metrics.jsonl")
    slower = [{k: 2 * v if k == "time" or k.startswith("speed/") else v for k, v in row.items()} for row in rows]
    (new / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in slower))
    diff = diff_runs(old, new)
    assert diff.identical, "time and speed are no difference"
    assert diff.compared == len({(row["step"], "train/loss" in row) for row in rows})

    weights = load_file(new / WEIGHTS)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] = torch.nextafter(weights[name].view(-1)[0], torch.tensor(10.0))  # one bit
    save_file(weights, new / WEIGHTS)
    diff = diff_runs(old, new)
    assert (diff.identical, [each.where for each in diff.weights]) == (False, [name])
    assert 0 < diff.weights[0].size < 1e-6
    shutil.copy(old / WEIGHTS, new / WEIGHTS)

    done = summary(new)
    change(old, "summary.json", final={"knn/top1": done["final"]["knn/top1"] + 0.25})
    (_, differs, _) = diff_runs(old, new).kinds
    assert [(each.where, each.size) for each in differs] == [("final knn/top1", pytest.approx(0.25))]
    del done["final"]["knn/top1"]
    write_json(old / "summary.json", done)
    (_, differs, _) = diff_runs(old, new).kinds
    assert str(differs[0]) == "final knn/top1 in one alone"
    shutil.copy(new / "summary.json", old / "summary.json")

    def without_ece(numbers):  # as an older version leaves it
        return {name: value for name, value in numbers.items() if not name.endswith("/ece")}

    (new / "metrics.jsonl").write_text("".join(json.dumps(without_ece(row)) + "\n" for row in rows))
    done = summary(old)
    write_json(new / "summary.json", done | {part: without_ece(done[part]) for part in ("baseline", "final")})
    diff = diff_runs(old, new)
    added = [f"{split}{protocol}/ece" for split in ("", "raw/", "test/") for protocol in ("knn", "probe")]
    assert (diff.identical, diff.one_sided) == (True, added)
    shutil.copy(old / "summary.json", new / "summary.json")

    log = (old / "run.log").read_bytes()
    os.truncate(old / "run.log", 1 << 30)  # sparse: too large to be read, and only resumes are looked for in it
    assert diff_runs(old, new).compared == diff.compared
    (old / "run.log").write_bytes(log)

    (new / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    assert {each.where for each in diff_runs(old, new).rows} >= {"test/knn/top1 of step 12"}
    (new / "metrics.jsonl").unlink()
    assert not diff_runs(old, new).identical


def test_what_cannot_be_run_again_is_refused_in_all_its_lines(old, capsys):
    wrong = "optimizer.lrr=1 model=resnet batch_size=-2 experiment=simclr_cifar10"
    lines = ("did you mean optimizer.lr?", "did you mean resnet", "batch_size: given -2", "a job of its own")
    change(Path(shutil.copytree(old, "bad")), "config.yaml", batch_size=-1, of_old=3)
    enter(capsys, f"rerun old {wrong}", *lines, status=2)
    enter(capsys, f"resume old {wrong}", *lines, status=2)
    enter(capsys, "rerun bad", "batch_size: given -1", "of_old", status=2)
    refusal(capsys, "rerun old hydra.run.dir=old/new", "old/new lies in the folder of the run")
    refusal(capsys, "rerun old --to old/new", "old/new lies in the folder of the run")
    refusal(capsys, "resume old/config.yaml", "type ssl-runner rerun old/config.yaml")
    refusal(capsys, "rerun absent", "absent holds no run")
    refusal(capsys, "--config-dir old --config-name config", f"type ssl-runner rerun {old.resolve()}/config.yaml")
    assert not Path("outputs").exists()


def test_a_changed_setting_is_said_and_no_surprise(old, capsys):
    said = enter(capsys, "rerun old optimizer.lr=0.02 optimizer=sgd --to new")
    first, _, rest = said.partition("run folder")
    differ = "  optimizer._target_: ssl_runner.optimizer.adamw.AdamW -> ssl_runner.optimizer.sgd.SGD\n"
    surroundings = "code, versions, data, device and threads are as they were"
    lines = ("settings that differ:\n", differ, "  optimizer.lr: 0.001 -> 0.02\n", surroundings)
    assert all(line in first for line in lines)
    assert rest.splitlines()[-1].startswith("the settings differ, and so do the numbers: largest difference ")
    assert "not bit-identical" not in said
    assert config("new")["choices"]["optimizer"] == "sgd"
    assert "betas" not in config("new")["optimizer"], "the node is replaced"
    assert files.read(Path("new/overrides.yaml"), list)[-2:] == ["optimizer.lr=0.02", "optimizer=sgd"]


def test_a_harmless_change_ends_in_the_same_bits(old, capsys):
    identical = f"all {tensors(old)} tensors are bit-identical"
    enter(capsys, "rerun old log_every=1st --to new", "log_every: 4st -> 1st", identical)


def test_a_resumed_run_takes_harmless_changes_and_no_others(cut, whole, capsys):
    before = state(cut)
    for word in ("optimizer.lr=0.5", "optimizer=sgd", "hydra.run.dir=other"):
        remedy = "goes on in its own folder" if word.startswith("hydra") else "ssl-runner rerun cut"
        refusal(capsys, f"resume cut {word}", remedy)
        assert state(cut) == before
    words = ["keep=1", "log_every=1st", "device=auto", "device.threads=1"]
    assert main(["resume", "cut", *words]) == 0
    assert (cut / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    content = config(cut)
    settings = (content["keep"], content["log_every"], content["device"]["threads"], content["choices"]["device"])
    assert settings == (1, "1st", 1, "auto")
    assert (files.read(cut / "overrides.yaml", list)[-4:], saved(cut)) == (words, [12])
    enter(capsys, "resume cut keep=3", "is completed already")
    assert config(cut)["keep"] == 1
