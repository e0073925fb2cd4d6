"""A recorded run's config with overrides on top: from its folder, or from its config.yaml alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_runner.config import files
from ssl_runner.config.compose import Composer
from ssl_runner.config.composed import Composed
from ssl_runner.config.declared import check_declared
from ssl_runner.config.file_paths import relative_places, start_of_paths, with_places
from ssl_runner.errors import Refused
from ssl_runner.run_folder.layout import CONFIG, OVERRIDES, SWEEP
from ssl_runner.run_folder.origin import begun_in, is_elsewhere


def read_recorded(place: Path, overrides: Sequence[str], config_dir: Path | None = None) -> tuple[Composed, list[str]]:
    """The config of a run folder or file, and all that was typed: by the folder's user, and now.

    Relative paths start from where the run was begun; those that are typed now, from the current folder, and if that
    is another they are made absolute. `config_dir`: a folder whose choices the overrides may name. Raises Refused with
    all that is wrong if that takes no torch to say.
    """
    try:
        file, typed = (place, None) if place.is_file() else (place / CONFIG, place / OVERRIDES)
        if not file.is_file() and (place / SWEEP).is_file():
            raise Refused(f"{place} is a sweep; name a run in it, or go on: ssl-runner -m sweep.resume={place}")
        if not file.is_file():
            raise Refused(f"{place} holds no run: there is no {CONFIG} in it")
        content = files.read(file)
        words = [*map(str, files.read(typed, list) if typed and typed.exists() else ())]
        again = bool(overrides) and words[-len(overrides) :] == list(overrides)  # typed once more, after a crash
        words += [] if again else overrides
    except (OSError, ValueError) as error:
        raise Refused(error) from None
    composed = Composer(config_dir).change(content, overrides) if overrides else Composed(content, where=f"{file}: ")
    composed.origin = begun_in(place) if place.is_dir() else None
    if is_elsewhere(composed.origin):
        here = typed_places(composed.content, overrides)
        composed.content = with_places(composed.content, Path.cwd(), here)
    composed.start = start_of_paths(composed.content, composed.origin)
    if overrides and check_declared(composed).refused:
        raise Refused(*composed.problems)
    return composed, words


def typed_places(content: Mapping[str, Any], overrides: Iterable[str]) -> list[str]:
    """Keys of the relative paths that overrides set, themselves or by the choice of a dataset."""
    keys = {word.lstrip("+").partition("=")[0] for word in overrides}
    return [key for key, _ in relative_places(content) if keys & {key, key.partition(".")[0]}]
