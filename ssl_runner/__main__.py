"""`ssl-runner VERB ...`: without a verb it trains."""

import contextlib
import errno
import importlib
import os
import sys

from ssl_runner.config.trust import read_project
from ssl_runner.config.verbs import VERBS, mistyped_verb
from ssl_runner.data.places import place_fonts
from ssl_runner.device.torchrun import group_variables
from ssl_runner.errors import refuse

MULTIRUN = {"-m", "--multirun"}
# Turns of a CPU thread of torch's that waits for the others before it sleeps; by itself libgomp makes so many that one
# busy neighbour on the machine costs two thirds of a run's speed (docs/performance.md).
SPINS = "1000"


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb and returns the exit status: 0 done, 1 failed, 2 refused, 3 stopped by a collapse,
    130 and 143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # a terminal that is no UTF-8 shows \u753b
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    if lines := [line for word in words if (line := foreign(word))]:
        return refuse(lines)
    if words and (line := mistyped_verb(words)):
        return refuse([line])
    without = "sweep" if MULTIRUN.intersection(words) else "train"
    verb, rest = (words[0], words[1:]) if words and words[0] in VERBS else (without, words)
    try:
        read_project()
    except ValueError as error:
        return refuse([str(error)])
    if "OMP_WAIT_POLICY" not in os.environ:  # which the user has chosen by
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read once, when torch is imported
    open_streams()
    place_fonts()
    status = 0  # of a command that prints when it has done its work
    try:
        status = run(verb, rest)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # standard output has no reader any more, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:  # any other is met where it happens
        if error.errno != errno.ENAMETOOLONG:
            raise
        return refuse([str(error)])
    return status


def run(verb: str, words: list[str]) -> int:
    """Runs a verb, once in all processes that were started together. Returns the exit status."""
    if variables := group_variables(os.environ):
        os.environ |= {"TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ, **variables}  # DDP warns of what is meant
        join, work = (importlib.import_module(f"ssl_runner.run.{name}") for name in ("group", "worker"))
        status: int = join.join(lambda: command(verb, words), work.work)
        return status
    return command(verb, words)


def command(verb: str, words: list[str]) -> int:
    status: int = importlib.import_module(f"ssl_runner.command.{verb}").main(words)
    return status


def foreign(word: str) -> str | None:
    """A line if a word cannot be written into a file, all of which are UTF-8."""
    try:
        word.encode()
        return None
    except UnicodeEncodeError:
        shown = os.fsencode(word).decode("utf-8", "backslashreplace")
    if "\\x" in shown:
        return f"{shown}: is no UTF-8, as all files here are; give the file or folder another name, or a link"
    return f"{shown}: cannot be read in this locale; type PYTHONUTF8=1 ssl-runner ..."


def open_streams() -> None:
    """Opens streams that were closed, as by `>&-`, on nothing: no file of a run may get their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)  # also of the processes of a sweep
    os.close(number)


if __name__ == "__main__":
    sys.exit(main())
