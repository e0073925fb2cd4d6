"""Nothing runs because a run folder, an export or a data file says so, whatever verb reads it."""

import io
import json
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from image_trees import everything, paint_classes
from PIL import EpsImagePlugin, Image
from runs import change, config, enter, put, refusal, saved_bytes

from ssl_runner.data.image_files.decode import read_image
from ssl_runner.dataset.cifar import CIFAR10
from ssl_runner.dataset.image_folder import ImageFolder

pytestmark = pytest.mark.usefixtures("harmless")
TOUCH = "touch touched"


class Payload:
    def __reduce__(self):
        return os.system, (TOUCH,)


PICKLE = pickle.dumps(Payload())  # to unpickle it is to run a command
LAST = "run/checkpoints/0000012.pt"
PUBLISHED = {f"root/{file}": PICKLE for file in CIFAR10.files}
READ_LAST = [f"evaluate {LAST}", f"export {LAST}"]
FILES = [  # what lies there, the commands that read it, and words that are said
    ({LAST: saved_bytes({"format": 1, "step": 12, "pretext": Payload()})}, READ_LAST, ""),
    ({LAST: saved_bytes(Payload())}, READ_LAST, ""),
    ({"run/encoder.safetensors": saved_bytes({"x": Payload()})}, ["evaluate run", "export run"], ""),
    ({"encoder.pth": saved_bytes({"x": Payload()})}, ["export encoder.pth"], ""),
    (PUBLISHED, ["dataset=cifar10 dataset.root=root dataset.download=false"], "not those published"),
]
for text in (f"!!python/object/apply:os.system ['{TOUCH}']\n", "a: !!python/name:hostile.Hostile"):
    FILES += [
        ({"run/encoder.yaml": text}, ["export run"], ""),
        ({"run/overrides.yaml": text}, ["resume run"], ""),
        ({"run/config.yaml": text}, ["resume run", "rerun run", "evaluate run", "save run mine"], ""),
        ({"given/pretext/mine.yaml": text}, ["--config-dir given pretext=mine --cfg job"], ""),
    ]


@pytest.mark.parametrize(("files", "commands", "words"), FILES, ids=lambda each: str(each)[:99])
def test_a_file_that_asks_for_objects_is_refused(files, commands, words, run, capsys):
    for name, content in files.items():
        put(name, content)
    for line in commands:
        refusal(capsys, line, words)


def test_a_run_goes_on_from_the_newest_checkpoint_that_is_no_pickle(run, capsys):
    put("run/checkpoints/0000008.pt", saved_bytes({"format": 1, "step": 8, "pretext": Payload()}))
    put("run/checkpoints/0000012.pt", saved_bytes(Payload()))
    put("run/checkpoints/0000016.pt", PICKLE)
    change(run, "summary.json", status="interrupted")
    assert enter(capsys, "resume run", "resumed at step 4").count("cannot be read") == 3


def test_an_exported_program_that_is_there_is_not_loaded(run, capsys):
    words, path, poisoned = "export run --format torch", run / "export/encoder.pt2", io.BytesIO()
    enter(capsys, words)
    original = path.read_bytes()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(poisoned, "w") as new:
        for name in old.namelist():  # the same archive with a payload for all that torch.export.load would unpickle
            new.writestr(name, saved_bytes(Payload()) if name.endswith(".pt") else old.read(name))
    for content in (poisoned.getvalue(), PICKLE):
        path.write_bytes(content)
        refusal(capsys, words, "encoder.pt2 is there and is not what would be written")
        assert path.read_bytes() == content
    enter(capsys, f"{words} --overwrite")
    assert path.read_bytes() == original
    assert not Path("touched").exists()
    with suppress(Exception):  # the payload is no list of inputs; by then it has run
        torch.export.load(io.BytesIO(poisoned.getvalue()))
    Path("touched").unlink()  # it was there: the poison works, so the test can fail


def test_names_in_a_run_folder_lead_nowhere_else(run, here, capsys):
    """Files and folders are named by evaluators and choices; none is made beside those that are asked for."""
    content = config(run)
    for name in ("../beside", "/tmp/beside", "..", "a/b", "a\nb"):
        put("run/config.yaml", {**content, "evaluator": {name: {"_target_": "ssl_runner.evaluator.knn.KNN", "k": 3}}})
        refusal(capsys, "rerun run", "evaluator: given the name")
    put("run/config.yaml", {**content, "choices": {"pretext": "../../beside", "dataset": "/beside"}})
    enter(capsys, "rerun run")
    assert [each.name for each in Path("outputs").iterdir()] == ["______beside-_beside"]
    assert {each.name for each in here.iterdir()} == {"hostile.py", "run", "outputs"}
    job = {"number": 0, "overrides": [], "folder": "../run"}
    put("sweep/sweep.json", json.dumps({"format": 1, "began": "", "command": [], "jobs": {"a": job}}))
    refusal(capsys, "-m sweep.resume=sweep", "which does not lie in it")


def test_results_and_logs_are_text(run, capsys):
    for name in ("evaluation/knn.json", "metrics.jsonl", "events.out.tfevents.1.x.1.0", "environment.json", "stop"):
        put(run / name, PICKLE)
    enter(capsys, "compare run", status=1)  # what cannot be read is named
    enter(capsys, "resume run")
    enter(capsys, "evaluate run knn evaluator.knn.k=3")


def test_postscript_is_no_image(monkeypatch):
    """Pillow would start Ghostscript, which is here a script that leaves its mark."""
    put("gs", f"#!/bin/sh\n{TOUCH}\n")
    Path("gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path.cwd()}{os.pathsep}{os.environ['PATH']}")
    for name in ("images/x.png", "images/x.jpg"):
        put(name, "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
        with pytest.raises(Exception, match="cannot identify"):
            read_image(Path(name), 8)
    with pytest.raises(ValueError, match=r"cannot be read"):
        ImageFolder(root="images", size=8, cache=False, max_broken=0, validation=0.0).load()
    assert not Path("touched").exists()
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with suppress(OSError), Image.open("images/x.png") as file:
        file.load()
    Path("touched").unlink()  # it was there, so the test can fail


def test_a_cache_of_images_is_no_pickle():
    paint_classes(Path("images"))
    dataset = ImageFolder(root="images", size=8, cache="cache", validation=0.0)
    before = everything(dataset.load().train)
    assert {each.suffix for each in Path("cache").iterdir()} >= {".npy", ".json"}
    for entry in Path("cache").glob("*.npy"):
        np.save(entry, np.array([Payload()], dtype=object), allow_pickle=True)
    for note in Path("cache").glob("*.json"):
        note.write_bytes(PICKLE)
    assert torch.equal(everything(dataset.load().train), before)
