"""Content of run folders, without what is of the moment: to be compared with that of an undisturbed run."""

import json
import re
from collections import defaultdict
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata

OF_THE_MOMENT = re.compile(
    r"speed/|time$|seconds$|samples_per_second|peak_memory_mb|host|hparams|began$|begun$|begun_in$|identity$|cwd$|attempts$|root$"
)
EVENTS = "events.out.tfevents."


def events(paths) -> dict:
    """Steps of each name in the event files of a folder; values too where they are numbers."""
    read = defaultdict(list)
    for path in sorted(paths):
        EventAccumulator(str(path)).Reload()  # it warns of steps that are out of order
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag != metadata.SESSION_END_INFO_TAG and not OF_THE_MOMENT.search(value.tag):
                    content = value.tensor.SerializeToString() if value.tag.startswith(("knn", "train")) else b""
                    read[value.tag].append((event.step, content))
    return dict(read)


def plain(content):
    """Without what is of the moment: times, speeds, memory."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items() if not OF_THE_MOMENT.search(key)}
    return [plain(each) for each in content] if isinstance(content, list) else content


def content(path: Path):
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        return {name: each.tolist() for name, each in state["pretext"].items()}
    if path.suffix == ".json":
        return plain(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [plain(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def tree(folder: Path) -> dict:
    """All that lies below a folder, but for what is of the moment."""
    logs = ("run.log", "console.log")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in logs]
    found = {str(path.relative_to(folder)): content(path) for path in files if not path.name.startswith(EVENTS)}
    for above in {path.parent for path in files if path.name.startswith(EVENTS)}:
        found[f"{above.relative_to(folder)}/events"] = events(above.glob(f"{EVENTS}*"))
    return found
