"""All that is to be measured on a GPU, in one command of less than ten minutes.

    python scripts/accelerator.py --out FOLDER                                        CIFAR-10, downloaded
    python scripts/accelerator.py --out FOLDER dataset=image_folder dataset.root=DIR  from a folder of images
    python scripts/accelerator.py --out FOLDER --stage speed --stage variants         a part of it

    speed      images/s of runner, limit, lightly and kornia at SimCLR, in one run (scripts/benchmark.py)
    variants   the runner's ratio to its limit without torch.compile, with it, and with CUDA graphs
    waits      whether the host waits for the device within a step, and how busy the device is
    quality    a SimCLR run with its curve of kNN, and what a linear probe says at the end

FOLDER then holds report.json, each table, the profile as a trace, and the run. A run that is worth keeping becomes a
recipe by `ssl-runner save RUN NAME`. On a CPU (`--device cpu`) it goes through the same stages, for a try.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarking.place import machine, synchronise
from benchmarking.work import Work
from torch.profiler import ProfilerActivity, profile

from ssl_runner.engine.window import Window

BENCHMARK = Path(__file__).with_name("benchmark.py")
PEERS = "limit,runner,peer-lightly,peer-kornia,peer-kornia+ours"
VARIANTS = ("false", "true", "reduce-overhead")
WARM_UP, LOOKED_AT = 10, 20  # steps
FAST = ("device.channels_last=true",)


def speed(typed: argparse.Namespace) -> Any:
    return benchmark(typed, "speed", PEERS, "device.compile=true")


def variants(typed: argparse.Namespace) -> Any:
    found = {each: benchmark(typed, f"compile-{each}", "limit,runner", f"device.compile={each}") for each in VARIANTS}
    return {each: rows["rows"] for each, rows in found.items()}


def benchmark(typed: argparse.Namespace, name: str, contestants: str, *overrides: str) -> Any:
    """One call of scripts/benchmark.py; its table goes to the terminal and its numbers to a file."""
    file = typed.out / f"{name}.json"
    command = [
        *(sys.executable, str(BENCHMARK), "--section", "speed", "--device", typed.device, "--json", str(file)),
        *("--work", f"{typed.model} simclr", "--batch", str(typed.batch), "--contestants", contestants),
        *("--seconds", str(typed.seconds), "--rounds", str(typed.rounds)),
        *(f"device.precision={typed.precision}", *FAST, *overrides),
    ]
    subprocess.run(command, check=True)
    return json.loads(file.read_text())


def waits(typed: argparse.Namespace) -> Any:
    """Steps that log nothing: torch raises where one of them makes the host wait; then a profile of as many."""
    overrides = (f"device.precision={typed.precision}", *FAST, f"device.compile={'true' if typed.compile else 'false'}")
    work = Work(typed.model, "simclr", typed.batch, device=typed.device, overrides=overrides)
    with tempfile.TemporaryDirectory() as folder:
        learner = work.trainer(Path(folder)).learner
        device, window, steps = learner.device.device, Window(), iter(range(WARM_UP + 3 * LOOKED_AT))

        def go(number: int) -> float:
            """Seconds of these steps, to the end of the last on the device."""
            began = time.perf_counter()
            for _ in range(number):
                learner.step(next(steps), window)
            synchronise(device)
            return time.perf_counter() - began

        go(WARM_UP)
        waited = where_it_waits(lambda: [learner.step(next(steps), window) for _ in range(LOOKED_AT)], device)
        alone = go(LOOKED_AT)  # without the profiler, which slows the host
        kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device.type == "cuda")]
        with profile(activities=kinds) as seen:
            go(LOOKED_AT)
    seen.export_chrome_trace(str(typed.out / "trace.json"))
    averages = seen.key_averages()
    by = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    (typed.out / "profile.txt").write_text(averages.table(sort_by=by, row_limit=40))
    busy = sum(each.self_device_time_total for each in averages) / 1e6  # seconds of kernels
    return {
        "host waits": waited,
        "milliseconds a step": 1e3 * alone / LOOKED_AT,
        "device busy, share of the time": busy / alone if device.type == "cuda" else None,
    }


def where_it_waits(run: Callable[[], Any], device: torch.device) -> str:
    """The error that names the operation at which the host waited, `no` where none did."""
    if device.type != "cuda":
        return "not looked at: only CUDA tells"
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        return f"yes: {error}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no"


def quality(typed: argparse.Namespace) -> Any:
    """From a random encoder to what the recipe's length gives; the curve is in the run's metrics.jsonl."""
    folder = typed.out / "simclr"
    command = [
        *(sys.executable, "-m", "ssl_runner", "experiment=simclr_cifar10", f"model={typed.model}"),
        *(f"batch_size={typed.batch}", f"length={typed.length}", f"device={typed.device}"),
        *(f"device.precision={typed.precision}", f"device.compile={'true' if typed.compile else 'false'}", *FAST),
        *("evaluator.knn.every=5%", "evaluator.probe.every=20%", f"hydra.run.dir='{folder}'", *typed.overrides),
    ]
    subprocess.run(command, check=True)
    summary = json.loads((folder / "summary.json").read_text())
    return {key: summary[key] for key in ("status", "seconds", "images_per_second", "baseline", "final", "test")}


STAGES = {"speed": speed, "variants": variants, "waits": waits, "quality": quality}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--stage", action="append", choices=STAGES, help="again for more; by default all")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--precision", default="bf16", choices=("float32", "bf16"))
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="in waits and quality")
    parser.add_argument("--length", default="200ep", help="of the run for quality")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a contestant's turn")
    parser.add_argument("overrides", nargs="*", help="of the run for quality, as in dataset=image_folder")
    typed = parser.parse_intermixed_args(words)
    typed.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(typed.device)}
    print(report["machine"])
    failed = False
    for name in typed.stage or STAGES:
        began = time.perf_counter()
        try:
            report[name] = STAGES[name](typed)
        except subprocess.CalledProcessError as error:  # it has said why; the other stages can still be had
            report[name], failed = f"failed with status {error.returncode}", True
        print(f"{name}: {time.perf_counter() - began:.0f} s", json.dumps(report[name], indent=2), sep="\n")
        (typed.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
