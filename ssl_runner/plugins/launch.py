"""Jobs of a sweep handed to a launcher plugin of Hydra's, and news of them.

The plugin runs in a process of its own: it waits for its last job without a word, sets up logging, and warns of what
is old in it; none of that concerns the sweep. News comes by files, for the jobs may be on other machines.
"""

import contextlib
import copy
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ssl_runner.plugins.chosen import Plugin
from ssl_runner.plugins.supervisor import BEAT, HALT, LOOK, RUNNING, Supervisor
from ssl_runner.run_folder.lock import held

REPORTS = ".launch-"  # begins the name of the folder where jobs say how they are
LOG = "launcher.log"  # what the plugin says
SILENT = 60 * LOOK * BEAT  # seconds without a sign of life after which a job is dead whose launcher has died
PATIENCE = 10.0  # seconds for a plugin to end when its jobs have
News = tuple[int, int | None]  # a job's place in the list, and its exit status, or None where it has begun


class LauncherFailed(Exception):
    """The plugin ended without beginning a job."""


def launch(
    plugin: Plugin,
    folder: Path,
    jobs: Sequence[Path],
    work: Callable[[str], None],
    halted: Callable[[], bool] = lambda: False,
) -> Iterator[list[News]]:
    """Yields, at each look, which jobs have begun and which have ended since the last one.

    `folder`: the sweep's. `jobs`: run folders with a config.yaml each. `work`: a function of a module, or a partial of
    one; called in a new process with a run folder, it carries the run out and ends the process with the exit status.
    Once `halted` says so, no other job begins and the running ones save and end; what has not begun then has no news.
    Raises LauncherFailed.
    """
    clear(folder, jobs)
    left = dict(enumerate(str(each.resolve()) for each in jobs))
    while left and not halted():
        with tempfile.TemporaryDirectory(prefix=REPORTS, dir=folder, ignore_cleanup_errors=True) as reports:
            supervisor = Supervisor(tuple(str(each.resolve()) for each in jobs), str(Path(reports).resolve()), work)
            spawn = multiprocessing.get_context("spawn")
            process = spawn.Process(target=hand_over, args=(plugin, str(folder.resolve()), list(left), supervisor))
            process.start()
            begun: set[int] = set()
            try:
                for news in followed(process, Path(reports), halted):
                    begun |= {number for number, _ in news}
                    yield news
                process.join(PATIENCE)
            finally:
                (Path(reports) / HALT).touch()
                assert process.pid is not None
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGTERM)  # the plugin and its workers, which tell their jobs
                process.kill()
                process.join()
        left = {number: path for number, path in left.items() if number not in begun}
        if left and not begun and not halted():
            said = last_line(folder / LOG) or "it said nothing"
            raise LauncherFailed(f"{plugin.name}: {said} (more in {folder / LOG})")


def followed(process: BaseProcess, reports: Path, halted: Callable[[], bool]) -> Iterator[list[News]]:
    """The news until every job that was begun has ended and the launcher has, or was told to halt."""
    states: dict[int, str] = {}
    changed: dict[int, float] = {}
    while True:
        alive = process.is_alive()
        if halted():
            (reports / HALT).touch()
        news: list[News] = []
        for number, state in sorted(read(reports).items()):
            if state != states.get(number):
                changed[number] = time.monotonic()
                if number not in states:
                    news.append((number, None))
                if not state.startswith(RUNNING):
                    news.append((number, int(state)))
                states[number] = state
        running = [number for number, state in states.items() if state.startswith(RUNNING)]
        if not alive:
            for number in [each for each in running if time.monotonic() - changed[each] > SILENT]:
                news.append((number, -signal.SIGKILL))
                states[number] = str(-signal.SIGKILL)
                running.remove(number)
        yield news
        if not running and (halted() or not alive):
            return
        if alive:
            process.join(LOOK)
        else:
            time.sleep(LOOK)


def read(reports: Path) -> dict[int, str]:
    """What jobs have said last, by number."""
    return {int(file.name): file.read_text() for file in reports.iterdir() if file.name.isdecimal()}


def clear(folder: Path, jobs: Sequence[Path], patience: float = 120.0) -> None:
    """Has the jobs of an earlier launch save and end whose sweep was killed, and waits until their folders are free."""
    left = release(folder)
    until = time.monotonic() + patience
    while left and any(map(held, jobs)) and time.monotonic() < until:
        time.sleep(LOOK)


def release(folder: Path) -> list[Path]:
    """Has those jobs save and end. Returns the folders of their reports, which are gone."""
    left = list(folder.glob(f"{REPORTS}*"))
    for each in left:
        shutil.rmtree(each, ignore_errors=True)
    return left


def hand_over(plugin: Plugin, folder: str, numbers: Sequence[int], supervisor: Supervisor) -> None:
    """In the launcher's process: has the plugin run the jobs of these numbers."""
    os.setpgid(0, 0)  # Ctrl-C is for the sweep, which says when to halt
    threading.Thread(target=end_with_parent, args=(plugin, supervisor.reports), daemon=True).start()
    with (Path(folder) / LOG).open("a") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    context = HydraContext(config_loader=Numbered(), callbacks=Callbacks())  # type: ignore[arg-type]
    launcher = Plugins.instance().instantiate_launcher(context, supervisor, composed(plugin, folder))
    try:
        launcher.launch([[str(number)] for number in numbers], initial_job_idx=0)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)  # joblib's idle workers would be waited for, for minutes


def end_with_parent(plugin: Plugin, reports: str) -> None:
    """Where the sweep was killed, its jobs on this machine save and end; Slurm's go on, and sweep.resume ends them."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        if plugin.name != "submitit_slurm":
            with contextlib.suppress(OSError):
                (Path(reports) / HALT).touch()
        os.killpg(0, signal.SIGTERM)  # this process, and workers that have no job


def composed(plugin: Plugin, folder: str) -> DictConfig:
    """Hydra's own config with the plugin in it: no folder or log file of Hydra's, and no other working folder."""
    from hydra.conf import HydraConf, JobConf, SweepDir

    quiet: dict[str, Any] = {"version": 1, "root": None}  # with a root, Hydra would replace all handlers
    settings = HydraConf(
        sweep=SweepDir(dir=folder.replace("${", "\\${"), subdir="."),
        hydra_logging=quiet,
        job_logging=quiet,
        output_subdir=None,
        job=JobConf(name="ssl-runner", chdir=False),
    )
    setattr(settings, plugin.kind, plugin.settings)
    config = OmegaConf.create({"hydra": OmegaConf.structured(settings), "job": None})
    assert isinstance(config, DictConfig)
    OmegaConf.set_struct(config, True)
    return config


class Numbered:
    """Composes a job's config in a worker: its number is all there is to it.

    Hydra's own loader would look for YAML files on the worker's machine and parse folder names as overrides.
    """

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        config = copy.deepcopy(master_config)
        OmegaConf.set_readonly(config.hydra, False)
        with open_dict(config):
            config.job = int(sweep_overrides[0])
        return config


def last_line(path: Path) -> str:
    """The last line that says something; empty where none does."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
