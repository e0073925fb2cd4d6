"""Samples a second of the loader alone: images kept or decoded on demand, beside torch's DataLoader and its peers.

    python scripts/loader.py FOLDER [--size 64] [--batch 256] [--workers 2] [--rounds 7] [--shards SHARDS]

FOLDER is read as dataset=image_folder reads it, SHARDS as dataset=shards does. All decode with the same function and
take turns, A B B A; the table has the median of samples/s with least and most, and of the ratio to torch's DataLoader
within each round, which the machine's noise disturbs less; the time of all cores a sample it disturbs least. Memory is
of a contestant's processes, after the first turn and after the last. Peers that are not installed (webdataset, litdata)
are left out.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarking.loaders import PEERS, Contestant, children, held_mb

from ssl_runner.dataset.image_folder import ImageFolder
from ssl_runner.duration import Length
from ssl_runner.engine.loader import Loader

SECONDS = 2.0  # of a turn
ENDLESS = 10**7  # steps

Rounds = dict[str, list[float]]  # a number of each contestant in each round


def ours(dataset: Any, batch: int) -> Contestant:
    """The runner's loader on a dataset of it."""
    data = dataset.load()
    length = Length(ENDLESS, max(1, len(data.train) // batch), batch)
    loader = Loader(data.train, dataset.samples, length=length, seed=0, device=torch.device("cpu"))
    steps = (each.x for step in range(ENDLESS) for each in loader.batches(step))
    return Contestant(steps, loader.close)


def shards(given: dict[str, Any], root: Path) -> Any:
    from ssl_runner.dataset.shards import Shards

    return Shards(**given | {"root": str(root)})


def contestants(typed: argparse.Namespace, cache: Path) -> Iterator[tuple[str, Callable[[], Contestant]]]:
    given = {"root": str(typed.folder), "size": typed.size, "validation": 0.0, "test": 0.0, "cache": str(cache)}

    def folder(**settings: Any) -> Callable[[], Contestant]:
        return lambda: ours(ImageFolder(**given | settings), typed.batch)

    yield "runner, kept", folder(stream=False)
    yield "runner, on demand", folder(stream=True, workers=typed.workers)
    yield "runner, on demand, threads", folder(stream=True, workers=0)
    if typed.shards:
        yield "runner, shards", lambda: ours(shards(given | {"workers": typed.workers}, typed.shards), typed.batch)
    paths = sorted(each for each in typed.folder.rglob("*") if each.suffix == ".jpg")
    for name, peer in PEERS.items():
        yield name, lambda peer=peer: peer(paths, typed.size, typed.batch, typed.workers, cache)


def measure(built: dict[str, Contestant], rounds: int, batch: int) -> tuple[Rounds, Rounds, Rounds]:
    """Samples a second, milliseconds of all cores a sample, and MB."""
    speeds, busy, memory = ({name: [] for name in built} for _ in range(3))
    for number in range(rounds + 1):  # the first round is not counted: processes start, files come into memory
        for name in list(built)[:: -1 if number % 2 else 1]:
            count, took, cores = built[name].turn(SECONDS)
            if number:
                speeds[name].append(count * batch / took)
                busy[name].append(1000 * cores / (count * batch))
            memory[name].append(held_mb(built[name].processes))
    return speeds, busy, memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--shards", type=Path)
    for name, default in {"size": 64, "batch": 256, "workers": 2, "rounds": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    typed = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        built = {}
        for name, build in contestants(typed, Path(cache)):
            before = children(os.getpid())
            try:
                built[name] = build()
            except ImportError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                continue
            next(built[name].steps)
            built[name].processes = children(os.getpid()) - before
        speeds, busy, memory = measure(built, typed.rounds, typed.batch)
        for each in built.values():
            each.close()
    reference = speeds["torch DataLoader"]
    print("| loader | samples/s | least to most | to torch DataLoader | CPU ms a sample | MB at first, at last |")
    print("|---|---|---|---|---|---|")
    for name, found in speeds.items():
        to = statistics.median(a / b for a, b in zip(found, reference, strict=True))
        row = [f"{statistics.median(found):,.0f}", f"{min(found):,.0f} to {max(found):,.0f}", f"{to:.2f}"]
        row += [f"{statistics.median(busy[name]):.3f}", f"{memory[name][0]:,.0f}, {memory[name][-1]:,.0f}"]
        print(f"| {' | '.join([name, *row])} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
