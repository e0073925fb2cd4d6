"""Job of a composed config: checked, its paths resolved, its initial weights known by their digest."""

from collections.abc import Sequence
from pathlib import Path

from ssl_runner.config.composed import Composed
from ssl_runner.config.file_paths import PARTS, absent_places, with_places
from ssl_runner.config.recorded import read_recorded
from ssl_runner.errors import Refused
from ssl_runner.run.initial import check_initial, recorded_init
from ssl_runner.run.preflight import PreparedJob, read_job
from ssl_runner.run.tried import Tried


def prepare_job(
    composed: Composed,
    overrides: Sequence[str],
    tried: Tried | None = None,
    build: bool = True,
    begins: bool = True,
) -> tuple[PreparedJob | None, list[str]]:
    """The job of a composed config, or None and a line for each thing that is wrong.

    `build`: whether it is built as well, to see what its parts refuse together. `tried`: what of the jobs of a sweep
    could be built so far, which is added to. A job that differs from one of them in its seed alone is not built again.
    `begins`: whether it may need its initial weights, since there is no checkpoint.
    """
    if composed.refused:
        return None, composed.problems
    content, tried = composed.record, tried or Tried()
    meant = with_places(content, composed.start) | ({} if begins else {"init": None})
    known = repr({**content, "seed": None})
    builds = build and not composed.problems and known not in tried.jobs
    job, problems = read_job(meant, builds, tried)
    if builds and job is not None and job.init is not None and not problems:
        problems = check_initial(job, tried.build_dataset(job).samples)
    for part in PARTS:
        absent = absent_places({part: content.get(part)}, composed.origin)
        problems = [f"{line}{absent}" if line.startswith(part) else line for line in problems]
    problems = [*composed.problems, *(f"{composed.where}{line}" for line in problems)]
    if job is None or problems:
        return None, problems
    if build and job.init is not None:
        content["init"] = recorded_init(job, content["init"])
    if builds:
        tried.jobs.add(known)
    return PreparedJob(job, content, list(overrides), composed), []


def recorded_job(
    place: Path, overrides: Sequence[str] = (), config_dir: Path | None = None, begins: bool = True
) -> PreparedJob:
    """The job of a run folder or a config file, with overrides on top. Raises Refused with all that is wrong.

    `begins`: whether it may need its initial weights.
    """
    prepared, problems = prepare_job(*read_recorded(place, overrides, config_dir), begins=begins)
    if prepared is None:
        raise Refused(*problems)
    return prepared
