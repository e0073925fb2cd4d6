"""A run folder is one run's own."""

import threading

import pytest

from ssl_runner.errors import Refused
from ssl_runner.run_folder.claim import claim, claim_new
from ssl_runner.run_folder.lock import locked


def test_folders_are_never_shared(tmp_path):
    claimed = []
    threads = [
        threading.Thread(target=lambda: claimed.extend(claim_new(tmp_path) for _ in range(20))) for _ in range(4)
    ]
    for act in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            act(thread)
    assert len(set(claimed)) == 80


def test_a_folder_with_a_run_is_refused(tmp_path):
    taken = claim(tmp_path / "a" / "b")
    assert claim(taken) == taken, "an empty folder may be given"
    (taken / "config.yaml").write_text("")
    with pytest.raises(Refused, match="ssl-runner resume"):
        claim(taken)


def test_a_locked_folder_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(Refused, match="running process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
