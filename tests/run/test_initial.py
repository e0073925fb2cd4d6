"""`init=`: a run that begins with the encoder of another run, of a checkpoint or of an exported file."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import MEASURED_ONCE
from runs import change, config, enter, refusal, same, summary

from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.run import name_metrics
from ssl_runner.encoder.load import load_encoder
from ssl_runner.run import initial
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.weights import digest_weights, read_weights

BEGUN = [*MEASURED_ONCE, "pretext=simclr", "hydra.run.dir=new"]
SHORT = [*MEASURED_ONCE, "length=2st", "save_every=1st"]


def digest(folder):
    return digest_weights(read_weights(Path(folder) / "encoder.safetensors"))


def measured_first(folder):
    return summary(folder)["initial"]["knn/top1"]


def test_the_encoder_is_that_of_the_run_with_its_normalisation(run, capsys):
    """On other images, with another pretext task; what it begins with is named by its digest, and no random encoder."""
    words = [*BEGUN, "dataset.seed=5", "init=run", "seed=3"]
    enter(capsys, words, "encoder of init")
    assert config("new")["init"] == {"path": "run", "digest": digest("run")}
    assert summary("new")["baseline"] == {}
    own, given = load_encoder("new"), load_encoder("run")
    assert torch.equal(own.mean, given.mean)
    assert torch.equal(own.std, given.std), "learnt with it, and not with the statistics of the new images"
    enter(capsys, [*BEGUN[:-1], "dataset.seed=5", "seed=3", "hydra.run.dir=random"], "random encoder")
    assert not torch.equal(load_encoder("random").mean, given.mean)
    data = "dataset=shapes dataset.images=100 dataset.test=20 dataset.seed=5"
    enter(capsys, f"evaluate run knn split=validation evaluator.knn.k=3 {data}")
    (numbers, *_), _, _ = name_metrics(load_runs([Path("run")])[0])
    other = next(value for name, value in numbers.items() if name.startswith("knn/top1@"))
    assert measured_first("new") == other, "at step 0 it is measured as the run's encoder is"


@pytest.mark.parametrize("place", ["run/checkpoints/0000004.pt", "run/encoder.safetensors", "run"])
def test_every_form_of_an_encoder_may_be_begun_from(run, place, capsys):
    enter(capsys, [*SHORT, f"init={place}", "hydra.run.dir=new"])
    assert config("new")["init"] == {"path": place, "digest": digest_weights(load_encoder(place).state_dict())}


@pytest.mark.slow
def test_a_run_from_given_weights_is_resumed_without_them_and_rerun_with_them(run, monkeypatch, capsys):
    enter(capsys, [*BEGUN, "init=run"])
    Path("away").mkdir()
    monkeypatch.chdir("away")
    enter(capsys, "rerun ../new --to again --strict", "bit-identical")
    monkeypatch.chdir("..")
    shutil.copytree("new", "cut")
    for name in ("checkpoints/0000012.pt", "encoder.safetensors", "encoder.yaml"):
        (Path("cut") / name).unlink()
    change(Path("cut"), "summary.json", status="interrupted", step=8)
    shutil.copytree("cut", "unbegun")
    shutil.rmtree("unbegun/checkpoints")
    shutil.move("run", "moved")
    enter(capsys, "resume cut", "resumed at step 8 of 12")
    assert same("cut", "new")
    assert (Path("cut") / "encoder.yaml").read_text() == (Path("new") / "encoder.yaml").read_text()
    assert "initial" in summary("cut")
    refusal(capsys, "resume unbegun", "init: run is no encoder")
    enter(capsys, "resume unbegun init.path=moved")
    assert same("unbegun", "new"), "where the weights lie cannot change a result"
    for path in Path("cut/checkpoints").glob("*"):
        path.write_bytes(b"torn")
    change(Path("cut"), "summary.json", status="interrupted")
    enter(capsys, "resume cut", "init: run is no encoder", status=2)


def test_other_weights_at_the_same_place_are_refused(run, capsys):
    enter(capsys, [*SHORT, "init=run", "hydra.run.dir=new"])
    before = digest("run")
    shutil.copy("new/encoder.safetensors", "run")
    words = (f"has begun with {before}", f"have the digest {digest('run')}", "type init.path=PATH")
    refusal(capsys, "rerun new", *words)
    enter(capsys, "rerun new init=run --to again", f"init.digest: {before} -> {digest('run')}")
    assert config("again")["init"] == {"path": "run", "digest": digest("run")}


WRONG = {  # what is said, of what is typed
    "init=nowhere": ("init: nowhere is no encoder; give a run folder, a checkpoint",),
    "init=run/metrics.jsonl": ("init: run/metrics.jsonl is no encoder",),
    "init=3": ("init: given 3, and string",),
    "init=run model.widths=[8,16,8]": ("layers.4.weight is 8x8x3x3, the model's 16x8x3x3", "type model.widths=[8,8,8]"),
    "init=run model=vit_tiny model.width=24 model.heads=2 model.depth=1": (
        "patches.weight is absent",
        "type model=convnet_small",
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_weights_that_cannot_be_are_refused_before_a_folder_is_made(run, words, capsys):
    fixed = [each for each in SHORT if not (each.startswith("model") and "vit" in words)]
    refusal(capsys, [*fixed, *words.split()], *WRONG[words])
    refusal(capsys, ["-m", *fixed, *words.split(), "seed=0,1"], *WRONG[words])


def test_a_sweep_reads_the_weights_once_and_compares_their_digests(run, monkeypatch, capsys):
    read, find = [], initial.find_encoder
    initial.read_once.cache_clear()
    monkeypatch.setattr(initial, "find_encoder", lambda path: read.append(path) or find(path))
    from ssl_runner.command import sweep

    monkeypatch.setattr("ssl_runner.sweep.run.run", lambda jobs, *_: jobs.collect() or 0)  # folders alone
    enter(capsys, ["-m", *SHORT, "init=run", "seed=0,1,2", "optimizer.lr=0.1,0.2", "hydra.sweep.dir=sweep"])
    assert sweep.run_job is not None
    assert read == [Path("run")]
    jobs = sorted(Path("sweep").glob("00*"))
    assert [config(each)["init"] for each in jobs] == [{"path": "run", "digest": digest("run")}] * 6
    runs = {each.name: each for each in load_runs([Path("sweep")])[0]}
    assert {each.settings["init"] for each in runs.values()} == {digest("run")[:8]}


def test_its_recipe_asks_for_the_place_and_holds_the_digest(run, capsys):
    enter(capsys, [*SHORT, "init=run", "hydra.run.dir=new"])
    enter(capsys, "save new begun --to conf", "init.path is left out", "init.path=FOLDER")
    assert digest("run") in Path("conf/experiment/begun.yaml").read_text()
    assert "encoder of init -> trained" in Path("conf/experiment/begun.yaml").read_text()
    enter(capsys, "--config-dir conf experiment=begun init.path=run hydra.run.dir=again")
    assert same("new", "again")
    assert checkpoint.steps(Path("again/checkpoints"))
