"""Relative paths of a recorded config: which values they are, where they start, what is said if they are absent."""

from pathlib import Path

import pytest
import yaml

from ssl_runner.config.compose import TREE
from ssl_runner.config.file_paths import absent_places, names_path, relative_places, start_of_paths, with_places
from ssl_runner.config.override import leaves

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
    "evaluator": {"similarity": {"file": "pairs.tsv", "pairs": 9}, "knn": {"k": 20}},
    "model": {"root": "none of the data's"},
}
PLACES = {"dataset.root": "data", "dataset.parts.label_file": "y.csv", "evaluator.similarity.file": "pairs.tsv"}
PLACES |= {"init.path": "run"}


@pytest.fixture
def home(here, monkeypatch):
    """Where a run was begun; the current folder is `away`, beside it."""
    for name in ("home", "away"):
        (here / name).mkdir()
    monkeypatch.chdir(here / "away")
    return here / "home"


def test_paths_are_the_texts_of_dataset_and_evaluators_that_are_named_so():
    assert dict(relative_places(CONTENT)) == PLACES
    others = {"root": "/data", "folder": "~/data", "cache": "cache", "path": "s3://bucket", "image_root": "images"}
    assert dict(relative_places({"dataset": others})) == {"dataset.cache": "cache", "dataset.image_root": "images"}
    for tokenizer, places in (("tok.json", {"dataset.tokenizer": "tok.json"}), ("bytes", {}), (None, {})):
        assert dict(relative_places({"dataset": {"tokenizer": tokenizer}})) == places
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


def test_no_committed_setting_is_taken_for_a_path_and_is_none():
    """A column of a table was, called `path`: a run on it could not be evaluated from another folder."""
    for file in (file for group in ("dataset", "evaluator") for file in (TREE / group).rglob("*.yaml")):
        content = yaml.safe_load(file.read_text()) or {}
        named = {key: value for key, value in leaves(content).items() if key != "defaults" and names_path(key)}
        assert {*named.values()} <= {"???", "data", True, None}, f"{file}: {named}"
