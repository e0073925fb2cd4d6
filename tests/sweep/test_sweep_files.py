"""What a config file says of Hydra's own node: honoured, or refused by name."""

from pathlib import Path

import pytest
import yaml
from conftest import TINY
from runs import config, enter, jobs_of, put, refusal, summary

from ssl_runner.command.sweep import prepare
from ssl_runner.config.compose import Composer
from ssl_runner.engine.console import Terminal
from ssl_runner.sweep.read import read
from ssl_runner.sweep.settings import split_words

pytestmark = pytest.mark.usefixtures("here")
SHORT = [*TINY, "evaluator=none", "length=1st", "log_every=1st"]
MINE = ["--config-dir", "my conf", "--config-name", "mine"]


def write(node, defaults=(), name="mine.yaml"):
    """A config of a user's own with this `hydra:` node."""
    put(f"my conf/{name}", yaml.safe_dump({"defaults": ["config", "_self_", *defaults], "hydra": node}))


def request(*words):
    composer = Composer(Path("my conf"), "mine")
    return read(split_words(words), composer, prepare, Terminal(), build=False)


def test_folders_and_names_of_a_file_are_honoured(capsys):
    run = "one/${hydra.job.name}/${seed} ${hydra:job.override_dirname} ${hydra:runtime.choices.dataset}"
    dirname = {"kv_sep": "-", "item_sep": "+", "exclude_keys": [each.partition("=")[0] for each in SHORT]}
    sweep = {"dir": "many/${hydra:job.name}", "subdir": "${hydra.job.num}/${hydra:job.override_dirname}"}
    job = {"name": "bob", "config": {"override_dirname": dirname}}
    write({"job": job, "run": {"dir": run}, "sweep": sweep})
    enter(
        capsys, [*MINE, *SHORT, "pretext=rotation", "seed=3"], "run folder:   one/bob/3 pretext-rotation+seed-3 shapes"
    )
    enter(capsys, ["-m", *MINE, *SHORT, "seed=5,6", "optimizer=sgd"])
    assert jobs_of("folder", "status", folder="many/bob") == [
        ("0/optimizer-sgd+seed-5", "completed"),
        ("1/optimizer-sgd+seed-6", "completed"),
    ]
    assert config("many/bob/1/optimizer-sgd+seed-6")["seed"] == 6
    enter(capsys, ["-m", *MINE, "sweep.resume=many/bob", "seed=6,7", *SHORT, "optimizer=sgd"], "2 jobs are done")
    assert jobs_of("folder", folder="many/bob")[-1] == "2/optimizer-sgd+seed-7"
    assert len(enter(capsys, "compare many/bob", "3 completed runs")) > 0
    words = [*MINE, *SHORT, "hydra.run.dir=typed", "hydra.job.name=al"]
    enter(capsys, words, "run folder:   typed")
    assert Composer(Path("my conf"), "mine").compose(["hydra.job.name=al"]).sweep_folder == "many/al"


def test_a_recipe_has_a_node_as_well(capsys):
    text = "# @package _global_\nseed: 4\nhydra:\n  run:\n    dir: recipe/${seed}\n"
    put("my conf/experiment/folder.yaml", text)
    enter(capsys, ["--config-dir", "my conf", "experiment=folder", *SHORT], "run folder:   recipe/4")
    assert summary("recipe/4")["status"] == "completed"


def test_hydras_own_default_is_one_if_a_file_has_it():
    write({"sweep": {"subdir": "${hydra.job.num}"}, "run": {"dir": "outputs/${now:%Y}/${hydra.job.num}"}})
    composed = Composer(Path("my conf"), "mine").compose(["seed=1"], number=7)
    assert composed.subfolder == "7"
    assert composed.folder.startswith("outputs/20")
    assert Composer().compose(["seed=1"]).folder is None


def test_launcher_sweeper_and_swept_keys_of_a_file_are_honoured():
    pytest.importorskip("submitit")
    launcher = {"partition": "gpu", "comment": "${hydra:job.name}", "gpus_per_node": 2}
    swept = {"seed": "1,2", "optimizer.lr": "0.1,0.2", "batch_size": 8}
    write({"launcher": launcher, "sweeper": {"params": swept}}, [{"override hydra/launcher": "submitit_slurm"}])
    asked = request(*TINY, "evaluator=none", "optimizer.lr=0.3", "hydra.launcher.gpus_per_node=1")
    assert not asked.problems
    slurm = asked.launcher
    assert (slurm.partition, slurm.comment, slurm.gpus_per_node) == ("gpu", "ssl_runner", 1)
    assert [(each.content["seed"], each.content["optimizer"]["lr"]) for each in asked.jobs] == [(1, 0.3), (2, 0.3)]
    assert {each.content["batch_size"] for each in asked.jobs} == {16}, "what is typed counts for more"
    assert request("hydra/launcher=local", "seed=1").launcher is None


def test_a_sweeper_of_a_file_is_honoured():
    pytest.importorskip("optuna")
    write({"sweeper": {"n_trials": 3, "study_name": "2024_01_01"}}, [{"override hydra/sweeper": "optuna"}])
    asked = request("optimizer.lr=0.1,0.2", "hydra.sweeper.storage=sqlite:///a b.db?x=1")
    assert not asked.problems
    assert (asked.optuna.n_trials, asked.optuna.study_name) == (3, "2024_01_01")
    assert asked.optuna.storage == "sqlite:///a b.db?x=1"


@pytest.mark.parametrize(
    ("node", "key"),
    [
        ({"job": {"chdir": True}}, "hydra.job.chdir"),
        ({"output_subdir": None}, "hydra.output_subdir"),
        ({"mode": "MULTIRUN"}, "hydra.mode"),
        ({"callbacks": {"mine": {"_target_": "os.system"}}}, "hydra.callbacks.mine"),
        ({"job_logging": {"handlers": {"file": {"class": "os.system"}}}}, "hydra.job_logging.handlers"),
        ({"job_logging": {"root": {"level": "LOUD"}}}, "hydra.job_logging.root.level: given LOUD"),
        ({"job": {"env_set": {"A": "b"}}}, "hydra.job.env_set"),
        ({"searchpath": ["pkg://os"]}, "hydra.searchpath"),
        ({"rum": {"dir": "x"}}, "rum"),
        ({"launcher": {"n_jobs": 3}}, "hydra.launcher.n_jobs"),
    ],
)
def test_a_key_that_is_not_honoured_is_refused_by_name(node, key, capsys):
    write(node)
    refusal(capsys, [*MINE, *SHORT], key)
    refusal(capsys, ["-m", *MINE, *SHORT, "seed=1,2"], key)


def test_what_may_run_commands_is_typed_and_no_file_says_it():
    pytest.importorskip("submitit")
    write({"launcher": {"setup": ["touch touched"]}}, [{"override hydra/launcher": "submitit_slurm"}])
    (line,) = request("seed=1,2").problems
    assert "may run commands; it stands in a config file" in line
    assert not request("seed=1,2", "hydra.launcher.setup=['touch touched']").problems
    write({"launcher": {"_target_": "os.system"}}, [{"override hydra/launcher": "submitit_slurm"}])
    assert "_target_" in request("seed=1,2").problems[0]


@pytest.mark.parametrize(
    "name",
    [
        "same",
        "${seed}/..",
        "/tmp/x",
        "..",
        "x${hydra:job.num}/../../y",
        "${oops}",
        "''",
        "x${oc.decode:${hydra:job.num}}/../x",
    ],
)
def test_a_job_has_a_place_of_its_own_below_the_sweep(name, capsys):
    enter(capsys, ["-m", *SHORT, "seed=1,2", f"hydra.sweep.subdir={name}"], "hydra.sweep.subdir: ", status=2)
    assert not list(Path().iterdir())
