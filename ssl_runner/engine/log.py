"""Logging: to the console at once, to run.log as soon as there is a folder."""

import logging
import logging.handlers
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from ssl_runner.run_folder.layout import LOG

log = logging.getLogger("ssl_runner")


class ConsoleHandler(logging.Handler):
    """Prints messages; routine ones only if no live line shows the same."""

    def __init__(self, console: Console):
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "routine", False) and self.console.is_terminal:
            return
        style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > logging.WARNING else None
        text = record.getMessage()  # without a traceback: that is in run.log
        if record.levelno > logging.INFO:
            text = f"{record.levelname.lower()}: {text}"
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


class RunLogHandler(logging.FileHandler):
    """Appends messages to a file, as long as the disk takes them."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the console has the message, and what the disk refuses the run itself will say."""


class Journal:
    """Buffers messages until a run folder is there, whose run.log then gets them all."""

    def __init__(self, console: Console):
        self.handlers: list[logging.Handler] = [
            ConsoleHandler(console),
            logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1),
        ]

    def attach(self, folder: Path) -> None:
        """Writes buffered and later messages to run.log. Raises OSError."""
        file = RunLogHandler(folder / LOG)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
        buffer = self.handlers[1]
        assert isinstance(buffer, logging.handlers.MemoryHandler)
        buffer.setTarget(file)
        buffer.flush()
        buffer.close()
        log.removeHandler(buffer)
        log.addHandler(file)
        self.handlers[1] = file


@contextmanager
def journal(console: Console) -> Iterator[Journal]:
    """The logger's handlers for one job."""
    opened = Journal(console)
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in opened.handlers:
        log.addHandler(handler)
    before, threading.excepthook = threading.excepthook, thread_died
    try:
        yield opened
    finally:
        threading.excepthook = before
        for handler in opened.handlers:
            log.removeHandler(handler)
            with suppress(OSError):  # a full disk does not take the last lines either
                handler.close()


def thread_died(died: threading.ExceptHookArgs) -> None:
    """A line about a thread that ended in an exception, as TensorBoard's does on a full disk; the rest to run.log."""
    log.error("a thread died: %s", died.exc_value, exc_info=died.exc_value)
