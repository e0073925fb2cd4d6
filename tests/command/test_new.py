"""`ssl-runner new FOLDER`: a repository of a team's own that runs, and the generic tests that it takes."""

import os
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from runs import enter, put, refusal

import ssl_runner
from ssl_runner import __version__
from ssl_runner.command.new import TEMPLATE
from ssl_runner.config.trust import PLACE, VARIABLE, OwnPackage

pytest_plugins = ["pytester"]
SMALL = "dataset.images=100 dataset.test=20 batch_size=16 length=2st log_every=1st device=cpu evaluator.knn.k=3"
NUMBERS = "numbers_of_20_steps and pairs"


def forget():
    """What a project leaves in a process that goes on to another one."""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, OwnPackage)]
    for name in [each for each in sys.modules if each.split(".")[0] == "demo"]:
        del sys.modules[name]


@pytest.fixture(scope="module", autouse=True)
def imported():
    """All modules of the runner and Hydra's plugins: `pytester` forgets those that are imported while it is there, and
    imported anew they would have other classes of the same names.
    """
    Plugins.instance()
    for each in pkgutil.walk_packages(ssl_runner.__path__, "ssl_runner."):
        if not each.name.endswith("__main__"):
            import_module(each.name)


@pytest.fixture
def demo(pytester, monkeypatch, capsys):
    """A new repository, which is the current folder."""
    for variable in (PLACE, VARIABLE, "CI"):
        monkeypatch.delenv(variable, raising=False)
    enter(capsys, "new demo", "demo is written", "ssl-runner experiment=demo")
    monkeypatch.chdir("demo")
    yield Path.cwd()
    os.environ.pop(PLACE, None)  # the plugin names the project
    forget()


@pytest.fixture
def outcomes(pytester, monkeypatch):
    """How many of the repository's tests that an expression selects have passed, failed or were skipped."""

    def run(expression):
        forget()
        result = pytester.runpytest_inprocess("-p", "no:randomly", "tests", "-k", expression)
        monkeypatch.chdir(pytester.path / "demo")
        return {word: n for word, n in result.parseoutcomes().items() if word in ("passed", "failed", "skipped")}

    return run


@pytest.mark.slow
def test_a_new_repository_runs_and_passes_its_tests(demo, outcomes, capsys):
    enter(capsys, f"experiment=demo hydra.run.dir=run {SMALL}", "runs code of demo", "centroid")
    assert (demo / "run/encoder.safetensors").exists()
    assert "class Pairs" in (demo / "run/project.diff").read_text()
    assert outcomes("not two_processes") == {"passed": 6, "skipped": 1}
    assert outcomes(NUMBERS) == {"passed": 1}


MISTAKES = {  # what is added to the constructor and to the loss, and the test that fails
    "self.seen = 0": ("self.seen = 0", "self.seen += 1; value = value * self.seen", "resumes_bit_exactly and pairs"),
    "another loss": ("", "value = 1.01 * value", NUMBERS),
    "the mean of its own rank": ("", "value = value + z.mean(0).square().sum()", "two_processes and pairs"),
}
SLOW = [pytest.param(*each, marks=[pytest.mark.slow] * ("rank" in name), id=name) for name, each in MISTAKES.items()]


@pytest.mark.parametrize(("first", "later", "test"), SLOW)
def test_the_generic_tests_see_a_planted_mistake(first, later, test, demo, outcomes):
    if test == NUMBERS:
        assert outcomes(test) == {"skipped": 1}
    text = (
        (demo / "demo/pretext/pairs.py").read_text().replace("self.projector =", f"{first}\n        self.projector =")
    )
    put("demo/pretext/pairs.py", text.replace("return Loss(", f"{later}\n        return Loss("))
    assert outcomes(test) == {"failed": 1}


def test_in_ci_numbers_must_be_there(demo, outcomes, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert outcomes(NUMBERS) == {"failed": 1}
    assert not (demo / "tests/golden").exists()


def test_a_repository_gets_the_name_of_its_folder(here, capsys):
    enter(capsys, "new Our-Methods", "cd Our-Methods", "experiment=our_methods")
    assert Path("Our-Methods/our_methods/pretext/pairs.py").is_file()
    assert Path("Our-Methods/conf/experiment/our_methods.yaml").is_file()
    text = "".join(each.read_text() for each in Path("Our-Methods").rglob("*") if each.is_file())
    assert "demo" not in text
    assert f'"ssl-runner>={__version__}"' in text
    assert {each.name for each in Path("Our-Methods").iterdir()} >= {".gitignore", ".github", "pyproject.toml"}
    assert (TEMPLATE / "pyproject.toml").is_file()


def test_a_folder_that_is_no_place_for_it_is_refused(here, capsys):
    put("full/file", "")
    refusal(capsys, "new full", "FOLDER: given full, which is there already")
    for name in ("torch", "random", "conf"):
        refusal(capsys, f"new {name}", f"there is a package {name} already; choose another name, as in my_{name}")
    for name in ("1st", "a.b", "class"):
        refusal(capsys, f"new {name}", "whose name cannot be a package's")
