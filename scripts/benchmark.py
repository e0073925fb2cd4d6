"""Images a second of the runner against a bare loop on the same model, side by side in one run.

    python scripts/benchmark.py                     the table that README.md quotes
    python scripts/benchmark.py --quick --json f    fewer rounds, and the numbers as JSON

`limit` is forward, backward and optimizer step on views that were made beforehand. `runner` is the job as a user runs
it: loader, views, regulariser and logging. They alternate, round by round; the table shows medians of images/s and of
the ratio in each round, which the machine's noise disturbs less than either number.
"""

import argparse
import io
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ssl_runner import job as jobs
from ssl_runner.config import Composer
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import Logbook, read
from ssl_runner.engine.trainer import Trainer

WORK = [("convnet", "rotation"), ("convnet", "simclr"), ("convnet_small", "rotation"), ("convnet_small", "simclr")]


def trainer(
    composer: Composer, model: str, pretext: str, batch: int, steps: int, folder: Path, more: list[str]
) -> Trainer:
    overrides = [
        f"pretext={pretext}",
        f"model={model}",
        f"batch_size={batch}",
        f"length={steps}st",
        f"log_every={LOG}st",
    ]
    composed = composer.compose([*overrides, "evaluator=none", "save_every=100%", "show_every=100%", *more])
    job, problems = jobs.read(composed.content)
    if job is None or problems:
        raise SystemExit("\n".join(composed.problems + problems))
    dataset = job.dataset.build()
    return jobs.trainer(job, dataset, DATA.setdefault(model, dataset.load()), folder, Console(file=io.StringIO()), {})


LOG = 5  # steps of a log line; the first window warms up and is left out
DATA: dict = {}


def limit(made: Trainer, steps: int) -> float:
    """Images a second of a bare loop on the trainer's own modules and one prepared batch."""
    learner = made.learner
    (batch,) = learner.loader.batches(0)
    views = learner.views(batch, 0, learner.main)
    (optimizer,) = learner.optimizers.values()

    def step() -> None:
        with learner.device.autocast():
            loss = learner.score(views)
        loss.value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(LOG):
        step()
    synchronise(made)
    began = time.perf_counter()
    for _ in range(steps - LOG):
        step()
    synchronise(made)
    return (steps - LOG) * len(batch.x) / (time.perf_counter() - began)


def runner(made: Trainer) -> float:
    """Images a second of the real loop, by its own metrics.jsonl."""
    book = Logbook(made.folder)
    made.fit(0, book, Interrupt())
    book.close()
    rows = [row for row in read(made.folder / "metrics.jsonl") if "train/loss" in row or "train/accuracy" in row]
    return statistics.median(row["speed/images_per_second"] for row in rows[1:])


def synchronise(made: Trainer) -> None:
    if made.learner.device.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 15 steps of the first two works")
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", help="of every job, as in device.channels_last=true")
    typed = parser.parse_intermixed_args()
    rounds, steps, work = (3, 15, WORK[:2]) if typed.quick else (typed.rounds, typed.steps, WORK)
    composer, rows = Composer(), []
    for model, pretext in work:
        speeds: dict[str, list[float]] = {"limit": [], "runner": []}
        for number in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                made = trainer(composer, model, pretext, typed.batch, steps, Path(folder), typed.overrides)
                order = ("limit", "runner") if number % 2 == 0 else ("runner", "limit")
                for contestant in order:
                    speed = limit(made, steps) if contestant == "limit" else runner(made)
                    speeds[contestant].append(speed)
        ratios = [a / b for a, b in zip(speeds["runner"], speeds["limit"], strict=True)]
        for contestant, found in speeds.items():
            ratio = 1.0 if contestant == "limit" else statistics.median(ratios)
            row = {"work": f"{model} {pretext}", "contestant": contestant}
            rows.append({**row, "images_per_second": statistics.median(found), "ratio": ratio})
    device = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    table = Table("work", "contestant", "images/s", "ratio to limit", title=device, box=None)
    for row in rows:
        table.add_row(row["work"], row["contestant"], f"{row['images_per_second']:,.0f}", f"{row['ratio']:.3f}")
    Console().print(table)
    if typed.json:
        typed.json.write_text(json.dumps({"machine": device, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
