"""Jobs of the protocol of results: what is typed for a task, and whether a row is what its command would give today."""

import ast
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.run_folder.atomic import digest
from ssl_runner.run_folder.layout import HARMLESS

ROOT = Path(__file__).resolve().parents[1]
MODEL, BATCH = {"shapes": "convnet_small", "cifar10": "convnet"}, {"shapes": 128, "cifar10": 256}
VIT_BATCH = 16  # many steps in few minutes
PROTOCOL = (
    *("device=cpu", "device.threads=1", "device.precision=bf16", "show_every=100%", "save_every=100%"),
    *("evaluator=[knn,probe]", "evaluator.knn.every=100%", "evaluator.probe.every=100%"),
)
COMPOSING = Lock()  # Hydra's state is the process's
Row = dict[str, Any]


def presumes(method: str, group: str) -> bool:
    """Whether a task's YAML chooses a model or an optimizer for itself. Those that choose a model are for ViTs."""
    return f"override /{group}@" in (TREE / "pretext" / f"{method}.yaml").read_text()


def words(method: str, dataset: str, seed: int, more: Sequence[str] = ()) -> list[str]:
    """What a user types, without the length. FOLDER stands for that of CIFAR-10."""
    recipe, vit = TREE / "experiment" / f"{method}_{dataset}.yaml", presumes(method, "model")
    data = ["dataset=image_folder", "dataset.root=FOLDER"] if dataset == "cifar10" else []
    if recipe.exists():
        return [f"experiment={recipe.stem}", *data, *PROTOCOL, f"seed={seed}", *more]
    model = [] if vit else [f"model={MODEL[dataset]}"]
    rate = [] if presumes(method, "optimizer") else [f"optimizer.lr={0.001 if vit else 0.002}"]
    batch = VIT_BATCH if vit else BATCH[dataset]
    settings = [f"pretext={method}", *(data or ["dataset=shapes"]), *model, *rate, f"batch_size={batch}"]
    return [*settings, *PROTOCOL, f"seed={seed}", *more]


def resolved(typed: Sequence[str]) -> dict[str, Any]:
    """The config that words compose to, without what cannot change a result. Raises ValueError."""
    with COMPOSING:
        composed = Composer().compose(typed)
    if composed.problems:
        raise ValueError("\n".join(composed.problems))
    return {key: value for key, value in composed.content.items() if key not in HARMLESS}


def modules(node: Any) -> Iterator[str]:
    """The modules of the classes in a config."""
    for value in node.values() if isinstance(node, dict) else ():
        yield from modules(value)
    if isinstance(node, dict) and "_target_" in node:
        yield str(node["_target_"]).rpartition(".")[0]


@cache
def imported(module: str) -> frozenset[str]:
    """A module of ours and all of ours that it imports, as files of the repository."""
    file = ROOT / (module.replace(".", "/") + ".py")
    if not module.startswith("ssl_runner.") or not file.exists():
        return frozenset()
    nodes = [node for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.ImportFrom)]
    others = [name for node in nodes for name in (node.module, *(f"{node.module}.{each.name}" for each in node.names))]
    return frozenset({str(file.relative_to(ROOT))}).union(*(imported(str(each)) for each in others))


def git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


def holds(row: Row, typed: Sequence[str]) -> bool:
    """Whether a row is what its command would give today, and the protocol still asks for that command.

    Source files are compared of what the config names: that the loop's results stay the same is what golden traces say.
    """
    given = shlex.split(row["command"])[1:]
    if [word for word in given if not word.startswith("length=")] != [*typed]:
        return False
    try:
        config = resolved(given)
        files = frozenset().union(*map(imported, set(modules(config))))
        changed = git("diff", "--name-only", row["commit"], "--", *sorted(files))
    except (ValueError, subprocess.CalledProcessError):  # a word or a commit that is no more
        return False
    return row["config"] == digest(config) and not changed
