"""Plan of an evaluation: which protocols, on which data, checked before anything is read."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from ssl_runner.config import files
from ssl_runner.config.check import check
from ssl_runner.config.compose import Composer
from ssl_runner.config.file_paths import absent_places, start_of_paths, with_places
from ssl_runner.config.node import Node
from ssl_runner.contract import Dataset, Evaluator
from ssl_runner.data.stand_ins import stand_ins
from ssl_runner.device.placement import Placement
from ssl_runner.encoder.load import TrainedEncoder
from ssl_runner.errors import Refused
from ssl_runner.run.job import RUNTIME
from ssl_runner.run.preflight import attempt
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.origin import begun_in

OWN = "run"  # the name under which the dataset of the run can be chosen


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The keys of conf/evaluate.yaml, and what each may be."""

    dataset: Node[Dataset]
    device: Node[Placement]
    evaluator: dict[str, Node[Evaluator]]
    split: Literal["validation", "test", "both"] = "both"
    init: Literal["trained", "random"] = "trained"
    seed: Annotated[int, Ge(0)] | None = None  # of a random encoder; None is the run's
    named: bool = True  # whether the protocols were chosen by hand: one that cannot be is then refused, not left out
    content: dict[str, Any] = field(default_factory=dict)  # as it was composed
    own: bool = False  # whether the dataset is meant to be the run's


def make_plan(source: TrainedEncoder, protocols: Sequence[str], overrides: Sequence[str]) -> Plan:
    """What to do with an encoder. Raises Refused with a line for each thing that is wrong."""
    words = [f"evaluator=[{','.join(protocols)}]"] if protocols else []
    run = source.content or {}
    if not run and not any(word.startswith("dataset=") for word in overrides):
        raise Refused(f"dataset: {source.name} comes without the config of its run; type dataset=NAME")
    with tempfile.TemporaryDirectory() as folder:
        if run:
            here = {"dataset": run["dataset"]}
            origin = begun_in(source.folder)
            here = with_places(here, start_of_paths(here, origin))
            write(Path(folder) / "dataset" / f"{OWN}.yaml", files.dump(here["dataset"]))
        composed = Composer(Path(folder), "evaluate").compose([*words, *overrides])
    node, problems = check(composed.content, Plan, RUNTIME) if composed.content else (None, [])
    if composed.problems or problems or node is None:
        raise Refused(*composed.problems, *problems)
    content = {**composed.content, "choices": composed.choices}
    own = composed.choices["dataset"] == OWN
    if own:
        content["choices"]["dataset"] = run.get("choices", {}).get("dataset", OWN)
    keys = {key: value for key, value in node.arguments.items() if value is not None}
    plan = Plan(**{"seed": run.get("seed", 0), "named": bool(protocols), **keys}, content=content, own=own)
    if problems := check_plan(plan, source):
        absent = absent_places({"dataset": run["dataset"]}, begun_in(source.folder)) if own else ""
        raise Refused(*(f"{line}{absent}" if line.startswith("dataset") else line for line in problems))
    return plan


def check_plan(plan: Plan, source: TrainedEncoder) -> list[str]:
    """What can be known to be refused before data is read."""
    problems = [] if plan.evaluator else ["evaluator: no protocol is chosen; type one, as in evaluate RUN probe"]
    device = attempt("device", problems, plan.device.build)
    if device is not None and (device.precision != "float32" or device.compile):
        problems.append("device: protocols measure in float32, not compiled; leave precision and compile as they are")
    dataset = attempt("dataset", problems, plan.dataset.build)
    if dataset is None:
        return problems
    own, given = source.samples.kind, dataset.samples.kind
    if own != given:
        problems.append(f"dataset: the encoder takes {own}, and the dataset has {given}; choose another")
    for name, node in plan.evaluator.items():
        runtime = {**stand_ins(dataset), "fresh": lambda seed: source.encoder, "folder": Path(), "score": None}
        attempt(f"evaluator.{name}", problems, node.build, **runtime)
    return problems
