"""A recorded run's config with overrides on top: from its folder, or from its config.yaml alone."""

from collections.abc import Sequence
from pathlib import Path

from ssl_runner.config import files
from ssl_runner.config.compose import Composer
from ssl_runner.config.composed import Composed
from ssl_runner.config.declared import check_declared
from ssl_runner.errors import Refused
from ssl_runner.run_folder.layout import CONFIG, OVERRIDES


def read_recorded(place: Path, overrides: Sequence[str], config_dir: Path | None = None) -> tuple[Composed, list[str]]:
    """The config of a run folder or file, and all that was typed: by the folder's user, and now.

    `config_dir`: a folder whose choices the overrides may name. Raises Refused with all that is wrong if that
    takes no torch to say.
    """
    try:
        file, typed = (place, None) if place.is_file() else (place / CONFIG, place / OVERRIDES)
        if not file.is_file():
            raise Refused(f"{place} holds no run: there is no {CONFIG} in it")
        content = files.read(file)
        words = [*map(str, files.read(typed, list) if typed and typed.exists() else ()), *overrides]
    except (OSError, ValueError) as error:
        raise Refused(error) from None
    if not overrides:
        return Composed(content, where=f"{file}: "), words
    composed = check_declared(Composer(config_dir).change(content, overrides))
    if composed.refused:
        raise Refused(*composed.problems)
    return composed, words
