"""Section `startup`: seconds from the command to its help, to a refused typo, and to the first step of training.

`cpu` is the processor time of the same process, which other work on the machine disturbs little. The first step is
there when its loss is in metrics.jsonl (log_every=1st); once with the default job, which renders its images and
measures the random encoder first, and once with little data and no evaluator.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarking.settings import Settings

SHORT = ("dataset.images=1000", "dataset.test=0", "evaluator=none")


def measure(settings: Settings, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    device = [f"device={settings.device}", *settings.overrides]
    commands: dict[str, list[str]] = {
        "--help": ["--help"],
        "refused typo": ["pretext=simclar"],
        "first step, short job": [*device, *SHORT],
    }
    if not settings.quick:
        commands["first step, default job"] = device
    imports = {name: imports_torch(words) for name, words in commands.items() if "step" not in name}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    rounds = 3 if settings.quick else settings.rounds
    for number in range(rounds):
        for name, words in commands.items():
            if settings.quick and number and "step" in name:  # once, as it takes some seconds
                continue
            tell(f"start-up, round {number + 1} of {rounds}: {name}")
            times[name].append(to_first_step(words) if "step" in name else to_end(words))
    return [
        {
            "command": name,
            "seconds": statistics.median(wall for wall, _ in found),
            "cpu_seconds": statistics.median(cpu for _, cpu in found),
            "imports_torch": imports.get(name, True),
        }
        for name, found in times.items()
    ]


def command(words: list[str]) -> list[str]:
    script = shutil.which("ssl-runner", path=str(Path(sys.executable).parent))
    return [script, *words] if script else [sys.executable, "-m", "ssl_runner", *words]


def started(words: list[str], folder: str) -> subprocess.Popen:
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ended(process: subprocess.Popen) -> float:
    """Processor seconds of a process, once it has ended."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def to_end(words: list[str]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        cpu = ended(started(command(words), folder))
        return time.perf_counter() - began, cpu


def to_first_step(words: list[str]) -> tuple[float, float]:
    """Raises RuntimeError where the run ends before."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        own = ["length=100000st", "log_every=1st", "save_every=100%", "show_every=100%", f"hydra.run.dir={run}"]
        began = time.perf_counter()
        process = started(command([*words, *own]), folder)
        metrics = run / "metrics.jsonl"
        while not (metrics.exists() and '"train/' in metrics.read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(words)} ended with {process.returncode} before its first step")
            time.sleep(0.005)
        took = time.perf_counter() - began
        process.kill()
        return took, ended(process)


def imports_torch(words: list[str]) -> bool:
    code = f"import sys; from ssl_runner.__main__ import main; main({words!r}); sys.exit(7 * ('torch' in sys.modules))"
    with tempfile.TemporaryDirectory() as folder:
        process = started([sys.executable, "-c", code], folder)
        return process.wait() == 7


def tables(found: list[dict[str, Any]]) -> list[Table]:
    table = Table("start-up", "seconds", "cpu", "imports torch", box=None)
    for row in found:
        numbers = (f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}", "yes" if row["imports_torch"] else "no")
        table.add_row(row["command"], *numbers)
    return [table]
