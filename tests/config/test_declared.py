"""A mistyped command line is refused without torch, in the very lines of the real check.

What the signatures alone say is compared with what the check of the built modules says: for every choice as it is, with
every value replaced, with keys left out and keys too many, for what a user may type wrong, and for random pairs.
"""

import copy
import importlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from conftest import names
from rich.console import Console

from ssl_runner import optimizer
from ssl_runner.config import declared, files
from ssl_runner.config.check import check
from ssl_runner.config.declared import check_declared, declared_problems
from ssl_runner.run.job import RUNTIME, Job
from ssl_runner.run.preflight import prepare_job
from ssl_runner.sweep.read import read
from ssl_runner.sweep.settings import split_words

GROUPS = ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator")
CHOICES = [(group, name) for group in GROUPS for name in names(group)]
VALUES = (-1, 0, 0.5, 10**9, "x", "5ep", True, None, [], [1, -2], {"a": 1}, {"_target_": "ssl_runner.model.vit.ViT"})
HEAVY = {"torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "matplotlib", "tensorboard", "jaxtyping", "PIL"}
IMPORTS = """
import json, sys
from ssl_runner.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(json.dumps([status, sorted(sys.modules)]))
"""

WRONG = """
optimizer.lrr=3 | optimizer.lr=-3 | optimizer.lr=fast | optimizer.lr=null | optimizer.lr=inf
+optimizer.nesterovv=true | optimizer=adamw optimizer.betas=[0.9] | optimizer=adamw optimizer.betas=[0.9,2]
~optimizer | ~optimizer._target_ | optimizer=3 | pretext=simclr pretext.temperature=0
pretext=simclr pretext.augment.grey=1.5 | pretext=simclr pretext.augment.scale=[0.5]
pretext=simclr +pretext.augment.grayscale=0.1 | pretext=simclr ~pretext.augment | pretext=simclr pretext.augment=5
+pretext.encoder=3 | +pretext.rows=3 +model.mean=[0] | length=200 | length=3epochs
log_every=5 save_every=x show_every=null | batch_size=0 seed=-1 keep=0 accumulate=1.5 | on_collapse=halt
on_collapse=stopp length=1 optimizer.lr=-1 evaluator.knn.k=0 | +lr=3 | +epochs=3 +wd=x | evaluator.knn.k=few
evaluator.knn.every=3 | +evaluator.knn.neighbours=3 | +evaluator.knn.bank=3 | evaluator=5 | +evaluator.mine=5
+evaluator.mine._target_=ssl_runner.evaluator.knn.Knn
+evaluator.mine._target_=ssl_runner.evaluator.knn.KNN +evaluator.mine.every=x
model._target_=ssl_runner.model.convnet.ConvNett | model._target_=ssl_runner.nothing.convnet.ConvNet
model._target_=ssl_runner.model.ConvNet | model._target_=ssl_runner.pretext.simclr.SimCLR
model._target_=ssl_runner.layers.heads.mlp | model._target_=ssl_runner.model.convnet.math
dataset._target_=ssl_runner.model.convnet.ConvNet | optimizer._target_=ssl_runner.model.convnet.ConvNet
device.precision=float64 +device.cores=2 | dataset=shapes dataset.images=none
model=vit_tiny model.heads=0 model.patch=-1 optimizer.lr=0 | regulariser=sum regulariser.terms=3
regulariser=sum +regulariser.terms.mine._target_=ssl_runner.regulariser.l1.L11 | +choices.mine=3
"""


def in_parts(text):
    return [each for line in text.strip().split("\n") for each in line.split(" | ")]


def real(content):
    return check(content, Job, RUNTIME)[1]


def chosen(group, name):
    return f"{group}=[{name}]" if group == "evaluator" and name != "none" else f"{group}={name}"


def composed(composer, *overrides):
    root = ["dataset.root=somewhere"] if "dataset=image_folder" in overrides else []
    found = composer.compose([*overrides, *root])
    assert not found.problems
    return found.content


def places(content):
    """Every mapping in a config, the config itself included."""
    if not isinstance(content, dict):
        return []
    return [content, *(place for value in content.values() for place in places(value))]


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_every_choice_is_judged_as_by_the_real_check(composer, group, name):
    """Nothing is wrong with it; and with each of its values replaced, left out or joined by another, the same is."""
    content = composed(composer, chosen(group, name))
    assert declared_problems(content) == []
    whole = {group: content[group]}
    for value in VALUES:
        broken = copy.deepcopy(whole)
        for place in places(broken[group]):
            for key in [key for key, each in place.items() if key != "_target_" and not isinstance(each, dict)]:
                place[key] = copy.deepcopy(value)
        assert declared_problems(broken) == real(broken), value
    for place in places(lacking := copy.deepcopy(whole)):
        for key in [key for key, each in place.items() if key != "_target_" and not isinstance(each, dict)]:
            del place[key]
    assert declared_problems(lacking) == real(lacking)
    for place in places(more := copy.deepcopy(whole)):
        place["wide"] = 1
    assert declared_problems(more) == real(more) != []


@pytest.mark.parametrize("overrides", [*map(str.split, in_parts(WRONG))], ids=" ".join)
def test_what_is_typed_wrong_is_refused_in_the_same_lines(composer, overrides):
    found = check_declared(composer.compose(overrides))
    assert found.refused, "it is wrong"
    if found.content:
        expected = real(found.record)
        assert declared_problems(found.record) == expected
        assert found.problems[len(found.problems) - len(expected) :] == expected
    assert prepare_job(found, overrides) == (None, found.problems)


def test_random_mistakes_are_refused_in_the_same_lines(composer):
    rng = random.Random(0)
    wrong = 0
    pool = [(group, composed(composer, chosen(group, name))[group]) for group, name in rng.sample(CHOICES, 8)]
    for _ in range(12):
        whole = {**composed(composer), **dict(rng.sample(pool, 2))}
        for _ in range(10):
            content = copy.deepcopy(whole)
            for _ in range(rng.randint(1, 3)):
                place = rng.choice(places(content))
                place[rng.choice([*place, "wide"])] = copy.deepcopy(rng.choice(VALUES))
            expected = real(content)
            wrong += bool(expected)
            judged = declared_problems(content)
            assert judged == expected or (judged is None and "_target_" in json.dumps(expected)), content
    assert wrong > 60


@pytest.mark.parametrize(
    "target",
    [
        "ssl_runner.model.vit.nn",  # whatever that is, it is a library's
        "ssl_runner.model.vit.torch",
        "ssl_runner.model.timm.Tensor",
        "ssl_runner.model.nothing.ConvNet",  # not there, unless somebody has put it elsewhere
        "ssl_runner.model.convnet.ConvNet.new",
    ],
)
def test_what_a_library_must_say_is_left_to_the_real_check(composer, target):
    content = composed(composer)
    content["model"] = {"_target_": target}
    content["seed"] = -1
    assert declared_problems(content) is None
    assert len(real(content)) == 2
    overrides = [f"model._target_={target}", "seed=-1", "optimizer.lrr=3"]
    assert len(prepare_job(check_declared(composer.compose(overrides)), overrides)[1]) == 3, (
        "and all of it is said at once"
    )


@pytest.mark.parametrize(
    "target",
    [
        *("torch.nn.Linear", "torchvision.models.ResNet", "timm.models.VisionTransformer", "numpy.zeros", 5, None),
        *("ssl_runner..convnet", "ssl_runner.layers.heads.mlp", "my_package.Mine"),
    ],
)
def test_what_is_not_trusted_is_refused_as_text(composer, target):
    content = {**composed(composer), "model": {"_target_": target}, "seed": -1}
    assert declared_problems(content) == real(content)
    assert len(real(content)) == 2


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
Judged = Callable[..., tuple[list[str] | None, list[str]]]


@pytest.fixture
def judged(composer, tmp_path, monkeypatch):
    """Judges a new optimizer module by its signatures, twice and the same, and for real.

    It lies in a copy of our folders, and Python finds it by `__path__`.
    """
    folder = tmp_path / "optimizer"
    folder.mkdir()
    for each in [*declared.ROOT.iterdir(), *(declared.ROOT / "optimizer").iterdir()]:
        if each.name not in ("optimizer", "__pycache__"):
            (folder if each.parent.name == "optimizer" else tmp_path).joinpath(each.name).symlink_to(each)
    monkeypatch.setattr(declared, "ROOT", tmp_path)
    monkeypatch.setattr(declared, "MODULES", {})
    monkeypatch.setattr(optimizer, "__path__", [*optimizer.__path__, str(folder)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    content = composed(composer)

    def judge(lines, lr, annotation="int", name="mine"):
        lines = lines if "class Mine" in lines else lines + CLASS.format(annotation)
        (folder / f"{name}.py").write_text(f"import torch\nfrom typing import Literal\n{lines}")
        importlib.invalidate_caches()
        job = {**content, "optimizer": {"_target_": f"ssl_runner.optimizer.{name}.Mine", "lr": lr}}
        first, second = declared_problems(job), declared_problems(job)
        assert first == second, "one job of a sweep as the next"
        monkeypatch.delitem(sys.modules, f"ssl_runner.optimizer.{name}", raising=False)
        found = real(job)
        sys.modules.pop(f"ssl_runner.optimizer.{name}", None)
        return first, found

    return judge


FACTS = """
torch.ones(1) | torch.ones(1) > 0 | torch.ones(1) < 2 | torch.__version__ >= '1' | torch.device('cpu').index == None
int(torch.ones(3).sum()) | float(torch.ones(1)) | range(torch.ones(3).numel()) | len(torch.ones(3))
[*torch.ones(2).tolist()] | [each for each in torch.ones(2)] | 1.0 in torch.ones(2) | 'float32' in str(torch.float32)
'float32' in f'{torch.float32}' | 'float32' in vars(torch) | 'float32' in dir(torch)
isinstance(torch.float32, torch.dtype) | issubclass(torch.nn.Linear, torch.nn.Module) | not callable(torch.float32)
not hasattr(torch, 'nonsense') | getattr(torch, 'nonsense', True)
"""


@pytest.mark.parametrize("fact", in_parts(FACTS))
def test_a_fact_of_a_library_is_left_to_the_real_check(judged, fact):
    """What stands for a library makes nothing valid or invalid, however often it is asked."""
    assert judged(f"N = int if {fact} else str", 3, "N") == (None, []), "on import"
    assert judged(PARSED.format(f"if {fact}: return 3"), "x", "Text", name="parsed") == (None, []), "where it is parsed"


@pytest.mark.parametrize(
    ("lines", "annotation"),
    [
        ("N = str\ntry:\n    import nonsense\nexcept ImportError:\n    N = int", "N"),
        ("N = str\ntry:\n    import nonsense.more as more\nexcept ModuleNotFoundError:\n    N = int", "N"),
        ("N = str\ntry:\n    torch.nonsense\nexcept AttributeError:\n    N = int", "N"),
        ("N = int\ntry:\n    len(torch.ones(3))\nexcept Exception:\n    N = str", "N"),
        (PARSED.format("try: torch.nonsense\n        except AttributeError: return 3"), "Text"),
        (PARSED.format("with torch.no_grad(): return 3"), "Text"),
        ("@torch.jit.ignore" + CLASS.format("int"), ""),
        (CLASS.format("int").replace("Mine", "Mine(torch.optim.SGD)"), ""),
    ],
)
def test_where_a_library_may_do_otherwise_the_real_check_says(judged, lines, annotation):
    assert judged(lines, 3, annotation) == (None, [])


def test_a_type_of_a_library_is_left_to_the_real_check(judged):
    wrong = ["optimizer.lr: given 3, and a dtype with a _target_ is wanted"]
    assert judged("", 3, "torch.dtype | None") == (None, wrong)


def test_a_module_that_asks_for_nothing_is_judged(judged):
    """So that the cases above are left to the real check for what they ask."""
    wrong = ["optimizer.lr: given 3, and 1 or 2 is wanted"]
    assert judged("", 3) == ([], [])
    assert judged("", 3, "Literal[1, 2]", name="literal") == (wrong, wrong)
    assert judged("from torch import nn\nBOTH = nn.Module | None", 3, "Literal[1, 2]", "both") == (wrong, wrong)
    assert judged("N = 2 * torch.pi / 3 + 1", 3, "Literal[1, 2]", name="sum") == (wrong, wrong)
    assert judged("N: str = 'x' * 3", 3, "Literal[1, 2]", name="annotated") == (wrong, wrong)
    assert judged("", 3, "'Literal[1, 2]'", name="in_quotes") == (wrong, wrong)
    recipe = "from ssl_runner.optimizer.recipe import Recipe\nimport ssl_runner.optimizer.recipe as third\n"
    recipe += "from ssl_runner.optimizer import recipe\nfrom dataclasses import dataclass\n"
    frozen = "@dataclass(frozen=True, kw_only=True)"
    for number, base in enumerate(("Recipe", "recipe.Recipe", "third.Recipe")):
        lines = f"class Mine({base}):\n    def __init__(self, *, lr: Literal[1, 2]): ...\n    def build(self): ..."
        assert judged(recipe + lines, 3, name=f"derived{number}") == (wrong, wrong)
        lines = f"{frozen}\nclass Mine({base}):\n    lr: Literal[1, 2]\n    def build(self): ..."
        said, found = judged(recipe + lines, 3, name=f"field{number}")
        assert said == found == [*wrong, "optimizer.weight_decay: is missing; type optimizer.weight_decay=..."]


@pytest.mark.parametrize("lines", ["raise KeyboardInterrupt", "1 / 0", "from ssl_runner.contract import nothing", "("])
def test_a_module_that_does_not_run_is_left_to_the_real_check(judged, lines):
    job = {"optimizer": {"_target_": "ssl_runner.optimizer.broken.Mine", "lr": 3}}
    (declared.ROOT / "optimizer" / "broken.py").write_text(f"{lines}\n" + CLASS.format("int"))
    before = dict(sys.modules)
    assert not any("optimizer" in line for line in declared_problems(job) or [])
    assert sys.modules == before


def test_what_stands_in_no_file_is_left_to_the_real_check(composer, monkeypatch):
    from ssl_runner.optimizer import adamw

    class Mine(adamw.AdamW): ...

    Mine.__module__ = "ssl_runner.optimizer.injected"
    injected = ModuleType(Mine.__module__)
    injected.Mine = Mine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, Mine.__module__, injected)
    content = composed(composer, "optimizer=adamw")
    job = {**content, "optimizer": {**content["optimizer"], "_target_": f"{Mine.__module__}.Mine"}}
    assert declared_problems(job) is None
    assert real(job) == []
    overrides = [
        "optimizer=adamw",
        f"optimizer._target_={Mine.__module__}.Mine",
        "batch_size=1000000000",
        "optimiser=3",
    ]
    found = prepare_job(check_declared(composer.compose(overrides)), overrides)[1]
    assert [line.partition(":")[0] for line in found] == ["optimiser"], "a refusal builds nothing"


def test_threads_judge_alike(composer, monkeypatch):
    content = composed(composer)
    monkeypatch.setattr(declared, "MODULES", {})
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(declared_problems, [content] * 4)) == [[]] * 4
    finally:
        sys.setswitchinterval(interval)


def test_nobody_sees_what_was_read(composer, monkeypatch):
    content = composed(composer)
    monkeypatch.setattr(declared, "MODULES", {})
    before = {name: id(module) for name, module in sys.modules.items()}
    assert declared_problems(content) == []
    assert {name: id(module) for name, module in sys.modules.items()} == before
    mine = declared.declared_module("ssl_runner.contract")
    assert sys.modules["ssl_runner.contract"] is not mine
    assert mine.Encoder is not sys.modules["ssl_runner.contract"].Encoder


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("--help", 0),
        ("--version", 0),
        ("optimizer.lrr=3", 2),
        ("pretext=simclr pretext.temperature=-1 seed=x evaluator=[knn,probe,cluster] evaluator.knn.k=0", 2),
        ("-m optimizer.lrr=3,4", 2),
        ("-m optimizer.lr=0.1,-4 seed=range(3)", 2),
        ("evaluate", 2),
        ("compare --help", 0),
        ("--cfg job pretext=simclr", 0),
        ("rerun {run} optimizer.lrr=3", 2),
        ("rerun {run}/config.yaml optimizer=sgdd seed=x", 2),
        ("resume {run} keep=0", 2),
    ],
)
def test_no_library_is_imported_to_help_or_to_refuse(composer, words, status, tmp_path):
    """Names of modules, and no seconds: those are for `scripts/benchmark.py`."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(files.dump(composer.compose([]).record))
    command = [sys.executable, "-c", IMPORTS, *words.format(run=tmp_path / "run").split()]
    (tmp_path / "here").mkdir()
    done = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True, check=True)
    ended, modules = json.loads(done.stdout.splitlines()[-1])
    assert ended == status, done.stderr
    assert not HEAVY & set(modules)
    assert not list((tmp_path / "here").iterdir())


def test_a_sweep_is_refused_for_all_its_jobs_before_one_is_built(composer, monkeypatch):
    def built(*_):
        raise AssertionError("a job was built")

    monkeypatch.setattr("ssl_runner.run.preflight.preflight", built)
    words = split_words(["optimizer.lr=0.1,-2,-3", "+lrr=1"])
    unique = list(dict.fromkeys(read(words, composer, prepare_job, Console()).problems))
    assert [line.partition(":")[0] for line in unique] == ["lrr", "optimizer.lr", "optimizer.lr"]
    assert "-2" in " ".join(unique)
    assert "-3" in " ".join(unique)
