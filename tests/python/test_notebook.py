"""What a notebook types: train, load, runs, curves and features; and `ssl-runner embed` of images."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MEASURED_ONCE
from image_trees import paint
from PIL import Image
from runs import enter, refusal, same, summary

import ssl_runner
from ssl_runner import curves, features, load, runs, train
from ssl_runner.engine.learner import Learner
from ssl_runner.errors import Refused

pytestmark = pytest.mark.usefixtures("here")


def test_settings_of_a_mapping_give_the_run_of_the_same_words(whole):
    listed = {"model.widths": (8, 8, 8), "evaluator": ["knn"], "dataset": {"images": 100, "test": 20}}
    words = [each for each in MEASURED_ONCE if not each.startswith(("model.widths", "evaluator=", "dataset"))]
    run = train(*words, {**listed, "init": None, "seed": 0}, folder=Path("mine"))
    assert same(run, whole)
    assert run.config["model"]["widths"] == [8, 8, 8]
    assert run.numbers["knn/top1"] == summary(whole)["final"]["knn/top1"]
    assert run.numbers["baseline/knn/top1"] == summary(whole)["baseline"]["knn/top1"]
    assert "completed, knn/top1" in repr(run)
    assert not run.load().training


@pytest.mark.slow
def test_a_run_leaves_the_process_as_it_was():
    assert torch.get_num_threads() == 1
    gc.collect()
    others = {id(each) for each in gc.get_objects() if type(each) is Learner}  # of other tests
    train(*MEASURED_ONCE, {"device.threads": 2, "device.deterministic": True})
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    left = [each for each in gc.get_objects() if type(each) is Learner and id(each) not in others]
    assert not left, "its model and its data take no memory"


def test_what_is_wrong_is_said_at_once_and_what_fails_is_raised(monkeypatch):
    with pytest.raises(Refused) as refused:
        train("pretext=simclrr", {"optimizer": {"lrr": 1}}, "-m")
    assert refused.value.lines == ["-m: is an option of the command line; give KEY=VALUE"]
    with pytest.raises(Refused, match=r"did you mean simclr\?\n.*did you mean optimizer.lr"):
        train("pretext=simclrr", {"optimizer": {"lrr": 1}})
    assert not list(Path().iterdir())
    monkeypatch.setattr("ssl_runner.engine.learner.Learner.step", lambda *_, **__: 1 / 0)
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError.*run\.log"):
        train(*MEASURED_ONCE, folder="failed")


def test_an_interrupt_ends_what_comes_after_in_the_cell(monkeypatch):
    step = "ssl_runner.engine.trainer.Trainer.report"
    monkeypatch.setattr(step, lambda self, step: __import__("signal").raise_signal(2))
    with pytest.raises(KeyboardInterrupt, match="ssl-runner resume cut"):
        train(*MEASURED_ONCE, folder="cut")
    assert summary("cut")["status"] == "interrupted"


def test_runs_are_a_frame_of_settings_and_numbers_and_curves_one_of_steps(whole):
    pytest.importorskip("pandas")
    table, lines = runs(whole), curves(whole)
    row = table.loc["run"]
    assert (row["pretext"], row["optimizer.lr"], row["batch_size"]) == ("rotation", 0.001, 16)
    assert row["status"] == "completed"
    final, first = (summary(whole)[part]["knn/top1"] for part in ("final", "baseline"))
    assert row["gain/knn/top1"] == final - first
    assert list(lines.loc["run"]["knn/top1"].dropna().index) == [0, 4, 8, 12]
    assert lines.loc["run", 12]["knn/top1"] == final
    with pytest.raises(ValueError, match="no folder"):
        runs("nowhere")


def test_without_pandas_it_says_what_to_type(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install 'ssl-runner"):
        runs(whole)


def test_features_are_those_of_the_encoder_however_the_images_are_given(whole):
    encoder, pixels = load(whole), torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        wanted = encoder(pixels.float() / 255).pooled
    files = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in pixels]
    files[1].save("one.png")
    mixed = [files[0], "one.png", Path("one.png").read_bytes(), *files[2:]]
    for images in (pixels, pixels.double() / 255, pixels.permute(0, 2, 3, 1).numpy(), [*mixed[:2], *mixed[3:]]):
        given = features(encoder, images, batch_size=2)
        assert torch.allclose(given, wanted, atol=1e-5)
    assert torch.equal(features(whole, mixed)[1], features(whole, mixed)[2])
    assert features(encoder, pixels[:0]).shape == (0, encoder.dim)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(2, 1, 32, 32), r"shape \(2, 1, 32, 32\).*3, height, width"),
        (torch.randn(2, 3, 32, 32), "values from .* normalises by itself"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.int64), "uint8"),
        ("one.png", "one file"),
    ],
)
def test_images_that_cannot_be_are_named(whole, images, words):
    with pytest.raises(ValueError, match=words):
        features(whole, images)


def test_embed_writes_the_features_of_a_folder_with_its_paths(whole, capsys):
    for number in range(3):
        paint(Path(f"pictures/{number % 2}/{number}.png"), (number, 90, 200), size=(40, 30))
    Path("pictures/broken.png").write_text("no image")
    message = enter(capsys, ["embed", str(whole), "pictures", "--to", "out/x.npz"], "3 images", "broken.png")
    assert "1 cannot be read" in message
    written = np.load("out/x.npz")
    assert [*written["paths"]] == ["0/0.png", "0/2.png", "1/1.png"]
    again = features(whole, [f"pictures/{name}" for name in written["paths"]])
    assert np.allclose(written["features"], again.numpy(), atol=1e-5)
    enter(capsys, ["embed", str(whole), "pictures/1/1.png", "--to", "one.npz"], "1 image of pictures/1/1.png")
    assert np.allclose(np.load("one.npz")["features"], written["features"][2:], atol=1e-5)
    enter(capsys, ["embed", str(whole), "pictures", "--to", "x.parquet"])
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table("x.parquet").to_pydict()
    assert table["path"] == [*written["paths"]]
    assert np.array_equal(np.array(table["features"], dtype=np.float32), written["features"])


def test_embed_refuses_in_one_line(whole, capsys):
    refusal(capsys, ["embed", str(whole), "nowhere"], "no folder or file nowhere")
    Path("empty").mkdir()
    refusal(capsys, ["embed", str(whole), "empty"], "holds no images")
    refusal(capsys, ["embed", str(whole), "empty", "--to", "x.csv"], ".npz and .parquet")
    refusal(capsys, ["embed", "empty", "empty", "--to", "x.npz"])


def test_importing_the_package_imports_no_torch_and_its_names_are_listed():
    script = "import sys, ssl_runner; assert not {'torch', 'numpy', 'hydra'} & {*sys.modules}, sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert {"train", "load", "runs", "features"} <= {*dir(ssl_runner)}
    with pytest.raises(AttributeError, match="possible are train"):
        _ = ssl_runner.trian
