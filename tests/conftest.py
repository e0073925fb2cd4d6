"""Fixtures and jobs on tiny tensors, where one thread is faster than two."""

# ruff: noqa: E402
import copy
import hashlib
import os
import pickle
import sys

# While jaxtyping imports a module that it checks, Python caches what that module imports as checked, too, even if it is
# not. A later run with another list of packages to check would load those from the cache, and check nothing.
sys.dont_write_bytecode = True
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import shutil
import subprocess
import zlib
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path

import pytest
import torch
from runs import kill, put
from toys import kind_of

from ssl_runner.__main__ import main
from ssl_runner.config import compose
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.dataset.grammar import Grammar
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.dataset.utterances import Utterances
from ssl_runner.testing.jobs import TINY, build_trainer, checked_job, tiny_words

torch.set_num_threads(1)

compose_tree = compose.compose_tree
shared = None  # a folder of all of pytest's processes, while tests run


@cache
def compose_own_tree(name, choices):
    return compose_tree([TREE], name, choices) if shared is None else composed_by_one(name, choices)


def composed_by_one(name, choices):
    """What the first of pytest's processes that asks for it has composed."""
    file = shared / hashlib.sha256(repr((name, choices)).encode()).hexdigest()
    if not file.exists():
        whole = file.with_suffix(f".{os.getpid()}")
        whole.write_bytes(pickle.dumps(compose_tree([TREE], name, choices)))
        whole.rename(file)
    return pickle.loads(file.read_bytes())


# Choices of our own tree, which no test changes, are composed once: thousands of times it would take 0.1 s.
compose.compose_tree = lambda folders, name, choices: (
    compose_own_tree(name, tuple(choices)) if [*folders] == [TREE] else compose_tree(folders, name, choices)
)


def drawn_once(load):
    """Of a dataset that is generated, a copy of what it has with the same settings, if that is little."""
    known = {}

    @wraps(load)
    def load_known(dataset):
        key = repr(sorted(vars(dataset).items()))
        if key not in known:
            data = load(dataset)
            if len(data.train) > 150:
                return data
            known[key] = data
        return copy.deepcopy(known[key])

    return load_known


# Half of the time in which a tiny run is put together.
for each in (Shapes, Grammar, Utterances):
    each.load = drawn_once(each.load)

LESS = {
    "bigan": ("pretext.width=8", "pretext.loss=logistic", "pretext.unary=false", "pretext.cycle=0"),
    "w_mse": ("pretext.out=3",),
    "deepcluster_v2": ("pretext.prototypes=8",),  # fewer than rows: rounding decides between equal centroids
    "vicregl": ("pretext.matches=3",),  # 16 pixels a side are 2 x 2 cells
    "ijepa": ("pretext.targets=2",),  # 16 pixels a side are 4 patches
    "simcse": ("pretext.augment.deletion=0.2",),  # without dropout, which ranks draw by themselves
    "pirl": ("pretext.augment_tiles.size=32",),
    "jigsaw": ("pretext.augment.size=32",),
    "relative_patch": ("pretext.augment.size=32",),
    "vq_vae": ("pretext.codes=8",),  # fewer than tokens: rounding decides between equal codes
    "smog": ("pretext.prototypes=8", "pretext.memory=32", "pretext.regroup=3st"),
}  # what keeps a step of a task small
MEASURED_ONCE = (*TINY, "evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=4st", "save_every=4st", "keep=9")


def pytest_addoption(parser):
    said = "slow tests, of a run of all tests; some: one in 12, others with each commit, and what it has changed"
    parser.addoption("--slow", choices=["some", "all", "none"], default="some", help=said)


def of_slow_tests(config):
    """'all', 'some' or 'none'. A run of tests that are named leaves none of them out."""
    all_tests = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    named = not all_tests or config.option.keyword or config.option.markexpr
    return "all" if named and config.option.slow == "some" else config.option.slow


def pytest_collection_modifyitems(config, items):
    """Leaves out slow tests. Those `of` one name, such as a task, are chosen together; `one_in` says how rarely."""
    chosen = of_slow_tests(config)
    commit = said_by_git(config, "rev-parse", "HEAD")
    changed = {Path(each).stem for each in said_by_git(config, "diff", "--name-only", "HEAD^", "HEAD").splitlines()}

    def is_left_out(item):
        slow = item.get_closest_marker("slow")
        if not slow or chosen != "some":
            return bool(slow) and chosen == "none"
        name = slow.kwargs.get("of", item.nodeid)
        return name not in changed and zlib.crc32(f"{commit} {name}".encode()) % slow.kwargs.get("one_in", 12) > 0

    left_out = [item for item in items if is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not is_left_out(item)]


def said_by_git(config, *words):
    """Nothing where there is no repository."""
    return subprocess.run(["git", *words], cwd=config.rootpath, capture_output=True, text=True, check=False).stdout


def pytest_terminal_summary(terminalreporter, config):
    if of_slow_tests(config) == "some":
        terminalreporter.write_line("one in twelve of the slow tests; all of them: pytest --slow all")


def in_turn(cases):
    """Cases of a test that takes a minute for all of them: as slow tests of their names."""
    return [pytest.param(each, marks=pytest.mark.slow(of=each.removeprefix("pretext "))) for each in cases]


def names(group):
    """The choices of a group: a new YAML is a new case of every generic test."""
    return sorted(file.stem for file in (TREE / group).glob("*.yaml"))


def names_of(kind, group):
    """Those choices of a group whose samples are of a kind, or that take that kind first."""
    return [name for name in names(group) if kind_of(group, name) == kind]


def choose(group, name):
    """The override that makes a choice of a group."""
    mount = {"augment": "augment@pretext.augment"}.get(group, group)  # a recipe of views is no key of a job
    return f"{mount}=[{name}]" if group == "evaluator" and name != "none" else f"{mount}={name}"


# A case for each task, optimizer, regulariser and recipe of views: of these, made tiny, traces and costs are kept.
CHOICES = {f"pretext-{name}": (f"pretext={name}",) for name in names("pretext")}
# What a recipe of views of each kind is tried with.
VIEWED = {"image": ("pretext=simclr",), "text": ("pretext=simcse",), "audio": ("pretext=simclr", "dataset=utterances")}
for group, default in {"optimizer": "adamw", "regulariser": "none", "augment": "simclr"}.items():
    others = [name for name in names(group) if name != default]
    CHOICES |= {f"{group}-{name}": (*VIEWED[kind_of(group, name)], choose(group, name)) for name in others}


def tiny(*overrides):
    """Overrides of a job that takes a second."""
    return tiny_words([TREE], overrides, {f"pretext={name}": words for name, words in LESS.items()})


@pytest.fixture(scope="session", autouse=True)
def _share_what_is_composed(tmp_path_factory):
    global shared
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "composed"
    shared.mkdir(exist_ok=True)


@pytest.fixture(scope="session")
def composer():
    return Composer()


@pytest.fixture
def make(composer, tmp_path):
    """A trainer for `tiny` overrides in a folder below tmp_path; `change` may put another pretext in the place."""

    def build(*overrides, folder="run", change=lambda node: node, change_data=lambda data: data):
        composed = composer.compose(tiny(*overrides))
        assert not composed.problems, composed.problems
        job = checked_job(composed.content)  # its parts are not tried first: what is built here is tried by the test
        return build_trainer(replace(job, pretext=change(job.pretext)), tmp_path / folder, change_data)

    return build


@pytest.fixture
def method(make):
    """The task of a YAML on a tiny encoder, in training mode."""

    def build(name, *overrides):
        return make("evaluator=none", *CHOICES[f"pretext-{name}"], *overrides).learner.pretext.train()

    return build


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drop(tmp_path):
    """A folder of configs with one recipe of this text in it."""

    def build(text, name="dropped"):
        put(tmp_path / f"conf/experiment/{name}.yaml", text)
        return Composer(tmp_path / "conf")

    return build


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A run that was never disturbed, with its checkpoints of steps 4, 8 and 12. Nothing may be written into it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*MEASURED_ONCE, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def cut(whole, here):
    """The same run in the current folder, killed after step 8."""
    return kill(shutil.copytree(whole, here / "cut"), 12)


@pytest.fixture
def run(whole, here):
    """The same run in the current folder, complete."""
    return shutil.copytree(whole, here / "run")


@pytest.fixture
def harmless(here, monkeypatch):
    """In the current folder `import hostile`, as every hostile case, would leave a file `touched`; none is left."""
    monkeypatch.syspath_prepend(str(here))
    put("hostile.py", "open('touched', 'w')\nclass Hostile:\n    def __call__(self, a, b): ...\n")
    yield
    assert not Path("touched").exists()
    assert "hostile" not in sys.modules
