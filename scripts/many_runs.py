"""Many run folders made from one that was trained: what pages and lists of runs are tried with.

    python scripts/many_runs.py RUN FOLDER [RUNS]

Five seeds of each group. Pretext, learning rate, batch size, weight decay, model, numbers and curves vary; some runs
lack a confusion matrix or pictures, and every fiftieth did not complete.
"""

import json
import math
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from ssl_runner.run_folder.layout import CONFIG, ENVIRONMENT, EVALUATION, EVENTS, METRICS, SUMMARY

SEEDS = 5
PRETEXTS = ("simclr", "byol", "vicreg", "mae", "rotation", "barlow_twins", "dino", "moco_v2", "swav", "simsiam")
MODELS = ("convnet_small", "convnet", "resnet18")


def spread(run: Path, target: Path, runs: int = 500) -> None:
    """`runs` folders below `target`, in folders named as those of a sweep."""
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    summary, environment = (json.loads((run / name).read_text(encoding="utf-8")) for name in (SUMMARY, ENVIRONMENT))
    rows = [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]
    for place in range(runs):
        group, seed = divmod(place, SEEDS)
        rng = random.Random(place)
        choice = choose(group)
        folder = target / f"{place:03d}-pretext={choice['pretext']},lr={choice['lr']},seed={seed}"
        folder.mkdir(parents=True)
        quality = random.Random(group).uniform(0.3, 1.7) * rng.uniform(0.95, 1.05)
        finished = place % 50 != 49
        part = rows if finished else rows[: len(rows) * rng.randint(2, 8) // 10]
        write(folder / CONFIG, {**merged(config, choice), "seed": seed})
        write(folder / SUMMARY, summarised(summary, quality, rng, finished, part[-1]["step"]))
        write(folder / ENVIRONMENT, environment)
        (folder / METRICS).write_text("".join(json.dumps(vary(row, quality, rng)) + "\n" for row in part), "utf-8")
        if rng.random() < 0.7 and (run / EVALUATION).exists():
            shutil.copytree(run / EVALUATION, folder / EVALUATION)
        for file in run.glob(EVENTS) if rng.random() < 0.7 else ():
            (folder / file.name).hardlink_to(file)


def choose(group: int) -> dict[str, Any]:
    rng = random.Random(1000 + group)
    choice = {"pretext": PRETEXTS[group % len(PRETEXTS)], "model": rng.choice(MODELS)}
    choice |= {"lr": rng.choice((3e-4, 1e-3, 3e-3, 1e-2)), "weight_decay": rng.choice((0.0, 0.01, 0.05))}
    return choice | {"batch_size": rng.choice((32, 64, 128)), "blur": round(rng.uniform(0, 0.5), 2)}


def merged(config: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    changed = json.loads(json.dumps(config))
    changed["optimizer"] |= {key: choice[key] for key in ("lr", "weight_decay")}
    changed["choices"] |= {key: choice[key] for key in ("pretext", "model")}
    changed["pretext"]["_target_"] = f"ssl_runner.pretext.{choice['pretext']}.Method"
    changed["pretext"].get("augment", {})["blur"] = choice["blur"]
    return {**changed, "batch_size": choice["batch_size"], "tags": ["wide"] if choice["batch_size"] == 128 else []}


def vary(row: dict[str, Any], quality: float, rng: random.Random) -> dict[str, Any]:
    """Accuracies bend with the quality of a group, other numbers are rescaled; both have noise of their own."""
    changed = {}
    for name, value in row.items():
        plain = name in ("step", "epoch", "time") or not isinstance(value, float)
        share = not plain and 0 < value < 1 and "/top" in name
        noise = rng.gauss(0, 0.01)
        bent = value ** (1 / quality) * math.exp(noise) if share else value if plain else value / quality**0.2 + noise
        changed[name] = min(bent, 1.0) if share else bent
    return changed


def summarised(summary: dict[str, Any], quality: float, rng: random.Random, done: bool, step: int) -> dict[str, Any]:
    changed = {**summary, "seconds": round(summary["seconds"] * rng.uniform(0.5, 4), 2)}
    changed["final"] = vary(summary["final"], quality, rng)
    if done:
        return changed
    status = rng.choice(("failed", "interrupted", "stopped"))
    return changed | {"status": status, "step": step, "error": "the loss is not finite" if status == "failed" else None}


def write(file: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content) if file.suffix == ".json" else yaml.safe_dump(content, sort_keys=False)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run, target, *rest = sys.argv[1:] if len(sys.argv) in (3, 4) else sys.exit(__doc__)
    spread(Path(run), Path(target), *map(int, rest))
