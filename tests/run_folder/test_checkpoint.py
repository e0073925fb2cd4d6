"""Checkpoints, and what is written whole or not at all."""

import logging
import os

import pytest
import torch
from torch import nn

from ssl_runner.run_folder import checkpoint

STATES = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:700]),
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: torch.save({"model": torch.ones(1)}, path),
    "format": lambda path: torch.save({"format": 99, "step": 2}, path),
    "pickle": lambda path: torch.save({"format": 1, "step": 2, "w": nn.Linear(1, 1)}, path),  # an object, which is code
}


def test_checkpoints_are_kept_by_number_and_found_newest_first(tmp_path):
    for step in (5, 10, 10_000_000, 15):
        checkpoint.save(tmp_path, step, {"w": torch.full((3,), float(step))}, keep=3)
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["0000010.pt", "0000015.pt", "10000000.pt"]
    _, state = next(checkpoint.newest_first(tmp_path))
    assert state["step"] == 10_000_000
    assert not list(checkpoint.newest_first(tmp_path / "absent"))


@pytest.mark.parametrize("damage", STATES)
def test_a_checkpoint_that_cannot_be_read_is_named_and_the_one_before_used(tmp_path, damage, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "propagate", True)
    for step in (1, 2):
        bad = checkpoint.save(tmp_path, step, {"w": torch.ones(100)}, keep=9)
    STATES[damage](bad)
    _, state = next(checkpoint.newest_first(tmp_path))
    assert state["step"] == 1
    assert str(bad) in caplog.text


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "x.json"
    checkpoint.write(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "nothing half-written stays"


@pytest.mark.parametrize("name", [".0000001.pt.abc.tmp", "0000001.pt.abc.half"])
def test_a_torn_temporary_file_is_cleared_by_the_next_save(tmp_path, name):
    """Also one of version 0.1."""
    (tmp_path / name).write_bytes(b"half")
    checkpoint.save(tmp_path, 2, {}, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["0000002.pt"]
