"""Hydra's own options and habits: each does what a user of Hydra expects, or is answered by what to type instead."""

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from runs import CLEAN, enter, put, refusal

from ssl_runner.engine.console import journal
from ssl_runner.engine.levels import VARIABLE, keep_levels


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
    assert enter(capsys, "-m +hydra.sweeper.params.seed=1,2 -c job -p seed") == "1\n---\n2\n"


def test_short_options_and_a_config_of_ones_own(here, capsys):
    put("mine/start.yaml", "defaults:\n  - config\n  - _self_\nseed: 8\n")
    for options in ("-cd mine -cn start", "-cp mine --config-name=start", "-cd mine -cn start.yaml -r"):
        assert enter(capsys, f"{options} -c job -p seed") == "8\n"
    refusal(capsys, "-cd nowhere", "there is no folder nowhere")


@pytest.mark.slow
def test_info_says_where_a_config_came_from(here):
    """In a process, since Hydra's printing sets up logging."""
    put("mine/augment/own.yaml", "defaults:\n  - simclr\n")

    def info(*words, status=0):
        command = [sys.executable, "-m", "ssl_runner", "--info", *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **CLEAN})
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    text = info("pretext=simclr", "-cd", "mine", "optimizer.lr=0.5", "dataset.images=200")
    for words in ("Installed Hydra Plugins", "Config search path", f"file://{here}/mine", "Defaults Tree"):
        assert words in text
    assert "| augment/shapes " in text, "what the dataset recommends"
    assert "  lr: 0.5\n" in text
    assert "pretext: simclr" in info("defaults-tree", "-m", "pretext=simclr,byol", "sweep.on_error=stop")
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


def test_further_folders_of_configs_are_typed_or_named_by_the_config_to_start_from(here, capsys, monkeypatch):
    put("more/pretext/mine.yaml", "defaults:\n  - simclr\ntemperature: 0.3\n")
    put("own/start.yaml", "defaults:\n  - config\n  - _self_\nhydra:\n  searchpath: [more]\n")
    show = "pretext=mine -c job -p pretext.temperature"
    for words in ("hydra.searchpath=[more]", f"hydra.searchpath=[file://{here}/more]", "-cd own -cn start"):
        assert enter(capsys, f"{words} {show}") == "0.3\n"
    assert enter(capsys, f"-m seed=1,2 hydra.searchpath=[more] {show}") == "0.3\n---\n0.3\n"
    refusal(capsys, "hydra.searchpath=[nowhere]", "given nowhere, and there is no such folder")
    put("theirs/conf/pretext/mine.yaml", "defaults:\n  - simclr\ntemperature: 0.4\n")
    put("theirs/__init__.py", "from pathlib import Path\nPath('imported').touch()\n")
    monkeypatch.syspath_prepend(str(here))
    refusal(capsys, "hydra.searchpath=[pkg://theirs.conf]", "package is not trusted", "pyproject.toml")
    assert not Path("imported").exists(), "a stranger's package is not looked into"
    monkeypatch.setenv("SSL_RUNNER_TRUST", "theirs")
    assert enter(capsys, f"hydra.searchpath=[pkg://theirs.conf] {show}") == "0.4\n"
    refusal(capsys, "hydra.searchpath=[pkg://theirs.nope]", "there is no such package")


INSTEAD = {  # what Hydra has and we do otherwise, and what to type
    "hydra.mode=MULTIRUN": "type -m for a sweep",
    "hydra.job.chdir=true": "hydra.run.dir=FOLDER names its own",
    "hydra/job_logging=disabled": "type hydra.job_logging.root.level=ERROR",
    "hydra.output_subdir=null": "config.yaml and overrides.yaml",
    "hydra.callbacks.mine._target_=os.system": "no code runs because a config says so",
    "hydra.job_logging.root.level=LOUD": "possible are DEBUG, INFO, WARNING, ERROR",
    "hydra/env=x": "possible are hydra.run.dir",
}


@pytest.mark.parametrize("word", INSTEAD)
def test_what_we_do_otherwise_is_refused_with_what_to_type(here, capsys, word):
    refusal(capsys, word, INSTEAD[word])


VERBOSE = [  # what is typed, and which messages reach run.log: of us, of a library, of another
    ("seed=1", ["we", "warned"]),
    ("hydra.verbose=true", ["we", "we, in detail", "library", "another", "warned"]),
    ("hydra.verbose=[library]", ["we", "library", "warned"]),
    ("hydra.verbose=ssl_runner", ["we", "we, in detail", "warned"]),
    ("hydra.job_logging.root.level=WARNING", ["warned"]),
    ("hydra.job_logging.loggers.library.level=DEBUG", ["we", "library", "warned"]),
]


@pytest.mark.parametrize(("word", "messages"), VERBOSE)
def test_levels_say_whose_messages_reach_console_and_log(composer, here, monkeypatch, word, messages):
    monkeypatch.delenv(VARIABLE, raising=False)
    before = logging.getLogger().level
    keep_levels(composer.compose([word]).levels)
    with journal(console := Console(file=io.StringIO(), width=200)) as book:
        book.attach(here)
        for name, level, text in (
            ("ssl_runner", logging.INFO, "we"),
            ("ssl_runner", logging.DEBUG, "we, in detail"),
            ("library.part", logging.DEBUG, "library"),
            ("another", logging.DEBUG, "another"),
            ("ssl_runner", logging.WARNING, "warned"),
        ):
            logging.getLogger(name).log(level, text)
    for lines in (Path("run.log").read_text(), console.file.getvalue()):
        assert [re.split(r"[A-Z]+ +|: ", line)[-1] for line in lines.splitlines()] == messages
    assert logging.getLogger().level == before
    keep_levels({})
