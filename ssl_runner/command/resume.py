"""`ssl-runner resume FOLDER`: go on with an interrupted run, in its folder, to bit-identical weights."""

import argparse
from pathlib import Path

from rich.console import Console

from ssl_runner.errors import refuse


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="ssl-runner resume", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="a run folder, as in outputs/rotation-shapes/2026-01-31_12-00-00-1f3a"
    )
    typed = parser.parse_args(words)
    from ssl_runner.errors import Refused
    from ssl_runner.run.resume import resume

    try:
        return resume(typed.folder, Console(highlight=False, markup=False), anew=True)
    except Refused as reason:
        return refuse(reason.lines)
