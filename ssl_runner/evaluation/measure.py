"""Evaluation of a trained encoder by protocols: measured, shown, and kept beside the run."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.config.trust import foreign_code
from ssl_runner.contract import Data, Dataset, Encoder, Evaluator, Rows
from ssl_runner.data.resize import resized_data
from ssl_runner.encoder.load import TrainedEncoder, built_encoder
from ssl_runner.engine.learner import frozen
from ssl_runner.engine.measurements import encoder_of
from ssl_runner.engine.seed import seed_everything
from ssl_runner.errors import Refused
from ssl_runner.evaluation.plan import Plan
from ssl_runner.run.assemble import evaluators
from ssl_runner.run_folder.atomic import digest
from ssl_runner.run_folder.environment import source as source_of_code
from ssl_runner.run_folder.environment import versions
from ssl_runner.run_folder.lock import locked
from ssl_runner.run_folder.results import describe_metrics, record_result, result_folder

log = logging.getLogger("ssl_runner")

SHOWN = 8  # numbers of a protocol in its line; all are in its file


class Evaluation:
    """Protocols on encoders. Data that several encoders are measured on is read once."""

    def __init__(self, console: Console):
        self.console = console
        self._data: dict[str, tuple[Dataset, Data]] = {}

    def measure(self, source: TrainedEncoder, plan: Plan, folder: Path) -> bool:
        """Measures an encoder and writes below `folder`. Returns whether every protocol came to its end.

        Raises Refused if the data cannot be had, does not suit a protocol, or nothing can be written.
        """
        for line in foreign_code([plan.content, source.recipe]):
            log.info(line)
        dataset, data = self.read(plan)
        own, given = source.samples.shape, dataset.samples.shape
        if own != given:
            try:
                data = resized_data(data, source.samples)
            except ValueError as error:
                raise Refused(f"dataset: {error}") from None
            log.warning("samples %s are fitted to the encoder's %s", _size(given), _size(own))
        check_writable(folder)
        device = plan.device.build()
        device.apply()
        fresh = random_encoders(source, data)

        def identity(name: str, split: str) -> dict[str, Any]:
            on = split if "query" in plan.evaluator[name].wants else "train"
            return identified(source, plan, name, on, data)

        chosen = evaluators(
            plan.evaluator, data, source.samples, fresh, lambda *it: result_folder(folder, identity(*it))
        )
        encoder = device.place(fresh(plan.seed or 0) if plan.init == "random" else source.encoder).eval()
        # Other devices and versions may round otherwise.
        machine = {"device": str(device), "versions": versions(), "commit": source_of_code()[0]}
        complete = True
        with frozen(encoder):
            encode = encoder_of(encoder, source.samples, device.device)
            for name, split, evaluator in due(plan, chosen):
                about = identity(name, split)
                try:
                    self.take(evaluator, encoder, encode, {**about, **machine}, folder)
                except Exception as error:  # one protocol's failure is not the others': each may have taken hours
                    log.error("%s on %s: %s: %s", name, about["split"], type(error).__name__, error)
                    complete = False
        self.console.print(f"written to {folder}", soft_wrap=True)
        return complete

    def take(
        self, evaluator: Evaluator, encoder: Encoder, encode: Callable[[Rows], Any], about: dict[str, Any], folder: Path
    ) -> None:
        """Measures one protocol on one split, says its numbers and keeps them."""
        if self.console.is_terminal:
            self.console.print(f"measuring {about['protocol']} on {about['split']}", end="\r")
        seed_everything(0, "evaluate", about["protocol"])
        began = time.perf_counter()
        metrics = evaluator(encoder, encode)
        result = {**about, **describe_metrics(metrics, evaluator.headline, time.perf_counter() - began)}
        self.tell(result)
        record_result(folder, result)

    def read(self, plan: Plan) -> tuple[Dataset, Data]:
        """Raises Refused."""
        key = json.dumps(plan.content["dataset"], sort_keys=True)
        if key not in self._data:
            dataset = plan.dataset.build()
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


def random_encoders(source: TrainedEncoder, data: Data) -> Callable[[int], Encoder]:
    """Seeds to randomly initialised encoders of the same architecture, with the statistics of the data."""
    statistics = {"mean": list(data.mean), "std": list(data.std)}
    recipe = {**source.recipe, **{key: value for key, value in statistics.items() if key in source.recipe}}

    def fresh(seed: int) -> Encoder:
        seed_everything(seed, "initialise")
        return built_encoder(recipe)

    return fresh


def due(
    plan: Plan, chosen: tuple[Mapping[str, Evaluator], Mapping[str, Evaluator]]
) -> list[tuple[str, str, Evaluator]]:
    """Protocol, split and evaluator of each measurement. Raises Refused if one that was named cannot be."""
    measurements = [
        (name, split, evaluators[name])
        for name in plan.evaluator
        for split, evaluators in zip(("validation", "test"), chosen, strict=True)
        if name in evaluators and (plan.split in ("both", split) or "query" not in plan.evaluator[name].wants)
    ]
    missing = [name for name in plan.evaluator if name not in {each[0] for each in measurements}]
    if missing and (plan.named or not measurements):
        place = "it" if plan.split == "both" else f"its {plan.split} split"
        raise Refused(
            f"evaluator: {', '.join(missing)}: the dataset has no labelled rows for that in {place}; "
            "possible without labels: geometry, as in evaluate RUN geometry"
        )
    return measurements


def check_writable(folder: Path) -> None:
    """Raises Refused if no result could be kept: better now than after an hour."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):
            pass
    except OSError as error:
        raise Refused(f"{folder}: cannot be written ({error}); type --to FOLDER") from None


def identified(source: TrainedEncoder, plan: Plan, name: str, split: str, data: Data) -> dict[str, Any]:
    """What tells a result from others, see run_folder.results.IDENTITY."""
    settings = {key: value for key, value in plan.content["evaluator"][name].items() if key != "every"}
    trained = plan.init == "trained"
    return {
        "protocol": name,
        "version": plan.evaluator[name].target.version,  # type: ignore[attr-defined]
        "settings": settings,
        "settings_hash": digest(settings),
        "dataset": plan.content["choices"]["dataset"],
        "dataset_settings": plan.content["dataset"],
        "fingerprint": data.fingerprint,
        "split": split,
        "seed": (source.content or {}).get("seed") if trained else plan.seed,
        "encoder": source.name if trained else "random",
        "step": source.step if trained else 0,
    }


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
