"""The augmentation that a dataset recommends: where it is mounted, and who is not overruled."""

import pytest
import yaml
from conftest import TINY
from runs import config, enter, put

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.recipe.recipe import write_recipe

SHAPES, SIMCLR = (yaml.safe_load((TREE / f"augment/{name}.yaml").read_text()) for name in ("shapes", "simclr"))
OWN = "the pretext's own"
WORD = "augment@pretext.augment=simclr"
EXPERIMENT = "# @package _global_\ndefaults:\n  - override /pretext: simclr\n"


def mounted(content):
    return [each for key, each in content["pretext"].items() if key.startswith("augment")]


def views(composer, *overrides, key="augment"):
    composed = composer.compose(overrides)
    assert not composed.problems
    assert bool(composed.notes) == any(each.get("hue") == 0.5 for each in mounted(composed.content))
    return composed.content["pretext"][key]


@pytest.mark.parametrize(
    ("typed", "content"),
    {
        "dataset=shapes": SHAPES,
        "seed=3 optimizer.lr=0.1": SHAPES,
        "dataset=digits": SIMCLR,
        WORD: SIMCLR,
        "augment@pretext.augment=byol_prime pretext.augment.solarise=0 pretext.augment.blur=0": None,
        "pretext.augment.scale=[0.2,1]": SIMCLR,
        "++pretext.augment.scale=[0.2,1]": SIMCLR,
        "experiment=densecl_cifar10 dataset=shapes": SHAPES,
    }.items(),
)
def test_it_stands_where_simclr_is_mounted_and_nothing_was_typed(composer, typed, content):
    given = views(composer, "pretext=simclr", *typed.split())
    assert given == content if content else given["scale"] == [0.08, 1.0]


def test_each_mount_is_looked_at_by_itself_and_values_of_a_yaml_stay(composer):
    words = ("pretext=dino", "pretext.augment_prime.blur=0.1")
    own = {key: views(composer, *words, key=key) for key in ("augment", "augment_prime", "augment_local")}
    assert own["augment"] == SHAPES | {"scale": [0.4, 1.0]}
    assert own["augment_prime"] == SIMCLR | {"scale": [0.4, 1.0], "blur": 0.1}
    assert own["augment_local"] == SHAPES | {"scale": [0.08, 0.4]}
    assert views(composer, "pretext=rotation")["scale"] == [0.2, 1.0], "crop_flip is a wish of its own"


@pytest.mark.parametrize(
    "more",
    [
        "  - override /augment@pretext.augment: simclr\n",
        "  - override /augment@_global_.pretext.augment: simclr\n",
        "  - _self_\npretext:\n  augment:\n    scale: [0.2, 1.0]\n",
    ],
)
def test_a_recipe_that_says_something_of_a_mount_is_not_overruled(drop, more):
    assert views(drop(EXPERIMENT), "experiment=dropped") == SHAPES
    assert views(drop(EXPERIMENT + more), "experiment=dropped") == SIMCLR
    on_it = drop("# @package _global_\ndefaults:\n  - dropped\n  - _self_\n", "on_it")
    assert views(on_it, "experiment=on_it") == SIMCLR


def test_a_config_to_start_from_and_a_dataset_of_ones_own_have_their_say(tmp_path):
    put(tmp_path / "dataset/mine.yaml", "defaults:\n  - digits\n")
    put(tmp_path / "augment/mine.yaml", "defaults:\n  - simclr\nhue: 0.5\nblur: 0.25\n")
    assert views(Composer(tmp_path), "pretext=simclr", "dataset=mine")["blur"] == 0.25
    mine = (TREE / "config.yaml").read_text() + "pretext:\n  augment:\n    flip: 0.5\n"
    put(tmp_path / "mine.yaml", mine.replace("  - _self_\n", "").replace("null ", "null\n  - _self_ "))
    assert views(Composer(tmp_path, "mine"), "pretext=simclr") == SIMCLR


def test_a_recorded_job_stays_as_it_is_but_for_another_task(composer):
    old = composer.compose(["pretext=simclr", WORD]).record
    assert composer.change(old, ["optimizer=sgd"]).content["pretext"]["augment"] == SIMCLR
    other = composer.change(old, ["pretext=byol"])
    assert other.content["pretext"]["augment_prime"] == SHAPES
    assert "augment@pretext.augment_prime=simclr" in other.notes[0]
    assert composer.change(old, ["pretext=byol", WORD]).content["pretext"]["augment"] == SIMCLR


@pytest.mark.parametrize(
    "typed", ["", WORD, "pretext.augment.blur=0.1", "augment@pretext.augment=shapes pretext.augment.hue=0.1"]
)
def test_a_saved_recipe_gives_the_same_views(composer, drop, tmp_path, typed):
    content = composer.compose(["pretext=simclr", *typed.split()]).record
    put(tmp_path / "run/config.yaml", content)
    saved = drop(write_recipe(tmp_path / "run", "saved").text, "saved").compose(["experiment=saved"])
    assert saved.content["pretext"] == content["pretext"]


@pytest.mark.slow
def test_a_run_and_a_sweep_say_so_in_their_first_lines(here, capsys):
    line = "augment: shapes, which the dataset recommends; augment@pretext.augment=simclr for the pretext's own\n"
    words = [*TINY, "pretext=simclr", "evaluator=none", "length=1st"]
    first = enter(capsys, [*words, "hydra.run.dir=run"], line)
    assert first.index(line) < first.index("simclr on shapes")
    assert line in (here / "run/run.log").read_text()
    assert config("run")["pretext"]["augment"] == SHAPES
    assert OWN not in enter(capsys, [*words, WORD, "hydra.run.dir=other"])
    assert yaml.safe_load(enter(capsys, [*words, "--cfg", "job"]))["pretext"]["augment"] == SHAPES
    assert enter(capsys, ["-m", *words, "seed=0,1", "hydra.sweep.dir=sweep"]).count(line) == 1
    assert [config(each)["pretext"]["augment"] for each in sorted((here / "sweep").glob("00*"))] == [SHAPES] * 2


@pytest.fixture
def deer(tmp_path):
    """A tree with a dataset that recommends a model and views, in the place of two each."""
    table = "recommends:\n  model: {convnet_small: vit_mini}\n  augment: {simclr: none, crop_flip: none}\n"
    put(tmp_path / "dataset/deer.yaml", f"defaults:\n  - digits\n{table}")
    return Composer(tmp_path)


@pytest.mark.parametrize(
    ("typed", "model", "flip"),
    [
        ("pretext=simclr", "vit_mini", None),
        ("pretext=rotation", "vit_mini", None),
        ("pretext=simclr model=convnet_small", "convnet_small", None),
        ("pretext=simclr model=resnet18 pretext.augment.flip=0.5", "resnet18", 0.5),
        ("pretext=simclr model.depth=2", "vit_mini", None),
        ("pretext=simclr augment@pretext.augment=byol", "vit_mini", 0.5),
    ],
)
def test_a_datasets_file_says_what_suits_its_samples(deer, typed, model, flip):
    composed = deer.compose(["dataset=deer", *typed.split()])
    assert not composed.problems
    assert composed.choices["model"] == model
    assert ("model" in "".join(composed.notes)) == ("model=" not in typed)
    assert composed.content["pretext"]["augment"]["flip"] == (flip or 0.0)
    assert "recommends" not in composed.content["dataset"]
    if typed == "pretext=simclr":
        own = "model=convnet_small augment@pretext.augment=simclr for the pretext's own"
        assert composed.notes == [f"model: vit_mini, augment: none, which the dataset recommends; {own}"]


def test_what_is_no_recommendation_is_refused(tmp_path):
    for table in ("3", "{model: vit_mini}", "{optimizer: {adamw: sgd}}"):
        put(tmp_path / "dataset/deer.yaml", f"defaults:\n  - digits\nrecommends: {table}\n")
        (line, *_) = Composer(tmp_path).compose(["dataset=deer"]).problems
        assert line.startswith("config: dataset.recommends: given")
        assert line.endswith("as in model: {convnet_small: ast_tiny} are wanted")


def test_what_a_recipe_sets_of_evaluators_that_are_not_chosen_is_left_out_and_told(drop):
    recipe = "# @package _global_\nevaluator:\n  knn:\n    every: 20%\n  probe:\n    every: 50%\n"
    composed = drop(recipe).compose(["experiment=dropped", "evaluator=[knn]"])
    assert not composed.problems
    assert composed.content["evaluator"].keys() == {"knn"}
    assert composed.content["evaluator"]["knn"]["every"] == "20%"
    assert composed.notes == ["evaluator.probe of the recipe is left out: probe is not chosen"]
    unknown = drop(recipe.replace("probe", "prob")).compose(["experiment=dropped", "evaluator=[knn]"])
    assert unknown.content["evaluator"].keys() == {"knn", "prob"}, "a mistake, which stays to be refused"
    odd = drop(recipe.replace("probe:\n    every: 50%", "probe: null")).compose(
        ["experiment=dropped", "evaluator=[knn]"]
    )
    assert odd.content["evaluator"]["probe"] is None
