"""The logger `ssl_runner`: to the console at once, to run.log as soon as there is a folder."""

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

log = logging.getLogger("ssl_runner")


class ToConsole(logging.Handler):
    """Prints messages; routine ones only where no live line shows the same."""

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


class Journal:
    """Holds messages until `into` names the run folder, whose run.log then gets them all."""

    def __init__(self, console: Console):
        self.handlers: list[logging.Handler] = [
            ToConsole(console),
            logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1),
        ]

    def into(self, folder: Path) -> None:
        file = logging.FileHandler(folder / "run.log")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
        held = self.handlers[1]
        assert isinstance(held, logging.handlers.MemoryHandler)
        held.setTarget(file)
        held.flush()
        held.close()
        log.removeHandler(held)
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
    try:
        yield opened
    finally:
        for handler in opened.handlers:
            log.removeHandler(handler)
            handler.close()
