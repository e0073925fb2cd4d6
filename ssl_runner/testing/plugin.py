"""Plugin of pytest for a team's own repository: each choice of its own configs is a case of what is promised of all.

`addopts = "-p ssl_runner.testing.plugin"` loads it, and a test file takes the tests:
`from ssl_runner.testing.checks import test_resumes_bit_exactly`.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ssl_runner.config.compose import Composer
from ssl_runner.config.trust import PLACE, find_own_package, read_project

pytest_plugins = ("ssl_runner.testing.jobs",)  # its fixtures
TINY = "ssl_runner_tiny"
UPDATE = "--update-golden"
# Groups of which a choice may be wrong in each way.
LEARNT = ("pretext", "model", "optimizer", "regulariser")
GROUPS = {
    "own_choice": (*LEARNT, "dataset", "evaluator"),
    "own_learner": LEARNT,
    "own_task": ("pretext", "regulariser"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    what = "what keeps a choice small enough to be trained in a test, a line each: pretext=mine pretext.width=8"
    parser.addini(TINY, what, type="linelist", default=[])
    parser.addoption(UPDATE, action="store_true", help="take the numbers of own methods over into tests/golden")


def pytest_configure(config: pytest.Config) -> None:
    """Has the project's package imported from its folder, and asserts of the tests explained."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault(PLACE, str(config.rootpath))
    pytest.register_assert_rewrite("ssl_runner.testing.checks")
    try:
        find_own_package()
        if read_project().conf is None:
            raise ValueError(f"{config.rootpath}: tool.ssl_runner.conf names no folder of configs to test")
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A case for each choice of the project's configs that a test concerns."""
    for name in GROUPS.keys() & {*metafunc.fixturenames}:
        metafunc.parametrize(name, own_choices(GROUPS[name]))


def own_choices(groups: Sequence[str]) -> list[str]:
    """`pretext=mine` for each file of the project's configs in these groups."""
    conf = read_project().conf
    files = [file for group in groups for file in sorted((conf / group).glob("*.yaml"))] if conf else []
    return [f"{file.parent.name}={file.stem}" for file in files]


@pytest.fixture(scope="session")
def composer() -> Composer:
    return Composer()


@pytest.fixture
def less(pytestconfig: pytest.Config) -> dict[str, list[str]]:
    """By a choice, the words that keep it small."""
    lines: Iterator[list[str]] = (line.split() for line in pytestconfig.getini(TINY))
    return {choice: words for choice, *words in filter(None, lines)}


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> tuple[Path, bool]:
    """The folder of recorded numbers, and whether they are to be taken over."""
    return pytestconfig.rootpath / "tests" / "golden", pytestconfig.getoption(UPDATE)
