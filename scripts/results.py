"""Results of every pretext task under one fixed protocol: docs/results.json, a row a run, and the tables made of it.

    python scripts/results.py --cifar10 FOLDER [--only NAME ...] [--datasets shapes cifar10] [--seeds N] [--jobs N]

Two stages, each on one CPU thread in bf16, kNN and linear probe before and after training:
    shapes   convnet_small, 3 CPU minutes of training, batches of 128
    cifar10  convnet, 8 CPU minutes, batches of 256; FOLDER has train/CLASS/ and test/CLASS/ with images
A task that presumes a model, a small ViT, keeps it, has batches of 16 at half the learning rate, and on cifar10 15
minutes. What conf/experiment/NAME_shapes.yaml or NAME_cifar10.yaml recommends for a task is laid under these settings.
The length is what the time allows: CPU seconds a step are measured first, and the command in the row then says
length=Nst, so it repeats the run on any machine.

A row is written as soon as it is there, and a run is not repeated while its row holds: what its command composes to has
the digest in the row, and no source file that the classes of its config import has changed since the row's commit.
Its budget is not measured again for that. --again repeats all the same; --pages only writes the tables.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from result_jobs import git, holds, presumes, resolved, words
from result_pages import FAMILY, paper_of, write_pages

from ssl_runner.config.compose import TREE
from ssl_runner.run_folder.atomic import digest, read_json, write
from ssl_runner.run_folder.layout import SUMMARY

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "docs" / "results.json"
MINUTES = {"shapes": 3.0, "cifar10": 8.0}  # of CPU time, evaluation not counted
OF_VIT = {"shapes": 3.0, "cifar10": 15.0}
UNMEASURED = ("~evaluator.knn", "~evaluator.probe")
SHORT, LONG = 10, 100  # steps of the two runs whose difference is the cost of a step: seconds, as a start varies by one
Row = dict[str, Any]


class Runs:
    """Carries out runs, each in a process of its own, and keeps the rows."""

    def __init__(self, arguments: argparse.Namespace):
        self.cifar10, self.scale, self.again = arguments.cifar10, arguments.scale, arguments.again
        self.more, self.out = arguments.set, arguments.out
        self.rows: list[Row] = json.loads(ROWS.read_text()) if ROWS.exists() else []
        self.lock, self.failed, self.warm = Lock(), False, False

    def carry_out(self, method: str, dataset: str, seed: int) -> None:
        """One row, unless it is there; what goes wrong is printed."""
        typed, name = words(method, dataset, seed, self.more), f"{method} on {dataset}, seed {seed}"
        before = next((row for row in self.rows if key_of(row) == (dataset, method, seed)), None)
        if before and not self.again and holds(before, typed):
            print(f"{name}: is there")
            return
        try:
            row = self.measure(method, dataset, seed, typed)
        except (ValueError, RuntimeError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            self.failed = True
            return
        with self.lock:
            self.rows = [row, *(each for each in self.rows if key_of(each) != key_of(row))]
            self.rows.sort(key=key_of)
            write(ROWS, "[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in self.rows) + "\n]\n")
            write_pages(self.rows)
        shown = ", ".join(
            f"{each} {row[each]['random']:.1%} -> {row[each]['trained']:.1%}" for each in ("knn", "probe")
        )
        print(f"{name}: {shown}, {row['steps']} steps in {row['seconds']} s of CPU", flush=True)

    def measure(self, method: str, dataset: str, seed: int, typed: list[str]) -> Row:
        """Times a step, trains as long as the budget allows, and returns the row. Raises ValueError, RuntimeError."""
        commit = git("rev-parse", "--short=10", "HEAD").strip()
        resolved(typed)  # raises before anything is run
        step = self.cost_of_step(typed)
        minutes = (OF_VIT if presumes(method, "model") else MINUTES)[dataset] * self.scale
        steps = max(40, round(60 * minutes / step, -1))
        final = [*typed, f"length={steps:.0f}st"]
        folder = self.out / dataset / f"{method}-{seed}-{time.strftime('%Y-%m-%d_%H-%M-%S')}"
        seconds = self.run(final, folder)
        summary = read_json(folder / SUMMARY)

        def shares(protocol: str) -> dict[str, float]:
            at = f"{protocol}/top1"
            places = {"random": ("baseline", at), "trained": ("final", at), "test": ("final", f"test/{at}")}
            return {each: round(summary[part][key], 4) for each, (part, key) in places.items()}

        return {
            "method": method,
            "dataset": dataset,
            "family": FAMILY.get(method, "other"),
            "paper": paper_of(method),
            "seed": seed,
            "knn": shares("knn"),
            "probe": shares("probe"),
            "steps": summary["steps"],
            "samples_per_second": summary["samples_per_second"],
            "seconds": round(seconds),  # of the whole process, on its CPU thread
            "commit": commit,
            "command": shlex.join(["ssl-runner", *final]),
            "config": digest(resolved(final)),
        }

    def cost_of_step(self, typed: Sequence[str]) -> float:
        """CPU seconds, of the difference of two runs. Raises RuntimeError if the longer one costs no more.

        The first run of all also reads a cold disk and compiles modules: it is carried out once more than is counted.
        """
        with tempfile.TemporaryDirectory() as folder:

            def cost(steps: int, name: str) -> float:
                return self.run([*typed, *UNMEASURED, f"length={steps}st"], Path(folder, name))

            if not self.warm:
                cost(SHORT, "warm-up")
                self.warm = True
            first, second = cost(SHORT, "short"), cost(LONG, "long")
        if second <= first:
            raise RuntimeError(f"{LONG} steps took {second:.1f} s of CPU and {SHORT} took {first:.1f} s; type it again")
        return (second - first) / (LONG - SHORT)

    def run(self, typed: Sequence[str], folder: Path) -> float:
        """CPU seconds of a run in a process of its own. Raises RuntimeError if it does not complete."""
        given = [f"dataset.root={self.cifar10}" if word == "dataset.root=FOLDER" else word for word in typed]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as said:
            command = [sys.executable, "-m", "ssl_runner", *given, f"hydra.run.dir={folder}"]
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                end = said.read().decode(errors="replace").splitlines()[-12:]
                raise RuntimeError("\n  ".join([f"{shlex.join(command)} exited with {process.returncode}", *end]))
        return used.ru_utime + used.ru_stime


def key_of(row: Row) -> tuple[str, str, int]:
    return row["dataset"], row["method"], row["seed"]


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(file.stem for file in (TREE / "pretext").glob("*.yaml"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="these tasks alone")
    parser.add_argument("--datasets", nargs="+", choices=[*MINUTES], default=[*MINUTES])
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows at once, a thread each (default: 1)")
    parser.add_argument("--cifar10", type=Path, metavar="FOLDER", help="CIFAR-10 as folders of images")
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--pages", action="store_true", help="write the tables of the rows that are there, run nothing")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the CPU time (default: 1); smaller to try it"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings of every run, to try it"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/results"), metavar="FOLDER", help="of the runs")
    arguments = parser.parse_args(given)
    runs = Runs(arguments)
    if arguments.pages:
        write_pages(runs.rows)
        return 0
    if "cifar10" in arguments.datasets and not (arguments.cifar10 and arguments.cifar10.is_dir()):
        parser.error(f"--cifar10: given {arguments.cifar10}; name CIFAR-10's folder, or type --datasets shapes")
    if changed := git("status", "--porcelain", "--untracked-files=no", "--", "ssl_runner", "conf").strip():
        parser.error(f"a row names the commit that it is of, and this is in none: {changed}; commit it first")
    wanted = [(m, d, s) for s in range(arguments.seeds) for d in arguments.datasets for m in arguments.only]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda each: runs.carry_out(*each), wanted))
    return int(runs.failed)


if __name__ == "__main__":
    sys.exit(main())
