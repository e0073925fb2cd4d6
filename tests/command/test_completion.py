"""Shell completion: what may follow a begun command line, and Hydra's scripts that ask for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import CLEAN, enter, put, refusal

from ssl_runner.config.completion import candidates
from ssl_runner.config.compose import Composer

LINES = {  # a begun line, and all that may end its last word
    "eva": {"evaluate", "evaluator=", "evaluator."},
    "pretext=sims": {"pretext=simsiam"},
    "pretext=dino pretext.bott": {"pretext.bottleneck="},
    "pretext=simclr pretext.temp": {"pretext.temperature="},
    "pretext=simclr pretext.temperature=": {"pretext.temperature=0.5"},
    "pretext=nope optimizer.l": {"optimizer.lr="},
    "device.precision=": {f"device.precision={each}" for each in ("auto", "float32", "bf16", "fp16")},
    "device.determ": {"device.deterministic="},
    "device.deterministic=": {"device.deterministic=true", "device.deterministic=false"},
    "evaluator=[knn,prob": {"evaluator=[knn,probe"},
    "-m pretext=simclr,by": {"pretext=simclr,byol"},
    "pretext=byol augment@pretext.augment_": {"augment@pretext.augment_prime="},
    "augment@pretext.augment=byol_": {"augment@pretext.augment=byol_prime"},
    "~augment@pre": {"~augment@pretext.augment="},
    "++seed": {"++seed="},
    "sweep.res": {"sweep.resume="},
    "hydra.run": {"hydra.run.dir="},
    "experiment=simclr_l": {"experiment=simclr_lars_cifar10"},
    "list pret": {"pretext"},
    "evaluate run prob": {"probe"},
    "export run any": set(),
    "--cf": {"--cfg"},
    "seed": {"seed="},
    "seed=": {"seed=0"},
    "model.widths=": {"model.widths=[32,64,128]"},
    "pretext.augment=": set(),
    "nothing.like.it=": set(),
}


@pytest.mark.parametrize("line", LINES)
def test_every_word_has_its_candidates(composer, line):
    assert {*candidates(composer, line, ["--cfg"])} == LINES[line]


def test_run_folders_and_sweeps_complete_as_paths(composer, here):
    runs = [f"outputs/rotation-shapes/{name}" for name in ("a", "b")]
    for run in (*runs, "elsewhere/c"):
        put(f"{run}/summary.json", {})
    put("outputs/sweeps/d/sweep.json", {})
    assert [*candidates(composer, "resume ")] == runs
    assert [*candidates(composer, "compare outputs/rotation-shapes/a outputs/rotation-shapes/b")] == runs[1:]
    assert [*candidates(composer, "evaluate elsewhere/")] == ["elsewhere/c"]
    assert [*candidates(composer, "init=")] == [f"init={each}" for each in runs]
    assert [*candidates(composer, "-m sweep.resume=")] == ["sweep.resume=outputs/sweeps/d"]


def test_choices_of_ones_own_complete(here):
    put("conf/pretext/mine.yaml", "defaults:\n  - rotation\n")
    assert [*candidates(Composer(Path("conf")), "pretext=mi")] == ["pretext=mine"]


def test_the_shell_asks_and_is_answered_without_torch(here):
    """Hydra's script for bash, with a program of the runner's name, which has no torch."""
    put("torch.py", "raise ImportError('not here')\n")
    put("bin/ssl-runner", f'#!/bin/sh\nPYTHONPATH="{here}:$PYTHONPATH" exec {sys.executable} -m ssl_runner "$@"\n')
    Path("bin/ssl-runner").chmod(0o755)
    put("conf/pretext/mine.yaml", "defaults:\n  - rotation\n")
    script = (
        'eval "$(ssl-runner -sc install=bash | sed s/__main__.py/ssl-runner/ | sed "s/ python$/ ssl-runner/")"\n'
        'COMP_LINE="ssl-runner -cd conf pretext=min" COMP_CWORD=3; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    env = {**os.environ, **CLEAN, "PATH": f"{here}/bin:{os.environ['PATH']}"}
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)
    assert (answer.stdout.split(), answer.stderr) == (["pretext=mine"], "")


def test_scripts_of_other_shells_are_had_and_unknown_ones_refused(here, capsys):
    enter(capsys, "-sc install=fish", "complete -c")
    enter(capsys, "-sc install=zsh", "bashcompinit", "-sc query=bash")
    enter(capsys, "-sc uninstall=bash", "unset hydra_bash_completion")
    refusal(capsys, "-sc install=powershell", "possible are install=", "bash, fish, zsh")
    refusal(capsys, "-sc", "given nothing")
