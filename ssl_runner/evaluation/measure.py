"""Protocols carried out on an encoder that is trained: what `ssl-runner evaluate` does."""

import dataclasses
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge
from rich.console import Console

from ssl_runner.config import files
from ssl_runner.config.check import Node, check
from ssl_runner.config.compose import Composer
from ssl_runner.contract import Data, Dataset, Encoder, Evaluator, Rows, Split
from ssl_runner.data.resize import Fitted
from ssl_runner.data.statistics import statistics
from ssl_runner.device.placement import Placement
from ssl_runner.encoder.load import Found, build
from ssl_runner.engine.measure import encoder_of, frozen
from ssl_runner.engine.seed import seed_everything
from ssl_runner.errors import Refused
from ssl_runner.run.assemble import evaluators
from ssl_runner.run.job import RUNTIME
from ssl_runner.run.preflight import stand_ins
from ssl_runner.run_folder.environment import source as source_of_code
from ssl_runner.run_folder.environment import versions
from ssl_runner.run_folder.lock import locked
from ssl_runner.run_folder.results import digest, measured, place, record

log = logging.getLogger("ssl_runner")

OWN = "run"  # the name under which the dataset of the run can be chosen
SHOWN = 8  # numbers of a protocol in its line; all are in its file


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


def plan(source: Found, protocols: Sequence[str], overrides: Sequence[str]) -> Plan:
    """What is to be done with an encoder. Raises Refused with a line for each thing that is wrong."""
    words = [f"evaluator=[{','.join(protocols)}]"] if protocols else []
    with tempfile.TemporaryDirectory() as folder:
        if source.content is not None:
            own = Path(folder) / "dataset" / f"{OWN}.yaml"
            own.parent.mkdir()
            own.write_text(files.dump(source.content["dataset"]))
        elif not any(word.startswith("dataset=") for word in overrides):
            raise Refused(f"dataset: {source.name} comes without the config of its run; type dataset=NAME")
        composed = Composer(Path(folder), "evaluate").compose([*words, *overrides])
    node, problems = check(composed.content, Plan, RUNTIME) if composed.content else (None, [])
    problems = composed.problems + problems
    if problems or node is None:
        raise Refused("\n".join(problems))
    content = {**composed.content, "choices": composed.choices}
    if composed.choices["dataset"] == OWN and source.content is not None:
        content["choices"]["dataset"] = source.content.get("choices", {}).get("dataset", OWN)
    keys = {key: value for key, value in node.arguments.items() if value is not None}
    keys = {"seed": (source.content or {}).get("seed", 0), "named": bool(protocols), **keys}
    made = Plan(**keys, content=content)
    if problems := impossible(made, source):
        raise Refused("\n".join(problems))
    return made


def impossible(made: Plan, source: Found) -> list[str]:
    """What can be known to be refused before data is read."""
    problems = [] if made.evaluator else ["evaluator: no protocol is chosen; type one, as in evaluate RUN probe"]

    def attempt(key: str, node: Node, **runtime: Any) -> Any:
        try:
            return node.build(**runtime)
        except (ValueError, OSError, ImportError) as error:
            problems.append(f"{key}: {' '.join(str(error).split())}")

    device = attempt("device", made.device)
    if device is not None and (device.precision != "float32" or device.compile):
        problems.append(
            "device: protocols measure in float32 and do not compile; leave precision and compile as they are"
        )
    dataset = attempt("dataset", made.dataset)
    if dataset is not None:
        for name, node in made.evaluator.items():
            runtime = {**stand_ins(dataset), "fresh": lambda seed: source.encoder, "folder": Path()}
            attempt(f"evaluator.{name}", node, **runtime)
    return problems


class Evaluation:
    """Protocols on encoders. Data that several encoders are measured on is read once."""

    def __init__(self, console: Console):
        self.console = console
        self._data: dict[str, tuple[Dataset, Data]] = {}

    def carry_out(self, source: Found, made: Plan, folder: Path) -> bool:
        """Measures an encoder and writes below `folder`. Returns whether every protocol came to its end.

        Raises Refused where the data cannot be had, does not suit a protocol, or nothing can be written.
        """
        dataset, data = self.data(made)
        if source.shape != dataset.shape:
            data = fitted(data, source.shape)
            log.warning("samples %s are fitted to the encoder's %s", _size(dataset.shape), _size(source.shape))
        writable(folder)
        device = made.device.build()
        device.apply()

        def fresh(seed: int) -> Encoder:
            seed_everything(seed, "initialise")
            return build({**source.recipe, "mean": list(data.mean), "std": list(data.std)})

        def identity(name: str, split: str) -> dict[str, Any]:
            on = split if "query" in made.evaluator[name].wants else "train"
            return identified(source, made, name, on, data)

        try:
            chosen = evaluators(made.evaluator, data, fresh, lambda *it: place(folder, identity(*it)))
        except ValueError as error:
            raise Refused(f"evaluator: {error}") from None
        encoder = device.place(fresh(made.seed or 0) if made.init == "random" else source.encoder).eval()
        # With what the numbers are made: other devices and versions may round otherwise.
        made_with = {"device": str(device), "versions": versions(), "commit": source_of_code()[0]}
        complete = True
        with frozen(encoder):
            encode = encoder_of(encoder, device.device)
            for name, split, each in due(made, chosen):
                about = identity(name, split)
                if self.console.is_terminal:
                    self.console.print(f"measuring {name} on {about['split']}", end="\r")
                seed_everything(0, "evaluate", name)
                began = time.perf_counter()
                try:
                    values = each(encoder, encode)
                    result = {**about, **measured(values, each.headline, time.perf_counter() - began)}
                    result |= made_with
                    self.tell(result)
                    record(folder, result)
                except Exception as error:  # one protocol's failure is not the others': each may have taken hours
                    log.error("%s on %s: %s: %s", name, about["split"], type(error).__name__, error)
                    complete = False
        self.console.print(f"written to {folder}", soft_wrap=True)
        return complete

    def data(self, made: Plan) -> tuple[Dataset, Data]:
        """Raises Refused."""
        key = json.dumps(made.content["dataset"], sort_keys=True)
        if key not in self._data:
            dataset = made.dataset.build()
            try:
                self._data = {key: (dataset, dataset.load())}  # the last one: two need not fit into memory
            except (OSError, ValueError, RuntimeError) as error:
                raise Refused(f"dataset: {error}") from None
        return self._data[key]

    def tell(self, result: Mapping[str, Any]) -> None:
        values = list(result["values"].items())
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in values[:SHOWN])
        more = f", {len(values) - SHOWN} more in {result['protocol']}.json" if len(values) > SHOWN else ""
        place = f"{result['protocol']} on {result['split']}"
        self.console.print(f"{place:22} {numbers}{more}  ({result['seconds']:.1f} s)", soft_wrap=True)


def fitted(data: Data, shape: tuple[int, ...]) -> Data:
    """The data as samples of another shape. Raises Refused where channels cannot be made to fit."""
    known: dict[int, Rows] = {}

    def fit(rows: Rows) -> Rows:
        return known.setdefault(id(rows), Fitted(rows, shape))

    def fit_split(split: Split | None) -> Split | None:
        return None if split is None else dataclasses.replace(split, x=fit(split.x))

    try:
        fitting = dataclasses.replace(
            data,
            train=fit(data.train),
            bank=fit_split(data.bank),
            validation=fit_split(data.validation),
            test=fit_split(data.test),
        )
    except ValueError as error:
        raise Refused(f"dataset: {error}, which the encoder was made for") from None
    mean, std = statistics(fitting.train)
    return dataclasses.replace(fitting, mean=mean, std=std)


def due(
    made: Plan, chosen: tuple[Mapping[str, Evaluator], Mapping[str, Evaluator]]
) -> list[tuple[str, str, Evaluator]]:
    """Protocol, split and evaluator of each measurement. Raises Refused where one that was named cannot be."""
    found = [
        (name, split, evaluators[name])
        for name in made.evaluator
        for split, evaluators in zip(("validation", "test"), chosen, strict=True)
        if name in evaluators and (made.split in ("both", split) or "query" not in made.evaluator[name].wants)
    ]
    missing = [name for name in made.evaluator if name not in {each[0] for each in found}]
    if missing and (made.named or not found):
        where = "it" if made.split == "both" else f"its {made.split} split"
        raise Refused(
            f"evaluator: {', '.join(missing)}: the dataset has no labelled rows for that in {where}; "
            "possible without labels: geometry, as in evaluate RUN geometry"
        )
    return found


def writable(folder: Path) -> None:
    """Raises Refused where no result could be kept: better now than after an hour."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):
            pass
    except OSError as error:
        raise Refused(f"{folder}: cannot be written ({error}); type --to FOLDER") from None


def identified(source: Found, made: Plan, name: str, split: str, data: Data) -> dict[str, Any]:
    """What a number says something about; see result.IDENTITY."""
    settings = {key: value for key, value in made.content["evaluator"][name].items() if key != "every"}
    trained = made.init == "trained"
    return {
        "protocol": name,
        "version": made.evaluator[name].target.version,  # type: ignore[attr-defined]
        "settings": settings,
        "settings_hash": digest(settings),
        "dataset": made.content["choices"]["dataset"],
        "dataset_settings": made.content["dataset"],
        "fingerprint": data.fingerprint,
        "split": split,
        "seed": (source.content or {}).get("seed") if trained else made.seed,
        "encoder": source.name if trained else "random",
        "step": source.step if trained else 0,
    }


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
