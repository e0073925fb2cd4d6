"""Jobs of the protocol of results: what is typed for a task, and whether a row is what its command would give today."""

import json
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.describe import target_of
from ssl_runner.config.files import parse_yaml
from ssl_runner.device.placement import Placement
from ssl_runner.run_folder.atomic import digest, read_json, write
from ssl_runner.run_folder.layout import HARMLESS

ROOT = Path(__file__).resolve().parents[1]
ONCE = ("show_every=100%", "save_every=100%")
SHARES = ("knn", "probe")
THREAD = ("device=cpu", "device.threads=1")
FLOAT32 = "device.precision=float32"


@dataclass(frozen=True)
class Stage:
    """A data set, and what all of its rows have in common."""

    kind: str  # of samples
    minutes: float  # of CPU time, evaluation not counted
    data: tuple[str, ...]  # what is typed for it; FOLDER stands for where it lies
    vit_minutes: float = 0.0  # of tasks that presume a ViT; images alone
    settings: tuple[str, ...] = ()  # what is typed if the task does not presume it; recipes say it themselves
    batch: int | None = None  # None: the task's own settings
    errors: str = ""  # the factor that `abx` compares within and across, and so a further evaluator
    unheard: bool = False  # test has other speakers than validation, and so a random encoder's numbers of its own

    @property
    def lies_somewhere(self) -> bool:
        return any("FOLDER" in word for word in self.data)

    @property
    def evaluators(self) -> tuple[str, ...]:
        return (*SHARES, *(["abx"] if self.errors else []))

    @property
    def compared(self) -> tuple[str, ...]:
        return (f"evaluator.abx.by={self.errors}",) if self.errors else ()

    def protocol(self) -> tuple[str, ...]:
        """What is typed for every row, whatever its task."""
        precision = ("device.precision=bf16",) if self.kind == "image" else ()
        more = (*self.compared, "evaluator.abx.every=100%") if self.errors else ()
        measured = (f"evaluator=[{','.join(self.evaluators)}]", *(f"evaluator.{each}.every=100%" for each in SHARES))
        return (*THREAD, *precision, *ONCE, *measured, *more)


SPLIT = ("dataset.label=digit", "dataset.split=speaker_split", "dataset.rate=8000")
STAGES = {
    "shapes": Stage("image", 3, ("dataset=shapes",), 3, ("model=convnet_small",), 128),
    "cifar10": Stage("image", 4, ("dataset=image_folder", "dataset.root=FOLDER"), 8, ("model=convnet",), 256),
    "grammar": Stage("text", 3, ("dataset=grammar",)),
    "utterances": Stage("audio", 3, ("dataset=utterances",), errors="speaker"),
    "clinc150": Stage("text", 10, ("dataset=text_folder", "dataset.root=FOLDER", "dataset.tokenizer=bpe")),
    "digits": Stage(
        "audio", 10, ("dataset=manifest", "dataset.root=FOLDER/manifest.tsv", *SPLIT), errors="speaker", unheard=True
    ),
}
VIT_BATCH = 16  # many steps in few minutes
COMPOSING = Lock()  # Hydra's state is the process's
Row = dict[str, Any]


def presumes(method: str, group: str) -> bool:
    """Whether a task's YAML chooses a model or an optimizer for itself. Those that choose a model are for ViTs."""
    return f"override /{group}@" in (TREE / "pretext" / f"{method}.yaml").read_text()


def suits(method: str, dataset: str) -> bool:
    """Whether a task can learn from what a stage has."""
    module, _, name = target_of(parse_yaml((TREE / "pretext" / f"{method}.yaml").read_text())).rpartition(".")
    return STAGES[dataset].kind in getattr(import_module(module), name).kinds


def cannot_time(datasets: Iterable[str], more: Sequence[str] = ()) -> str:
    """Why minutes of this CPU would say nothing of a stage; nothing if they do, or if none are asked for."""
    images = any(STAGES[each].kind == "image" for each in datasets) and FLOAT32 not in more
    slower = Placement(name="cpu", precision="bf16").slower() if images else ""
    return slower and (
        f"rows of images are of minutes in bf16. {slower.partition(';')[0]}; "
        f"what has a length may be run with --set {FLOAT32}"
    )


def words(method: str, dataset: str, seed: int, more: Sequence[str] = ()) -> list[str]:
    """What a user types, without the length. FOLDER stands for that of the data."""
    stage, recipe = STAGES[dataset], TREE / "experiment" / f"{method}_{dataset}.yaml"
    ends = [*stage.protocol(), f"seed={seed}", *more]
    if recipe.exists():
        return [f"experiment={recipe.stem}", *(stage.data if stage.lies_somewhere else ()), *ends]
    return [f"pretext={method}", *stage.data, *(image_settings(method, stage) if stage.batch else []), *ends]


def measuring(dataset: str, folder: Path) -> list[str]:
    """What is typed to measure the random encoder of a run on the test split."""
    stage = STAGES[dataset]
    return ["evaluate", str(folder), *stage.evaluators, "split=test", "init=random", *stage.compared, *THREAD]


def at_random(folder: Path, protocol: str, number: str) -> float:
    """What that has found."""
    results = read_json(folder / "evaluation" / f"{protocol}.json")["results"]
    (found,) = (each for each in results if (each["encoder"], each["split"]) == ("random", "test"))
    return round(found["values"][number], 4)


def key_of(row: Row) -> tuple[str, str, str, int]:
    """What tells rows apart."""
    return row["dataset"], row["method"], row.get("after", ""), row["seed"]


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    """A JSON list with a line a row, so that a change of one is a change of one line."""
    write(file, "[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in rows) + "\n]\n")


def image_settings(method: str, stage: Stage) -> list[str]:
    """Of a stage that lays model, rate and batch under each task's own."""
    vit = presumes(method, "model")
    rate = [] if presumes(method, "optimizer") else [f"optimizer.lr={0.001 if vit else 0.002}"]
    return [*([] if vit else stage.settings), *rate, f"batch_size={VIT_BATCH if vit else stage.batch}"]


def minutes(method: str, dataset: str) -> float:
    """CPU minutes of training."""
    stage = STAGES[dataset]
    return stage.vit_minutes if stage.vit_minutes and presumes(method, "model") else stage.minutes


def resolved(typed: Sequence[str]) -> dict[str, Any]:
    """The config that words compose to, without what cannot change a result. Raises ValueError."""
    with COMPOSING:
        composed = Composer().compose(typed)
    if composed.problems:
        raise ValueError("\n".join(composed.problems))
    return {key: value for key, value in composed.content.items() if key not in HARMLESS}


def classes(node: Any) -> Iterator[tuple[str, str]]:
    """Group and name of each class of ours in a config, as optimizer and muon."""
    for value in node.values() if isinstance(node, dict) else ():
        yield from classes(value)
    if isinstance(node, dict) and str(node.get("_target_")).startswith("ssl_runner."):
        yield tuple(node["_target_"].split(".")[1:3])


def git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


def without_length(typed: Iterable[str]) -> list[str]:
    return [word for word in typed if not word.startswith("length=")]


def holds(row: Row, typed: Sequence[str]) -> bool:
    """Whether a row is what its command would give today, and the protocol still asks for that command.

    What a task and an optimizer compute is what their golden traces say, bit for bit; what is measured, the versions of
    the evaluators.
    """
    given = shlex.split(row["command"])[1:]
    if without_length(given) != without_length(typed):
        return False
    try:
        config = resolved(given)
        named = sorted({*classes(config)})
        traces = [f"tests/golden/traces/{group}-{name}.json" for group, name in named if group != "evaluator"]
        protocols = [f"ssl_runner/evaluator/{name}.py" for group, name in named if group == "evaluator"]
        changed = git("diff", "--name-only", row["commit"], "--", *traces)
        changed += git("diff", "--name-only", "-Gversion = ", row["commit"], "--", *protocols)
    except (ValueError, subprocess.CalledProcessError):  # a word or a commit that is no more
        return False
    return row["config"] == digest(config) and not changed
