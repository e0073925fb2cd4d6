"""History of a run, kept in its checkpoints: the data that it began with, other data and lengths since then."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_runner.config import files
from ssl_runner.config.migrate import migrated, stamped
from ssl_runner.contract import Data
from ssl_runner.data.rows import evenly_spaced, fingerprint
from ssl_runner.duration import Length
from ssl_runner.engine.seed import DRAWS
from ssl_runner.errors import Refused, plural
from ssl_runner.run_folder.atomic import read_json, write
from ssl_runner.run_folder.layout import CHECKPOINTS, CONFIG, ENVIRONMENT, HARMLESS, PEOPLE
from ssl_runner.run_folder.origin import entries
from ssl_runner.run_folder.summary import read_summary

if TYPE_CHECKING:
    from ssl_runner.run.preflight import PreparedJob

SAME, ANEW = "the same", "drawn anew"  # whether a split on other data holds out the same rows
SAMPLED = 256  # rows of a held-out part by which it is recognised

log = logging.getLogger("ssl_runner")


@dataclass(frozen=True)
class History:
    """Data and lengths of a run up to a step. A checkpoint holds those with which its steps were learnt."""

    data: Mapping[str, Any]  # `describe_data` of what the run began with
    other_data: Sequence[Mapping[str, Any]] = ()  # the same and a step, of each that it went on with
    extended: Sequence[Mapping[str, Any]] = ()  # step, and the length before (`from`) and after it (`to`)
    step: int = 0
    length: str | None = None  # of the config until then; None before the first checkpoint

    @property
    def latest(self) -> Mapping[str, Any]:
        """The data that the run had last."""
        return self.other_data[-1] if self.other_data else self.data

    @property
    def changes(self) -> dict[str, list[dict[str, Any]]]:
        """For summary.json: other data and lengths, each only if there were any."""
        parts = {"other_data": self.other_data, "extended": self.extended}
        return {name: [dict(each) for each in part] for name, part in parts.items() if part}

    @property
    def record(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"draws": DRAWS, "data": dict(self.data), **self.changes}

    def check_data(self, data: Data, folder: Path, other_data: bool) -> None:
        """Warns of data that are not the run's. Raises Refused unless `other_data` allows them."""
        then = self.latest
        if then.get("fingerprint") in (None, "", data.fingerprint):
            return
        now = self.with_data(data).latest
        before = f"{then['fingerprint']}{f' ({rows} training rows)' if (rows := then.get('rows')) else ''}"
        differ = (
            f"the fingerprint is {data.fingerprint} ({now['rows']} training rows), and that of the run's was {before}"
        )
        if not other_data:
            remedy = f"begin a new run, ssl-runner rerun {folder}, or go on all the same, ssl-runner resume {folder}"
            raise Refused(f"dataset: {differ}; give it its own data, as by dataset.root=PATH, {remedy} --other-data")
        same = (
            "is the same" if now["split"] == SAME else "is drawn anew, so rows that were trained on may be held out now"
        )
        schedule = "stays as it was" if "rows" in self.data else "is that of these rows"
        log.warning("other data: %s; the schedule %s, and the split %s", differ, schedule, same)

    def with_data(self, data: Data) -> "History":
        """The history with the data that were read now."""
        then, now = self.latest, describe_data(data)
        if then.get("fingerprint") in (None, "", data.fingerprint):
            return self if "rows" in self.data else replace(self, data=now)
        entry = {"step": self.step, **now, "split": SAME if then.get("held_out") == now["held_out"] else ANEW}
        return replace(self, data={"rows": now["rows"], **self.data}, other_data=(*self.other_data, entry))

    def with_length(self, prepared: "PreparedJob", typed: str | None, folder: Path) -> "History":
        """The history with the length of a job, if it was typed and is not the one before.

        Raises Refused if the run is past it already.
        """
        before, now, job = self.length, prepared.content["length"], prepared.job
        if before is None or before == now or now != typed:
            return self
        summary = read_summary(folder)
        ended = summary.get("status") != "running" and isinstance(summary.get("step"), int)
        reached = max(self.step, summary["step"]) if ended else self.step  # the last checkpoint may be lost
        steps = Length.of(job.length, self.data["rows"], job.batch_size).steps
        if steps < reached:
            line = f"length: given {now}, {plural(steps, 'step')}, and the run has done {reached}"
            raise Refused(f"{line}; type more, as in length={2 * reached}st")
        if steps == reached and summary.get("status") == "completed":
            return self
        return replace(self, extended=(*self.extended, {"step": self.step, "from": before, "to": now}))


def describe_data(data: Data) -> dict[str, Any]:
    """Fingerprint, number of training rows, and a digest of the rows that are held out."""
    parts = [split.x for split in (data.validation, data.test) if split is not None]
    held_out = [x[evenly_spaced(x, SAMPLED)] for x in parts]
    return {"fingerprint": data.fingerprint, "rows": len(data.train), "held_out": fingerprint(*held_out)}


def read_history(state: Mapping[str, Any], folder: Path) -> History:
    """The history up to a checkpoint; of one of version 0.1, the fingerprint alone.

    Raises Refused if its steps drew random numbers in another way.
    """
    if "config" in state and state.get("draws", 1) != DRAWS:
        remedy = f"begin it again, ssl-runner rerun {folder}, or go on with the version that began it"
        raise Refused(f"{folder} was begun by a version that draws other random numbers from the same seed; {remedy}")
    known, recorded, data = read_json(folder / ENVIRONMENT).get("dataset"), state.get("config"), state.get("data")
    whole = isinstance(data, dict) and isinstance(data.get("rows"), int) and data["rows"] > 0
    return History(
        data=data if whole else {"fingerprint": known if isinstance(known, str) else None},  # type: ignore[arg-type]
        other_data=entries(state.get("other_data")),
        extended=entries(state.get("extended")),
        step=state.get("step", 0),
        length=recorded.get("length") if isinstance(recorded, dict) else None,
    )


def check_overrides(folder: Path, prepared: "PreparedJob") -> None:
    """Raises Refused if overrides, which the job has, change a setting that must stay as the run began."""
    if prepared.composed.folder is not None:
        raise Refused(f"hydra.run.dir: a run goes on in its own folder, {folder}; leave it out")
    if keys := [key for key in changed(files.read(folder / CONFIG), prepared.content) if key != "length"]:
        remedy = f"begin a new one with it: ssl-runner rerun {folder} KEY=VALUE"
        raise Refused(f"{', '.join(keys)}: cannot change in a run that goes on; {remedy}")


def record_names(folder: Path, prepared: "PreparedJob") -> list[str]:
    """Writes new name, tags and notes into the config of a completed run, and nothing else. Raises OSError.

    Returns which of them are new.
    """
    before = files.read(folder / CONFIG)
    after = {**before, **{key: prepared.content[key] for key in PEOPLE if key in prepared.content}}
    new = [key for key in PEOPLE if (after.get(key) or None) != (before.get(key) or None)]
    if new:
        write(folder / CONFIG, files.dump(stamped(after)))
    return new


def check_config(folder: Path, recorded: Mapping[str, Any], content: Mapping[str, Any], history: History) -> None:
    """Raises Refused if a setting that can change a result is not as a checkpoint recorded it."""
    try:
        keys = changed(migrated(recorded, str(folder / CHECKPOINTS)), content)
    except ValueError as error:
        raise Refused(error) from None
    if "length" in keys and content["length"] in [each.get("to") for each in history.extended[-1:]]:
        keys.remove("length")
    if not keys:
        return
    remedy = f"put it back, or begin a new run with it: ssl-runner rerun {folder} KEY=VALUE"
    if "length" in keys:
        remedy += f"; to train longer, type ssl-runner resume {folder} length={content['length']}"
    raise Refused(f"{folder / CONFIG}: {', '.join(keys)} changed since the checkpoint was written; {remedy}")


def changed(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys, as paths, whose values differ and can change a result."""
    keys = []
    for key in dict.fromkeys((*before, *now)):
        path, a, b = f"{prefix}{key}", before.get(key), now.get(key)
        if path not in HARMLESS and a != b:
            keys += changed(a, b, f"{path}.") if isinstance(a, Mapping) and isinstance(b, Mapping) else [path]
    return keys
