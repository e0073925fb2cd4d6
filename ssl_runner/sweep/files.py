"""Sweep settings in config files: the folders of the sweep and of its jobs, launcher, sweeper and swept keys."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_runner.config.compose import Composer
from ssl_runner.config.grammar import is_searched
from ssl_runner.sweep.ledger import lies_inside
from ssl_runner.sweep.settings import FOLDER, SUBFOLDER, Words, check_recorded, key_of, merge_words, split_words

if TYPE_CHECKING:
    from ssl_runner.sweep.read import Request

RUN_FOLDER = "hydra.run.dir"


def with_files(words: Words, composer: Composer) -> tuple[Words, list[str]]:
    """The words with launcher, sweeper and swept keys of config files, unless they were typed; and what is wrong."""
    said = composer.compose([word for word in words.jobs if not is_searched(word)]).sweep_words
    both, keys = split_words(merge_words(said, [*words.launcher, *words.sweeper])), set(map(key_of, words.jobs))
    jobs = [*(each for each in both.jobs if key_of(each) not in keys), *words.jobs]
    wrong = check_recorded(both.launcher, words.launcher, "a config file")
    return replace(words, jobs=jobs, launcher=both.launcher, sweeper=both.sweeper), wrong


def read_folders(request: "Request", words: Words, jobs: Sequence[list[str]]) -> list[str]:
    """Sets a request's folder, which is resolved once, and how its jobs' folders are named. Returns what is wrong."""
    job, resume, typed = jobs[0] if jobs else [], request.settings.resume, FOLDER in map(key_of, words.folder)
    named = request.composer.compose([*job, *words.folder])
    known = request.composer.compose(job).problems if words.folder else named.problems
    problems = [line for line in named.problems if line not in known]
    request.folder = named.sweep_folder if typed or resume is None else None
    request.naming, request.names = words.folder, named.subfolder is not None
    if request.folder and resume and Path(request.folder).resolve() != Path(resume).resolve():
        problems.append(f"{FOLDER}: given {request.folder}, and sweep.resume={resume}; leave one out")
    if RUN_FOLDER in map(key_of, words.jobs):
        problems.append(f"{RUN_FOLDER}: names the folder of a single run; type {FOLDER}=... with -m")
    names = [Path(request.subfolder(job, number) or "") for number, job in enumerate(jobs)] if request.names else []
    if outside := [name for name in names if not lies_inside(str(name))]:
        problems.append(f"{SUBFOLDER}: given {outside[0]}, which is too long, or not in the folder of the sweep")
    every = Counter(names)
    shared = [name for name in names if every[name] > 1 or any(each in every for each in name.parents)]
    if shared and request.optuna is None:
        problems.append(f"{SUBFOLDER}: several jobs would share {shared[0]}; tell them apart, as by ${{hydra:job.num}}")
    return problems
