"""A file imports only from lower floors, and no sibling where each file is a choice of its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ssl_runner"
# From the ground up; what stands in one line may not import each other.
FLOORS = (
    ("__init__", "duration", "errors"),
    ("contract",),
    ("run_folder",),
    ("layers", "data", "rendering", "augment", "config"),
    ("loss", "probing"),
    ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator"),
    ("engine",),
    ("encoder", "comparison"),
    ("run",),
    ("evaluation", "recipe", "sweep"),
    ("command",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
CHOICES = ("dataset", "pretext", "model", "regulariser", "evaluator")  # rooms in which a file imports no other
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> list[str]:
    """Every module that a file imports, also inside its functions."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [f"{node.module}.{each.name}" for each in node.names]
    return found


def floor_of(module: str) -> str:
    """The top-level part of the package that `ssl_runner.a.b` belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else "__init__"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    relative = file.relative_to(PACKAGE)
    own = relative.parts[0].removesuffix(".py")
    for module in imported(file):
        if not module.startswith("ssl_runner"):
            continue
        other = floor_of(module)
        if other == own:
            assert own not in CHOICES, f"{relative} imports its sibling {module}"
        else:
            assert FLOOR[other] < FLOOR[own], f"{relative} (floor {FLOOR[own]}) imports {module} (floor {FLOOR[other]})"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_outer_libraries_stay_where_they_belong(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    libraries = {module.split(".")[0] for module in imported(file)}
    if own != "config":
        assert not libraries & {"hydra", "omegaconf"}
    if FLOOR[own] < FLOOR["engine"] and own != "config":
        assert not libraries & {"tensorboard", "rich", "yaml", "pydantic"}
    if own == "contract":
        allowed = {"torch", "jaxtyping", "collections", "dataclasses", "typing", "__future__"}
        assert libraries - {"ssl_runner"} <= allowed, "the contract imports torch only"
    if own in ("pretext", "regulariser", "layers", "loss", "probing", "augment"):
        assert not libraries & {"timm", "torchvision"}
    if own == "comparison":
        assert not libraries & {"torch"}, "hundreds of runs are compared without loading torch"


def test_a_sibling_would_be_noticed(tmp_path: Path) -> None:
    """The reader of imports sees what hides in a function."""
    file = tmp_path / "simclr.py"
    file.write_text("def f():\n    from ssl_runner.pretext import byol\n    import ssl_runner.engine.trainer\n")
    assert [floor_of(module) for module in imported(file)] == ["pretext", "engine"]


def test_packages_re_export_nothing() -> None:
    for file in PACKAGE.rglob("*/__init__.py"):
        assert not file.read_text().strip(), f"{file} is to be empty"


def test_every_choice_names_a_file_of_its_group() -> None:
    """conf/G/N.yaml names something under ssl_runner/G/, and each pretext has the file of its name."""
    conf = PACKAGE.parent / "conf"
    groups = ("dataset", "pretext", "model", "optimizer", "regulariser", "device", "evaluator")
    for group in groups:
        for file in (conf / group).glob("*.yaml"):
            targets = [line.split()[-1] for line in file.read_text().splitlines() if "_target_:" in line]
            assert all(t.startswith((f"ssl_runner.{group}.", "ssl_runner.augment.")) for t in targets), file
            if group == "pretext":
                assert targets[0] == f"ssl_runner.pretext.{file.stem}.{targets[0].split('.')[-1]}", file
