"""Console and run.log: log lines of a run, and on a terminal a live line below them."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ssl_runner.engine.levels import attached
from ssl_runner.errors import Refused
from ssl_runner.run_folder.atomic import at_once
from ssl_runner.run_folder.layout import LOG

log = logging.getLogger("ssl_runner")


class Terminal(Console):
    """Standard output as it is given, without markup. A reader that closes it, as `| head` does, ends nothing."""

    live: Live | None = None  # the line below what is printed
    shared: bool = False  # whether it is that of a training run, in which phases only draw

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, **options)

    def draw(self, text: str) -> None:
        """Shows a live line in the place of the one before; without text there is none. On a terminal alone."""
        if self.live is None and text and self.is_terminal:
            self.live = live_line(self)
            self.live.start()
        elif self.live is not None and not text and not self.shared:
            self.live.stop()
            self.live = None
        if self.live is not None:
            self.live.update(styled(text), refresh=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def live_line(console: Console) -> Live:
    return Live(console=console, auto_refresh=False, transient=True)


def styled(text: str) -> Text:
    return Text(text, style="cyan", no_wrap=True, overflow="ellipsis")


class ConsoleHandler(logging.Handler):
    """Prints messages; routine ones only if no live line shows the same."""

    def __init__(self, console: Console):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "live", False):
            if isinstance(self.console, Terminal):
                self.console.draw(record.getMessage())
            return
        if getattr(record, "routine", False) and self.console.is_terminal:
            return
        style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > logging.WARNING else None
        text = record.getMessage()  # without a traceback: that is in run.log
        if record.levelno != logging.INFO:
            text = f"{record.levelname.lower()}: {text}"
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


class RunLogHandler(logging.FileHandler):
    """Appends messages to a file, as long as the disk takes them."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", opener=at_once)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the console has the message, and what the disk refuses the run itself will say."""


class Journal(MemoryHandler):
    """Buffers messages until a run folder is there, whose run.log then gets them all, and later ones at once."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix`: begins each line; routine ones have none, and with a prefix they are left out."""
        super().__init__(capacity=1, flushLevel=logging.NOTSET)  # without a target, what is flushed stays in the buffer
        self.prefix = prefix.replace("%", "%%")
        self.addFilter(lambda record: not getattr(record, "live", False))
        self.setLevel(logging.WARNING if prefix else logging.NOTSET)

    def attach(self, folder: Path) -> None:
        """Raises OSError."""
        file = RunLogHandler(folder / LOG, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(
            logging.Formatter(f"%(asctime)s %(levelname)-7s {self.prefix}%(message)s", "%Y-%m-%d %H:%M:%S")
        )
        self.setTarget(file)
        self.flush()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Records what ends the body in the file alone; whoever called says it on the console."""
        try:
            yield
        except Exception as reason:
            trace = None if isinstance(reason, Refused) else (type(reason), reason, reason.__traceback__)
            self.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "did not begin: %s", (reason,), trace))
            raise

    def close(self) -> None:
        file = self.target
        super().close()
        if file is not None:
            file.close()


@contextmanager
def journal(console: Console, prefix: str = "") -> Iterator[Journal]:
    """The logger's handlers for one job. `prefix`: of a process beside the one that writes; begins its lines."""
    handlers = (ConsoleHandler(console), book := Journal(prefix))
    before, threading.excepthook = threading.excepthook, report_dead_thread
    try:
        with attached(*handlers):
            yield book
    finally:
        threading.excepthook = before
        if isinstance(console, Terminal):
            console.draw("")  # of a phase that was broken off
        for handler in handlers:
            with suppress(OSError):  # a full disk does not take the last lines either
                handler.close()


def report_dead_thread(died: threading.ExceptHookArgs) -> None:
    """A line about a thread that ended in an exception, as TensorBoard's does on a full disk; the rest to run.log."""
    log.error("a thread died: %s", died.exc_value, exc_info=died.exc_value)
