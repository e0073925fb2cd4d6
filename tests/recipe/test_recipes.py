"""A recorded run, as it is or with overrides, and the recipe that `ssl-runner save` writes, give the job again."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import in_turn, names
from runs import enter, put, refusal

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.grammar import quoted
from ssl_runner.config.migrate import newest, stamped
from ssl_runner.config.override import leaves
from ssl_runner.recipe.header import numbers, progress
from ssl_runner.recipe.recipe import write_recipe
from ssl_runner.recipe.settings import unequal
from ssl_runner.run.preflight import read_job
from ssl_runner.run_folder.atomic import write_json

SUMMARY = {"status": "completed", "step": 840, "steps": 840, "seconds": 1894.35}
SUMMARY |= {"baseline": {"knn/top1": 0.4154, "probe/top1": 0.5118, "knn/top5": 0.8}}
SUMMARY |= {"final": {"knn/top1": 0.6194, "probe/top1": 0.6754}, "test": {"knn_top1": 0.6219, "probe_top1": 0.6751}}
ENVIRONMENT = {"versions": {"ssl-runner": "0.1.0"}, "host": "a-machine-of-mine", "device": "cpu, bf16, 2 threads"}
ENVIRONMENT |= {"commit": "1a8c505f435cae8f0cd84c012068353b712f70d6", "dirty": False}
ENVIRONMENT |= {"dataset": "c1a55dbe2b71b32985f25863acc50aa8"}
ENVIRONMENT |= {"argv": "/home/me/ssl_runner dataset.root=/home/me/images"}
# Pretext tasks beside choices and settings of other groups, mounts, terms added and taken away.
MIXES = {
    "autoencoder": "dataset=digits optimizer=muon augment@pretext.augment=crop_flip",
    "bigan": "optimizer=adam optimizer.betas=[0.5,0.999] device=cpu seed=3",
    "byol": "augment@pretext.augment=byol augment@pretext.augment_prime=byol_prime pretext.predictor=false",
    "crop": "model=timm model.name='hf-hub:timm/resnet18.a1_in1k' pretext.augment.grey=0.5 dataset.size=64",
    "flip": "evaluator=[probe,cluster,knn] evaluator.cluster.every=10% dataset=image_folder dataset.root=/x/y",
    "mae": "model=vit_small optimizer=lars length=5000st evaluator=none",
    "rotation": "evaluator=[finetune] augment@evaluator.finetune.augment=none evaluator.finetune.epochs=3",
    "simclr": "regulariser=sum ~regulariser@regulariser.terms.covariance +regulariser@regulariser.terms.koleo=koleo"
    " dataset=cifar10 dataset.root=../images",
    "transformation": "regulariser=elastic_net model.widths=[8,16] ~optimizer.betas evaluator.knn.every=50%",
}


def content_of(composer, *overrides):
    composed = composer.compose(overrides)
    assert not composed.problems
    return {**composed.content, "choices": composed.choices}


@pytest.fixture
def keep(tmp_path, composer):
    """A run folder as a run leaves it, without the run."""

    def make(*overrides, summary=SUMMARY, environment=ENVIRONMENT):
        folder = tmp_path / "run"
        put(folder / "config.yaml", files.dump(stamped(content_of(composer, *overrides))))
        write_json(folder / "summary.json", summary)
        write_json(folder / "environment.json", environment)
        return folder

    return make


@pytest.mark.parametrize("pretext", in_turn(names("pretext")))
def test_a_runs_config_and_its_recipe_give_the_job_again(composer, keep, drop, pretext):
    run = keep(f"pretext={pretext}", *MIXES.get(pretext, "").split())
    written = files.read(run / "config.yaml")
    again = composer.change(written, ["seed=5"])
    assert not again.problems
    assert again.content == again.record == {**written, "seed": 5}
    assert list(again.content) == list(written), "and in the same order"

    recipe = write_recipe(run, "saved")
    places = [f"{key}={quoted(value)}" for key, value in recipe.left_out.items()]
    saved = drop(recipe.text, "saved").compose(["experiment=saved", *places])
    assert not saved.problems
    del written["choices"]
    if pretext == "transformation":  # what it was to have by default is written down
        written["optimizer"]["betas"] = [0.9, 0.999]
    assert not unequal(written, saved.content)
    assert not re.search(r"/x/y|\.\./images|a-machine-of-mine|/home", recipe.text)
    assert recipe.missing == (["dataset.root"] if pretext == "flip" else [])
    assert len(recipe.text.splitlines()) < 40, recipe.text


def whole_recipe(name):
    """What a recipe says, and what those say that it begins from: choices, and settings by their keys."""
    recipe = yaml.safe_load((TREE / "experiment" / f"{name}.yaml").read_text())
    chosen, keys = {}, set()
    for each in recipe.pop("defaults"):
        if isinstance(each, dict):
            chosen |= each
        elif each != "_self_":
            below, more = whole_recipe(each)
            chosen, keys = chosen | below, keys | more
    return chosen, keys | leaves(recipe).keys()


@pytest.mark.parametrize(
    "name", in_turn(name for name in names("experiment") if "override /pretext" in whole_recipe(name)[0])
)
def test_a_recipe_is_as_short_as_a_person_writes_it(keep, name):
    """The committed recipes, saved, are their own overrides again."""
    saved = yaml.safe_load(write_recipe(keep(f"experiment={name}"), name).text)
    assert saved.pop("format") == newest()
    chosen, keys = whole_recipe(name)
    mine = {key: value for each in saved.pop("defaults") for key, value in each.items()}
    assert mine == {key: value for key, value in chosen.items() if (key, value) != ("override /optimizer", "adamw")}
    assert leaves(saved).keys() <= keys


@pytest.mark.usefixtures("here")
def test_a_recorded_config_alone_trains_to_the_same_weights(whole):
    shutil.copy(whole / "config.yaml", "alone.yaml")
    assert main(["rerun", "alone.yaml", "--to", "second"]) == 0
    assert main(["rerun", "alone.yaml", "seed=1", "hydra.run.dir=third"]) == 0
    first, second, third = (Path(each, "encoder.safetensors").read_bytes() for each in (whole, "second", "third"))
    assert first == second != third
    assert (whole / "config.yaml").read_text() == Path("second/config.yaml").read_text()
    assert files.read(Path("third/overrides.yaml"), list) == ["seed=1", "hydra.run.dir=third"]


def test_overrides_on_top_of_a_recorded_config(composer):
    content = content_of(composer, "pretext=byol", "model.widths=[8,8]", "seed=7")
    del content["on_collapse"], content["pretext"]["predictor"]  # settings that are newer than the run

    def change(*overrides):
        composed = composer.change(content, overrides)
        assert not composed.problems
        return composed.record

    changed = change("seed=3", "optimizer.lr=0.1", "+regulariser.weight=2")
    assert (changed["seed"], changed["optimizer"]["lr"], changed["regulariser"]["weight"]) == (3, 0.1, 2)
    other = change("model=resnet18")
    assert other.pop("model") == composer.compose(["model=resnet18"]).content["model"], "and no width of the convnet"
    assert other.pop("choices")["model"] == "resnet18"
    assert other == {key: value for key, value in content.items() if key not in ("model", "choices")}
    mounted = change("augment@pretext.augment_prime=byol_prime")["pretext"]
    assert (mounted["augment_prime"]["solarise"], mounted["augment"]["solarise"]) == (0.2, 0.0)
    assert list(change("evaluator=[cluster]")["evaluator"]) == ["cluster"]
    assert "size" not in change("~pretext.augment.size")["pretext"]["augment"]
    newer = change("on_collapse=stop", "pretext.predictor=false")
    assert (newer["on_collapse"], newer["pretext"]["predictor"]) == ("stop", False)
    (line,) = read_job(change("pretext=mae", "dataset.images=200"))[1]
    assert "use model=vit_tiny" in line
    assert content["seed"] == 7, "what was read is left as it is"


def test_a_choice_of_ones_own_on_top_of_a_recorded_config(keep, tmp_path, capsys):
    run = keep("pretext=rotation")
    put(tmp_path / "own/optimizer/mine.yaml", "defaults:\n  - sgd\nlr: -1\n")
    words = ["rerun", str(run), "optimizer=mine"]
    enter(capsys, words, "optimizer: given mine", status=2)
    enter(capsys, [*words, "--config-dir", str(tmp_path / "own")], "optimizer.lr: given -1", status=2)


def test_a_whole_config_and_a_part_without_its_first_line_are_no_recipe(keep, drop):
    """What to type now is said in a line."""
    run = keep("pretext=byol", "model.widths=[8,8]")
    (line,) = Composer(run).compose(["seed=3"]).problems
    assert line == f"config.yaml: is the whole config of a run; type ssl-runner rerun {run / 'config.yaml'}"
    dropped = drop((run / "config.yaml").read_text())
    (line,) = dropped.compose(["experiment=dropped"]).problems
    assert line.startswith("experiment/dropped.yaml: is the whole config of a run; type ssl-runner rerun ")
    assert not dropped.compose(["seed=3"]).problems, "nobody asked for it"
    (line,) = drop("optimizer:\n  lr: 0.1\n").compose(["experiment=dropped"]).problems
    assert line == "experiment/dropped.yaml: is a recipe, and so its first line must be # @package _global_"


def test_a_header_says_what_was_typed_and_what_came_of_it(keep):
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
    summary = {**SUMMARY, "status": "interrupted", "step": 12, "test": {}}
    environment = {**ENVIRONMENT, "dirty": True, "device": "NVIDIA H100, float32"}
    run = keep("dataset=cifar10", "dataset.root=/x", summary=summary, environment=environment)
    head = " ".join(line.lstrip("# ") for line in write_recipe(run, "mine").text.splitlines()[1:5])
    assert "ssl-runner experiment=mine      (with dataset.root=FOLDER if the default is not meant)" in head
    assert "Interrupted at step 12 of 840 (5 epochs) after 32 minutes on NVIDIA H100, float32, seed 0" in head
    assert ("Commit 1a8c505 with uncommitted changes" in head, "test" in head) == (True, False)
    bare = write_recipe(keep(summary={}, environment={}), "mine").text.splitlines()[2]
    assert bare.startswith("# 5 epochs were asked for, of a run without a summary on a machine that is not known")
    odd = dict.fromkeys(("commit", "versions", "device", "dirty"), 7)  # of a damaged file
    assert "Commit 7 with uncommitted changes" in write_recipe(keep(environment=odd), "mine").text
    name = "geometry/rankme"
    said = numbers({"final": {name: 12.345678}, "baseline": {}, "headlines": ["knn/top1", name], "metrics": {}})
    assert said == "validation geometry 12.35 (rankme) (random encoder -> trained)", "a number that is no share"
    assert numbers({}) == "nothing was measured"
    for seconds, time in ((99, "99 s"), (100, "1.7 minutes"), (5900, "98 minutes"), (5985, "1.7 hours")):
        assert progress({"status": "completed", "seconds": seconds}, {"length": "1ep"}) == f"1 epoch in {time}"


@pytest.mark.slow
def test_save_writes_once_and_says_what_to_type(here, keep, monkeypatch, capsys):
    keep("dataset=image_folder", "dataset.root=/x/y")
    save = "save run mine --to conf"
    command = "ssl-runner --config-dir conf experiment=mine dataset.root=FOLDER"
    enter(capsys, save, command, "git add conf/experiment/mine.yaml")
    before = Path("conf/experiment/mine.yaml").read_text()
    enter(capsys, save, "was there already")
    keep("dataset=image_folder", "dataset.root=/x/y", "seed=1")
    refusal(capsys, save, "says something else; choose another name")
    assert Path("conf/experiment/mine.yaml").read_text() == before
    refusal(capsys, "--config-dir conf experiment=mine", "dataset.root: is missing; type dataset.root=...")
    for name in ("a/b", "../x", "null", "a b", ""):
        assert main(["save", "run", name, "--to", "conf"]) == 2
    refusal(capsys, "save nowhere mine", "nowhere holds no run")
    assert [file.name for file in Path("conf/experiment").iterdir()] == ["mine.yaml"]
    monkeypatch.setattr("ssl_runner.command.save.TREE", here / "elsewhere")  # as in an installed package
    assert main(["save", "run", "second"]) == 0
    assert Path("conf/experiment/second.yaml").exists()


@pytest.mark.slow
def test_what_overrides_cannot_give_is_not_written(tmp_path, keep, monkeypatch):
    init = "def __init__(self, *, own: int = 1): self.shape, self.rows = (3, 8, 8), 99"
    put(tmp_path / "own_of_a_test.py", f"class Own:\n    {init}\n    def load(self): raise OSError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SSL_RUNNER_TRUST", "own_of_a_test.")
    run = keep()
    content = {**files.read(run / "config.yaml"), "dataset": {"_target_": "own_of_a_test.Own", "own": 2}}
    put(run / "config.yaml", content)
    remedy = f"it can be run again as it is: ssl-runner rerun {run / 'config.yaml'}"
    with pytest.raises(ValueError, match=f"a recipe of overrides cannot give(.|\n)*{remedy}"):
        write_recipe(run, "mine")
    put(tmp_path / "conf/dataset/own.yaml", "_target_: own_of_a_test.Own\nown: 1\n")  # with which it can be said
    assert "override /dataset: own\n" in write_recipe(run, "mine", tmp_path / "conf").text
    put(run / "config.yaml", {**content, "nothing_like_it": 1})
    with pytest.raises(ValueError, match="nothing_like_it: is no setting"):
        write_recipe(run, "mine")


@pytest.mark.parametrize("text", ["/a b", "it's", "back\\", "\\'", "a,b=[c]", "${x}"])
def test_a_place_is_typed_as_it_is(composer, text):
    composed = composer.compose(["dataset=cifar10", f"dataset.root={quoted(text)}"])
    assert composed.problems if "$" in text else composed.content["dataset"]["root"] == text


def test_what_people_call_a_run_is_no_part_of_its_recipe(keep):
    text = write_recipe(keep("name=mine", "tags=[a,b]", "notes=of May", "seed=3"), "mine").text
    assert not [word for word in ("name:", "tags:", "notes:") if word in text]
    assert "seed: 3" in text
