"""Nothing runs because a config, a run folder, an export or a data file says so, whatever verb reads it.

Every hostile case, if it were obeyed, would leave a file `touched` in the current folder.
"""

import importlib
import io
import json
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import tiny

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.config.check import check
from ssl_runner.config.trust import OWN, VARIABLE, distrust, foreign_code
from ssl_runner.contract import Evaluator
from ssl_runner.data.image_files.decode import read_image
from ssl_runner.dataset.cifar import CIFAR10
from ssl_runner.dataset.image_folder import ImageFolder
from ssl_runner.model.timm import Timm

TOUCH = "touch touched"
HANDLER = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler.SubprocessHandler"
NODES: dict[str, dict[str, Any]] = {
    "torch": {
        "_target_": HANDLER,
        "entrypoint": "touch",
        "args": ["touched"],
        "env": {},
        "local_rank_id": 0,
        **dict.fromkeys(("stdout", "stderr", "numa_options")),
    },
    "standard library": {"_target_": "subprocess.Popen", "args": ["touch", "touched"]},
    "function": {"_target_": "os.system", "command": TOUCH},
    "builtin": {"_target_": "builtins.exec", "source": "open('touched', 'w')"},
    "module here": {"_target_": "hostile.Hostile"},
    "through ours": {"_target_": "ssl_runner.data.download.shutil.os.system", "command": TOUCH},
    "through a choice": {"_target_": "ssl_runner.evaluator.knn.torch.hub.load", "repo_or_dir": "."},
    "nameless": {"_target_": ["os", "system"]},
    "in lines": {"_target_": "os.system\nevaluator"},
}


class Payload:
    """What runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, (TOUCH,)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder in which `import hostile` would leave its mark; after the test nothing has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("hostile.py").write_text("open('touched', 'w')\nclass Hostile:\n    def __call__(self, a, b): ...\n")
    yield tmp_path
    assert not Path("touched").exists()
    assert "hostile" not in sys.modules


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(tiny("evaluator=none", "length=2st", "save_every=1st", f"hydra.run.dir={folder}")) == 0
    return folder


@pytest.fixture
def run(trained):
    shutil.copytree(trained, "run")
    return Path("run")


def refused(capsys, *words):
    """What a verb says that refuses in one line."""
    capsys.readouterr()
    before = set(Path().rglob("*"))
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2, said
    assert "Traceback" not in said
    assert set(Path().rglob("*")) == before, "nothing is made"
    return said


def hostile_configs(name):
    """A node where a user would hardly look; the first one in each place."""
    yield {"evaluator": {"x": NODES[name]}}
    if name == "torch":
        yield {"regulariser": NODES[name]}
        yield {"pretext": {"_target_": "ssl_runner.pretext.rotation.Rotation", "augment": NODES[name]}}
        yield {"regulariser": {"_target_": "ssl_runner.regulariser.sum.Sum", "terms": {"x": NODES[name]}}}


@pytest.mark.parametrize("name", NODES)
def test_a_hostile_recipe(name, capsys):
    Path("given/experiment").mkdir(parents=True)
    trusting = {"tool": {"ssl_runner": {"trust": ["hostile", "os", "torch"]}}, VARIABLE: "hostile,os,torch"}
    Path("given/pyproject.toml").write_text('[tool.ssl_runner]\ntrust = ["hostile", "os", "torch", "subprocess"]\n')
    for content in hostile_configs(name):
        text = "# @package _global_\n" + yaml.safe_dump(content)
        Path("given/experiment/hostile.yaml").write_text(text)
        words = ["--config-dir", "given", "experiment=hostile"]
        for more in ([], ["--cfg", "job"], ["-m", "seed=1,2"], ["-m", "seed=1,2", "--cfg", "job"]):
            assert "_target_: given" in refused(capsys, *words, *more)
        Path("given/experiment/hostile.yaml").write_text(text + yaml.safe_dump(trusting))
        assert main(words) == 2


def test_a_hostile_config_to_start_from_imports_no_module():
    Path("given").mkdir()
    for where in ("pkg://hostile", "pkg://hostile/more"):
        Path("given/config.yaml").write_text(f"hydra:\n  searchpath: [{where}]\nlength: 1ep\n")
        assert main(["--config-dir", "given", "--cfg", "job"]) == 2
        assert main(["--config-dir", "given", "-m", "seed=1,2"]) == 2


@pytest.mark.parametrize("name", NODES)
def test_a_hostile_run_folder(name, run, capsys):
    original = files.read(run / "config.yaml")
    for content in hostile_configs(name):
        (run / "config.yaml").write_text(yaml.safe_dump({**original, **content}))
        for verb in (["resume"], ["rerun"], ["save", "mine"]):
            assert "_target_: given" in refused(capsys, verb[0], str(run), *verb[1:])
    (run / "config.yaml").write_text(yaml.safe_dump({**original, "dataset": NODES[name]}))
    assert "_target_: given" in refused(capsys, "evaluate", str(run), "knn")
    (run / "config.yaml").write_text(yaml.safe_dump({**original, "model": NODES[name]}))
    recipe = {**files.read(run / "encoder.yaml"), **NODES[name]}
    (run / "encoder.yaml").write_text(yaml.safe_dump(recipe))
    for verb in ("evaluate", "export"):
        assert "_target_: given" in refused(capsys, verb, str(run))
    state = torch.load(run / "checkpoints" / "0000002.pt", weights_only=True)
    state["config"]["model"] = NODES[name]
    torch.save(state, run / "checkpoints" / "0000002.pt")
    for verb in ("evaluate", "export"):
        assert "_target_: given" in refused(capsys, verb, str(run / "checkpoints" / "0000002.pt"))
    assert main(["compare", str(run)]) == 0


@pytest.mark.parametrize("text", [f"!!python/object/apply:os.system ['{TOUCH}']\n", "a: !!python/name:hostile.Hostile"])
def test_yaml_that_asks_for_objects(text, run, capsys):
    (run / "encoder.yaml").write_text(text)
    refused(capsys, "export", str(run))
    (run / "overrides.yaml").write_text(text)
    refused(capsys, "resume", str(run))
    (run / "config.yaml").write_text(text)
    for verb in (["resume"], ["rerun"], ["evaluate"], ["save", "mine"]):
        refused(capsys, verb[0], str(run), *verb[1:])
    Path("given/pretext").mkdir(parents=True)
    Path("given/pretext/mine.yaml").write_text(text)
    refused(capsys, "--config-dir", "given", "pretext=mine", "--cfg", "job")


def test_checkpoints_are_no_pickles(run, capsys):
    for number, content in enumerate(({"format": 1, "step": 2, "pretext": Payload()}, Payload())):
        path = run / "checkpoints" / f"000000{2 + number}.pt"
        torch.save(content, path)
        refused(capsys, "evaluate", str(path))
        refused(capsys, "export", str(path))
    (run / "checkpoints" / "0000004.pt").write_bytes(pickle.dumps(Payload()))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "status": "interrupted"}))
    assert main(["resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert said.count("cannot be read") == 3
    assert "resumed at step 1" in said


def test_weights_are_no_pickles(run, capsys):
    torch.save({"x": Payload()}, run / "encoder.safetensors")
    for verb in ("evaluate", "export"):
        refused(capsys, verb, str(run))
    shutil.copy(run / "encoder.safetensors", "encoder.pth")
    refused(capsys, "export", "encoder.pth")


def poisoned(program):
    """The same archive with a payload in the place of everything in it that torch.export.load would unpickle."""
    file, payload = io.BytesIO(), io.BytesIO()
    torch.save(Payload(), payload)
    with zipfile.ZipFile(io.BytesIO(program)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, payload.getvalue() if name.endswith(".pt") else old.read(name))
    return file.getvalue()


def test_an_exported_program_that_is_there_is_not_loaded(run, capsys):
    assert main(["export", str(run), "--format", "torch"]) == 0
    path = run / "export" / "encoder.pt2"
    original = path.read_bytes()
    for content in (poisoned(original), pickle.dumps(Payload())):
        path.write_bytes(content)
        assert "encoder.pt2 is there and is not what would be written" in refused(
            capsys, "export", str(run), "--format", "torch"
        )
        assert path.read_bytes() == content
    assert main(["export", str(run), "--format", "torch", "--overwrite"]) == 0
    assert path.read_bytes() == original


def test_the_poison_works(run):
    """So that the test above can fail: torch runs the payload of such a file."""
    assert main(["export", str(run), "--format", "torch"]) == 0
    program = poisoned((run / "export" / "encoder.pt2").read_bytes())
    with suppress(Exception):  # the payload is no list of inputs; by then it has run
        torch.export.load(io.BytesIO(program))
    assert Path("touched").exists()
    Path("touched").unlink()


def test_names_in_a_run_folder_lead_nowhere_else(run, here, capsys):
    """Files and folders are named by evaluators and choices; none is made beside those that are asked for."""
    content = files.read(run / "config.yaml")
    node = {"_target_": "ssl_runner.evaluator.knn.KNN", "k": 3}
    for name in ("../beside", "/tmp/beside", "..", "a/b", "a\nb"):
        (run / "config.yaml").write_text(yaml.safe_dump({**content, "evaluator": {name: node}}))
        assert "evaluator: given the name" in refused(capsys, "rerun", str(run))
    chosen = {"pretext": "../../beside", "dataset": "/beside"}
    (run / "config.yaml").write_text(yaml.safe_dump({**content, "choices": chosen}))
    assert main(["rerun", str(run)]) == 0
    assert [each.name for each in Path("outputs").iterdir()] == ["______beside-_beside"]
    assert {each.name for each in here.iterdir()} == {"hostile.py", "run", "outputs"}
    job = {"number": 0, "overrides": [], "folder": "../run"}
    Path("sweep").mkdir()
    ledger = {"format": 1, "began": "", "command": [], "jobs": {"a": job}}
    Path("sweep/sweep.json").write_text(json.dumps(ledger))
    assert "which does not lie in it" in refused(capsys, "-m", "sweep.resume=sweep")


def test_results_and_logs_are_text(run):
    (run / "evaluation").mkdir()
    (run / "evaluation" / "knn.json").write_bytes(pickle.dumps(Payload()))
    (run / "metrics.jsonl").write_bytes(pickle.dumps(Payload()))
    (run / "events.out.tfevents.1.x.1.0").write_bytes(pickle.dumps(Payload()))
    (run / "environment.json").write_bytes(pickle.dumps(Payload()))
    (run / "stop").write_bytes(pickle.dumps(Payload()))
    assert main(["compare", str(run)]) == 1, "what cannot be read is named"
    assert main(["resume", str(run)]) == 0
    assert main(["evaluate", str(run), "knn", "evaluator.knn.k=3"]) == 0


def test_postscript_is_no_image(monkeypatch):
    """Pillow would start Ghostscript, which is here a script that leaves its mark."""
    Path("gs").write_text(f"#!/bin/sh\n{TOUCH}\n")
    Path("gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path.cwd()}{os.pathsep}{os.environ['PATH']}")
    Path("images").mkdir()
    for name in ("x.png", "x.jpg"):
        Path("images", name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
        with pytest.raises(Exception, match="cannot identify"):
            read_image(Path("images", name), 8)
    with pytest.raises(ValueError, match=r"cannot be read"):
        ImageFolder(root="images", size=8, cache=False, max_broken=0, validation=0.0).load()
    # and so that the test can fail:
    from PIL import EpsImagePlugin, Image

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(OSError), Image.open("images/x.png") as file:  # noqa: PT011
        file.load()
    assert Path("touched").exists()
    Path("touched").unlink()


def test_a_cache_of_images_is_no_pickle():
    from PIL import Image

    for name in ("a", "b"):
        Path("images", name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(Path("images", name, f"{number}.png"))
    dataset = ImageFolder(root="images", size=8, cache="cache", validation=0.0)
    rows = dataset.load().train
    before = rows[torch.arange(len(rows))]
    for entry in Path("cache").glob("*.npy"):
        np.save(entry, np.array([Payload()], dtype=object), allow_pickle=True)
    for note in Path("cache").glob("*.json"):
        note.write_bytes(pickle.dumps(Payload()))
    assert torch.equal(dataset.load().train[torch.arange(len(rows))], before)


def test_a_published_pickle_is_held_against_its_checksum_first():
    Path("root").mkdir()
    for file in CIFAR10.files:
        Path("root", file).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match="not those published"):
        CIFAR10(root="root", download=False).load()


@pytest.mark.parametrize("name", ["hf_hub:a/b", "hf-hub:a/b", "local-dir:/x", "local_dir:x", "./here", "timm/resnet18"])
def test_timm_takes_names_of_architectures_alone(name):
    with pytest.raises(ValueError, match=r"only names of architectures.*model.name=resnet18"):
        Timm(shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.2,) * 3, name=name)


def test_a_kind_is_told_by_a_methods_own_definition(capsys):
    """Every class answers to __call__, by type's; none of these is an evaluator, and no run folder is made."""
    assert "not trusted" in refused(capsys, *tiny("+evaluator.x={_target_: torch.nn.ReLU}"))
    node = "{_target_: ssl_runner.optimizer.sgd.SGD, lr: 0.1}"
    assert "is no Evaluator" in refused(capsys, *tiny(f"+evaluator.x={node}"))


# Whom the owner of the project trusts

MINE = "from ssl_runner.regulariser.l2 import L2\nclass Mine(L2): ...\n"


def mine(where="mine_of_a_test"):
    Path(f"{where}.py").write_text(MINE)
    importlib.invalidate_caches()
    return f"regulariser._target_={where}.Mine"


@pytest.mark.parametrize("how", ["pyproject", "environment", "environment of old"])
def test_a_package_of_ones_own_is_trusted_by_its_owner(how, monkeypatch, capsys):
    words = [*tiny("evaluator=none", "length=1st"), "regulariser=l2", mine()]
    assert "mine_of_a_test.Mine, which is not trusted" in refused(capsys, *words)
    assert "mine_of_a_test" not in sys.modules
    if how == "pyproject":
        Path("pyproject.toml").write_text('[tool.ssl_runner]\ntrust = ["mine_of_a_test"]\n')
    else:
        monkeypatch.setenv(VARIABLE, "other, mine_of_a_test" + "." * ("old" in how))
    assert main([*words, "hydra.run.dir=run"]) == 0
    said = capsys.readouterr().out
    assert said.count("runs code of mine_of_a_test, which") == 1
    assert said.index("runs code of") < said.index("run folder")
    assert "runs code of mine_of_a_test" in Path("run/run.log").read_text()
    sys.modules.pop("mine_of_a_test")


def test_trust_is_of_whole_names(monkeypatch):
    monkeypatch.setenv(VARIABLE, "mine.inner,,")
    assert distrust("mine.inner.X") is None
    assert distrust("mine.inner.more.X") is None
    for name in ("mine.X", "mine.innermost.X", "mine", "X", "", "ssl_runner.pretextual.X", "ssl_runner.errors.X"):
        assert "not trusted" in str(distrust(name))
    assert foreign_code({"a": [{"_target_": "mine.inner.X"}], "_target_": "ssl_runner.pretext.x.X"}) == [
        f"runs code of mine.inner, which the environment variable {VARIABLE} trusts"
    ]


def test_a_malformed_trust_is_said(capsys):
    Path("pyproject.toml").write_text('[tool.ssl_runner]\ntrust = "mine_of_a_test"\n')
    assert "tool.ssl_runner.trust" in refused(capsys, "regulariser=l2", mine())
    Path("pyproject.toml").write_text("torn [")
    assert "not trusted" in refused(capsys, "regulariser=l2", mine())


# Every class there is

ROOTS = ("torch", "torchvision", "timm", "numpy", "sklearn", *sorted(sys.stdlib_module_names - {"antigravity", "this"}))


def test_every_class_of_a_library_is_refused():
    """By each dotted name under which a module that is imported here has it."""
    for name in ("torchvision.models", "timm.models", "sklearn.linear_model", "ctypes", "multiprocessing"):
        importlib.import_module(name)
    seen = 0
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in ROOTS:
            for attribute, value in list(vars(module).items()):
                if issubclass(type(value), type):  # isinstance would ask some modules' stand-ins what they are
                    assert distrust(f"{module_name}.{attribute}"), (module_name, attribute)
                    seen += 1
    assert seen > 10_000


def test_every_module_of_a_library_is_refused_unimported():
    before = set(sys.modules)
    seen = 0
    for root in ROOTS:
        package = sys.modules.get(root)
        for found in pkgutil.iter_modules(getattr(package, "__path__", []), f"{root}."):
            assert distrust(f"{found.name}.Anything")
            seen += 1
    assert seen > 300
    assert set(sys.modules) == before


def test_every_foreign_class_that_a_choice_imports_is_refused():
    """Through our own modules a library's classes have names of ours; they are judged by where they are defined."""
    import ssl_runner

    seen = 0
    for found in pkgutil.walk_packages(ssl_runner.__path__, "ssl_runner."):
        if not found.name.startswith(tuple(f"{package}." for package in OWN)):
            continue
        for attribute, value in list(vars(importlib.import_module(found.name)).items()):
            if isinstance(value, type) and not value.__module__.startswith(OWN):
                content = {"x": {"_target_": f"{found.name}.{attribute}"}}
                (problem,) = check(content, wanted, {})[1]
                assert "not trusted" in problem
                seen += 1
    assert seen > 100


def wanted(*, x: Evaluator): ...


def test_a_process_of_its_own_runs_nothing_either(run):
    """The same from outside: the issue's own config, typed as a user would."""
    Path("given/experiment").mkdir(parents=True)
    text = "# @package _global_\n" + yaml.safe_dump({"evaluator": {"x": NODES["torch"]}})
    Path("given/experiment/E.yaml").write_text(text)
    words = ["--config-dir", "given", "experiment=E", "--cfg", "job"]
    done = subprocess.run([sys.executable, "-m", "ssl_runner", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
