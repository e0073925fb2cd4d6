"""The race: minutes of training to a good encoder of CIFAR-10 on this machine. docs/speedrun.json, a row a run.

    python scripts/speedrun.py --cifar10 FOLDER [--tracks cpu5 cpu15] [--seeds 3] [--rivals lightly solo-learn]

The clock runs from the first step to the last, views included, and stops while something is measured. Then the standing
protocol: kNN and linear probe on frozen features, the probe's weight chosen on training rows, test once. FOLDER has
train/CLASS/ and test/CLASS/ with images. Tracks:
    cpu5, cpu15  two CPU cores for 5 and 15 minutes: experiment=speedrun_cpu and speedrun_cpu15
    gpu          one GPU, to 90 % kNN: experiment=speedrun_gpu
Rivals are trained for the minutes of the tracks on the same machine (benchmarking/rivals.py), or for --minutes, and are
measured by the same protocol. Nothing else should run meanwhile: minutes are the clock's, and each row says them.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from benchmarking.place import Place, machine
from benchmarking.work import composed_job
from result_jobs import ROOT, Row, git, write_rows
from result_pages import mean_shown, put_table

from ssl_runner.config.compose import Composer
from ssl_runner.contract import Data, Encoder, Samples
from ssl_runner.duration import Duration
from ssl_runner.engine.encoding import Encoding
from ssl_runner.engine.learner import frozen
from ssl_runner.engine.loader import fetch
from ssl_runner.evaluator.knn import KNN
from ssl_runner.evaluator.probe import Probe
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import METRICS, SUMMARY
from ssl_runner.run_folder.metrics import read_rows

ROWS, PAGE = ROOT / "docs" / "speedrun.json", ROOT / "docs" / "speedrun.md"
TRACKS = {"cpu5": ("speedrun_cpu", 5.0), "cpu15": ("speedrun_cpu15", 15.0), "gpu": ("speedrun_gpu", 10.0)}


def race(track: str, seed: int, root: Path, out: Path) -> Row:
    """Trains our recipe of a track. Raises CalledProcessError."""
    typed = [f"experiment={TRACKS[track][0]}", "dataset=image_folder", "dataset.root=FOLDER", f"seed={seed}"]
    folder = out / f"{track}-{seed}-{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    given = [f"dataset.root={root}" if word == "dataset.root=FOLDER" else word for word in typed]
    subprocess.run([sys.executable, "-m", "ssl_runner", *given, f"hydra.run.dir={folder}"], check=True)
    summary = read_json(folder / SUMMARY)
    config = Composer().compose(given).content
    seconds = summary["steps"] * config["batch_size"] / summary["samples_per_second"]  # of steps alone
    curve = {
        f"{seconds * row['step'] / summary['steps'] / 60:.2f}": round(row["probe/top1"], 4)
        for row in read_rows(folder / METRICS)
        if "probe/top1" in row
    }
    numbers = {name: round(summary["final"][f"test/{name}/top1"], 4) for name in ("probe", "knn")}
    settings = {"steps": summary["steps"], "validation_probe": curve}
    return {**numbers, "minutes": round(seconds / 60, 2), **settings, "command": shlex.join(["ssl-runner", *typed])}


def rival(name: str, seed: int, minutes: float, root: Path) -> Row:
    """Trains a rival's recipe for some minutes."""
    from benchmarking.rivals import train

    images = ["dataset=image_folder", f"dataset.root={root}"]
    job = composed_job(["pretext=simclr", "model=resnet18", *images, "device.precision=auto"])
    dataset, place = job.dataset.build(), Place(job.device.build(), ours=True)
    samples, data = dataset.samples, dataset.load()
    torch.manual_seed(seed)
    encoder: Encoder = job.model.build(samples=samples, shape=samples.shape, mean=data.mean, std=data.std)
    pixels = fetch(data.train, torch.arange(len(data.train))).permute(0, 2, 3, 1).contiguous().numpy()
    steps = train(name, encoder, pixels, 60 * minutes, place)
    command = f"python scripts/speedrun.py --rivals {name} --minutes {minutes:g} --cifar10 FOLDER --seeds {seed + 1}"
    numbers = measured(encoder, samples, data, place.device)
    return {**numbers, "minutes": minutes, "steps": steps, "command": command}


@torch.no_grad()
def measured(encoder: Encoder, samples: Samples, data: Data, device: torch.device) -> dict[str, float]:
    """kNN and probe on test, as every run measures them."""
    settings = {"every": Duration(100.0, "%"), "bank": data.bank, "query": data.test, "classes": len(data.classes)}
    with frozen(encoder):
        encode = Encoding(encoder, samples, device)
        numbers = {}
        for evaluator in (Probe, KNN):
            each = evaluator(**settings, class_names=data.classes)  # type: ignore[arg-type]
            numbers[each.name] = round(each(encoder, encode)["top1"].value, 4)
    return numbers


def add(row: Row, track: str, contestant: str, seed: int) -> None:
    """Writes a row in the place of an older one of the same contest, and the tables."""
    facts = {"track": track, "contestant": contestant, "seed": seed, "date": time.strftime("%Y-%m-%d")}
    told = {
        "machine": machine("auto" if track == "gpu" else "cpu"),
        "commit": git("rev-parse", "--short=10", "HEAD").strip(),
    }
    row = {**facts, **row, **told}
    rows = [each for each in json.loads(ROWS.read_text()) if key_of(each) != key_of(row)]
    rows = sorted([*rows, row], key=key_of)
    write_rows(ROWS, rows)
    write_page(rows)
    print(f"{track}, {contestant}, seed {seed}: probe {row['probe']:.1%}, kNN {row['knn']:.1%} in {row['minutes']} min")


def key_of(row: Row) -> tuple:
    """A row of ours is replaced by a newer one of its track, a rival's by one of as many minutes; ours come first."""
    ours = row["contestant"] == "ssl_runner"
    return row["track"], not ours, row["contestant"], 0 if ours else row["minutes"], row["seed"]


def write_page(rows: Sequence[Row]) -> None:
    """Puts the table of records into docs/speedrun.md."""
    lines = [
        "| track | trained by | minutes | test probe | test kNN | seeds | date | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for contest in dict.fromkeys(key_of(row)[:-1] for row in rows):
        same = [row for row in rows if key_of(row)[:-1] == contest]
        minutes = f"{mean(row['minutes'] for row in same):.1f}"
        shown = [mean_shown([100 * row[name] for row in same]) for name in ("probe", "knn")]
        last = same[-1]
        cells = (last["track"], last["contestant"], minutes, *shown, len(same), last["date"], last["commit"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    put_table(PAGE, "records", lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, metavar="FOLDER", help="CIFAR-10 as folders of images")
    parser.add_argument("--tracks", nargs="+", choices=[*TRACKS], default=["cpu5", "cpu15"])
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 (default: 1)")
    parser.add_argument("--rivals", nargs="*", choices=["lightly", "solo-learn"], default=None, help="these, not us")
    parser.add_argument("--minutes", type=float, help="for which rivals are trained (default: those of the tracks)")
    parser.add_argument("--out", type=Path, default=Path("outputs/speedrun"), metavar="FOLDER", help="of the runs")
    arguments = parser.parse_args(given)
    if not arguments.cifar10.is_dir():
        parser.error(f"--cifar10: given {arguments.cifar10}; name CIFAR-10's folder")
    for track in arguments.tracks:
        for seed in range(arguments.seeds):
            if arguments.rivals is None:
                add(race(track, seed, arguments.cifar10, arguments.out), track, "ssl_runner", seed)
            for name in arguments.rivals or ():
                minutes = arguments.minutes or TRACKS[track][1]
                add(rival(name, seed, minutes, arguments.cifar10), track, name, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
