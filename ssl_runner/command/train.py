"""`ssl-runner [KEY=VALUE ...]`: one training job."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_runner.command.usage import composer_of, missing_folder, options, show
from ssl_runner.config.show import config_text
from ssl_runner.errors import Refused, refuse
from ssl_runner.run_folder.lock import check_free, claim, claim_new

if TYPE_CHECKING:
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
            return train(prepared)
    try:
        print(config_text(composed, arguments.cfg, arguments.package, arguments.resolve), end="")
    except ValueError as error:
        return refuse([str(error)])
    return 0


def train(prepared: "PreparedJob") -> int:
    """Runs one job in a folder of its own."""
    from ssl_runner.engine.console import Terminal  # late, as nothing else here needs it
    from ssl_runner.engine.levels import keep_levels
    from ssl_runner.run.session import begin

    keep_levels(prepared.composed.levels)
    folder = None if prepared.composed.folder is None else Path(prepared.composed.folder)
    try:
        if folder is not None:
            check_free(folder)  # now, and not after the data is read
        console, parent = Terminal(), Path("outputs") / prepared.name
        place = (lambda _: claim_new(parent)) if folder is None else (lambda _: claim(folder))
        return begin(prepared, place, console)
    except Refused as reason:
        return refuse(reason.lines)
