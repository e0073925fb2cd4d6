"""Jobs on other people's launchers: joblib, Slurm, Ray."""

from collections.abc import Sequence
from functools import partial

from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.plugins.chosen import Plugin
from ssl_runner.plugins.launch import launch
from ssl_runner.sweep.ledger import Entry
from ssl_runner.sweep.monitor import Watch
from ssl_runner.sweep.worker import work


class HandedOver:
    """A launcher of Hydra's in the place of the queue."""

    def __init__(self, watch: Watch, todo: Sequence[Entry], plugin: Plugin):
        self.watch, self.todo, self.plugin = watch, list(todo), plugin

    def carry_out(self) -> int | None:
        """Returns the signal that ended it, or None where no job is left to do. Raises LauncherFailed."""
        running: list[Entry] = []
        folders = [self.watch.folder(entry) for entry in self.todo]
        job = partial(work, threads=self.watch.settings.threads, visible=None)
        with Interrupt() as interrupt:

            def halted() -> bool:
                return interrupt.signal is not None or self.watch.must_stop

            for news in launch(self.plugin, self.watch.ledger.folder, folders, job, halted):
                for place, status in news:
                    entry = self.todo[place]
                    if status is None:
                        running.append(entry)
                        self.watch.begun(entry)
                    else:
                        running.remove(entry)
                        self.watch.ended(entry, status)
                for entry in running:
                    self.watch.follow(entry)
                self.watch.tell()
        return interrupt.signal
