"""Hydra's own options and habits: each does what a user of Hydra expects, or is answered by what to type instead."""

import os
import subprocess
import sys

import pytest
import yaml
from runs import CLEAN, enter, put, refusal


def test_a_config_is_shown_whole_or_in_part(here, capsys):
    assert yaml.safe_load(enter(capsys, "-c job seed=3"))["seed"] == 3
    enter(capsys, "--cfg job --package optimizer optimizer=sgd", "# @package optimizer\n_target_: ")
    assert enter(capsys, "--cfg job -p optimizer.lr --resolve optimizer.lr=0.5") == "0.5\n"
    refusal(capsys, "--cfg job -p optimiser", "did you mean optimizer?")
    assert [*yaml.safe_load(enter(capsys, "--cfg hydra"))] == ["hydra"]
    assert {"hydra", "seed", "format"} < yaml.safe_load(enter(capsys, "-c all")).keys()
    enter(capsys, "-c hydra -p hydra.run", "dir: outputs/rotation-shapes/<time>")
    typed = "-c hydra -p hydra.job hydra.job.name=mine seed=2"
    enter(capsys, typed, "name: mine", "override_dirname: seed=2")
    assert enter(capsys, "-c hydra -p hydra.overrides.task hydra.job.name=mine seed=2").endswith("- seed=2\n")
    assert "${" in enter(capsys, "-c hydra -p hydra.job_logging")
    assert "${" not in enter(capsys, "-c hydra -p hydra.job_logging --resolve")
    assert enter(capsys, "-m seed=1,2 -c job -p seed") == "1\n---\n2\n"


def test_short_options_and_a_config_of_ones_own(here, capsys):
    put("mine/start.yaml", "defaults:\n  - config\n  - _self_\nseed: 8\n")
    for options in ("-cd mine -cn start", "-cp mine --config-name=start", "-cd mine -cn start.yaml -r"):
        assert enter(capsys, f"{options} -c job -p seed") == "8\n"
    refusal(capsys, "-cd nowhere", "there is no folder nowhere")


def test_info_says_where_a_config_came_from(here):
    """In a process, since Hydra's printing sets up logging."""
    put("mine/augment/own.yaml", "defaults:\n  - simclr\n")

    def info(*words, status=0):
        command = [sys.executable, "-m", "ssl_runner", "--info", *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **CLEAN})
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    text = info("all", "-cd", "mine", "pretext=simclr", "optimizer.lr=0.5", "dataset.images=200")
    for words in ("Installed Hydra Plugins", "Config search path", f"file://{here}/mine", "Defaults Tree"):
        assert words in text
    assert "| augment/shapes " in text, "what the dataset recommends"
    assert "  lr: 0.5\n" in text
    assert "did you mean simclr?" in info("defaults", "pretext=simclar", status=2)


def test_hydra_help_names_what_is_used_here(here, capsys):
    enter(capsys, "--hydra-help", "hydra.sweep.subdir", "hydra/launcher=NAME", "++KEY=VALUE")


KEYS = {  # a key with --help, and words of what is said
    "optimizer.lr": ["type     float > 0", "default  0.001", "source   conf/optimizer/adamw.yaml, ssl_runner."],
    "length": ["unit     ep (epochs), st (optimizer steps), % (of the run)", "default  5ep"],
    "seed=3": ["int >= 0", "weights"],
    "sweep.metric": ["default  knn/top1", "ssl_runner/sweep/settings.py"],
    "hydra.run.dir": ["folder of a run"],
    "pretext.temperature": ["pretext=simclr ", "pretext=dino ", "of the student"],
    "pretext=dino pretext.augment_local.scale": ["area of the crop", "[0.08,0.4]"],
    "evaluator.knn.k": ["default  20", "conf/evaluator/knn.yaml"],
    "evaluator.cluster.restarts": ["evaluator=[cluster]", "int >= 1"],
    "evaluator.cluster": ["evaluator.cluster.clusters", "evaluator.cluster.seed"],
    "device": ["device=NAME, one of", "cuda"],
}


@pytest.mark.parametrize("line", KEYS)
def test_every_setting_explains_itself(here, capsys, line):
    enter(capsys, f"{line} --help", *KEYS[line])


def test_a_key_that_is_none_is_refused_with_the_nearest(here, capsys):
    refusal(capsys, "lr --help", "did you mean optimizer.lr?")
    refusal(capsys, "optimizer.lrr --help", "did you mean optimizer.lr?")
    refusal(capsys, "evaluator.knn.nope --help", "is no setting")
