"""Photographs made for measuring, and the memory of an epoch of them."""

import mmap

import photographs
import pytest
import shard_memory
import torch
from image_trees import paint_classes
from shard_sets import shards

SMALL = ("--images", "90", "--side", "24", "--size", "0.02")


def test_photographs_are_a_function_of_seed_and_file_and_cross_from_no_part_to_another(tmp_path):
    root = paint_classes(tmp_path / "images", ("ant", "bee"), each=10, first=120)
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        photographs.main([str(root), str(tmp_path / name), *SMALL, "--seed", seed])
    a, b, c = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b != c
    assert len(a) > 8
    plan = photographs.plan_rows(root, labels="auto", shares={"test": 0.1, "validation": 0.1}, split_seed=0)
    many = photographs.repeated(plan, 90)
    sources = {part: {many.files[row].partition("#")[0] for row in rows.tolist()} for part, rows in many.parts.items()}
    assert sources == {part: {plan.files[row] for row in rows.tolist()} for part, rows in plan.parts.items()}
    data = shards(tmp_path / "a", tmp_path / "cache").load()
    assert sorted(len(part.x) for part in (data.bank, data.validation, data.test)) == [9, 9, 72]
    assert len(torch.unique(data.train[torch.arange(72)].flatten(1), dim=0)) == 72, "no two of a file are the same"


def test_an_epoch_is_read_and_its_memory_told(tmp_path, monkeypatch, capsys):
    root = paint_classes(tmp_path / "images", ("ant", "bee"), each=10)
    photographs.main([str(root), str(tmp_path / "set"), *SMALL])
    monkeypatch.setattr("ssl_runner.engine.loader.RESIDENT_BYTES", 10)
    monkeypatch.setattr(shard_memory, "EVERY", 0.01)
    to = tmp_path / "memory.png"
    shard_memory.main([str(tmp_path / "set"), "shuffle=2", "--batch-size", "8", "--to", str(to)])
    said = capsys.readouterr().out
    assert "72 of 72 rows, each once" in said
    assert to.stat().st_size > 1000
    before = shard_memory.memory()
    assert 0.005 < before < 20
    with mmap.mmap(-1, 100_000_000) as held:  # of the system itself: an allocator might give what it had kept
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert shard_memory.memory() - before == pytest.approx(0.1, abs=0.02)
