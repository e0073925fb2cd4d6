"""Protocols carried out on an encoder that is trained: what `ssl-runner evaluate` does."""

import dataclasses
import hashlib
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

from ssl_runner import config
from ssl_runner.contract import Data, Dataset, Encoder, Evaluator, Rows, Split
from ssl_runner.device.placement import Placement
from ssl_runner.encoder import Found, build
from ssl_runner.engine.checkpoint import read_json, write_json
from ssl_runner.engine.folder import locked
from ssl_runner.engine.measure import encoder_of, frozen
from ssl_runner.engine.seed import seed_everything
from ssl_runner.job import RUNTIME, evaluators, stand_ins
from ssl_runner.parts.fitted import Fitted
from ssl_runner.parts.split import statistics
from ssl_runner.run import Refused
from ssl_runner.schema import Node, check

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
    seed: Annotated[int, Ge(0)] = 0
    content: dict[str, Any] = field(default_factory=dict)  # as it was composed


def plan(source: Found, protocols: Sequence[str], overrides: Sequence[str]) -> Plan:
    """What is to be done with an encoder. Raises Refused with a line for each thing that is wrong."""
    words = [f"evaluator=[{','.join(protocols)}]"] if protocols else []
    with tempfile.TemporaryDirectory() as folder:
        if source.content is not None:
            own = Path(folder) / "dataset" / f"{OWN}.yaml"
            own.parent.mkdir()
            own.write_text(config.dump(source.content["dataset"]))
        elif not any(word.startswith("dataset=") for word in overrides):
            raise Refused(f"dataset: {source.name} comes without the config of its run; type dataset=NAME")
        composed = config.Composer(Path(folder), "evaluate").compose([*words, *overrides])
    node, problems = check(composed.content, Plan, RUNTIME) if composed.content else (None, [])
    problems = composed.problems + problems
    if problems or node is None:
        raise Refused("\n".join(problems))
    content = {**composed.content, "choices": composed.choices}
    if composed.choices["dataset"] == OWN and source.content is not None:
        content["choices"]["dataset"] = source.content.get("choices", {}).get("dataset", OWN)
    made = Plan(**node.arguments, content=content)
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

    attempt("device", made.device)
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

        Raises Refused where the data cannot be had, or does not suit a protocol.
        """
        dataset, data = self.data(made)
        if source.shape != dataset.shape:
            data = fitted(data, source.shape)
            log.warning("samples %s are fitted to the encoder's %s", _size(dataset.shape), _size(source.shape))
        device = made.device.build()
        device.apply()

        def fresh(seed: int) -> Encoder:
            seed_everything(seed, "initialise")
            return build({**source.recipe, "mean": list(data.mean), "std": list(data.std)})

        try:
            validation, test = evaluators(made.evaluator, data, fresh, folder)
        except ValueError as error:
            raise Refused(f"evaluator: {error}") from None
        chosen = {"validation": validation, "test": test}
        due = [
            (name, split, each)
            for name in made.evaluator
            for split in ("validation", "test")
            if (each := chosen[split].get(name)) is not None
            and (made.split in ("both", split) or "query" not in made.evaluator[name].wants)
        ]
        if missing := [name for name in made.evaluator if name not in {each[0] for each in due}]:
            raise Refused(f"evaluator: {', '.join(missing)}: the dataset has no labelled rows for it in this split")
        encoder = device.place(fresh(made.seed) if made.init == "random" else source.encoder).eval()
        complete = True
        with frozen(encoder):
            encode = encoder_of(encoder, device.device)
            for name, split, each in due:
                seed_everything(made.seed, "evaluate", name)
                began = time.perf_counter()
                on = split if "query" in made.evaluator[name].wants else "train"
                if self.console.is_terminal:
                    self.console.print(f"measuring {name} on {on}", end="\r")
                try:
                    values = {k: float(v) for k, v in each(encoder, encode).items()}
                except (FloatingPointError, ValueError, OSError) as error:
                    self.console.print(f"{name} failed: {error}", style="red", soft_wrap=True)
                    complete = False
                    continue
                seconds = time.perf_counter() - began
                result = described(source, made, name, each, data, on, values, seconds)
                record(folder, result)
                self.tell(result)
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


def described(
    source: Found,
    made: Plan,
    name: str,
    evaluator: Evaluator,
    data: Data,
    split: str,
    values: Mapping[str, float],
    seconds: float,
) -> dict[str, Any]:
    """A number with all that it depends on."""
    settings = {key: value for key, value in made.content["evaluator"][name].items() if key != "every"}
    trained = made.init == "trained"
    return {
        "protocol": name,
        "version": evaluator.version,
        "settings": settings,
        "settings_hash": hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest(),
        "dataset": made.content["choices"]["dataset"],
        "fingerprint": data.fingerprint,
        "split": split,
        "seed": (source.content or {}).get("seed") if trained else made.seed,
        "encoder": source.name if trained else "random",
        "step": source.step if trained else 0,
        "value": values[evaluator.headline],
        "values": dict(values),
        "seconds": round(seconds, 2),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


NUMBERS = ("value", "values", "seconds", "time")  # all else says what was measured


def record(folder: Path, result: Mapping[str, Any]) -> None:
    """Adds a result to `folder/<protocol>.json`, in the place of one of the very same, and to TensorBoard."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['protocol']}.json"
    with locked(folder, wait=True):
        before = read_json(path).get("results", [])
        if path.exists() and not before:
            path.rename(path.with_suffix(".json.torn"))  # what cannot be read may still be wanted
        others = [each for each in before if any(each.get(k) != v for k, v in result.items() if k not in NUMBERS)]
        write_json(path, {"protocol": result["protocol"], "results": [*others, dict(result)]})
    if result["encoder"] == "random":
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as events:
        for name, value in result["values"].items():
            tag = f"{result['protocol']}/{name}"
            tag = f"test/{tag.replace('/', '_')}" if result["split"] == "test" else tag
            events.add_scalar(tag, value, result["step"] or 0)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
