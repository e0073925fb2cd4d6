"""Trust: whose classes a config may name. No other is imported or called, whatever verb reads the config."""

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny
from runs import change, enter, merged, put, refusal

from ssl_runner.config.check import check
from ssl_runner.config.trust import OWN, VARIABLE, distrust, foreign_code
from ssl_runner.regulariser.sum import Sum

ROOTS = ("torch", "torchvision", "timm", "numpy", "sklearn", *sorted(sys.stdlib_module_names - {"antigravity", "this"}))
HANDLER = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler.SubprocessHandler"
HANDLED = {"local_rank_id": 0, **dict.fromkeys(("stdout", "stderr", "numa_options"))}
NODES = {
    "torch": {"_target_": HANDLER, "entrypoint": "touch", "args": ["touched"], "env": {}, **HANDLED},
    "standard library": {"_target_": "subprocess.Popen", "args": ["touch", "touched"]},
    "function": {"_target_": "os.system", "command": "touch touched"},
    "builtin": {"_target_": "builtins.exec", "source": "open('touched', 'w')"},
    "module here": {"_target_": "hostile.Hostile"},
    "through ours": {"_target_": "ssl_runner.data.download.shutil.os.system", "command": "touch touched"},
    "through a choice": {"_target_": "ssl_runner.evaluator.knn.torch.hub.load", "repo_or_dir": "."},
    "nameless": {"_target_": ["os", "system"]},
    "in lines": {"_target_": "os.system\nevaluator"},
}
LAST, RECIPE, PYPROJECT = "run/checkpoints/0000012.pt", "given/experiment/hostile.yaml", "given/pyproject.toml"
CHOSEN, NOT_TRUSTED = "--config-dir given experiment=hostile", "_target_: given"
WAYS = [CHOSEN, f"{CHOSEN} --cfg job", f"{CHOSEN} -m seed=1,2", f"{CHOSEN} -m seed=1,2 --cfg job"]
TRUST = ["hostile", "os", "torch", "subprocess"]
TRUSTING = {"tool": {"ssl_runner": {"trust": TRUST}}, VARIABLE: ",".join(TRUST)}
MODULE = "mine_of_a_test"
MINE = [*tiny("evaluator=none", "length=1st"), "regulariser=l2", f"regulariser._target_={MODULE}.Mine"]
TRUSTED = {  # pyproject.toml, and the variable of the environment
    "pyproject": (f'[tool.ssl_runner]\ntrust = ["{MODULE}"]\n', None),
    "environment": ("", f"other, {MODULE}"),
    "environment of old": ("", f"other, {MODULE}."),
}


def hostile_configs():
    """Configs by their files, the commands that read them, and what is said: a node where a user would hardly look."""
    toml, head = f"[tool.ssl_runner]\ntrust = {TRUST}\n", "# @package _global_\n"
    for name, node in NODES.items():
        places = [{"evaluator": {"x": node}}, {"regulariser": node}]
        places += [{"pretext": {"_target_": "ssl_runner.pretext.rotation.Rotation", "augment": node}}]
        places += [{"regulariser": {"_target_": "ssl_runner.regulariser.sum.Sum", "terms": {"x": node}}}]
        for content in places if name == "torch" else places[:1]:
            yield {RECIPE: head + yaml.safe_dump(content), PYPROJECT: toml}, WAYS, NOT_TRUSTED
            yield {"run/config.yaml": content}, ["resume run", "rerun run", "save run mine"], NOT_TRUSTED
        yield {RECIPE: head + yaml.safe_dump({**places[0], **TRUSTING})}, [CHOSEN], None
        yield {"run/config.yaml": {"dataset": node}}, ["evaluate run knn"], NOT_TRUSTED
        both = {"run/encoder.yaml": node, "run/config.yaml": {"model": node}}
        yield both, ["evaluate run", "export run", "compare run"], NOT_TRUSTED
        yield {LAST: {"config": {"model": node}}}, [f"evaluate {LAST}", f"export {LAST}"], NOT_TRUSTED
    for where in ("pkg://hostile", "pkg://hostile/more"):  # a module to look for configs in
        start = {"given/config.yaml": f"hydra:\n  searchpath: [{where}]\nlength: 1ep\n"}
        yield start, ["--config-dir given --cfg job", "--config-dir given -m seed=1,2"], None
    yield {}, [tiny("+evaluator.x={_target_: torch.nn.ReLU}")], "not trusted"  # its __call__ is type's
    yield {}, [tiny("+evaluator.x={_target_: ssl_runner.optimizer.sgd.SGD, lr: 0.1}")], "is no Evaluator"
    for name in ("hf_hub:a/b", "hf-hub:a/b", "local-dir:/x", "local_dir:x", "./here", "timm/resnet18"):
        yield {}, [f"model=timm model.name={name}"], "only names of architectures"


@pytest.mark.parametrize(("files", "commands", "words"), [*hostile_configs()], ids=lambda each: str(each)[:99])
def test_a_hostile_config_is_refused_in_a_line(files, commands, words, run, harmless, capsys):
    for name, content in files.items():
        if not isinstance(content, dict):
            put(name, content)
        elif name == LAST:
            torch.save(merged(torch.load(name, weights_only=True), content), name)
        else:
            change(Path(), name, **content)
    for line in commands:
        if line == "compare run" or words is None:
            enter(capsys, line, status=2 if words is None else 0)
        else:
            refusal(capsys, line, words)


@pytest.mark.parametrize(("pyproject", "variable"), TRUSTED.values(), ids=TRUSTED)
def test_a_package_of_ones_own_is_trusted_by_its_owner(pyproject, variable, here, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    Path(f"{MODULE}.py").write_text("from ssl_runner.regulariser.l2 import L2\nclass Mine(L2): ...\n")
    refusal(capsys, MINE, f"{MODULE}.Mine, which is not trusted")
    for text, problem in ((f'[tool.ssl_runner]\ntrust = "{MODULE}"\n', "ssl_runner.trust"), ("torn [", "not trusted")):
        Path("pyproject.toml").write_text(text)
        refusal(capsys, MINE, problem)
    assert MODULE not in sys.modules
    Path("pyproject.toml").write_text(pyproject)
    if variable:
        monkeypatch.setenv(VARIABLE, variable)
    message = enter(capsys, [*MINE, "hydra.run.dir=run"])
    assert message.count(f"runs code of {MODULE}, which") == 1
    assert message.index("runs code of") < message.index("run folder")
    assert f"runs code of {MODULE}" in Path("run/run.log").read_text()


def test_trust_is_of_whole_names(monkeypatch):
    monkeypatch.setenv(VARIABLE, "mine.inner,,")
    assert distrust("mine.inner.X") is distrust("mine.inner.more.X") is None
    for name in ("mine.X", "mine.innermost.X", "mine", "X", "", "ssl_runner.pretextual.X", "ssl_runner.errors.X"):
        assert "not trusted" in str(distrust(name))
    (line,) = foreign_code({"a": [{"_target_": "mine.inner.X"}], "_target_": "ssl_runner.pretext.x.X"})
    assert line == f"runs code of mine.inner, which the environment variable {VARIABLE} trusts"


def test_every_class_of_a_library_is_refused_and_no_module_is_imported_for_it():
    """By each dotted name under which a module that is imported here has it, and in each module that is not."""
    for name in ("torchvision.models", "timm.models", "sklearn.linear_model", "ctypes", "multiprocessing"):
        importlib.import_module(name)
    imported = dict(sys.modules)
    classes = [
        f"{name}.{attribute}"
        for name, module in imported.items()
        for attribute, value in (list(vars(module).items()) if name.partition(".")[0] in ROOTS else ())
        if issubclass(type(value), type)  # isinstance would ask some modules' stand-ins what they are
    ]
    paths = {root: getattr(imported.get(root), "__path__", []) for root in ROOTS}
    modules = [each.name for root, path in paths.items() for each in pkgutil.iter_modules(path, f"{root}.")]
    assert len(classes) > 10_000
    assert len(modules) > 300
    assert not [name for name in [*classes, *(f"{each}.Anything" for each in modules)] if not distrust(name)]
    assert sys.modules.keys() == imported.keys()


def test_every_foreign_class_that_a_choice_imports_is_refused():
    """Through our own modules a library's classes have names of ours; they are judged by where they are defined."""
    packages = [(importlib.import_module(package).__path__, f"{package}.") for package in OWN]
    modules = [each.name for path, prefix in packages for each in pkgutil.walk_packages(path, prefix)]
    classes = 0
    for name in modules:
        for attribute, value in list(vars(importlib.import_module(name)).items()):
            if isinstance(value, type) and not value.__module__.startswith(OWN):
                (problem,) = check({"terms": {"x": {"_target_": f"{name}.{attribute}"}}}, Sum, {})[1]
                assert "not trusted" in problem
                classes += 1
    assert classes > 100
