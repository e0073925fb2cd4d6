"""`ssl-runner resume RUN [KEY=VALUE ...]`: go on with an interrupted run, in its folder, to bit-identical weights.

KEY=VALUE may change what cannot change the result: name, tags and notes, also of a completed run; log_every,
save_every, show_every, keep, on_collapse, where the run is placed (device=cuda, device.threads=4, device.processes=2)
and where its data lies (dataset.root=PATH, dataset.cache, dataset.workers). length=400ep trains longer, or less long
than was meant: from the step reached on, learning rate, weight decay and every other schedule have the values of a run
of the new length at that step, so the learning rate of a completed cosine run rises again. To change anything else,
begin a new run: rerun.
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
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="a harmless setting or the length, changed from here on"
    )
    parser.add_argument("--other-data", action="store_true", help="go on although the data are not those of the run")
    arguments = parser.parse_intermixed_args(words)
    run, overrides = arguments.run, arguments.overrides
    try:
        if run.is_file():
            raise Refused(f"{run} is a file, and a run goes on in its folder; type ssl-runner rerun {run}")
        read_recorded(run, overrides)
        from ssl_runner.run.session import resume  # torch is imported here, after all that needs none

        return resume(run, Terminal(), overrides=overrides, anew=True, other_data=arguments.other_data)
    except (Refused, OSError) as reason:
        return refuse(str(reason).splitlines())
