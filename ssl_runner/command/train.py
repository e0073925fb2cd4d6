"""`ssl-runner [KEY=VALUE ...]`: one training job, from the command line or from Python."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.command.usage import composer_of, missing_folder, options, show
from ssl_runner.config.compose import Composer
from ssl_runner.config.show import config_text
from ssl_runner.errors import Refused, refuse

if TYPE_CHECKING:
    from ssl_runner.python.run import TrainedRun
    from ssl_runner.run.preflight import PreparedJob

OF_SWEEP = re.compile(r"\+*(sweep\.|hydra[./](launcher|sweeper|sweep\.subdir))")


def main(words: list[str]) -> int:
    """Returns the exit status."""
    arguments = options(words)
    if (status := show(arguments)) is not None:
        return status
    from ssl_runner.config.declared import check_declared  # pydantic is imported here, after all that needs none

    stray = [word.partition("=")[0] for word in arguments.overrides if OF_SWEEP.match(word)]
    lines = [f"{key}: is a setting of a sweep; type -m" for key in stray]
    if problems := missing_folder(arguments.config_dir) or lines:
        return refuse(problems)
    composed = check_declared(composer_of(arguments).compose(arguments.overrides))
    if any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in arguments.overrides):
        composed.problems.append("hydra.sweep.dir: names the folder of a sweep; type hydra.run.dir=... without -m")
    if composed.refused:
        return refuse(composed.problems)
    if not (arguments.cfg and composed.decided):
        from ssl_runner.run.prepare import prepare_job  # torch is imported here, after all that needs none

        prepared, problems = prepare_job(composed, arguments.overrides, build=not arguments.cfg)
        if prepared is None:
            return refuse(problems)
        if not arguments.cfg:
            return begin(prepared)
    try:
        print(config_text(composed, arguments.cfg, arguments.package, arguments.resolve), end="")
    except ValueError as error:
        return refuse([str(error)])
    return 0


def begin(prepared: "PreparedJob") -> int:
    """Runs one job in a folder of its own."""
    from ssl_runner.engine.console import Terminal  # late, as nothing else here needs it
    from ssl_runner.engine.levels import keep_levels
    from ssl_runner.run.session import begin_new

    keep_levels(prepared.composed.levels)
    try:
        return begin_new(prepared, Terminal())[0]
    except Refused as reason:
        return refuse(reason.lines)


def train(
    *settings: str | Mapping[str, Any],
    folder: str | os.PathLike[str] | None = None,
    config_dir: str | os.PathLike[str] | None = None,
) -> "TrainedRun":
    """Trains one job and returns its run, once it is completed or has been stopped.

    settings: overrides as on the command line, `"pretext=simclr"`, or mappings of them, `{"pretext": "simclr",
        "optimizer": {"lr": 0.1}}`, in which a key may have dots.
    folder: of the run; by default outputs/<pretext>-<dataset>/<time>.
    config_dir: a folder of configs of your own, which is looked in first.
    Raises Refused with a line for each thing that is wrong, before anything is written; RuntimeError if the run fails;
    KeyboardInterrupt if it is interrupted: `ssl-runner resume FOLDER` goes on with it.
    """
    from ssl_runner.device.placement import left_as_found
    from ssl_runner.engine.console import Terminal
    from ssl_runner.python.run import TrainedRun, typed
    from ssl_runner.run.prepare import prepare_job
    from ssl_runner.run.session import begin_new

    words = [word for each in settings for word in ([each] if isinstance(each, str) else typed(each))]
    if stray := [f"{word}: is an option of the command line; give KEY=VALUE" for word in words if word[:1] == "-"]:
        raise Refused(*stray)
    composed = Composer(None if config_dir is None else Path(config_dir)).compose(words)
    prepared, problems = prepare_job(composed, words)
    if prepared is None:
        raise Refused(*problems)
    with left_as_found():
        status, place = begin_new(prepared, Terminal(), None if folder is None else Path(folder))
    run = TrainedRun(place)
    summary = run.summary
    if summary.get("status") == "interrupted":
        raise KeyboardInterrupt(f"to go on: ssl-runner resume {place}")
    if summary.get("status") not in ("completed", "stopped"):
        raise RuntimeError(f"{summary.get('error')}; the whole story is in {place}/run.log; exit status {status}")
    return run
