"""`ssl-runner pack`: files untouched in shards of one size, the same bytes each time, resumed where it was cut off."""

import gc
import io
import json
import tarfile
from pathlib import Path

import pytest
from image_trees import paint, paint_classes
from PIL import Image

from ssl_runner.__main__ import main


def pack(*words) -> int:
    return main(["pack", *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def members(folder: Path) -> dict[str, bytes]:
    """Content by name of all members of all shards."""
    found = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            found |= {f"{path.name}/{each.name}": tar.extractfile(each).read() for each in tar}
    return found


@pytest.fixture
def root(tmp_path):
    root = paint_classes(tmp_path / "images", ("ant", "bee"), each=40)
    paint(root / "ant" / "photo.JPG", (9, 9, 9), (90, 60), quality=40)
    return root


def test_files_are_copied_as_they_are_in_even_shards_in_another_order(tmp_path, root, capsys):
    assert pack(root, tmp_path / "set", "--size", "0.03", "--validation", "0", "--test", "0") == 0
    found = members(tmp_path / "set")
    files = {path.read_bytes(): path for path in root.rglob("*.*")}
    images = {name: content for name, content in found.items() if not name.endswith(".cls")}
    assert sorted(images.values()) == sorted(files)
    assert sum(name.endswith(".jpg") for name in images) == 1
    for name, content in images.items():
        assert found[f"{name.rpartition('.')[0]}.cls"] == str(["ant", "bee"].index(files[content].parent.name)).encode()
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    counts = [shard["samples"] for shard in index["shards"]]
    assert len(counts) > 3
    assert max(counts) - min(counts) <= 1
    assert all(10_000 < shard["bytes"] < 60_000 for shard in index["shards"])
    first = [files[content].parent.name for name, content in images.items() if name.startswith("train-000000")]
    assert len(set(first)) == 2, "a shard is a sample of all classes"
    assert f"ssl-runner dataset=shards dataset.root={tmp_path / 'set'}" in capsys.readouterr().out
    assert pack(root, tmp_path / "again", "--size", "0.03", "--validation", "0", "--test", "0") == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "set")
    assert pack(root, tmp_path / "other", "--size", "0.03", "--validation", "0", "--test", "0", "--seed", "1") == 0
    assert contents(tmp_path / "other") != contents(tmp_path / "set")


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_what_was_cut_off_goes_on_to_the_same_bytes(tmp_path, root, monkeypatch, capsys, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet shards need the extra ssl-runner[shards]")
    size = {"webdataset": 0.02, "parquet": 0.002}[kind]
    words = (root, tmp_path / "set", "--size", size, "--format", kind)
    assert pack(root, tmp_path / "whole", *words[2:]) == 0
    whole = contents(tmp_path / "whole")
    from ssl_runner.data.shards import packing

    before, calls = packing.Packing.read, []

    def cut(self, file):
        calls.append(file)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return before(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(packing.Packing, "read", cut)
        assert pack(*words) == 130
    assert "type the same again" in capsys.readouterr().err
    begun = contents(tmp_path / "set")
    assert "packing.json" in begun
    assert 2 <= len(begun) < len(whole)
    assert all(whole[name] == content for name, content in begun.items() if name != "packing.json")
    assert pack(*words, "--seed", "5") == 2
    assert "packed in another way" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(packing.Packing, "read", lambda self, file: calls.append(file) or before(self, file))
        calls.clear()
        assert pack(*words) == 0
    assert len(calls) < 81, "what was whole is not read again"
    assert contents(tmp_path / "set") == whole
    assert pack(*words) == 0
    assert "holds all of them already" in capsys.readouterr().out


def test_what_cannot_be_packed_is_refused_before_anything_is_written(tmp_path, root, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    cases = {
        (tmp_path / "none", tmp_path / "x"): "there is no folder",
        (tmp_path / "empty", tmp_path / "x"): "holds no images",
        (root, tmp_path / "full"): "holds other files",
        (root, root): "name a folder outside",
    }
    for words, line in cases.items():
        before = sorted(tmp_path.rglob("*"))
        assert pack(*words) == 2
        assert line in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before
    for words in (("--size", "0"), ("--stored", "x"), ("--test", "1"), ("--format", "zip")):
        with pytest.raises(SystemExit):
            pack(root, tmp_path / "x", *words)


def test_unreadable_files_are_left_out_and_named(tmp_path, root, capsys):
    (root / "bee" / "no\x1b[2Jimage.png").write_bytes(b"text")
    (root / "bee" / "gone.png").symlink_to(tmp_path / "nothing")
    assert pack(root, tmp_path / "set") == 0
    said = capsys.readouterr().out
    assert "2 cannot be read and are left out" in said
    assert "no\\x1b[2Jimage.png" in said
    assert "\x1b" not in said


def test_large_images_are_stored_smaller_and_others_as_they_are(tmp_path):
    rng = Image.effect_noise((400, 240), 60).convert("RGB")
    root = tmp_path / "images"
    root.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    rng.save(root / "turned.jpg", exif=exif)
    rng.convert("L").save(root / "grey.png")
    Image.new("I;16", (300, 300)).save(root / "deep.png")
    paint(root / "small.png", (1, 2, 3), (70, 40))
    assert pack(root, tmp_path / "set", "--stored", "60") == 0
    images = {}
    for name, content in members(tmp_path / "set").items():
        with Image.open(io.BytesIO(content)) as image:
            images[content] = (image.size, image.mode, name.rpartition(".")[2])
    assert images.pop((root / "small.png").read_bytes()) == ((70, 40), "RGB", "png")
    assert images.pop((root / "deep.png").read_bytes()) == ((300, 300), "I;16", "png")
    assert sorted(images.values()) == [((60, 100), "RGB", "jpg"), ((100, 60), "L", "jpg")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open (2026-11)
def test_the_shards_are_read_by_the_libraries_of_their_formats(tmp_path, root):
    webdataset = pytest.importorskip("webdataset", reason="its own reader is asked; pip install webdataset")
    assert pack(root, tmp_path / "set", "--size", "0.03") == 0
    urls = sorted(map(str, (tmp_path / "set").glob("train-*.tar")))
    read = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    gc.collect()
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    assert len(read) == sum(shard["samples"] for shard in index["shards"] if shard["part"] == "train")
    assert all({"__key__", "cls"} < sample.keys() and sample.keys() & {"png", "jpg"} for sample in read)
