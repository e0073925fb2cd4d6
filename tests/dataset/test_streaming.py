"""Images kept in memory, in a cache or decoded on demand, by what room there is; the same data all three ways."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from image_trees import everything, load, paint, paint_classes, spoil
from worker_toys import loader

from ssl_runner.data.image_files import cache
from ssl_runner.data.image_files.listing import list_images
from ssl_runner.data.image_files.source import Source
from ssl_runner.data.rows import Subset

WAYS = {"cached": {"stream": False}, "in memory": {"stream": False, "cache": False}, "on demand": {"stream": True}}


@pytest.fixture
def root(tmp_path):
    return paint_classes(tmp_path / "set", each=20)


def way(data):
    rows = data.train
    while isinstance(rows, Subset):
        rows = rows.rows
    return "on demand" if isinstance(rows, Source) else "decoded"


def test_data_are_the_same_however_they_are_read(root):
    kept, *others = (load(root, **how) for how in WAYS.values())
    for data in others:
        assert (data.fingerprint, data.mean, data.std) == (kept.fingerprint, kept.mean, kept.std)
        for part in ("bank", "validation", "test"):
            one, other = getattr(kept, part), getattr(data, part)
            assert torch.equal(everything(one.x), everything(other.x))
            assert torch.equal(one.y, other.y)
    assert [way(data) for data in (kept, *others)] == ["decoded", "decoded", "on demand"]
    paint(root / "ant" / "0.png", (1, 0, 7))
    assert load(root, stream=True).fingerprint != kept.fingerprint


GIB = 2**30
ROOM = {  # bytes free on the disk, bytes of memory available, settings; what is chosen, and what the line says
    "a large disk": (GIB, 0, {}, "decoded", ["are kept in", "1.0 GiB free", "dataset.stream=true"]),
    "a full disk": (10, GIB, {}, "decoded", ["are kept in memory", "dataset.stream=true"]),
    "no cache": (GIB, GIB, {"cache": False}, "decoded", ["are kept in memory"]),
    "neither": (10, 10, {}, "on demand", ["neither", "decoded on demand", "dataset.cache=FOLDER"]),
    "no cache, no memory": (GIB, 10, {"cache": False}, "on demand", ["dataset.cache=false", "decoded on demand"]),
    "typed": (GIB, GIB, {"stream": True}, "on demand", []),
}


@pytest.mark.parametrize("case", ROOM)
def test_what_is_chosen_is_what_there_is_room_for(root, monkeypatch, caplog, case):
    disk, memory, settings, chosen, words = ROOM[case]
    caplog.set_level("INFO")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=disk))
    monkeypatch.setattr(cache, "available_memory", lambda: memory)
    assert way(load(root, **settings)) == chosen
    lines = [line for line in caplog.messages if "once decoded" in line]
    assert len(lines) == bool(words)
    assert all(word in lines[0] for word in words), lines


def test_a_cache_that_is_there_is_used_however_full_the_disk_is(root, monkeypatch, caplog):
    caplog.set_level("INFO")
    load(root)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    monkeypatch.setattr(cache, "available_memory", lambda: 0)
    assert way(load(root)) == "decoded"
    assert "images mapped from" in caplog.text


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_stream_is_the_same_for_any_number_of_workers(root, workers):
    batches = []
    for settings in ({"stream": False}, {"stream": True, "workers": workers}):
        data = load(root, **settings)
        each = loader(data.train)
        batches.append([batch for step in (0, 1, 5, 6, 2) for batch in each.batches(step)])
        each.close()
    assert torch.equal(torch.cat([batch.index for batch in batches[0]]), torch.cat([b.index for b in batches[1]]))
    assert torch.equal(torch.cat([batch.x for batch in batches[0]]), torch.cat([b.x for b in batches[1]]))


@pytest.mark.parametrize("workers", [0, 3])
def test_unreadable_files_are_counted_over_all_processes(root, caplog, workers):
    """Each process meets fewer than are too many."""
    names = spoil(root)
    files = list_images(root).files
    for limit in (5, 4):
        caplog.clear()
        each = loader(Source(root, files, 16, 3, "crop", limit, workers), epochs=1.0, batch_size=5)
        with nullcontext() if limit == 5 else pytest.raises(ValueError, match=r"^more than max_broken=4 images"):
            for step in range(9):
                each.batches(step)
        each.close()
        if limit == 5:
            assert all(any(name in line for line in caplog.messages) for name in names)
