"""Memory and speed of an epoch of dataset=shards through the loader: a table, and a plot of the resident memory.

    python scripts/shard_memory.py SHARDS --to memory.png [dataset setting, as in size=128 shuffle=8]

No model is trained: batches are drawn as fast as they come. Memory is that of this process and of its children, less
what they share, every half second.
"""

import os
import threading
import time
from argparse import ArgumentParser
from ast import literal_eval
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from benchmarking.loaders import children, held_mb

from ssl_runner.dataset.shards import Shards
from ssl_runner.device.placement import keep_freed_memory
from ssl_runner.duration import Duration, Length
from ssl_runner.engine.loader import Loader

EVERY = 0.5  # seconds between two samples


def memory() -> float:
    """GB of this process and of all below it."""
    return held_mb({os.getpid(), *children(os.getpid())}, "Pss") * 2**20 / 1e9


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shards")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--to", type=Path, help="a PNG")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    keep_freed_memory()  # as a run on a CPU does
    settings = {key: literal_eval(value) for key, value in (word.split("=", 1) for word in given.settings)}
    dataset = Shards(root=given.shards, **settings)
    rows = dataset.load().train
    length = Length.of(Duration(1.0, "ep"), len(rows), given.batch_size)
    loader = Loader(rows, dataset.samples, length=length, seed=0, device=torch.device("cpu"))
    assert loader.resident is None, "these rows are held in memory as a whole; choose a larger size"
    samples, done, began = [], threading.Event(), time.perf_counter()

    def watch() -> None:
        while not done.wait(EVERY):
            samples.append((time.perf_counter() - began, memory()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seen = torch.zeros(len(rows), dtype=torch.int64)
        for step in range(length.steps):
            for batch in loader.batches(step):
                seen[batch.index] += 1
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        loader.close()
    assert int(seen.max()) == 1
    count = int(seen.sum())
    print(f"{count:,} of {len(rows):,} rows, each once, in {seconds:.0f} s: {count / seconds:,.0f} a second")
    print("part of the epoch   memory, GB")
    for part in range(10):
        if inside := [gb for at, gb in samples if part <= 10 * at / seconds < part + 1]:
            print(f"{part * 10:3} to {part * 10 + 10:3} %        {min(inside):.2f} to {max(inside):.2f}")
    if given.to:
        figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
        axes.plot(*zip(*samples, strict=True))
        axes.set(xlabel="seconds of an epoch", ylabel="memory, GB", ylim=(0, None), title=f"{len(rows):,} samples")
        figure.savefig(given.to, dpi=80)


if __name__ == "__main__":
    main()
