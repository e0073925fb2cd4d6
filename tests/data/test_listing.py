"""Walk through folders: what is no sample, what cannot be opened, folders of any depth, names on a terminal."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from image_trees import WHOLE, folder, forget_extras, load, paint, paint_classes

from ssl_runner.data.image_files import decode, listing
from ssl_runner.data.image_files.listing import list_images
from ssl_runner.run_folder import layout

HEIC = "pip install 'ssl-runner[heic]'"


@pytest.fixture
def root(tmp_path) -> Path:
    return paint_classes(tmp_path / "set", each=2)


@pytest.fixture(autouse=True)
def bare(monkeypatch) -> None:
    forget_extras(monkeypatch)


def left_out(root: Path) -> dict[str, int]:
    return dict(sum(list_images(root).left_out.values(), start=listing.Counter()))


def test_pipes_sockets_and_links_to_themselves_are_counted_and_never_opened(root, monkeypatch):
    ant = root / "ant"
    os.mkfifo(ant / "pipe.png")
    (ant / "piped.png").symlink_to(ant / "pipe.png")
    monkeypatch.chdir(ant)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.png")
    (ant / "device.png").symlink_to("/dev/null")
    (ant / "self.png").symlink_to("self.png")
    (root / "self").symlink_to("self")
    (ant / "parent").symlink_to(root)
    assert list_images(root).files == ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    assert left_out(root) == {
        "no file (pipe, socket or device)": 4,
        "link that cannot be followed (Too many levels of symbolic links)": 2,
        "link to a folder above it": 1,
    }
    assert len(load(root, **WHOLE).train) == 4


def test_folders_of_any_depth_are_read(root):
    deep = os.open(root / "ant", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(os.open("x.png", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    try:
        assert max(list_images(root).files, key=len) == f"ant/{'d/' * 1500}x.png"
    finally:  # pytest's own cleaning recurses
        subprocess.run(["rm", "-r", root / "ant" / "d"], check=True)


def test_folders_that_cannot_be_read_are_named(root, monkeypatch, caplog):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    for k in range(7):
        paint(root / "ant" / f"{k}" / "locked" / "x.png", 3)
    monkeypatch.setattr("os.scandir", refuse)
    assert len(load(root, **WHOLE).train) == 4
    assert "cannot read the folder ant/0/locked/ (Permission denied)" in caplog.messages
    assert "7 folders cannot be read and are left out" in caplog.messages
    with pytest.raises(PermissionError):
        folder((root / "ant" / "0").rename(root.parent / "locked"))


RUNS = [(layout.CONFIG, layout.OVERRIDES), (layout.CONFIG, layout.CHECKPOINTS), (layout.SUMMARY, layout.METRICS)]
RUNS += [(layout.WEIGHTS, layout.ENCODER), (layout.SWEEP,), (layout.EVENTS.replace("*", "1.host"),)]


@pytest.mark.parametrize("names", RUNS, ids=str)
def test_pictures_of_runs_are_no_samples(root, names):
    run = root / "ant" / "outputs" / "rotation-shapes" / "run"
    paint(run / "evaluation" / "knn" / "plot.png", 3)
    paint(root / "outputs" / "sweeps" / "x" / "y.png", 3)
    for name in names:
        (run / name).write_text("")
        (root / "outputs" / "sweeps" / name).write_text("")
    assert len(list_images(root).files) == 4
    assert left_out(root) == {"folder of a run": 2}
    assert list_images(run).files == ["evaluation/knn/plot.png"], "what is asked for by name is read"
    (run / names[0]).unlink()
    assert len(list_images(root).files) == 4 + 1


def test_a_class_may_be_called_as_a_file_of_ours_is(root):
    for name in (layout.CHECKPOINTS, layout.EVALUATION, layout.SUMMARY):
        paint(root / name / "0.png", 3)
    assert len(list_images(root).files) == 7


def test_what_systems_and_caches_leave_in_folders_is_no_sample(root):
    for name in ("__MACOSX/ant/._0.png", "ant/@eaDir/0.png", "$RECYCLE.BIN/0.png", ".cache/0.png", "ant/._0.png"):
        paint(root / name, 3)
    load(root, cache=str(root))
    assert list_images(root).files == ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    assert left_out(root) == {"hidden": 5, ".npy (no image)": 1, ".json (no image)": 1}


def test_what_is_left_out_is_counted_by_suffix_with_the_reason(root):
    for name in ("a.HEIC", "b.heic", "notes.txt", "README", "scan.dcm", "more.tar", "x.averylongsuffix", "y.a\x1bb"):
        (root / "ant" / name).write_bytes(b"1")
    assert left_out(root) == {
        f".heic (needs: {HEIC})": 2,
        ".txt (no image)": 1,
        "without suffix (no image)": 2,
        ".dcm (not read; save as PNG or TIFF)": 1,
        ".tar (unpack it)": 1,
        ".a\\x1bb (no image)": 1,
    }


@pytest.fixture
def plugin(bare, tmp_path, monkeypatch):
    """A stand-in for the extra: what it registers reads a JPEG under another suffix."""
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import Image, JpegImagePlugin\n"
        "def register_heif_opener():\n"
        "    Image.register_extensions('HEIF', ['.heic', '.heif', '.hif'])\n"
        "    Image.register_open('HEIF', JpegImagePlugin.jpeg_factory, lambda head: head[:2] == b'\\xff\\xd8')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pillow_heif")
    yield
    sys.modules.pop("pillow_heif")


def test_what_an_extra_reads_is_read_if_it_is_installed(root, plugin):
    paint(root / "ant" / "x.heic", (250, 0, 0), format="JPEG")
    assert "ant/x.heic" in list_images(root).files
    assert decode.read_image(root / "ant" / "x.heic", 8)[0].min() > 240


def test_an_avif_is_told_apart_from_what_pillow_lacks(root, monkeypatch):
    (root / "ant" / "x.avif").write_bytes(b"1")
    assert "ant/x.avif" in list_images(root).files
    forget_extras(monkeypatch)
    monkeypatch.setattr(decode.features, "check", lambda _: False)
    assert left_out(root) == {".avif (needs: pip install 'pillow>=11.3')": 1}


def test_names_reach_no_terminal_raw(root, caplog):
    caplog.set_level("INFO")
    names = ["a\x1b[31mnt", "b\u202eee", os.fsdecode(b"c\xff"), "naïve 画像", "\x85\n"]
    for name in names:
        paint_classes(root / name, names=(".",), each=2)
        (root / name / f"{name}.png").write_bytes(b"?")
        (root / f"{name} empty").mkdir()
    data = load(root)
    assert {*data.classes} == {"ant", "bee", "a\\x1b[31mnt", "b\\u202eee", "c\\udcff", names[3], "\\x85\\n"}
    assert caplog.text.count("cannot read") == 5
    assert all(line.isprintable() for line in caplog.messages)
    (root / "stray\x07.png").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"stray\\x07") as refused:
        folder(root)
    assert str(refused.value).isprintable()


def test_a_root_may_have_a_name_of_any_bytes(root, tmp_path):
    root = root.rename(tmp_path / os.fsdecode(b"s\xe9t"))
    assert len(load(root, **WHOLE).train) == 4
    with pytest.raises(FileNotFoundError, match=r"s\\udce9x") as refused:
        folder(tmp_path / os.fsdecode(b"s\xe9x"))
    assert str(refused.value).isprintable()
