"""Results of every pretext task under one fixed protocol: docs/results.json, a row a run, and the tables made of it.

    python scripts/results.py --cifar10 FOLDER [--only NAME ...] [--datasets shapes cifar10] [--seeds N] [--jobs N]
    python scripts/results.py --datasets grammar utterances
    python scripts/results.py --datasets grammar --only simcse --after mlm

Stages, each on one CPU thread, kNN and linear probe before and after training:
    shapes      convnet_small, 3 CPU minutes of training in bf16, batches of 128
    cifar10     convnet, 4 CPU minutes in bf16, batches of 256; FOLDER has train/CLASS/ and test/CLASS/ with images
    grammar     tasks of text as they are typed, 3 CPU minutes
    utterances  tasks of speech, and of images that serve sounds, 3 CPU minutes; ABX across speakers as well
    clinc150    tasks of text, 10 CPU minutes; FOLDER has train.jsonl, valid.jsonl and test.jsonl
    digits      as utterances, 10 CPU minutes; FOLDER has manifest.tsv, whose column speaker_split keeps speakers apart
A task of images that presumes a model, a small ViT, keeps it, has batches of 16 at half the learning rate, and on
cifar10 8 minutes. What conf/experiment/NAME_STAGE.yaml recommends for a task is laid under these settings.
--after TASK goes on from the run of that task's row, on the same data and of the same seed, which is below --out.
The length is what the time allows: CPU seconds a step are measured first, and the command in the row then says
length=Nst, so it repeats the run on any machine. Further seeds are as long as the first one's row says. A CPU without
units for bf16 can run those, or what --set length=Nst gives, with --set device.precision=float32, in more minutes.

A row is written as soon as it is there, and a run is not repeated while its row holds: its command composes to what has
the digest in the row, and golden traces of its task and optimizer and versions of its protocols are the row's commit's.
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

import result_jobs
from result_jobs import (
    FLOAT32,
    ROOT,
    SHARES,
    STAGES,
    Row,
    at_random,
    git,
    holds,
    key_of,
    measuring,
    minutes,
    resolved,
    suits,
    words,
    write_rows,
)
from result_pages import FAMILY, paper_of, write_pages, write_recipes

from ssl_runner.config.compose import TREE
from ssl_runner.run_folder.atomic import digest, read_json
from ssl_runner.run_folder.layout import SUMMARY

ROWS = ROOT / "docs" / "results.json"
PLACES = [name for name, stage in STAGES.items() if stage.lies_somewhere]
SHORT, LONG = 10, 70  # steps of the two runs whose difference is the cost of a step: seconds, as a start varies by one


class Runs:
    """Carries out runs, each in a process of its own, and keeps the rows."""

    def __init__(self, arguments: argparse.Namespace):
        self.folders = {name: getattr(arguments, name, None) for name in STAGES}
        self.scale, self.again, self.after = arguments.scale, arguments.again, arguments.after
        self.more, self.out = arguments.set, arguments.out
        self.rows: list[Row] = json.loads(ROWS.read_text()) if ROWS.exists() else []
        self.lock, self.failed, self.warm = Lock(), False, False

    def carry_out(self, method: str, dataset: str, seed: int) -> None:
        """One row, unless it is there; what goes wrong is printed."""
        more = [*self.more, *(["init=RUN"] if self.after else [])]
        typed, name = words(method, dataset, seed, more), f"{method} on {dataset}, seed {seed}"
        before = self.row_of(method, dataset, seed)
        in_bf16 = [word for word in typed if word != FLOAT32]  # which is what a row of images is meant to be in
        if before and not self.again and (holds(before, typed) or holds(before, in_bf16)):
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
            write_rows(ROWS, self.rows)
            write_pages(self.rows)
        shown = ", ".join(f"{each} {row[each]['random']:.1%} -> {row[each]['trained']:.1%}" for each in SHARES)
        print(f"{name}: {shown}, {row['steps']} steps in {row['seconds']} s of CPU", flush=True)

    def row_of(self, method: str, dataset: str, seed: int) -> Row | None:
        return next((row for row in self.rows if key_of(row) == (dataset, method, self.after, seed)), None)

    def less(self, method: str, dataset: str) -> Row:
        """What a row says of its CPU minutes if they are not the protocol's."""
        return {"minutes": round(minutes(method, dataset) * self.scale, 2)} if self.scale != 1 else {}

    def measure(self, method: str, dataset: str, seed: int, typed: list[str]) -> Row:
        """Times a step, trains as long as the budget allows, and returns the row. Raises ValueError, RuntimeError."""
        commit = git("rev-parse", "--short=10", "HEAD").strip()
        resolved(typed)  # raises before anything is run
        given = any(word.startswith("length=") for word in typed)
        final = typed if given else [*typed, self.length(method, dataset, seed, typed)]
        folder = self.out / dataset / f"{method}-{seed}-{time.strftime('%Y-%m-%d_%H-%M-%S')}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        seconds = self.run([*self.placed(final, dataset, seed), f"hydra.run.dir={folder}"])
        summary = read_json(folder / SUMMARY)
        stage = STAGES[dataset]
        if stage.unheard:
            self.run(measuring(dataset, folder))

        def shares(protocol: str, number: str) -> dict[str, float]:
            at, began = f"{protocol}/{number}", "initial" if self.after else "baseline"
            places = {"random": (began, at), "trained": ("final", at), "test": ("final", f"test/{at}")}
            places |= {"raw": ("raw", at)} if at in summary.get("raw", {}) else {}
            found = {each: round(summary[part][key], 4) for each, (part, key) in places.items()}
            return found | ({"random_test": at_random(folder, protocol, number)} if stage.unheard else {})

        return {
            "method": method,
            **({"after": self.after} if self.after else {}),
            "dataset": dataset,
            "family": FAMILY.get(method, "other"),
            "paper": paper_of(method),
            "seed": seed,
            **{each: shares(each, "top1") for each in SHARES},
            **({"abx": shares("abx", "pooled_across")} if stage.errors else {}),
            "steps": summary["steps"],
            **self.less(method, dataset),
            "samples_per_second": summary["samples_per_second"],
            "seconds": round(seconds),  # of the whole process, on its CPU thread
            "commit": commit,
            "command": shlex.join(["ssl-runner", *final]),
            "config": digest(resolved(final)),
        }

    def length(self, method: str, dataset: str, seed: int, typed: list[str]) -> str:
        """That of the first seed's row, since an interval is of equal runs; else what the time allows.

        Raises ValueError, RuntimeError.
        """
        first = self.row_of(method, dataset, 0)
        if seed and first and first.get("minutes") == self.less(method, dataset).get("minutes"):
            return f"length={first['steps']}st"
        if STAGES[dataset].kind == "image" and FLOAT32 in typed:
            raise ValueError("no row of seed 0 says how many steps its minutes in bf16 are; type --set length=Nst")
        unmeasured = [f"~evaluator.{each}" for each in STAGES[dataset].evaluators]
        step = self.cost_of_step(self.placed([*typed, *unmeasured], dataset, seed))
        return f"length={max(40, round(60 * minutes(method, dataset) * self.scale / step, -1)):.0f}st"

    def placed(self, typed: Sequence[str], dataset: str, seed: int) -> list[str]:
        """Words with folders in the place of FOLDER and RUN. Raises ValueError if there is no run to begin from."""
        begun = sorted((self.out / dataset).glob(f"{self.after}-{seed}-*")) if self.after else [Path()]
        if not begun:
            raise ValueError(f"--after {self.after}: no run is below {self.out / dataset}; carry out its row first")
        places = {"dataset.root=FOLDER": f"dataset.root={self.folders[dataset]}", "init=RUN": f"init={begun[-1]}"}
        for place, found in places.items():
            typed = [word.replace(place, found) for word in typed]
        return [*typed]

    def cost_of_step(self, typed: Sequence[str]) -> float:
        """CPU seconds, of the difference of two runs. Raises RuntimeError if the longer one costs no more.

        The first run of all also reads a cold disk and compiles modules: it is carried out once more than is counted.
        """
        with tempfile.TemporaryDirectory() as folder:

            def cost(steps: int, name: str) -> float:
                return self.run([*typed, f"length={steps}st", f"hydra.run.dir={Path(folder, name)}"])

            if not self.warm:
                cost(SHORT, "warm-up")
                self.warm = True
            first, second = cost(SHORT, "short"), cost(LONG, "long")
        if second <= first:
            raise RuntimeError(f"{LONG} steps took {second:.1f} s of CPU and {SHORT} took {first:.1f} s; type it again")
        return (second - first) / (LONG - SHORT)

    def run(self, typed: Sequence[str]) -> float:
        """CPU seconds of a command in a process of its own. Raises RuntimeError if it does not complete."""
        with tempfile.TemporaryFile() as said:
            command = [sys.executable, "-m", "ssl_runner", *typed]
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                end = said.read().decode(errors="replace").splitlines()[-12:]
                raise RuntimeError("\n  ".join([f"{shlex.join(command)} exited with {process.returncode}", *end]))
        return used.ru_utime + used.ru_stime


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(file.stem for file in (TREE / "pretext").glob("*.yaml"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="these tasks alone")
    parser.add_argument("--datasets", nargs="+", choices=[*STAGES], default=["shapes", "cifar10"])
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows at once, a thread each (default: 1)")
    for name in PLACES:
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=f"where the data of stage {name} lie")
    parser.add_argument("--after", choices=names, default="", metavar="TASK", help="begin from this task's run")
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--pages", action="store_true", help="write the tables of the rows that are there, run nothing")
    parser.add_argument("--recipes", action="store_true", help="put lengths and numbers of rows that hold into recipes")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the CPU time (default: 1); tables say so")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings of every run, to try")
    parser.add_argument("--out", type=Path, default=Path("outputs/results"), metavar="FOLDER", help="of the runs")
    arguments = parser.parse_args(given)
    runs = Runs(arguments)
    if arguments.pages or arguments.recipes:
        write_pages(runs.rows)
        if arguments.recipes:
            write_recipes([row for row in runs.rows if holds(row, words(row["method"], row["dataset"], row["seed"]))])
        return 0
    for name in (each for each in PLACES if each in arguments.datasets):
        if not ((folder := getattr(arguments, name)) and folder.is_dir()):
            parser.error(f"--{name}: given {folder}; name the folder of its data, or type --datasets shapes")
    if changed := git("status", "--porcelain", "--untracked-files=no", "--", "ssl_runner", "conf").strip():
        parser.error(f"a row names the commit that it is of, and this is in none: {changed}; commit it first")
    if untimed := result_jobs.cannot_time(arguments.datasets, arguments.set):
        parser.error(untimed)
    pairs = [(m, d) for d in arguments.datasets for m in arguments.only if suits(m, d)]
    wanted = [(*pair, seed) for seed in range(arguments.seeds) for pair in pairs]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda each: runs.carry_out(*each), wanted))
    return int(runs.failed)


if __name__ == "__main__":
    sys.exit(main())
