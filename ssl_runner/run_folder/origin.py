"""Origin of a run: the folder in which it was begun, and the fingerprint of its data. No torch."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import ENVIRONMENT, SWEEP


def begun_in(run: Path) -> Path | None:
    """The folder in which a run, or the sweep whose job it is, was begun; None if that is not known."""
    recorded = read_json(run / ENVIRONMENT).get("begun_in") or read_json(run.parent / SWEEP).get("cwd")
    return Path(recorded) if isinstance(recorded, str) else None


def begun_at(environment: Mapping[str, Any]) -> float | None:
    """When a run was begun, in seconds since 1970; None if its folder does not say it, as older ones."""
    try:
        return datetime.fromisoformat(environment["begun"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def is_elsewhere(origin: Path | None) -> bool:
    """Whether a folder is known and is not the current one."""
    return origin is not None and not (origin.is_dir() and origin.samefile(Path.cwd()))


def recorded_fingerprint(summary: Mapping[str, Any], environment: Mapping[str, Any]) -> str | None:
    """The fingerprint of the data that a run had last; None if it is not known."""
    others = entries(summary.get("other_data"))
    known = others[-1].get("fingerprint") if others else environment.get("dataset")
    return known if known and isinstance(known, str) else None


def entries(content: Any) -> tuple[Mapping[str, Any], ...]:
    """Those that name a step, of what should be a list of mappings."""
    listed = content if isinstance(content, list) else []
    return tuple(each for each in listed if isinstance(each, dict) and isinstance(each.get("step"), int))
