"""`ssl-runner resume RUN [KEY=VALUE ...]`: go on with an interrupted run, in its folder, to bit-identical weights.

KEY=VALUE may change what cannot change the result: log_every, save_every, show_every, keep, on_collapse, where the run
is placed (device=cuda, device.threads=4) and where its data lies. To change anything else, begin a new run: rerun.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from ssl_runner.config.recorded import read_recorded
from ssl_runner.engine.console import Terminal
from ssl_runner.errors import Refused, refuse


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(prog="ssl-runner resume", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, as in outputs/rotation-shapes/2026-01-31_12-00-00-1f3a")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a harmless setting, changed from here on")
    arguments = parser.parse_args(words)
    run, overrides = arguments.run, arguments.overrides
    try:
        if run.is_file():
            raise Refused(f"{run} is a file, and a run goes on in its folder; type ssl-runner rerun {run}")
        read_recorded(run, overrides)
        from ssl_runner.run.session import resume  # torch is imported here, after all that needs none

        return resume(run, Terminal(), overrides=overrides, anew=True)
    except (Refused, OSError) as reason:
        return refuse(str(reason).splitlines())
