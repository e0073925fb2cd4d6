"""Origin of a recorded run: the folder in which it was begun, and the fingerprint of its data."""

import time
from pathlib import Path

import pytest

from ssl_runner.run_folder.atomic import read_json, write_json
from ssl_runner.run_folder.environment import describe
from ssl_runner.run_folder.origin import begun_at, begun_in, entries, recorded_fingerprint


def test_where_a_run_was_begun_is_in_its_environment_or_its_sweeps_ledger(here):
    assert begun_in(here / "sweep" / "000") is None
    write_json(here / "sweep" / "sweep.json", {"cwd": "/there"})
    assert begun_in(here / "sweep" / "000") == Path("/there")
    write_json(here / "sweep" / "000" / "environment.json", {"begun_in": "/here"})
    assert begun_in(here / "sweep" / "000") == Path("/here")
    write_json(here / "sweep" / "000" / "environment.json", {"begun_in": ["/here"]})
    assert begun_in(here / "sweep" / "000") is None


def test_when_a_run_was_begun_is_in_its_environment(here):
    describe(here, device="cpu", fingerprint="a")
    assert abs(begun_at(read_json(here / "environment.json")) - time.time()) < 60
    assert begun_at({}) is None


@pytest.mark.parametrize("other_data", [None, 3, {}, [3], [{"fingerprint": "b"}], [{"step": 4, "fingerprint": 3}]])
def test_the_fingerprint_is_that_of_the_data_that_the_run_had_last(other_data):
    known = recorded_fingerprint({"other_data": other_data}, {"dataset": "a"})
    assert known == (None if entries(other_data) else "a")
    assert recorded_fingerprint({"other_data": [{"step": 4, "fingerprint": "b"}]}, {"dataset": "a"}) == "b"
    assert recorded_fingerprint({}, {"dataset": {}}) is None
