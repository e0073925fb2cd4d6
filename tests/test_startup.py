"""A mistyped command line is refused without torch, in the very lines of the real check.

What the signatures alone say is compared with what the check of the built modules says: for every choice as it is, with
every value replaced, with keys left out and keys too many, for what a user may type wrong, and for random pairs.
"""

import copy
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import names

from ssl_runner import job as jobs
from ssl_runner import signatures
from ssl_runner.config import Composer
from ssl_runner.ready import looked_at, prepared
from ssl_runner.schema import check

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

WRONG = [
    ["optimizer.lrr=3"],
    ["optimizer.lr=-3"],
    ["optimizer.lr=fast"],
    ["optimizer.lr=null"],
    ["optimizer.lr=inf"],
    ["+optimizer.nesterovv=true"],
    ["optimizer=adamw", "optimizer.betas=[0.9]"],
    ["optimizer=adamw", "optimizer.betas=[0.9,2]"],
    ["~optimizer"],
    ["~optimizer._target_"],
    ["optimizer=3"],
    ["pretext=simclr", "pretext.temperature=0"],
    ["pretext=simclr", "pretext.augment.grey=1.5"],
    ["pretext=simclr", "pretext.augment.scale=[0.5]"],
    ["pretext=simclr", "+pretext.augment.grayscale=0.1"],
    ["pretext=simclr", "~pretext.augment"],
    ["pretext=simclr", "pretext.augment=5"],
    ["+pretext.encoder=3"],
    ["+pretext.rows=3", "+model.mean=[0]"],
    ["length=200"],
    ["length=3epochs"],
    ["log_every=5", "save_every=x", "show_every=null"],
    ["batch_size=0", "seed=-1", "keep=0", "accumulate=1.5"],
    ["on_collapse=halt"],
    ["on_collapse=stopp", "length=1", "optimizer.lr=-1", "evaluator.knn.k=0"],
    ["+lr=3"],
    ["+epochs=3", "+wd=x"],
    ["evaluator.knn.k=few"],
    ["evaluator.knn.every=3"],
    ["+evaluator.knn.neighbours=3"],
    ["+evaluator.knn.bank=3"],
    ["evaluator=5"],
    ["+evaluator.mine=5"],
    ["+evaluator.mine._target_=ssl_runner.evaluator.knn.Knn"],
    ["+evaluator.mine._target_=ssl_runner.evaluator.knn.KNN", "+evaluator.mine.every=x"],
    ["model._target_=ssl_runner.model.convnet.ConvNett"],
    ["model._target_=ssl_runner.model.nothing.ConvNet"],
    ["model._target_=ssl_runner.nothing.convnet.ConvNet"],
    ["model._target_=ssl_runner.model.convnet.ConvNet.new"],
    ["model._target_=ssl_runner.model.ConvNet"],
    ["model._target_=ssl_runner.pretext.simclr.SimCLR"],
    ["model._target_=ssl_runner.parts.heads.mlp"],
    ["model._target_=ssl_runner.model.convnet.math"],
    ["dataset._target_=ssl_runner.model.convnet.ConvNet"],
    ["optimizer._target_=ssl_runner.model.convnet.ConvNet"],
    ["device.precision=float64", "+device.cores=2"],
    ["dataset=shapes", "dataset.images=none"],
    ["model=vit_tiny", "model.heads=0", "model.patch=-1", "optimizer.lr=0"],
    ["regulariser=sum", "regulariser.terms=3"],
    ["regulariser=sum", "+regulariser.terms.mine._target_=ssl_runner.regulariser.l1.L11"],
    ["+choices.mine=3"],
]


def real(content: dict[str, Any]) -> list[str]:
    return check(content, jobs.Job, jobs.RUNTIME)[1]


def chosen(group: str, name: str) -> str:
    return f"{group}=[{name}]" if group == "evaluator" and name != "none" else f"{group}={name}"


def composed(composer: Composer, *overrides: str) -> dict[str, Any]:
    root = ["dataset.root=somewhere"] if "dataset=image_folder" in overrides else []
    found = composer.compose([*overrides, *root])
    assert not found.problems
    return found.content


def places(content: Any) -> list[dict[str, Any]]:
    """Every mapping in a config, the config itself included."""
    if not isinstance(content, dict):
        return []
    return [content, *(place for value in content.values() for place in places(value))]


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_every_choice_is_judged_as_by_the_real_check(composer: Composer, group: str, name: str) -> None:
    """Nothing is wrong with it; and with each of its values replaced, left out or joined by another, the same is."""
    content = composed(composer, chosen(group, name))
    assert signatures.refused(content) == []
    whole = {group: content[group]}
    for value in VALUES:
        broken = copy.deepcopy(whole)
        for place in places(broken[group]):
            for key in [key for key, each in place.items() if key != "_target_" and not isinstance(each, dict)]:
                place[key] = copy.deepcopy(value)
        assert signatures.refused(broken) == real(broken), value
    for place in places(lacking := copy.deepcopy(whole)):
        for key in [key for key, each in place.items() if key != "_target_" and not isinstance(each, dict)]:
            del place[key]
    assert signatures.refused(lacking) == real(lacking)
    for place in places(more := copy.deepcopy(whole)):
        place["wide"] = 1
    assert signatures.refused(more) == real(more) != []


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_what_is_typed_wrong_is_refused_in_the_same_lines(composer: Composer, overrides: list[str]) -> None:
    found = looked_at(composer, overrides)
    assert found.problems, "it is wrong"
    if found.content:
        content = {**found.content, "choices": {**found.content.get("choices", {}), **found.choices}}
        expected = real(content)
        assert signatures.refused(content) == expected
        assert found.problems[len(found.problems) - len(expected) :] == expected
    assert prepared(found, overrides) == (None, found.problems)


def test_random_mistakes_are_refused_in_the_same_lines(composer: Composer) -> None:
    rng = random.Random(0)
    wrong = 0
    for _ in range(12):
        pair = dict(rng.sample(CHOICES, 2))
        whole = composed(composer, *(chosen(*each) for each in pair.items()))
        for _ in range(10):
            content = copy.deepcopy(whole)
            for _ in range(rng.randint(1, 3)):
                place = rng.choice(places(content))
                place[rng.choice([*place, "wide"])] = copy.deepcopy(rng.choice(VALUES))
            expected = real(content)
            wrong += bool(expected)
            judged = signatures.refused(content)
            assert judged == expected or (judged is None and "_target_" in json.dumps(expected)), content
    assert wrong > 60


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Linear",
        "torchvision.models.ResNet",
        "timm.models.VisionTransformer",
        "numpy.zeros",
        "ssl_runner.pretext.simclr.F",  # whatever that is, it is a library's
        "ssl_runner.pretext.simclr.torch",
        "ssl_runner.model.convnet",
        "ssl_runner..convnet",
        "ssl_runner.pretext.simclr.Tensor",
        5,
        None,
    ],
)
def test_what_a_library_must_say_is_left_to_the_real_check(composer: Composer, target: Any) -> None:
    content = composed(composer)
    content["model"] = {"_target_": target}
    content["seed"] = -1
    assert signatures.refused(content) is None
    assert len(real(content)) == 2
    overrides = [f"model._target_={'null' if target is None else target}", "seed=-1", "optimizer.lrr=3"]
    assert len(looked_at(composer, overrides).problems) == 3, "and all of it is said at once"


def test_a_class_that_inherits_from_a_library_is_left_to_the_real_check(
    composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands for a library makes nothing valid or invalid."""
    package = tmp_path / "ssl_runner"
    shutil.copytree(signatures.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "optimizer" / "mine.py").write_text(
        "import torch\nfrom somewhere import decorator, WIDTHS\nfrom typing import Literal\n"
        "from ssl_runner.contract import Optimizer\n"
        "class Inherits(torch.optim.SGD): ...\n"
        "@decorator(1)\nclass Decorated:\n    def __init__(self, *, lr: int): ...\n"
        "class Annotated:\n    clip = None\n"
        "    def __init__(self, *, lr: WIDTHS | None = None): ...\n"
        "    def build(self): ...\n    def rate(self): ...\n"
        "class Plain(Annotated):\n    def __init__(self, *, lr: Literal[1, 2]): ...\n"
        "    @decorator\n    def rate(self): ...\n"
    )
    monkeypatch.setattr(signatures, "PACKAGE", package)
    monkeypatch.setattr(signatures, "_sources", signatures.Sources)

    def judged(name: str) -> list[str] | None:
        return signatures.refused({**composed(composer), "optimizer": {"_target_": name, "lr": 3}})

    assert [judged(f"ssl_runner.optimizer.mine.{name}") for name in ("Inherits", "Decorated", "Annotated")] == [
        None
    ] * 3
    assert judged("ssl_runner.optimizer.mine.Plain") == ["optimizer.lr: given 3, and 1 or 2 is wanted"]
    (package / "optimizer" / "mine.py").write_text("1 / 0\n")
    assert judged("ssl_runner.optimizer.mine.Plain") is None


def test_nobody_sees_what_was_run_for_its_signatures() -> None:
    before = {name: id(module) for name, module in sys.modules.items()}
    sources = signatures.Sources()
    for group, name in (("pretext", "simclr"), ("evaluator", "knn"), ("dataset", "shapes"), ("device", "placement")):
        sources.load(f"ssl_runner.{group}.{name}")
    mine = sources.load("ssl_runner.contract")
    after = {name: id(module) for name, module in sys.modules.items()}
    assert {name: after[name] for name in before} == before
    assert not {name for name in after.keys() - before.keys() if name.partition(".")[0] in {"ssl_runner", *HEAVY}}
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
    ],
)
def test_no_library_is_imported_to_help_or_to_refuse(words: str, status: int, tmp_path: Path) -> None:
    """Counts of modules, and no seconds: those are for `scripts/benchmark.py`."""
    command = [sys.executable, "-c", IMPORTS, *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    ended, modules = json.loads(done.stdout.splitlines()[-1])
    assert ended == status, done.stderr
    assert not HEAVY & set(modules)
    assert len(modules) < (400 if status == 0 else 700)
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_refused_for_all_its_jobs_before_one_is_built(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from ssl_runner.sweep import settings, typed

    def built(*_: object) -> None:
        raise AssertionError("a job was built")

    monkeypatch.setattr(jobs, "impossible", built)
    asked = typed.read(settings.parted(["optimizer.lr=0.1,-2,-3", "+lrr=1"]), composer, Console())
    unique = list(dict.fromkeys(asked.problems))
    assert [line.partition(":")[0] for line in unique] == ["lrr", "optimizer.lr", "optimizer.lr"]
    assert "-2" in " ".join(unique)
    assert "-3" in " ".join(unique)
