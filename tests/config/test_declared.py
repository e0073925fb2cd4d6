"""A mistyped command line is refused without torch, in the very lines of the real check, that of built modules."""

import copy
import importlib
import itertools
import json
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from conftest import choose, names
from rich.console import Console
from runs import put

from ssl_runner import contract, optimizer
from ssl_runner.config import declared
from ssl_runner.config.check import check
from ssl_runner.config.compose import TREE
from ssl_runner.config.declared import check_declared, declared_problems
from ssl_runner.optimizer import adamw
from ssl_runner.run.job import RUNTIME, Job
from ssl_runner.run.prepare import prepare_job
from ssl_runner.sweep.read import read
from ssl_runner.sweep.settings import split_words

GROUPS = ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator")
CHOICES = [(group, name) for group in GROUPS for name in names(group)]
VALUES = (-1, 0, 0.5, 10**9, "x", "5ep", True, None, [], [1, -2], {"a": 1}, {"_target_": "ssl_runner.model.vit.ViT"})
HEAVY = {"torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "matplotlib", "tensorboard", "jaxtyping", "PIL"}
WRONG = """
optimizer.lr=null | optimizer=adamw optimizer.betas=[0.9] | optimizer=adamw optimizer.betas=[0.9,2] | ~optimizer
~optimizer._target_ | pretext=simclr pretext.temperature=0 | pretext=simclr pretext.augment.scale=[0.5]
pretext=simclr ~pretext.augment | +pretext.rows=3 +model.mean=[0] | log_every=5 save_every=x show_every=null
batch_size=0 seed=-1 keep=0 accumulate=1.5 | on_collapse=stopp length=1 optimizer.lr=-1 evaluator.knn.k=0 | +lr=3
+epochs=3 +wd=x | evaluator.knn.every=3 | +evaluator.knn.bank=3 | evaluator=5 | +evaluator.mine=5
+evaluator.mine._target_=ssl_runner.evaluator.knn.Knn | model._target_=ssl_runner.nothing.convnet.ConvNet
+evaluator.mine._target_=ssl_runner.evaluator.knn.KNN +evaluator.mine.every=x | model._target_=ssl_runner.model.ConvNet
dataset._target_=ssl_runner.model.convnet.ConvNet | optimizer._target_=ssl_runner.model.convnet.ConvNet
device.precision=float64 +device.cores=2 | dataset=shapes dataset.images=none | +choices.mine=3
model=vit_tiny model.heads=0 model.patch=-1 optimizer.lr=0 | regulariser=sum regulariser.terms=3
regulariser=sum +regulariser.terms.mine._target_=ssl_runner.regulariser.l1.L11
"""


def in_parts(text):
    return [each for line in text.strip().split("\n") for each in line.split(" | ")]


def real(content):
    return check(content, Job, RUNTIME)[1]


ROOTED = {f"dataset={name}" for name in names("dataset") if "root: ???" in (TREE / f"dataset/{name}.yaml").read_text()}


def content_of(composer, *overrides):
    root = ["dataset.root=somewhere"] if ROOTED & {*overrides} else []
    composed = composer.compose([*overrides, *root])
    assert not composed.problems
    return composed.content


def places(content):
    """Every mapping in a config, the config itself included."""
    if not isinstance(content, dict):
        return []
    return [content, *(place for value in content.values() for place in places(value))]


def settings(content):
    """Every mapping in a config, with each of its keys that has a plain value."""
    for place in places(content):
        yield from [(place, key) for key, value in place.items() if key != "_target_" and not isinstance(value, dict)]


IN_TURN = [pytest.param(*each, id="=".join(each), marks=pytest.mark.slow(of=each[1])) for each in CHOICES]


@pytest.mark.parametrize(("group", "name"), IN_TURN)
def test_every_choice_is_judged_as_by_the_real_check(composer, group, name):
    """Nothing is wrong with it; and with each of its values replaced, left out or joined by another, the same is."""
    content = content_of(composer, choose(group, name))
    assert declared_problems(content) == real(content) == []
    assert composer.compose([choose(group, name)]).choices.get(group, name) == name
    whole = {group: content[group]}
    for value in VALUES:
        for place, key in settings(broken := copy.deepcopy(whole)):
            place[key] = copy.deepcopy(value)
        assert declared_problems(broken) == real(broken), value
    for place, key in settings(lacking := copy.deepcopy(whole)):
        del place[key]
    assert declared_problems(lacking) == real(lacking)
    for place in places(more := copy.deepcopy(whole)):
        place["wide"] = 1
    assert declared_problems(more) == real(more) != []


@pytest.mark.parametrize("overrides", [*map(str.split, in_parts(WRONG))], ids=" ".join)
def test_what_is_typed_wrong_is_refused_in_the_same_lines(composer, overrides):
    composed = check_declared(composer.compose(overrides))
    assert composed.refused, "it is wrong"
    if composed.content:
        expected = real(composed.record)
        assert declared_problems(composed.record) == expected
        assert composed.problems[len(composed.problems) - len(expected) :] == expected
    assert prepare_job(composed, overrides) == (None, composed.problems)


@pytest.mark.slow
def test_random_mistakes_are_refused_in_the_same_lines(composer):
    rng, wrong = random.Random(0), 0
    pool = [(group, content_of(composer, choose(group, name))[group]) for group, name in rng.sample(CHOICES, 8)]
    for _ in range(12):
        whole = {**content_of(composer), **dict(rng.sample(pool, 2))}
        for _ in range(10):
            content = copy.deepcopy(whole)
            for _ in range(rng.randint(1, 3)):
                place = rng.choice(places(content))
                place[rng.choice([*place, "wide"])] = copy.deepcopy(rng.choice(VALUES))
            judged, expected = declared_problems(content), real(content)
            wrong += bool(expected)
            assert judged == expected or (judged is None and "_target_" in json.dumps(expected)), content
    assert wrong > 60


# A library's, or not there, unless somebody has put it elsewhere.
LEFT = [f"ssl_runner.model.{each}" for each in ("vit.nn", "vit.torch", "timm.Tensor", "nothing.X", "convnet.ConvNet.x")]
NOT_TRUSTED = ["torch.nn.Linear", "torchvision.models.ResNet", "timm.models.VisionTransformer", "numpy.zeros", 5]
NOT_TRUSTED += ["null", "ssl_runner..convnet", "ssl_runner.layers.heads.mlp", "my_package.Mine"]


@pytest.mark.parametrize("target", [*LEFT, *NOT_TRUSTED])
def test_a_target_is_judged_as_text_or_left_to_the_real_check(composer, target):
    content = {**content_of(composer), "model": {"_target_": None if target == "null" else target}, "seed": -1}
    wrong = real(content)
    assert len(wrong) == 2
    assert declared_problems(content) == (None if target in LEFT else wrong)
    overrides = [f"model._target_={target}", "seed=-1", "optimizer.lrr=3"]
    lines = prepare_job(check_declared(composer.compose(overrides)), overrides)[1]
    assert len(lines) == 3, "and all of it is said at once"


@pytest.fixture(scope="module")
def judged(composer, tmp_path_factory):
    """Judges a new module in a copy of our folders, which gets `optimizer.lr=3`: by its signatures, and for real."""
    root, content, numbers = tmp_path_factory.mktemp("copy") / "ssl_runner", content_of(composer), itertools.count()
    shutil.copytree(declared.ROOT, root)

    def judge(lines, annotation=""):
        lines = lines if "class Mine" in lines else lines + CLASS.format(annotation)
        name = f"mine{next(numbers)}"
        (root / "optimizer" / f"{name}.py").write_text(f"import torch\nfrom typing import Literal\n{lines}")
        importlib.invalidate_caches()
        job = {**content, "optimizer": {"_target_": f"ssl_runner.optimizer.{name}.Mine", "lr": 3}}
        judgement = declared_problems(job)
        assert judgement == declared_problems(job), "one job of a sweep as the next"
        return judgement, real(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(declared, "ROOT", root)
        patch.setattr(declared, "MODULES", {})
        patch.setattr(optimizer, "__path__", [*optimizer.__path__, str(root / "optimizer")])
        patch.setattr(sys, "dont_write_bytecode", True)
        yield judge


CLASS = """
class Mine:
    clip = None
    def __init__(self, *, lr: {}): ...
    def build(self): ...
    def settings(self): ...
"""
PARSED = """
class Text:
    @classmethod
    def parse(cls, text):
        {}
        raise ValueError("no such text")
"""
FACTS = """
torch.ones(1) | torch.ones(1) > 0 | torch.ones(1) < 2 | torch.__version__ >= '1' | torch.device('cpu').index == None
int(torch.ones(3).sum()) | float(torch.ones(1)) | range(torch.ones(3).numel()) | len(torch.ones(3))
[*torch.ones(2).tolist()] | [each for each in torch.ones(2)] | 1.0 in torch.ones(2) | 'float32' in str(torch.float32)
'float32' in f'{torch.float32}' | 'float32' in vars(torch) | 'float32' in dir(torch)
isinstance(torch.float32, torch.dtype) | issubclass(torch.nn.Linear, torch.nn.Module) | not callable(torch.float32)
not hasattr(torch, 'nonsense') | getattr(torch, 'nonsense', True)
"""
TRIED = "N = str\ntry:\n    {}\nexcept {}:\n    N = int"  # in truth an int
UNSAID, WRONG_LR = (None, []), ["optimizer.lr: given 3, and 1 or 2 is wanted"]
WRONG_LIBRARY = (None, ["optimizer.lr: given 3, and a dtype with a _target_ is wanted"])
CASES = {
    **{f"on import: {fact}": (f"N = int if {fact} else str", "N", UNSAID) for fact in in_parts(FACTS)},
    **{f"in parse: {fact}": (PARSED.format(f"if {fact}: return 3"), "Text", UNSAID) for fact in in_parts(FACTS)},
    "a module that is not there": (TRIED.format("import nonsense", "ImportError"), "N", UNSAID),
    "a module below it": (TRIED.format("import nonsense.more as more", "ModuleNotFoundError"), "N", UNSAID),
    "an attribute that is not there": (TRIED.format("torch.nonsense", "AttributeError"), "N", UNSAID),
    "nothing goes wrong": ("N = int\ntry:\n    len(torch.ones(3))\nexcept Exception:\n    N = str", "N", UNSAID),
    "try in parse": (PARSED.format("try: torch.nonsense\n        except AttributeError: return 3"), "Text", UNSAID),
    "with in parse": (PARSED.format("with torch.no_grad(): return 3"), "Text", UNSAID),
    "a decorator of a library": ("@torch.jit.ignore" + CLASS.format("int"), "", UNSAID),
    "a class of a library": (CLASS.format("int").replace("Mine", "Mine(torch.optim.SGD)"), "", UNSAID),
    "a type of a library": ("", "torch.dtype | None", WRONG_LIBRARY),
    # so that the cases above are left to the real check for what they ask:
    "a plain value": ("", "int", ([], [])),
    "words": ("", "Literal[1, 2]", (WRONG_LR, WRONG_LR)),
    "words in quotes": ("", "'Literal[1, 2]'", (WRONG_LR, WRONG_LR)),
    "a union beside it": ("from torch import nn\nBOTH = nn.Module | None", "Literal[1, 2]", (WRONG_LR, WRONG_LR)),
    "a sum beside it": ("N = 2 * torch.pi / 3 + 1", "Literal[1, 2]", (WRONG_LR, WRONG_LR)),
    "an annotation beside it": ("N: str = 'x' * 3", "Literal[1, 2]", (WRONG_LR, WRONG_LR)),
}


@pytest.mark.parametrize(("lines", "annotation", "said"), CASES.values(), ids=CASES)
def test_what_a_library_has_a_say_in_is_left_to_the_real_check(judged, lines, annotation, said):
    """What stands for a library makes nothing valid or invalid, however often it is asked."""
    assert judged(lines, annotation) == said


@pytest.mark.parametrize("base", ["Recipe", "recipe.Recipe", "third.Recipe"])
def test_what_a_base_takes_is_known(judged, base):
    recipe = "from ssl_runner.optimizer.recipe import Recipe\nimport ssl_runner.optimizer.recipe as third\n"
    recipe += "from ssl_runner.optimizer import recipe\nfrom dataclasses import dataclass\n"
    lines = f"class Mine({base}):\n    def __init__(self, *, lr: Literal[1, 2]): ...\n    def build(self): ..."
    assert judged(recipe + lines) == (WRONG_LR, WRONG_LR)
    recipe += "@dataclass(frozen=True, kw_only=True)\n"
    lines = f"class Mine({base}):\n    lr: Literal[1, 2]\n    def build(self): ..."
    wrong = [*WRONG_LR, "optimizer.weight_decay: is missing; type optimizer.weight_decay=..."]
    assert judged(recipe + lines) == (wrong, wrong)


@pytest.mark.parametrize("lines", ["raise KeyboardInterrupt", "1 / 0", "from ssl_runner.contract import nothing", "("])
@pytest.mark.usefixtures("judged")
def test_a_module_that_does_not_run_is_left_to_the_real_check(lines, monkeypatch):
    monkeypatch.setattr(declared, "MODULES", {})
    job = {"optimizer": {"_target_": "ssl_runner.optimizer.broken.Mine", "lr": 3}}
    (declared.ROOT / "optimizer" / "broken.py").write_text(f"{lines}\n" + CLASS.format("int"))
    before = dict(sys.modules)
    assert not any("optimizer" in line for line in declared_problems(job) or [])
    assert sys.modules == before


def test_what_stands_in_no_file_is_left_to_the_real_check(composer, monkeypatch):
    name = "ssl_runner.optimizer.injected"
    mine = type("Mine", (adamw.AdamW,), {"__module__": name})
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(Mine=mine))
    content = content_of(composer, "optimizer=adamw")
    content["optimizer"]["_target_"] = f"{name}.Mine"
    assert (declared_problems(content), real(content)) == (None, [])
    overrides = ["optimizer=adamw", f"optimizer._target_={name}.Mine", "batch_size=1000000000", "optimiser=3"]
    lines = prepare_job(check_declared(composer.compose(overrides)), overrides)[1]
    assert [line.partition(":")[0] for line in lines] == ["optimiser"], "a refusal builds nothing"


def test_threads_judge_alike_and_nobody_sees_what_they_read(composer, monkeypatch, request):
    content, interval, before = content_of(composer), sys.getswitchinterval(), dict(sys.modules)
    monkeypatch.setattr(declared, "MODULES", {})
    request.addfinalizer(lambda: sys.setswitchinterval(interval))
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(declared_problems, [content] * 4)) == [[]] * 4
    assert sys.modules == before
    mine = declared.declared_module("ssl_runner.contract")
    assert contract is not mine
    assert contract.Encoder is not mine.Encoder


HELPS = ["--help", "--version", "compare --help", "--cfg job pretext=simclr"]
REFUSALS = ["optimizer.lrr=3", "-m optimizer.lrr=3,4", "-m optimizer.lr=0.1,-4 seed=range(3)", "evaluate"]
REFUSALS += ["pretext=simclr pretext.temperature=-1 seed=x evaluator=[knn,probe,cluster] evaluator.knn.k=0"]
REFUSALS += ["rerun ../run optimizer.lrr=3", "rerun ../run/config.yaml optimizer=sgdd seed=x", "resume ../run keep=0"]


@pytest.mark.parametrize("words", [*HELPS, *REFUSALS])
def test_no_library_is_imported_to_help_or_to_refuse(composer, words, tmp_path):
    """Names of modules, and no seconds: those are for `scripts/benchmark.py`."""
    put(tmp_path / "run" / "config.yaml", composer.compose([]).record)
    (tmp_path / "here").mkdir()
    command = [sys.executable, "-X", "importtime", "-m", "ssl_runner", *words.split()]
    process = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True)
    assert process.returncode == (0 if words in HELPS else 2), process.stderr
    modules = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines() if "import time:" in line}
    assert "ssl_runner.errors" in modules
    assert not HEAVY & modules
    assert not list((tmp_path / "here").iterdir())


def test_a_sweep_is_refused_for_all_its_jobs_before_one_is_built(composer, monkeypatch):
    monkeypatch.setattr("ssl_runner.run.preflight.preflight", lambda _: pytest.fail("a job was built"))
    words = split_words(["optimizer.lr=0.1,-2,-3", "+lrr=1"])
    unique = list(dict.fromkeys(read(words, composer, prepare_job, Console()).problems))
    assert [line.partition(":")[0] for line in unique] == ["lrr", "optimizer.lr", "optimizer.lr"]
    assert all(value in " ".join(unique) for value in ("-2", "-3"))
