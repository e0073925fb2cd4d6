"""Configs of older formats are migrated wherever they are read, and later ones are refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import tiny

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.config import migrate as migration
from ssl_runner.config.compose import Composer
from ssl_runner.config.migrate import migrated, stamped
from ssl_runner.encoder.load import find_encoder
from ssl_runner.errors import Refused
from ssl_runner.recipe.recipe import write_recipe
from ssl_runner.run.session import recorded_job, resume


def renamed(content):
    """A migration as a later version may bring it: `log_each` is called `log_every`, and `nesterov` is gone."""
    if "log_each" in content:
        content["log_every"] = content.pop("log_each")
    if "nesterov" in content.get("optimizer", {}):
        raise ValueError("optimizer.nesterov: was removed; leave it out, or type optimizer=sgd")
    model = content.get("model", {})
    if "width_of_layers" in model:
        model["widths"] = model.pop("width_of_layers")


@pytest.fixture
def later(monkeypatch):
    """The version that reads format 3."""
    monkeypatch.setattr(migration, "MIGRATIONS", [*migration.MIGRATIONS, renamed])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats") / "run"
    assert main([*tiny("pretext=rotation", "evaluator=none", "length=2st"), f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def old(trained, tmp_path):
    """The same run as version 0.1 has left it, without a number; and a key and a parameter have other names."""
    folder = Path(shutil.copytree(trained, tmp_path / "old"))

    def aged(content):
        content = {key: value for key, value in content.items() if key not in ("format", "log_every")}
        content = json.loads(
            json.dumps(content).replace("ssl_runner.augment.image.views.", "ssl_runner.augment.views.")
        )
        model = content["model"]
        return {**content, "log_each": "1st", "model": {"_target_": model["_target_"], "width_of_layers": [8, 8, 8]}}

    content = yaml.safe_load((folder / "config.yaml").read_text())
    assert content["format"] == 2
    (folder / "config.yaml").write_text(files.dump(aged(content)))
    recipe = yaml.safe_load((folder / "encoder.yaml").read_text())
    del recipe["format"], recipe["widths"]
    (folder / "encoder.yaml").write_text(files.dump({**recipe, "width_of_layers": [8, 8, 8]}))
    for path in (folder / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        torch.save({**state, "config": aged(state["config"])}, path)
    return folder


@pytest.mark.usefixtures("later")
def test_a_run_of_an_older_format_is_read_everywhere(old, tmp_path, drop, capsys):
    ready = recorded_job(old)
    content = ready.content
    assert str(ready.job.log_every) == "1st"
    assert "log_each" not in content
    assert content["pretext"]["augment"]["_target_"] == "ssl_runner.augment.image.views.Views"
    assert find_encoder(old).content == content
    assert find_encoder(next((old / "checkpoints").iterdir())).content == content
    assert recorded_job(old / "config.yaml", ["log_every=5st"]).content == {**content, "log_every": "5st"}
    part = "# @package _global_\ndefaults:\n  - override /pretext: simclr\nlog_each: 3st\n"
    assert drop(part, "part").compose(["experiment=part"]).content["log_every"] == "3st"
    assert (
        drop(part.replace("log_each", "log_every").replace("log", "format: 3\nlog"), "now")
        .compose(["experiment=now"])
        .content["log_every"]
        == "3st"
    )
    summary = json.loads((old / "summary.json").read_text())
    (old / "summary.json").write_text(json.dumps({**summary, "status": "interrupted"}))
    assert main(["resume", str(old)]) == 0, "its checkpoint is of the older format as well"
    assert yaml.safe_load((old / "encoder.yaml").read_text())["format"] == 3
    assert "format: 3\n" in write_recipe(old, "mine").text
    start = "defaults:\n  - _self_\n  - pretext: rotation\nlog_each: 7st\n"
    (tmp_path / "conf" / "config.yaml").write_text(start)
    assert Composer(tmp_path / "conf").compose([]).content["log_every"] == "7st", "a config to start from"


@pytest.mark.usefixtures("later")
def test_a_key_that_is_gone_is_refused_by_name(old):
    content = yaml.safe_load((old / "config.yaml").read_text())
    (old / "config.yaml").write_text(files.dump({**content, "optimizer": {**content["optimizer"], "nesterov": True}}))
    words = "optimizer.nesterov: was removed; leave it out, or type optimizer=sgd"
    with pytest.raises(Refused, match=words):
        recorded_job(old)
    (line,) = Composer(old).compose([]).problems
    assert words in line
    assert "format 2" in line


def test_a_later_format_is_refused_by_name(trained, tmp_path, drop, capsys):
    run = Path(shutil.copytree(trained, tmp_path / "later"))
    text = (run / "config.yaml").read_text().replace("format: 2", "format: 9")
    (run / "config.yaml").write_text(text)
    environment = json.loads((run / "environment.json").read_text())
    environment["versions"]["ssl-runner"] = "7.1.0"
    (run / "environment.json").write_text(json.dumps(environment))
    for words in (["resume", str(run)], ["rerun", str(run)], ["evaluate", str(run)], ["save", str(run), "mine"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"config.yaml: format: given 9, and ssl-runner {migration.__version__} reads up to 2" in said
        assert "ssl-runner 7.1.0, which wrote it, reads it" in said
    assert main(["--config-dir", str(run)]) == 2
    assert "ssl-runner 7.1.0, which wrote it, reads it" in capsys.readouterr().err
    (line,) = drop(text).compose(["experiment=dropped"]).problems
    assert line.startswith("experiment/dropped.yaml: format: given 9")
    assert "a later version of ssl-runner reads it" in line
    with pytest.raises(Refused):
        resume(run, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, -1, "two", 1.0, True, None])
def test_what_is_no_format_is_refused(number):
    with pytest.raises(ValueError, match=r"x.yaml: format: given .*, and a number from 1 to 2 is wanted"):
        migrated({"format": number}, "x.yaml")


def test_every_step_is_taken_from_where_a_file_stands(monkeypatch):
    def step(name):
        return lambda content: content.setdefault("steps", []).append(name)

    monkeypatch.setattr(migration, "MIGRATIONS", [step("1 to 2"), step("2 to 3")])
    original: dict[str, Any] = {"steps": []}
    assert migrated(original, "x") == {"steps": ["1 to 2", "2 to 3"]}
    assert migrated({"format": 2, "steps": []}, "x") == {"steps": ["2 to 3"]}
    assert migrated(stamped({"steps": []}), "x") == {"steps": []}
    assert original == {"steps": []}, "what was read is left as it is"
