"""The cache of decoded images: its key, torn and half-written entries, full disks, two runs at once."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from image_trees import everything, load, load_whole, paint, paint_classes, red

from ssl_runner.data.image_files import cache, index
from ssl_runner.data.image_files.decode import Reader


@pytest.fixture
def root(tmp_path) -> Path:
    return paint_classes(tmp_path / "set")


def files(root: Path, pattern: str = "*") -> list[Path]:
    return sorted((root.parent / "cache").glob(pattern))


def count_decoded(monkeypatch) -> list[Path]:
    """Files that are decoded from now on."""
    seen, read = [], Reader.read
    monkeypatch.setattr(Reader, "read", lambda reader, path: seen.append(path) or read(reader, path))
    return seen


def test_second_run_decodes_nothing(root, tmp_path, monkeypatch):
    seen = count_decoded(monkeypatch)
    first, again = load(root), load(root)
    assert len(seen) == 20
    assert torch.equal(everything(first.train), everything(again.train))
    assert first.fingerprint == again.fingerprint
    assert [file.suffix for file in files(root)] == [".json", ".npy"]
    assert {file.stat().st_mode & 0o777 for file in files(root)} == {0o644}  # a cache is a group's
    assert load(root, cache=False).fingerprint == first.fingerprint
    (tmp_path / "moved").mkdir()
    load(root.rename(tmp_path / "moved" / "set"), cache=str(tmp_path / "cache"))
    assert len(seen) == 40  # once more in memory, none of the moved


def test_key_follows_content(root):
    fingerprints = [load(root).fingerprint]
    paint(root / "ant" / "0.png", (99, 0, 0))
    os.utime(root / "ant" / "0.png", ns=(1, 1))
    assert 99 in red(load_whole(root).train)
    fingerprints.append(load(root).fingerprint)
    paint(root / "ant" / "new.png", (98, 0, 0))
    fingerprints.append(load(root).fingerprint)
    (root / "ant" / "new.png").unlink()
    assert load(root).fingerprint == fingerprints[1]
    assert len(files(root, "*.npy")) == len(set(fingerprints)) == 3  # changed, added; removed is as before
    for settings in ({"channels": 1}, {"size": 8}, {"resize": "squash"}):
        load(root, **settings)
    assert len(files(root, "*.npy")) == 6


def test_key_follows_the_time_of_every_file(tmp_path, monkeypatch):
    """Also of files of which no byte goes into the key."""
    monkeypatch.setattr(index, "SAMPLED", 1)
    for k in range(5):
        paint(tmp_path / "set" / f"{k}.bmp", k, mode="L")
    assert red(load(tmp_path / "set").train) == [0, 1, 2, 3, 4]
    paint(tmp_path / "set" / "3.bmp", 77, mode="L")
    assert red(load(tmp_path / "set").train) == [0, 1, 2, 77, 4]


def test_same_names_sizes_and_times_in_another_tree(tmp_path):
    """Archives are often unpacked with one time for all files: the bytes tell them apart."""
    for colour in (10, 200):
        root = tmp_path / str(colour) / "set"
        paint(root / "0.bmp", colour, mode="L")
        os.utime(root / "0.bmp", ns=(7, 7))
        assert red(load(root, cache=str(tmp_path / "cache")).train) == [colour]


@pytest.mark.parametrize("harm", ["cut", "empty", "other", "note"])
def test_torn_entry_is_rebuilt(root, monkeypatch, harm):
    before = everything(load(root).train).clone()
    entry = files(root, "*.npy")[0]
    raw = entry.read_bytes()
    if harm == "note":
        entry.with_suffix(".json").write_text("{")
    else:
        entry.unlink()  # the mapping of the first run keeps its file
        entry.write_bytes({"cut": raw[:-1], "empty": b"", "other": b"x" * len(raw)}[harm])
    seen = count_decoded(monkeypatch)
    assert torch.equal(everything(load(root).train), before)
    assert len(seen) == 20
    assert entry.read_bytes() == raw


def test_two_runs_at_once(root, monkeypatch):
    """A second run writes the same entry from beginning to end while the first is in the midst of it."""
    batches, rows_read = Reader.read_batches, []

    def overtaken(self, paths):
        monkeypatch.setattr(Reader, "read_batches", batches)
        first, rows, broken = next(batches(self, paths))
        half = len(paths) // 2
        yield first, rows[:half], broken
        rows_read.append(everything(load(root).train))
        yield half, rows[half:], {}

    monkeypatch.setattr(Reader, "read_batches", overtaken)
    rows_read.append(everything(load(root).train))
    assert len(rows_read) == 2
    assert all(torch.equal(rows, everything(load(root, cache=False).train)) for rows in rows_read)
    assert len(files(root)) == 2


def test_cut_off_while_writing_leaves_no_entry(root, monkeypatch):
    batches = Reader.read_batches

    def interrupted(self, paths):
        yield next(batches(self, paths[:5]))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "read_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(root)
    assert files(root) == []
    assert len(load(root).train) == 16


@pytest.mark.parametrize(
    ("name", "original", "allowed"),
    [  # a folder is synced after its file
        *(("os.fsync", os.fsync, allowed) for allowed in (0, 2)),
        *(("pathlib.Path.replace", Path.replace, allowed) for allowed in (0, 1)),
    ],
)
def test_failed_write_leaves_nothing(root, monkeypatch, caplog, name, original, allowed):
    """A disk that is full only when the file is synced, at either file of an entry, or a name that cannot be given."""
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) > allowed:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(name, failing)
        assert len(load(root).train) == 16
    assert len(calls) == allowed + 1
    assert files(root, "*.half") == files(root, "*.npy") == []
    assert "No space left" in caplog.text


def test_what_a_killed_run_left_is_removed_once_it_is_old(root):
    """Also where the entry is there and nothing is decoded; what another run may be writing stays."""
    load(root)
    old, young, foreign = left = [root.parent / "cache" / f for f in ("0.npy.a.half", "0.npy.b.half", "notes.tmp")]
    for file in left:
        file.write_bytes(b"torn")
    for file in (old, foreign):
        os.utime(file, (1, 1))
    load(root)
    assert [file.exists() for file in (old, young, foreign)] == [False, True, True]


def test_unwritable_cache(root, tmp_path, caplog, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    assert len(load(root, cache=str(tmp_path / "file")).train) == 16
    assert "memory" in caplog.text
    monkeypatch.setattr(cache, "IN_MEMORY", 100)
    with pytest.raises(OSError, match=r"dataset\.cache=FOLDER.*dataset\.stream=true"):
        load(root, cache=str(tmp_path / "file"))


def test_full_disk(root, caplog, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    assert len(load(root).train) == 16
    assert "No space left" in caplog.text
    assert files(root) == []


def test_default_cache_folder(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    load(root, cache=True)
    assert len(list(tmp_path.glob("user/ssl_runner/*.npy"))) == 1


def test_mended_file_is_read(root, monkeypatch):
    """A file that could not be read for a reason outside of it, and now can; its name, size and time are the same."""
    read = Reader.read

    def refused(self, path):
        if path.name == "3.png":
            raise PermissionError(13, "Permission denied")
        return read(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "read", refused)
        assert len(load_whole(root).train) == 18
    assert len(load_whole(root).train) == 20
