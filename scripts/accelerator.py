"""All that is to be measured on a GPU, in two commands.

    python scripts/accelerator.py --out FOLDER                    speed, waits, variants: about 8 minutes on an H100
    python scripts/accelerator.py --out FOLDER --stage quality    CIFAR-10, downloaded: about 10 minutes more
    python scripts/accelerator.py --out FOLDER --stage quality dataset=image_folder dataset.root=DIR
    python scripts/accelerator.py --out FOLDER --device cpu --model convnet_small --batch 64 --length 1ep \\
        --compile false --stage speed --stage waits --stage quality dataset=shapes                  a try on a CPU

    speed      images/s of runner, limit, lightly and kornia at SimCLR in one run (scripts/benchmark.py), compiled
    waits      whether the host waits for the device within a step, and how busy the device is
    variants   the same uncompiled, with the peers by themselves; and runner and limit with CUDA graphs
    quality    a SimCLR run with its curve of kNN, and what a linear probe says at the end

The minutes are estimates: nothing of this has been timed. --minutes, counted from the start of the command, ends what
takes longer, and what there is until then is reported: of a run what its metrics.jsonl has, and it can be resumed.

FOLDER then holds report.json, to which a second command adds its stages; each table; the profile as a trace; the runs.
A stage that fails leaves FOLDER/STAGE-failed.txt, and the others go on.

`quality` trains on 45,000 of CIFAR-10's 50,000 images: a tenth is the validation set, which the curve is measured on.
The shortest run to 90 % linear probe: `--stage quality --length 200ep --length 400ep --length 800ep --minutes 90`, a
run each, of which the first whose probe is at 0.9 is it. A run that is worth keeping becomes a recipe by
`ssl-runner save RUN NAME`.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from benchmarking.choices import present
from benchmarking.place import machine, synchronise
from benchmarking.turns import ratio
from benchmarking.work import Work
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ssl_runner.config.compose import Composer
from ssl_runner.run.preflight import read_job
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.run_folder.summary import read_summary

BENCHMARK = Path(__file__).with_name("benchmark.py")
PEERS = ("limit", "runner", "peer-lightly", "peer-kornia", "peer-lightly+ours", "peer-kornia+ours")
AIMS = {"limit": 0.9, "peer-lightly": 10.0, "peer-kornia": None}  # the runner's images/s to theirs
WARM_UP, LOOKED_AT = 10, 20  # steps
EPOCH = 25  # steps: one ends among those that are looked at, and one among those that are profiled
FAST = ("device.channels_last=true",)
DEFAULT = ("speed", "waits", "variants")
CURVES = ("knn/top1", "probe/top1")
KEPT = ("status", "step", "steps", "seconds", "samples_per_second", "final")  # of a run's summary


class Late(Exception):
    """A stage was ended, since the time was over."""


def speed(typed: argparse.Namespace) -> Iterator[Any]:
    compiled = "false" if typed.compile == "false" else "true"
    yield benchmark(typed, "speed", PEERS, typed.rounds, f"device.compile={compiled}")


def variants(typed: argparse.Namespace) -> Iterator[Any]:
    few = min(3, typed.rounds)
    found = {"uncompiled": benchmark(typed, "uncompiled", PEERS, few, "device.compile=false")}
    yield found
    if typed.compile != "false":
        found["CUDA graphs"] = benchmark(typed, "graphs", PEERS[:2], few, "device.compile=reduce-overhead")
        yield found


def benchmark(
    typed: argparse.Namespace, name: str, contestants: Iterable[str], rounds: int, *overrides: str
) -> dict[str, Any]:
    """One call of scripts/benchmark.py; its table goes to the terminal and a file, its numbers to another file."""
    file = typed.out / f"{name}.json"
    file.unlink(missing_ok=True)
    command = [
        *(sys.executable, str(BENCHMARK), "--section", "speed", "--device", typed.device, "--json", str(file)),
        *("--work", f"{typed.model} simclr", "--batch", str(typed.batch), "--contestants", ",".join(contestants)),
        *("--seconds", str(typed.seconds), "--rounds", str(rounds)),
        *(f"device.precision={typed.precision}", *FAST, *overrides),
    ]
    carry_out(command, typed, name)
    found = json.loads(file.read_text())
    rounds_of = next(iter(found["speed"]["rounds"].values()), {})
    return {"ratios": ratios(rounds_of), "rows": found["rows"], "skipped": found["speed"]["skipped"]}


def ratios(rounds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Of the runner's images/s to those of others; `met` is None where nothing is aimed at."""
    found = []
    for name, aim in AIMS.items():
        if {"runner", name} <= rounds.keys():
            measured = ratio(rounds[name], rounds["runner"])
            met = None if aim is None else measured >= aim
            found.append(
                {"ratio": f"runner/{name.removeprefix('peer-')}", "measured": measured, "aim": aim, "met": met}
            )
    return found


def waits(typed: argparse.Namespace) -> Iterator[Any]:
    """Steps that log nothing: torch raises where one of them makes the host wait; then a profile of as many."""
    overrides = (f"device.precision={typed.precision}", *FAST, f"device.compile={typed.compile}")
    work = Work(typed.model, "simclr", typed.batch, EPOCH * typed.batch, typed.device, overrides)
    with tempfile.TemporaryDirectory() as folder:
        learner = work.trainer(Path(folder)).learner
        device, steps = learner.device.device, iter(range(WARM_UP + 3 * LOOKED_AT))

        def go(number: int) -> float:
            """Seconds of these steps, to the end of the last on the device."""
            began = time.perf_counter()
            for _ in range(number):
                learner.step(next(steps))
            synchronise(device)
            return time.perf_counter() - began

        go(WARM_UP)
        waited = where_it_waits(lambda: [learner.step(next(steps)) for _ in range(LOOKED_AT)], device)
        synchronise(device)
        alone = go(LOOKED_AT)  # without the profiler, which slows the host
        kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device.type == "cuda")]
        with profile(activities=kinds) as seen:
            go(LOOKED_AT)
    seen.export_chrome_trace(str(typed.out / "trace.json"))
    averages = seen.key_averages()
    by = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    (typed.out / "profile.txt").write_text(averages.table(sort_by=by, row_limit=40))
    yield {
        "host waits": waited,
        "milliseconds a step": 1e3 * alone / LOOKED_AT,
        "device busy, share of the time": device_seconds(averages) / alone if device.type == "cuda" else None,
    }


def device_seconds(averages: Iterable[Any]) -> float:
    """Seconds of kernels and copies. The operations that called them have the same time again, and so have ranges that
    a user or an optimizer has named."""
    return (
        sum(
            each.self_device_time_total
            for each in averages
            if each.device_type == DeviceType.CUDA and not each.is_user_annotation
        )
        / 1e6
    )  # from microseconds


def where_it_waits(run: Callable[[], Any], device: torch.device) -> str:
    """The error that names the operation at which the host waited, `no` where none did. Raises what is no wait."""
    if device.type != "cuda":
        return "not looked at: only CUDA tells"
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return f"yes: {error}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no"


def quality(typed: argparse.Namespace) -> Iterator[Any]:
    """From a random encoder to what each length gives, a run each; the curve is in the run's metrics.jsonl."""
    found: dict[str, Any] = {}
    for length in typed.length:
        folder = free(typed.out / f"simclr-{length}")
        command = [sys.executable, "-m", "ssl_runner", *asked(typed, length), f"hydra.run.dir='{folder}'"]
        late = None
        try:
            carry_out(command, typed, folder.name)
        except (Late, subprocess.CalledProcessError) as error:
            if not (folder / "metrics.jsonl").exists():
                raise
            late = error
        found[length] = result(folder) | ({"ended": str(late)} if late else {})
        yield found
        if late:
            raise late


def asked(typed: argparse.Namespace, length: str) -> list[str]:
    """The overrides of a run for quality; what was typed comes last, and so holds."""
    return [
        *("pretext=simclr", "dataset=cifar10", "optimizer.lr=0.002", "log_every=100st"),
        *(f"model={typed.model}", f"batch_size={typed.batch}", f"length={length}"),
        *(f"device={typed.device}", f"device.precision={typed.precision}", f"device.compile={typed.compile}", *FAST),
        *("evaluator.knn.every=5%", "evaluator.probe.every=20%", *typed.overrides),
    ]


def result(folder: Path) -> dict[str, Any]:
    """What a run's summary says, and its curves by epoch, from the random encoder on; of what there is so far."""
    summary, rows = read_summary(folder), read_rows(folder / "metrics.jsonl")
    curves = {name: {f"{row['epoch']:.4g}": row[name] for row in rows if name in row} for name in CURVES}
    return {"run": str(folder), **{key: summary[key] for key in KEPT if key in summary}, "by epoch": curves}


def free(folder: Path) -> Path:
    """This folder, or the first of FOLDER-2, FOLDER-3, ... that is not there."""
    return next(each for n in itertools.count(1) if not (each := folder if n == 1 else Path(f"{folder}-{n}")).exists())


def carry_out(command: list[str], typed: argparse.Namespace, name: str) -> None:
    """Runs a command, its output to the terminal and to FOLDER/NAME.txt.

    Raises Late where the time is over, after the command was asked to end and had a minute to do so, and
    CalledProcessError where it failed.
    """
    environment, left = {**os.environ, "COLUMNS": "120"}, typed.deadline - time.monotonic()
    if left <= 0:
        raise Late(f"not begun, the {typed.minutes:g} minutes were over; type a larger --minutes")
    with (typed.out / f"{name}.txt").open("w") as copy:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, errors="replace"
        )
        late = threading.Event()

        def end() -> None:
            late.set()
            send(process, signal.SIGTERM)

        alarms = [threading.Timer(left, end), threading.Timer(left + 60, send, [process, signal.SIGKILL])]
        for alarm in alarms:
            alarm.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                copy.write(line)
            process.wait()
        finally:
            for alarm in alarms:
                alarm.cancel()
            send(process, signal.SIGKILL)  # what it may have left
            process.communicate()
    if late.is_set():
        raise Late(f"after {typed.minutes:g} minutes; type a larger --minutes")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def send(process: subprocess.Popen, number: int) -> None:
    """To the process and to those that it has begun."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


STAGES = {"speed": speed, "waits": waits, "variants": variants, "quality": quality}


def mistakes(typed: argparse.Namespace) -> list[str]:
    """What cannot be, before anything is begun."""
    stages = typed.stage
    if typed.rounds < 1 or typed.seconds <= 0 or typed.minutes <= 0:
        return ["--rounds, --seconds and --minutes: possible are numbers above 0"]
    if typed.overrides and "quality" not in stages:
        return [f"{' '.join(typed.overrides)}: overrides are of the run for quality; type --stage quality"]
    try:
        machine(typed.device)
        work = Work(typed.model, "simclr", typed.batch, device=typed.device, overrides=(*FAST,))
        work.job()
    except ValueError as error:
        return str(error).splitlines()
    if "quality" not in stages:
        return []
    found = []
    for length in typed.length:
        composed = Composer().compose(asked(typed, length))
        found += composed.problems or read_job(composed.content)[1]
    return list(dict.fromkeys(found))


def main(words: list[str] | None = None) -> int:
    typed = arguments().parse_intermixed_args(words)
    typed.stage = list(dict.fromkeys(typed.stage or DEFAULT))
    typed.length = list(dict.fromkeys(typed.length or ["200ep"]))
    typed.minutes = typed.minutes or (30.0 if "quality" in typed.stage else 10.0)
    typed.deadline = time.monotonic() + 60 * typed.minutes
    typed.out = typed.out.absolute()
    if wrong := mistakes(typed):
        print(f"accelerator: {'; '.join(wrong)}", file=sys.stderr)
        return 2
    typed.out.mkdir(parents=True, exist_ok=True)
    file, report = typed.out / "report.json", {}
    with suppress(OSError, ValueError):  # there is none yet, or it is torn
        report = json.loads(file.read_text())
    report["machine"] = machine(typed.device)
    for line in [report["machine"], *present(PEERS)[1]]:
        print(line)
    failed = False
    for name in typed.stage:
        began = time.monotonic()
        report.pop(name, None)
        try:
            for found in STAGES[name](typed):
                report[name] = found
                file.write_text(json.dumps(report, indent=2) + "\n")
        except Exception as error:
            failed = True
            line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            report[name] = {**report.get(name, {}), "failed": line}
            (typed.out / f"{name}-failed.txt").write_text(traceback.format_exc())
        file.write_text(json.dumps(report, indent=2) + "\n")
        print(f"{name}: {time.monotonic() - began:.0f} s", json.dumps(report[name], indent=2), sep="\n", flush=True)
    return int(failed)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--stage", action="append", choices=STAGES, help=f"again for more; by default {', '.join(DEFAULT)}"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--precision", default="bf16", choices=("float32", "bf16"))
    parser.add_argument(
        "--compile",
        default="true",
        choices=("false", "true", "reduce-overhead"),
        help="in waits and quality; false: nowhere",
    )
    parser.add_argument("--length", action="append", help="of the run for quality, by default 200ep; again for more")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a contestant's turn")
    parser.add_argument("--minutes", type=float, help="that this command may take: by default 10, with quality 30")
    parser.add_argument("overrides", nargs="*", help="of the run for quality, as in dataset=image_folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
