"""Levels of loggers, by Hydra's `hydra.verbose` and `hydra.job_logging`: whose messages reach console and run.log."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

VARIABLE = "SSL_RUNNER_LOG"  # a mapping in JSON, which the processes of a job and of a sweep have as well
OWN = "ssl_runner"


def keep_levels(levels: Mapping[str, str]) -> None:
    """Levels by the logger's name, the root's by an empty one, for the runs that this process begins."""
    os.environ.pop(VARIABLE, None)
    if levels:
        os.environ[VARIABLE] = json.dumps(levels)


@contextmanager
def attached(*handlers: logging.Handler) -> Iterator[None]:
    """Sends to handlers what our logger says from INFO on, and what others say by the levels that are kept."""
    levels = json.loads(os.environ.get(VARIABLE, "{}"))
    own = levels.get(OWN, levels.get("", logging.INFO))
    others = [""] if "" in levels else [name for name in levels if name != OWN]
    loggers = [logging.getLogger(name) for name in (OWN, *others)]
    before = {name: logging.getLogger(name).level for name in (OWN, *levels)}
    for name, level in {**levels, OWN: own}.items():
        logging.getLogger(name).setLevel(level)
    loggers[0].propagate = False
    for logger in loggers:
        for handler in handlers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            for handler in handlers:
                logger.removeHandler(handler)
        for name in levels:
            logging.getLogger(name).setLevel(before[name])
