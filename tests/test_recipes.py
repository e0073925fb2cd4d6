"""A recorded run, as it is or with overrides, and the recipe that `ssl-runner save` writes, give the job again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import names, tiny

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.config import migrate as migration
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.hydra import quoted
from ssl_runner.config.migrate import migrated, newest, stamped
from ssl_runner.encoder.load import find_encoder
from ssl_runner.errors import Refused
from ssl_runner.recipe.header import numbers
from ssl_runner.recipe.recipe import write_recipe
from ssl_runner.recipe.settings import unequal
from ssl_runner.run.preflight import read_job
from ssl_runner.run.resume import recorded_job, resume

SUMMARY = {
    "status": "completed",
    "step": 840,
    "steps": 840,
    "seconds": 1894.35,
    "baseline": {"knn/top1": 0.4154, "probe/top1": 0.5118, "knn/top5": 0.8},
    "final": {"knn/top1": 0.6194, "probe/top1": 0.6754},
    "test": {"knn_top1": 0.6219, "probe_top1": 0.6751},
}
ENVIRONMENT = {
    "versions": {"ssl-runner": "0.1.0"},
    "commit": "1a8c505f435cae8f0cd84c012068353b712f70d6",
    "dirty": False,
    "host": "a-machine-of-mine",
    "device": "cpu, bf16, 2 threads",
    "argv": "/home/me/ssl_runner dataset.root=/home/me/images",
    "dataset": "c1a55dbe2b71b32985f25863acc50aa8",
}
# Pretext tasks beside choices and settings of other groups, mounts, terms added and taken away.
MIXES = {
    "autoencoder": ["dataset=digits", "optimizer=muon", "augment@pretext.augment=crop_flip"],
    "bigan": ["optimizer=adam", "optimizer.betas=[0.5,0.999]", "device=cpu", "seed=3"],
    "byol": ["augment@pretext.augment=byol", "augment@pretext.augment_prime=byol_prime", "pretext.predictor=false"],
    "crop": ["model=timm", "model.name='hf-hub:timm/resnet18.a1_in1k'", "pretext.augment.grey=0.5", "dataset.size=64"],
    "flip": [
        "evaluator=[probe,cluster,knn]",
        "evaluator.cluster.every=10%",
        "dataset=image_folder",
        "dataset.root=/x/y",
    ],
    "mae": ["model=vit_small", "optimizer=lars", "length=5000st", "evaluator=none"],
    "rotation": ["evaluator=[finetune]", "augment@evaluator.finetune.augment=none", "evaluator.finetune.epochs=3"],
    "simclr": [
        "regulariser=sum",
        "~regulariser@regulariser.terms.covariance",
        "+regulariser@regulariser.terms.koleo=koleo",
        "dataset=cifar10",
        "dataset.root=../images",
    ],
    "transformation": ["regulariser=elastic_net", "model.widths=[8,16]", "~optimizer.betas", "evaluator.knn.every=50%"],
}


def content_of(composer: Composer, *overrides: str) -> dict[str, Any]:
    composed = composer.compose(overrides)
    assert not composed.problems
    return {**composed.content, "choices": composed.choices}


@pytest.fixture
def keep(tmp_path: Path, composer: Composer) -> Callable[..., Path]:
    """A run folder as a run leaves it, without the run."""

    def make(*overrides: str, summary: dict = SUMMARY, environment: dict = ENVIRONMENT) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(files.dump(stamped(content_of(composer, *overrides))))
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "environment.json").write_text(json.dumps(environment))
        return folder

    return make


@pytest.fixture
def drop(tmp_path: Path) -> Callable[..., Composer]:
    """A folder of configs with one experiment in it."""

    def put(text: str, name: str = "dropped") -> Composer:
        (tmp_path / "conf" / "experiment").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(text)
        return Composer(tmp_path / "conf")

    return put


@pytest.mark.parametrize("pretext", names("pretext"))
def test_a_runs_config_and_its_recipe_give_the_job_again(
    composer: Composer, keep: Callable[..., Path], drop: Callable[..., Composer], pretext: str
) -> None:
    run = keep(f"pretext={pretext}", *MIXES.get(pretext, []))
    written = files.read(run / "config.yaml")
    again = composer.change(written, ["seed=5"])
    assert not again.problems
    assert again.content == {**written, "seed": 5}
    assert list(again.content) == list(written), "and in the same order"
    assert again.record == {**written, "seed": 5}

    recipe = write_recipe(run, "saved")
    places = [f"{key}={quoted(value)}" for key, value in recipe.left_out.items()]
    saved = drop(recipe.text, "saved").compose(["experiment=saved", *places])
    assert not saved.problems
    del written["choices"]
    if pretext == "transformation":  # what it was to have by default is written down
        written["optimizer"]["betas"] = [0.9, 0.999]
    assert not unequal(written, saved.content)
    for place in ("/x/y", "../images", "a-machine-of-mine", "/home"):
        assert place not in recipe.text
    assert recipe.missing == (["dataset.root"] if pretext == "flip" else [])
    assert len(recipe.text.splitlines()) < 40, recipe.text


def test_a_recipe_is_as_short_as_a_person_writes_it(keep: Callable[..., Path]) -> None:
    """The committed recipes, saved, are their own overrides again."""
    for name in names("experiment"):
        recipe = yaml.safe_load((TREE / "experiment" / f"{name}.yaml").read_text())
        if "defaults" not in recipe:
            continue  # a whole config of a run
        saved = yaml.safe_load(write_recipe(keep(f"experiment={name}"), name).text)
        assert saved.pop("format") == newest()
        mine, own = ({tuple(each.items()) for each in content.pop("defaults")} for content in (saved, recipe))
        assert mine == own
        assert {key for key, _ in _flat(saved)} <= {key for key, _ in _flat(recipe)}


def _flat(node: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [pair for word, value in node.items() for pair in _flat(value, f"{key}.{word}")]
    return [(key, node)]


def test_a_recorded_config_trains_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*tiny("pretext=simclr", "evaluator=none", "length=2st"), "hydra.run.dir=first"]) == 0
    shutil.copy("first/config.yaml", "alone.yaml")
    assert main(["rerun", "alone.yaml", "--to", "second"]) == 0
    assert main(["rerun", "alone.yaml", "seed=1", "hydra.run.dir=third"]) == 0
    first, second, third = (Path(each, "encoder.safetensors").read_bytes() for each in ("first", "second", "third"))
    assert first == second != third
    assert Path("first/config.yaml").read_text() == Path("second/config.yaml").read_text()
    assert files.read(Path("third/overrides.yaml"), list) == ["seed=1", "hydra.run.dir=third"]


def test_overrides_on_top_of_a_recorded_config(composer: Composer) -> None:
    content = content_of(composer, "pretext=byol", "model.widths=[8,8]", "seed=7")
    del content["on_collapse"], content["pretext"]["predictor"]  # settings that are newer than the run

    def change(*overrides: str) -> dict[str, Any]:
        composed = composer.change(content, overrides)
        assert not composed.problems
        return composed.record

    changed = change("seed=3", "optimizer.lr=0.1", "+regulariser.weight=2")
    assert (changed["seed"], changed["optimizer"]["lr"], changed["regulariser"]["weight"]) == (3, 0.1, 2)
    other = change("model=resnet18")
    assert other["model"] == composer.compose(["model=resnet18"]).content["model"], "and no width of the convnet"
    assert other["choices"]["model"] == "resnet18"
    assert {k: v for k, v in other.items() if k not in ("model", "choices")} == {
        k: v for k, v in content.items() if k not in ("model", "choices")
    }
    mounted = change("augment@pretext.augment_prime=byol_prime")["pretext"]
    assert (mounted["augment_prime"]["solarise"], mounted["augment"]["solarise"]) == (0.2, 0.0)
    assert list(change("evaluator=[cluster]")["evaluator"]) == ["cluster"]
    assert "size" not in change("~pretext.augment.size")["pretext"]["augment"]
    newer = change("on_collapse=stop", "pretext.predictor=false")
    assert (newer["on_collapse"], newer["pretext"]["predictor"]) == ("stop", False)
    lines = read_job(change("pretext=mae", "dataset.images=200"))[1]
    assert len(lines) == 1
    assert "use model=vit_tiny" in lines[0]
    (line,) = composer.change(content, ["optimizer.lrr=1"]).problems
    assert "optimizer.lrr: is no setting" in line
    assert "did you mean optimizer.lr?" in line
    (line,) = composer.change(content, ["model=resnet"]).problems
    assert "did you mean resnet50?" in line or "did you mean resnet" in line
    (line,) = composer.change(content, ["experiment=simclr_cifar10"]).problems
    assert "a recipe is a job of its own" in line
    assert content["seed"] == 7, "what was read is left as it is"


def test_a_choice_of_ones_own_on_top_of_a_recorded_config(
    keep: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = keep("pretext=rotation")
    (tmp_path / "own" / "optimizer").mkdir(parents=True)
    (tmp_path / "own" / "optimizer" / "mine.yaml").write_text("defaults:\n  - sgd\nlr: -1\n")
    assert main(["rerun", str(run), "optimizer=mine"]) == 2
    assert "optimizer: given mine" in capsys.readouterr().err
    assert main(["rerun", str(run), "optimizer=mine", "--config-dir", str(tmp_path / "own")]) == 2
    assert "optimizer.lr: given -1" in capsys.readouterr().err


def test_a_whole_config_is_no_recipe_and_no_config_to_start_from(
    keep: Callable[..., Path], drop: Callable[..., Composer], capsys: pytest.CaptureFixture
) -> None:
    """What to type now is said in a line."""
    run = keep("pretext=byol", "model.widths=[8,8]")
    (line,) = Composer(run).compose(["seed=3"]).problems
    assert line == f"config.yaml: is the whole config of a run; type ssl-runner rerun {run / 'config.yaml'}"
    assert main(["--config-dir", str(run), "--config-name", "config", "seed=3"]) == 2
    assert f"type ssl-runner rerun {run / 'config.yaml'}" in capsys.readouterr().err
    dropped = drop((run / "config.yaml").read_text())
    (line,) = dropped.compose(["experiment=dropped"]).problems
    assert line.startswith("experiment/dropped.yaml: is the whole config of a run; type ssl-runner rerun ")
    assert not dropped.compose(["seed=3"]).problems, "nobody asked for it"


def test_a_part_without_its_first_line_is_told_what_it_lacks(drop: Callable[..., Composer]) -> None:
    (line,) = drop("optimizer:\n  lr: 0.1\n").compose(["experiment=dropped"]).problems
    assert "experiment/dropped.yaml" in line
    assert "# @package _global_" in line


def test_a_header_says_what_was_typed_and_what_came_of_it(keep: Callable[..., Path]) -> None:
    recipe = write_recipe(keep("pretext=simclr", "dataset=image_folder", "dataset.root=/x/y", "length=25ep"), "mine")
    assert recipe.text.startswith(
        "# @package _global_\n"
        "# ssl-runner experiment=mine dataset.root=FOLDER\n"
        "# 25 epochs in 32 minutes on 2 CPU threads, bf16, seed 0: validation kNN 41.5 -> 61.9 %, linear probe "
        "51.2 -> 67.5 %\n"
        "# (random encoder -> trained); test kNN 62.2 %, linear probe 67.5 %. Commit 1a8c505, data c1a55dbe.\n"
        "defaults:\n"
        "  - override /dataset: image_folder\n"
    )
    head = " ".join(
        line.lstrip("# ")
        for line in write_recipe(
            keep(
                "dataset=cifar10",
                "dataset.root=/x",
                summary={**SUMMARY, "status": "interrupted", "step": 12, "test": {}},
                environment={**ENVIRONMENT, "dirty": True, "device": "NVIDIA H100, float32"},
            ),
            "mine",
        ).text.splitlines()[1:5]
    )
    assert "ssl-runner experiment=mine      (with dataset.root=FOLDER where the default is not meant)" in head
    assert "Interrupted at step 12 of 840 (5 epochs) after 32 minutes on NVIDIA H100, float32, seed 0" in head
    assert "Commit 1a8c505 with uncommitted changes" in head
    assert "test" not in head
    bare = write_recipe(keep(summary={}, environment={}), "mine").text.splitlines()[2]
    assert bare.startswith("# 5 epochs were asked for, of a run without a summary on a machine that is not known")


def test_numbers_that_are_no_shares_say_what_they_are() -> None:
    name = "geometry/rankme"
    said = numbers({"final": {name: 12.345678}, "baseline": {}, "headlines": ["knn/top1", name], "metrics": {}})
    assert said == "validation geometry 12.35 (rankme) (random encoder -> trained)"
    assert numbers({}) == "nothing was measured"


def test_save_writes_once_and_says_what_to_type(
    tmp_path: Path, keep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    keep("dataset=image_folder", "dataset.root=/x/y")
    assert main(["save", "run", "mine", "--to", "conf"]) == 0
    said = capsys.readouterr().out
    assert "ssl-runner --config-dir conf experiment=mine dataset.root=FOLDER" in said
    assert "git add conf/experiment/mine.yaml" in said
    before = Path("conf/experiment/mine.yaml").read_text()
    assert main(["save", "run", "mine", "--to", "conf"]) == 0
    assert "was there already" in capsys.readouterr().out
    keep("dataset=image_folder", "dataset.root=/x/y", "seed=1")
    assert main(["save", "run", "mine", "--to", "conf"]) == 2
    assert "says something else; choose another name" in capsys.readouterr().err
    assert Path("conf/experiment/mine.yaml").read_text() == before
    assert main(["--config-dir", "conf", "experiment=mine"]) == 2
    assert "dataset.root: is missing; type dataset.root=..." in capsys.readouterr().err
    for name in ("a/b", "../x", "null", "a b", ""):
        assert main(["save", "run", name, "--to", "conf"]) == 2
    assert main(["save", "nowhere", "mine"]) == 2
    assert "nowhere holds no run" in capsys.readouterr().err
    assert [file.name for file in Path("conf/experiment").iterdir()] == ["mine.yaml"]
    monkeypatch.setattr("ssl_runner.command.save.TREE", tmp_path / "elsewhere")  # as in an installed package
    assert main(["save", "run", "second"]) == 0
    assert Path("conf/experiment/second.yaml").exists()


def test_what_overrides_cannot_give_is_not_written(
    tmp_path: Path, keep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_of_a_test.py").write_text(
        "class Own:\n    def __init__(self, *, own: int = 1): self.shape, self.rows = (3, 8, 8), 99\n"
        "    def load(self): raise OSError\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SSL_RUNNER_TRUST", "own_of_a_test.")
    run = keep()
    content = {**files.read(run / "config.yaml"), "dataset": {"_target_": "own_of_a_test.Own", "own": 2}}
    (run / "config.yaml").write_text(files.dump(content))
    with pytest.raises(ValueError, match="a recipe of overrides cannot give") as raised:
        write_recipe(run, "mine")
    assert f"it can be run again as it is: ssl-runner rerun {run / 'config.yaml'}" in str(raised.value)
    own = tmp_path / "conf" / "dataset"  # with a YAML of its own it can be said
    own.mkdir(parents=True)
    (own / "own.yaml").write_text("_target_: own_of_a_test.Own\nown: 1\n")
    assert "override /dataset: own\n" in write_recipe(run, "mine", tmp_path / "conf").text
    (run / "config.yaml").write_text(files.dump({**content, "nothing_like_it": 1}))
    with pytest.raises(ValueError, match="nothing_like_it: is no setting"):
        write_recipe(run, "mine")


@pytest.mark.parametrize("text", ["/a b", "it's", "back\\", "\\'", "a,b=[c]", "${x}"])
def test_a_place_is_typed_as_it_is(composer: Composer, text: str) -> None:
    composed = composer.compose(["dataset=cifar10", f"dataset.root={quoted(text)}"])
    if "$" in text:
        assert composed.problems
    else:
        assert composed.content["dataset"]["root"] == text


# Formats


def renamed(content: dict[str, Any]) -> None:
    """A migration as a later version may bring it: `log_each` is called `log_every`, and `nesterov` is gone."""
    if "log_each" in content:
        content["log_every"] = content.pop("log_each")
    if "nesterov" in content.get("optimizer", {}):
        raise ValueError("optimizer.nesterov: was removed; leave it out, or type optimizer=sgd")
    model = content.get("model", {})
    if "width_of_layers" in model:
        model["widths"] = model.pop("width_of_layers")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that reads format 3."""
    monkeypatch.setattr(migration, "MIGRATIONS", [*migration.MIGRATIONS, renamed])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats") / "run"
    assert main([*tiny("pretext=rotation", "evaluator=none", "length=2st"), f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def old(trained: Path, tmp_path: Path) -> Path:
    """The same run as version 0.1 has left it, without a number; and a key and a parameter have other names."""
    folder = Path(shutil.copytree(trained, tmp_path / "old"))

    def aged(content: dict[str, Any]) -> dict[str, Any]:
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
def test_a_run_of_an_older_format_is_read_everywhere(
    old: Path, tmp_path: Path, drop: Callable[..., Composer], capsys: pytest.CaptureFixture
) -> None:
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
def test_a_key_that_is_gone_is_refused_by_name(old: Path) -> None:
    content = yaml.safe_load((old / "config.yaml").read_text())
    (old / "config.yaml").write_text(files.dump({**content, "optimizer": {**content["optimizer"], "nesterov": True}}))
    words = "optimizer.nesterov: was removed; leave it out, or type optimizer=sgd"
    with pytest.raises(Refused, match=words):
        recorded_job(old)
    (line,) = Composer(old).compose([]).problems
    assert words in line
    assert "format 2" in line


def test_a_later_format_is_refused_by_name(
    trained: Path, tmp_path: Path, drop: Callable[..., Composer], capsys: pytest.CaptureFixture
) -> None:
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
def test_what_is_no_format_is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match=r"x.yaml: format: given .*, and a number from 1 to 2 is wanted"):
        migrated({"format": number}, "x.yaml")


def test_every_step_is_taken_from_where_a_file_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda content: content.setdefault("steps", []).append(name)

    monkeypatch.setattr(migration, "MIGRATIONS", [step("1 to 2"), step("2 to 3")])
    original: dict[str, Any] = {"steps": []}
    assert migrated(original, "x") == {"steps": ["1 to 2", "2 to 3"]}
    assert migrated({"format": 2, "steps": []}, "x") == {"steps": ["2 to 3"]}
    assert migrated(stamped({"steps": []}), "x") == {"steps": []}
    assert original == {"steps": []}, "what was read is left as it is"
