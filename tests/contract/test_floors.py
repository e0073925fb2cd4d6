"""Floors: a file imports only from lower ones, and no sibling where each file is a choice of its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ssl_runner"
# From the ground up; what stands in one line may not import each other.
FLOORS = (
    ("__init__", "duration", "errors"),
    ("contract",),
    ("run_folder",),
    ("layers", "rendering", "config"),
    ("augment",),
    ("data",),
    ("loss", "probing"),
    ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator"),
    ("engine",),
    ("encoder", "comparison"),
    ("run",),
    ("evaluation", "recipe", "sweep", "testing"),
    ("python",),
    ("command",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
CHOICES = ("dataset", "pretext", "model", "regulariser", "evaluator")  # rooms in which a file imports no other
BELOW = {room for room, floor in FLOOR.items() if floor < FLOOR["engine"]} - {"config"}
OUTER = {  # libraries that rooms must not import; comparison: hundreds of runs are compared without loading torch
    ("hydra", "omegaconf"): {*FLOOR} - {"config"},
    ("tensorboard", "rich", "yaml", "pydantic"): BELOW,
    ("timm", "torchvision"): {"pretext", "regulariser", "layers", "loss", "probing", "augment"},
    ("torch",): {"comparison"},
}
CONTRACT = {"ssl_runner", "torch", "jaxtyping", "collections", "dataclasses", "typing", "__future__"}


def imports(source):
    """Every module that a file imports, also inside its functions; a relative import begins with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = "" if isinstance(node, ast.Import) else "." * node.level + f"{node.module}."
            yield from (module + each.name for each in node.names)


def offences(room, source):
    """What a file of a room imports and must not."""
    for module in imports(source):
        library, room_or_name = [*module.split("."), ""][:2]
        other = room_or_name if room_or_name in FLOOR else "__init__"
        if (
            not library
            or (library == "ssl_runner" and (room in CHOICES if other == room else FLOOR[other] >= FLOOR[room]))
            or any(library in libraries and room in rooms for libraries, rooms in OUTER.items())
            or (room == "contract" and library not in CONTRACT)
        ):
            yield module


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_and_outer_libraries_stay_where_they_belong(file):
    source = file.read_text()
    assert not list(offences(file.relative_to(PACKAGE).parts[0].removesuffix(".py"), source))
    assert file.name != "__init__.py" or file.parent == PACKAGE or not source.strip(), "packages re-export nothing"


def test_what_is_planted_is_noticed():
    planted = "import ssl_runner.engine.trainer, hydra, timm.layers, torch\nfrom .rotation import Rotation\n"
    planted += "def f():\n    from ssl_runner.pretext import byol"
    offenders = "ssl_runner.engine.trainer hydra timm.layers .rotation.Rotation ssl_runner.pretext.byol"
    assert " ".join(offences("pretext", planted)) == offenders
    assert list(offences("layers", "import ssl_runner.data.split, ssl_runner.contract")) == ["ssl_runner.data.split"]
    assert list(offences("contract", "import numpy, torch")) == ["numpy"]


def test_every_choice_names_a_file_of_its_group():
    """conf/G/N.yaml names something under ssl_runner/G/, and each pretext has the file of its name."""
    for group in ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator"):
        for file in (PACKAGE.parent / "conf" / group).glob("*.yaml"):
            targets = [line.split()[-1] for line in file.read_text().splitlines() if "_target_:" in line]
            assert all(t.startswith((f"ssl_runner.{group}.", "ssl_runner.augment.")) for t in targets), file
            assert group != "pretext" or targets[0].rpartition(".")[0] == f"ssl_runner.pretext.{file.stem}", file
