"""Configs of older formats are migrated wherever they are read, and later ones are refused by name."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from runs import change, enter, put

from ssl_runner.__main__ import main
from ssl_runner.config import migrate as migration
from ssl_runner.config.compose import Composer
from ssl_runner.config.migrate import migrated, stamped
from ssl_runner.encoder.load import find_encoder
from ssl_runner.errors import Refused
from ssl_runner.recipe.recipe import write_recipe
from ssl_runner.run.prepare import recorded_job


@pytest.fixture
def later(monkeypatch):
    """The version that reads format 3: `log_each` is called `log_every`, and `nesterov` is gone."""

    def renamed(content):
        if "log_each" in content:
            content["log_every"] = content.pop("log_each")
        if "nesterov" in content.get("optimizer", {}):
            raise ValueError("optimizer.nesterov: was removed; leave it out, or type optimizer=sgd")
        if "width_of_layers" in (model := content.get("model", {})):
            model["widths"] = model.pop("width_of_layers")

    monkeypatch.setattr(migration, "MIGRATIONS", [*migration.MIGRATIONS, renamed])


@pytest.fixture
def old(whole, tmp_path):
    """A run as version 0.1 has left it, without a number; and a key and a parameter have other names."""
    folder = Path(shutil.copytree(whole, tmp_path / "old"))

    def aged(content):
        text = json.dumps(content).replace("ssl_runner.augment.image.views.", "ssl_runner.augment.views.")
        text = text.replace('"log_every"', '"log_each"').replace('"widths"', '"width_of_layers"')
        return {key: value for key, value in json.loads(text).items() if key != "format"}

    for file in (folder / "config.yaml", folder / "encoder.yaml"):
        content = yaml.safe_load(file.read_text())
        assert content["format"] == 2
        put(file, aged(content))
    for path in (folder / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        torch.save({**state, "config": aged(state["config"])}, path)
    return folder


@pytest.mark.usefixtures("later")
def test_a_run_of_an_older_format_is_read_everywhere(old, tmp_path, drop):
    ready = recorded_job(old)
    content = ready.content
    assert (str(ready.job.log_every), "log_each" in content) == ("4st", False)
    assert content["pretext"]["augment"]["_target_"] == "ssl_runner.augment.image.views.Views"
    assert find_encoder(old).content == find_encoder(next((old / "checkpoints").iterdir())).content == content
    assert recorded_job(old / "config.yaml", ["log_every=5st"]).content == {**content, "log_every": "5st"}
    part = "# @package _global_\ndefaults:\n  - override /pretext: simclr\n"
    for name, line in (("part", "log_each: 3st\n"), ("now", "format: 3\nlog_every: 3st\n")):
        assert drop(part + line, name).compose([f"experiment={name}"]).content["log_every"] == "3st"
    change(old, "summary.json", status="interrupted")
    assert main(["resume", str(old)]) == 0, "its checkpoint is of the older format as well"
    assert yaml.safe_load((old / "encoder.yaml").read_text())["format"] == 3
    assert "format: 3\n" in write_recipe(old, "mine").text
    put(tmp_path / "conf/config.yaml", "defaults:\n  - _self_\n  - pretext: rotation\nlog_each: 7st\n")
    assert Composer(tmp_path / "conf").compose([]).content["log_every"] == "7st", "a config to start from"


@pytest.mark.usefixtures("later")
def test_a_key_that_is_gone_is_refused_by_name(old):
    change(old, "config.yaml", optimizer={"nesterov": True})
    words = "optimizer.nesterov: was removed; leave it out, or type optimizer=sgd"
    with pytest.raises(Refused, match=words):
        recorded_job(old)
    (line,) = Composer(old).compose([]).problems
    assert f"(format 2): {words}" in line


def test_a_later_format_is_refused_by_name(run, drop, capsys):
    text = (run / "config.yaml").read_text().replace("format: 2", "format: 9")
    put(run / "config.yaml", text)
    change(run, "environment.json", versions={"ssl-runner": "7.1.0"})
    line = f"config.yaml: format: given 9, and ssl-runner {migration.__version__} reads up to 2"
    for command, *name in (["resume"], ["rerun"], ["evaluate"], ["save", "mine"], ["--config-dir"]):
        enter(capsys, [command, str(run), *name], line, "ssl-runner 7.1.0, which wrote it, reads it", status=2)
    (line,) = drop(text).compose(["experiment=dropped"]).problems
    assert re.match("experiment/dropped.yaml: format: given 9.*a later version of ssl-runner reads it", line)


@pytest.mark.parametrize("number", [0, -1, "two", 1.0, True, None])
def test_what_is_no_format_is_refused(number):
    with pytest.raises(ValueError, match=r"x.yaml: format: given .*, and a number from 1 to 2 is wanted"):
        migrated({"format": number}, "x.yaml")


def test_every_step_is_taken_from_where_a_file_stands(monkeypatch):
    def step(name):
        return lambda content: content.setdefault("steps", []).append(name)

    monkeypatch.setattr(migration, "MIGRATIONS", [step("1 to 2"), step("2 to 3")])
    original = {"steps": []}
    assert migrated(original, "x") == {"steps": ["1 to 2", "2 to 3"]}
    assert migrated({"format": 2, "steps": []}, "x") == {"steps": ["2 to 3"]}
    assert migrated(stamped({"steps": []}), "x") == {"steps": []}
    assert original == {"steps": []}, "what was read is left as it is"
