"""Relative paths of a recorded config: which values they are, where they start, what is said if they are absent."""

from pathlib import Path

import pytest

from ssl_runner.run_folder.atomic import write_json
from ssl_runner.run_folder.origin import (
    absent_places,
    begun_in,
    entries,
    recorded_fingerprint,
    relative_places,
    start_of_paths,
    with_places,
)

CONTENT = {
    "dataset": {
        "_target_": "a.B",
        "root": "data",
        "cache": True,
        "size": 8,
        "resize": "crop",
        "parts": {"label_file": "y.csv"},
    },
    "init": {"path": "run", "digest": "00"},
    "model": {"root": "none of the data's"},
}
PLACES = {"dataset.root": "data", "dataset.parts.label_file": "y.csv", "init.path": "run"}


@pytest.fixture
def home(here, monkeypatch):
    """Where a run was begun; the current folder is `away`, beside it."""
    for name in ("home", "away"):
        (here / name).mkdir()
    monkeypatch.chdir(here / "away")
    return here / "home"


def test_paths_are_the_texts_of_the_dataset_that_are_named_so():
    assert dict(relative_places(CONTENT)) == PLACES
    others = {"root": "/data", "folder": "~/data", "cache": "cache", "path": "s3://bucket", "image_root": "images"}
    assert dict(relative_places({"dataset": others})) == {"dataset.cache": "cache", "dataset.image_root": "images"}
    assert dict(relative_places({"init": "run", "dataset": None})) == {"init": "run"}


def test_they_are_made_absolute_without_touching_what_was_given(home):
    whole = with_places(CONTENT, home)
    assert whole["dataset"] == {**CONTENT["dataset"], "root": f"{home}/data", "parts": {"label_file": f"{home}/y.csv"}}
    assert whole["init"] == {"path": f"{home}/run", "digest": "00"}
    assert (whole["model"], CONTENT["dataset"]["root"]) == (CONTENT["model"], "data")
    assert with_places(CONTENT, home, ["init.path"])["dataset"] == CONTENT["dataset"]
    assert with_places(CONTENT, None) == CONTENT


def test_they_start_where_the_run_was_begun_unless_they_lie_here_alone(home):
    content = {"dataset": {"root": "data", "cache": "made"}}
    assert start_of_paths(content, home) == home, "nothing is anywhere"
    assert absent_places(content, home).endswith(f"nor {Path.cwd()}/data exists: type dataset.root=PATH")
    Path("data").mkdir()
    assert start_of_paths(content, home) is None
    assert absent_places(content, home) == ""
    (home / "data").mkdir()
    assert start_of_paths(content, home) == home
    assert start_of_paths({}, home) == home
    for origin in (None, Path.cwd(), home / "absent"):
        assert start_of_paths(content, origin) is None


def test_where_a_run_was_begun_is_in_its_environment_or_its_sweeps_ledger(here):
    assert begun_in(here / "sweep" / "000") is None
    write_json(here / "sweep" / "sweep.json", {"cwd": "/there"})
    assert begun_in(here / "sweep" / "000") == Path("/there")
    write_json(here / "sweep" / "000" / "environment.json", {"begun_in": "/here"})
    assert begun_in(here / "sweep" / "000") == Path("/here")
    write_json(here / "sweep" / "000" / "environment.json", {"begun_in": ["/here"]})
    assert begun_in(here / "sweep" / "000") is None


@pytest.mark.parametrize("other_data", [None, 3, {}, [3], [{"fingerprint": "b"}], [{"step": 4, "fingerprint": 3}]])
def test_the_fingerprint_is_that_of_the_data_that_the_run_had_last(other_data):
    known = recorded_fingerprint({"other_data": other_data}, {"dataset": "a"})
    assert known == (None if entries(other_data) else "a")
    assert recorded_fingerprint({"other_data": [{"step": 4, "fingerprint": "b"}]}, {"dataset": "a"}) == "b"
    assert recorded_fingerprint({}, {"dataset": {}}) is None
