"""A project of a user's own: [tool.ssl_runner] of the current folder's pyproject.toml, in every verb."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runs import CLEAN, config, enter, put, refusal, summary

from ssl_runner.config.compose import Composer
from ssl_runner.config.trust import PLACE, VARIABLE, OwnPackage, find_own_package, read_project

TABLE = '[tool.ssl_runner]\nconf = "conf"\npackage = "ours"\ntrust = ["ours"]\n'
PULL = """\
from typing import Annotated
from annotated_types import Gt
from ssl_runner.contract import Regulariser


class Pull(Regulariser):
    \"\"\"Pulls features to their mean.\"\"\"

    def __init__(self, *, weight: Annotated[float, Gt(0)] = 0.1):
        super().__init__()
        self.weight = weight

    def forward(self, loss, pretext):
        return {"pull": self.weight * loss.embedding.float().square().mean()}
"""
YAML = "_target_: ours.pull.Pull\nweight: 0.5 # of the term\n"
FEW = "dataset.images=100 dataset.test=20 batch_size=16 length=2st log_every=1st save_every=100% device=cpu"
WORDS = [
    *FEW.split(),
    "model=convnet_small",
    "model.widths=[8,8,8]",
    "evaluator=none",
    "pretext=simclr",
    "regulariser=pull",
]


def git(*words):
    identity = ["-c", "user.name=me", "-c", "user.email=me@here", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *identity, *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(here, monkeypatch):
    """A project with a regulariser of its own, in the current folder; nothing of it stays imported."""
    for variable in (VARIABLE, PLACE):
        monkeypatch.delenv(variable, raising=False)
    put("pyproject.toml", TABLE)
    put("conf/regulariser/pull.yaml", YAML)
    put("ours/__init__.py", "")
    put("ours/pull.py", PULL)
    yield here
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, OwnPackage)]
    for name in [each for each in sys.modules if each.split(".")[0] == "ours"]:
        del sys.modules[name]


def test_own_choices_are_found_and_listed_without_a_flag(project, capsys):
    assert "pull" in Composer().groups["regulariser"]
    assert "  pull  " in enter(capsys, "list regulariser", "Pulls features to their mean.")
    enter(capsys, "--help", "pull")
    enter(capsys, "regulariser=pull --help", "regulariser.weight", "float > 0", "0.5", "of the term")
    enter(capsys, [*WORDS, "--cfg", "job"], "ours.pull.Pull")
    assert "ours" not in sys.modules
    refusal(capsys, "regulariser=pul", "did you mean pull?")


def test_a_mistake_in_own_settings_is_refused_without_torch(project):
    code = "import sys; from ssl_runner.__main__ import main; status = main(sys.argv[1:])\n"
    code += "assert 'torch' not in sys.modules; sys.exit(status)"
    words = [sys.executable, "-c", code, "regulariser=pull", "regulariser.weight=-1"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**CLEAN, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    assert done.returncode == 2, done.stderr
    assert "regulariser.weight: given -1, and greater than 0 is wanted" in done.stderr


@pytest.mark.slow
def test_a_run_records_the_commit_and_changes_of_its_project(project, capsys):
    enter(capsys, [*WORDS, "hydra.run.dir=none"])
    known = json.loads(Path("none/environment.json").read_text())["project"]
    assert (known["commit"], known["dirty"]) == (None, None)
    assert "class Pull" in Path("none/project.diff").read_text(), "without git, all of it"
    git("init")
    put(".gitignore", "none\nclean\ndirty\noutputs\n__pycache__\n")
    git("add", ".")
    git("commit", "-m", "first")
    enter(capsys, [*WORDS, "hydra.run.dir=clean"], "runs code of ours, which")
    known = json.loads(Path("clean/environment.json").read_text())
    assert known["project"] == {"name": project.name, "commit": git("rev-parse", "HEAD"), "dirty": False}
    assert not Path("clean/project.diff").exists()
    put("ours/pull.py", PULL.replace("square()", "abs()"))
    put("ours/more.py", "ANSWER = 42\n")
    put("data/large.py", "not code of a run\n")
    enter(
        capsys, "rerun clean hydra.run.dir=dirty", "uncommitted changes of your own code differ: see clean/project.diff"
    )
    patch = Path("dirty/project.diff").read_text()
    assert all(
        line in patch for line in ('-        return {"pull": self.weight * loss.embedding.float().square()', "ANSWER")
    )
    assert "large" not in patch
    enter(capsys, "compare none clean dirty", "own commit differs")
    enter(capsys, "save clean mine", "conf/experiment/mine.yaml is written", "ssl-runner experiment=mine")
    saved = " ".join(Path("conf/experiment/mine.yaml").read_text().replace("#", "").split())  # its lines are filled
    assert f"{project.name} {git('rev-parse', 'HEAD')[:7]}" in saved
    enter(capsys, "experiment=mine --cfg job", "ours.pull.Pull")
    enter(capsys, "resume clean length=3st", "the result may differ: uncommitted changes of your own code are new")
    assert "uncommitted changes" not in enter(capsys, "resume dirty length=3st")
    put("ours/more.py", "ANSWER = 43\n")
    enter(capsys, "resume dirty length=4st", "your own code are not those of dirty/project.diff")
    git("add", ".")
    git("commit", "-m", "second")
    enter(capsys, "resume dirty length=5st", f"commit {known['project']['commit'][:7]}, with changes, is commit ")
    for line in ("evaluate clean knn evaluator.knn.k=3", "export clean"):
        enter(capsys, line)
    assert summary("clean")["steps"] == 3


def test_own_package_comes_from_the_folder_and_nothing_else_does(project, tmp_path_factory, monkeypatch, capsys):
    installed = tmp_path_factory.mktemp("site")
    put(installed / "ours/__init__.py", "raise RuntimeError('the one that is installed')")
    monkeypatch.syspath_prepend(str(installed))
    put("hostile_of_a_test.py", "")
    enter(capsys, [*WORDS, "hydra.run.dir=run"])
    assert Path(sys.modules["ours"].__file__).parent == project / "ours"
    with pytest.raises(ModuleNotFoundError):
        __import__("hostile_of_a_test")
    find_own_package()
    assert sum(isinstance(each, OwnPackage) for each in sys.meta_path) == 1


def test_only_what_is_trusted_is_imported(project, capsys):
    put("pyproject.toml", TABLE.replace('["ours"]', '["others"]'))
    refusal(capsys, WORDS, "ours.pull.Pull, which is not trusted")
    assert "ours" not in sys.modules


def test_a_project_may_be_named_from_elsewhere(project, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "pull" not in Composer().groups["regulariser"]
    monkeypatch.setenv(PLACE, str(project))
    enter(capsys, [*WORDS, "--cfg", "job"], "ours.pull.Pull")


@pytest.mark.slow
def test_a_sweep_runs_own_classes_in_processes_of_their_own(project, capsys):
    enter(capsys, [*WORDS, "-m", "seed=1,2", "hydra.sweep.dir=sweep"])
    assert [summary(f"sweep/{each.name}")["status"] for each in sorted(Path("sweep").glob("0*"))] == ["completed"] * 2


MALFORMED = {
    'conf = "absent"': "tool.ssl_runner.conf: there is no folder",
    'package = "absent"': "tool.ssl_runner.package: given 'absent', and there is no",
    'trust = "ours"': "tool.ssl_runner.trust: given 'ours'; possible are",
    "confs = 1": "tool.ssl_runner.confs: given 1; possible are conf =",
    "torn [": "and it holds tool.ssl_runner",
}


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_project_is_refused_in_every_verb(line, here, capsys):
    put("pyproject.toml", f"[tool.ssl_runner]\n{line}\n")
    for verb in ("list", "--help", "seed=1", "resume run"):
        refusal(capsys, verb, MALFORMED[line], "pyproject.toml")
    with pytest.raises(ValueError, match=r"pyproject\.toml"):
        read_project()


BROKEN = {
    "no annotation": (
        "weight: Annotated[float, Gt(0)]",
        "weight",
        "regulariser.weight: has no annotation in {file}, line 9",
    ),
    "no such type": ("Annotated[float, Gt(0)]", '"Weight"', "name 'Weight' is not defined) in {file}, line 9"),
    "syntax": ("def forward(self", "def forward(self,,", "SyntaxError: invalid syntax, in {file}, line 13"),
    "at import": ("from typing", "import torch\ntorch.ones(2) @ torch.ones(3)\nfrom typing", "in {file}, line 2"),
    "constructor": ("super().__init__()", "super().__init__(); self.x.y", "no attribute 'x', in {file}, line 10"),
    "wrong types": (
        "self.weight = weight",
        "self.weight = weight + []",
        "TypeError: unsupported operand",
        "{file}, line 11",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_error_in_own_code_is_named_by_file_and_line(case, project, capsys):
    old, new, *words = BROKEN[case]
    put("ours/pull.py", PULL.replace(old, new))
    message = enter(capsys, WORDS, *(word.format(file=project / "ours/pull.py") for word in words), status=2)
    assert len(message.splitlines()) == 2, message
    assert not Path("outputs").exists()
    enter(capsys, "list regulariser", "pull")


def test_expressions_of_own_code_are_not_run_for_help(project, capsys):
    put("ours/pull.py", f"import pathlib\nTOUCHED = pathlib.Path('touched').touch()\n{PULL}")
    enter(capsys, "regulariser=pull --help", "float > 0")
    enter(capsys, "regulariser=pull regulariser.weight=-1", "greater than 0 is wanted", status=2)
    assert not Path("touched").exists()


def test_own_config_counts_before_ours(project, capsys):
    put("conf/optimizer/adamw.yaml", yaml.safe_dump({"_target_": "ssl_runner.optimizer.adamw.AdamW", "lr": 0.007}))
    enter(capsys, [*WORDS, "hydra.run.dir=run"])
    assert config("run")["optimizer"]["lr"] == 0.007
