"""A YAML keeps its meaning: every choice against what it composed to, and random pairs of choices against the schema.

A snapshot holds what the choice makes of the default job: each top-level key that differs, completed by the defaults of
the signatures, since what a file leaves to a default changes with it.
"""

import difflib
import inspect
import itertools
import os
import random
import re
from pathlib import Path

import pytest
import yaml
from conftest import choose, names
from runs import put

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.override import leaves
from ssl_runner.device.placement import Placement
from ssl_runner.recipe.recipe import Dumper
from ssl_runner.recipe.settings import complete
from ssl_runner.run.preflight import read_job

SNAPSHOTS = Path(__file__).parent / "snapshots"
COUNT = 16  # random pairs
UPDATE = "UPDATE_SNAPSHOTS"
GROUPS = sorted(file.name for file in TREE.iterdir() if any(file.glob("*.yaml")))


def described(composer, group):
    """What each choice of a group changes of the default job."""
    default, changes = complete(composer.tree([])[0]), {}
    for name in composer.groups[group]:
        override = [choose(group, name)]
        content = complete(
            composer.compose(override).content or composer.tree(override)[0]
        )  # the latter: with ??? in it
        keys = [key for key in default | content if key == group or content.get(key) != default.get(key)]
        changes[name] = {key: content.get(key, "(taken away)") for key in keys}
    return changes


def text(content):
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**6)


def compared(name, now):
    """The lines of a unified diff between a snapshot and what is; if it is wished for, the snapshot is renewed."""
    path = SNAPSHOTS / f"{name}.yaml"
    if os.environ.get(UPDATE):
        path.write_text(now)
    before = path.read_text() if path.exists() else ""
    return [*difflib.unified_diff(before.splitlines(), now.splitlines(), f"snapshots/{name}.yaml", "now", lineterm="")]


def check(name, now):
    if diff := compared(name, now):
        remedy = f"if that is meant: {UPDATE}=1 pytest tests/config/test_snapshots.py"
        pytest.fail("\n".join([f"{name} composes to something else; {remedy}", *diff]), pytrace=False)


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_means_what_it_meant(composer, group):
    check(group, text(described(composer, group)))


@pytest.mark.parametrize("name", names("."))
def test_every_config_to_start_from_means_what_it_meant(name, tmp_path):
    put(tmp_path / "dataset" / "run.yaml", "of_the_run: true\n")  # what `ssl-runner evaluate` puts there
    content = Composer(tmp_path, name).tree([])[0]
    check(name, text(complete(content) if name == "config" else content))


def test_every_plugins_settings_are_what_they_were_and_no_snapshot_is_too_many():
    """As they are written: to compose them takes the plugin itself."""
    files = sorted((TREE / "hydra").rglob("*.yaml"))
    content = {str(file.relative_to(TREE).with_suffix("")): yaml.safe_load(file.read_text()) for file in files}
    check("hydra", text(content))
    assert {*names(SNAPSHOTS)} == {*GROUPS, "hydra", *names(".")}, "no snapshot outlives its group"


@pytest.mark.slow
def test_a_changed_value_a_changed_default_and_a_new_choice_are_noticed(composer, tmp_path, monkeypatch):
    monkeypatch.delenv(UPDATE, raising=False)
    original = (TREE / "device" / "cpu.yaml").read_text()

    def changes(content, file="cpu.yaml"):
        put(tmp_path / "device" / file, content)
        diff = compared("device", text(described(Composer(tmp_path), "device")))
        return [line for line in diff if re.match(r"[-+] ", line)]

    assert changes(original) == []
    other = original.replace("precision: float32", "precision: bf16")
    assert changes(other) == ["-    precision: float32", "+    precision: bf16"]
    silent = original.replace("deterministic: false", "")
    assert len({each[1:] for each in changes(silent)}) == 1, "only its place among the keys has changed"
    monkeypatch.setitem(inspect.unwrap(Placement.__init__).__kwdefaults__, "deterministic", True)
    assert "+    deterministic: true" in changes(silent)
    assert "+    name: cpu" in changes(original, "mine.yaml")


def draws(composer):
    """Two choices of different groups, and a number of theirs set to another, again and again."""
    rng = random.Random(0)
    while True:
        groups = rng.sample(GROUPS, 2)
        overrides = [choose(group, rng.choice(names(group))) for group in groups]
        try:
            content = composer.tree(overrides)[0]
        except ValueError:
            continue  # the one mounts nothing where the other would stand
        numbers = [key for key, value in leaves(content).items() if type(value) in (int, float)]
        below = [key for key in numbers if key.split(".")[0] in groups] or numbers
        yield [*overrides, f"{rng.choice(below)}={rng.choice([-1, 0, 0.5, 1, 2, 3, 7])}"]


@pytest.mark.slow
def test_random_pairs_are_jobs_or_refused_in_well_formed_lines(composer):
    wrong = []
    for overrides in itertools.islice(draws(composer), COUNT):
        composed = composer.compose(overrides)
        wrong.append(composed.problems or read_job(composed.content)[1])
        for line in wrong[-1]:
            assert re.fullmatch(r"[a-z_]+(\.\w+)*: .{10,}", line), (overrides, line)
            assert re.search("given|is no setting|is missing|type |must be|wanted", line), (overrides, line)
    assert 0 < sum(map(bool, wrong)) < COUNT, "pairs that can be, and pairs that cannot"
