"""Evaluation of a trained encoder by protocols: measured, shown, and kept beside the run."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_runner.comparison.record import note_failure
from ssl_runner.config.trust import foreign_code
from ssl_runner.contract import Data, Encoder, Evaluator, Metric, Rows, Samples
from ssl_runner.data.check import read_data
from ssl_runner.data.resize import resized_data
from ssl_runner.encoder.load import TrainedEncoder, built_encoder
from ssl_runner.engine.encoding import Encoding
from ssl_runner.engine.learner import frozen
from ssl_runner.engine.seed import seed_everything
from ssl_runner.errors import Refused
from ssl_runner.evaluation.events import draw_evaluations
from ssl_runner.evaluation.plan import Plan
from ssl_runner.probing.confusion_plot import write_confusion
from ssl_runner.run.assemble import evaluators
from ssl_runner.run_folder import environment
from ssl_runner.run_folder.assets import describe_assets
from ssl_runner.run_folder.atomic import digest
from ssl_runner.run_folder.layout import EVALUATION
from ssl_runner.run_folder.lock import locked
from ssl_runner.run_folder.results import describe_metrics, record_result, result_folder, write_confusion_rows
from ssl_runner.run_folder.source import runner_source

log = logging.getLogger("ssl_runner")

SHOWN = 8  # numbers of a protocol in its line; all are in its file


class Evaluation:
    """Protocols on encoders. Data that several encoders are measured on is read once."""

    def __init__(self, console: Console):
        self.console = console
        self._data: dict[str, tuple[Samples, Data]] = {}

    def measure(self, source: TrainedEncoder, plan: Plan, folder: Path) -> bool:
        """Measures an encoder and writes below `folder`. Returns whether every protocol came to its end.

        Raises Refused if the data cannot be had, does not suit a protocol, or nothing can be written.
        """
        for line in foreign_code([plan.content, source.recipe]):
            log.info(line)
        data = self.read(plan, source)
        try:  # better now than after an hour
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, wait=True):
                pass
        except OSError as error:
            raise Refused(f"{folder}: cannot be written ({error}); type --to FOLDER") from None
        other = plan.own and source.fingerprint not in (None, data.fingerprint)
        if other:
            given = f"the fingerprint is {data.fingerprint}, and that of the run's was {source.fingerprint}"
            log.warning("other data: %s; the results are not filed as the run's own", given)
        device = plan.device.build()
        device.apply()
        statistics = {"mean": list(data.mean), "std": list(data.std)}
        recipe = source.recipe | {key: value for key, value in statistics.items() if key in source.recipe}

        def fresh(seed: int) -> Encoder:
            seed_everything(seed, "initialise")
            return built_encoder(recipe)

        measurements = plan_measurements(source, plan, data, fresh, folder)
        named = {"other_data": data.fingerprint} if other else {}
        encoder = device.place(fresh(plan.seed or 0) if plan.init == "random" else source.encoder).eval()
        # Other devices and versions may round otherwise.
        machine = {"device": str(device), "versions": environment.versions(), "commit": runner_source()[0]}
        with frozen(encoder):
            encode = Encoding(encoder, source.samples, device.device)
            complete = [
                self.take(evaluator, encoder, encode, about | named | machine, folder)
                for about, evaluator in measurements
            ]
        if folder == source.folder / EVALUATION:
            lines: list[str] = []
            with note_failure(source.folder, lines):  # a damaged run can still be measured
                draw_evaluations(source.folder)
            for line in lines:
                log.warning("TensorBoard: %s", line)
        self.console.print(f"written to {folder}", soft_wrap=True)
        return all(complete)

    def take(
        self, evaluator: Evaluator, encoder: Encoder, encode: Callable[[Rows], Any], about: dict[str, Any], folder: Path
    ) -> bool:
        """Measures one protocol on one split, says its numbers and keeps them. Returns whether it came to its end."""
        what = f"{about['protocol']} on {about['split']}{' of other data' * ('other_data' in about)}"
        if self.console.is_terminal:
            self.console.print(f"measuring {what}", end="\r")
        seed_everything(0, "evaluate", about["protocol"])
        began = time.perf_counter()
        try:
            metrics = evaluator(encoder, encode)
            result = about | describe_metrics(metrics, evaluator.headline, time.perf_counter() - began)
            values = list(result["values"].items())
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in values[:SHOWN])
            more = f", {len(values) - SHOWN} more in {about['protocol']}.json" if len(values) > SHOWN else ""
            headline = metrics.get(evaluator.headline, Metric(0.0))
            if headline.majority is not None:
                more += f"; majority class {headline.majority:.4g}"
            self.console.print(f"{what:22} {numbers}{more}  ({result['seconds']:.1f} s)", soft_wrap=True)
            record_result(folder, result)
            if headline.confusion:
                write_confusion(headline, (place := result_folder(folder, result)) / "confusion.png")
                write_confusion_rows(place, evaluator.headline, about["step"], headline)
            elif headline.classes:
                log.info("%s: %d classes are too many for a picture of their confusion", what, len(headline.classes))
        except Exception as error:  # one protocol's failure is not the others': each may have taken hours
            log.error("%s: %s: %s", what, type(error).__name__, error)
            return False
        return True

    def read(self, plan: Plan, source: TrainedEncoder) -> Data:
        """The data, read as the encoder's own samples were, or resized to their shape. Raises Refused."""
        own = source.samples
        key = json.dumps([plan.content["dataset"], own, describe_assets(source.assets)], sort_keys=True)
        try:
            if key not in self._data:
                dataset = plan.dataset.build()
                if read_as := getattr(dataset, "read_as", None):
                    dataset = read_as(own, source.assets)
                check_heard(own, dataset.samples)
                data = read_data(dataset)
                self._data = {key: (dataset.samples, data)}  # the last one: two need not fit into memory
            samples, data = self._data[key]
            if samples.shape != own.shape:
                data = resized_data(data, own)
                given, wanted = ("x".join(map(str, each.shape)) for each in (samples, own))
                log.warning("samples %s are fitted to the encoder's %s", given, wanted)
        except (OSError, ValueError, RuntimeError) as error:
            raise Refused(f"dataset: {error}") from None
        return data


def check_heard(own: Samples, given: Samples) -> None:
    """Raises ValueError for sounds at another rate, or in clips of another length, than an encoder's own."""
    if own.kind == "audio" and own != given:
        heard, wanted = (f"{each.shape[-1]:,} samples at {each.rate:,} Hz" for each in (given, own))
        instead = "choose recordings, which are read as the encoder's own were: dataset=audio_folder dataset.root=PLACE"
        raise ValueError(f"its clips have {heard}, and the encoder's {wanted}; {instead}")


def plan_measurements(
    source: TrainedEncoder, plan: Plan, data: Data, fresh: Callable[[int], Encoder], folder: Path
) -> list[tuple[dict[str, Any], Evaluator]]:
    """What identifies each result, and its evaluator. Raises Refused if a protocol that was named cannot be."""
    queried = {name: "query" in node.wants for name, node in plan.evaluator.items()}
    trained = plan.init == "trained"

    def identity(name: str, split: str) -> dict[str, Any]:
        settings = {key: value for key, value in plan.content["evaluator"][name].items() if key != "every"}
        return {
            "protocol": name,
            "version": plan.evaluator[name].target.version,  # type: ignore[attr-defined]
            "settings": settings,
            "settings_hash": digest(settings),
            "dataset": plan.content["choices"]["dataset"],
            "dataset_settings": plan.content["dataset"],
            "fingerprint": data.fingerprint,
            "split": split if queried[name] else "train",
            "seed": (source.content or {}).get("seed") if trained else plan.seed,
            "encoder": source.name if trained else "random",
            "step": source.step if trained else 0,
        }

    built = evaluators(
        plan.evaluator, data, source.samples, fresh, lambda *each: result_folder(folder, identity(*each))
    )
    measurements = [
        (identity(name, split), each[name])
        for name in plan.evaluator
        for split, each in zip(("validation", "test"), built, strict=True)
        if name in each and (plan.split in ("both", split) or not queried[name])
    ]
    missing = [name for name in plan.evaluator if name not in {each["protocol"] for each, _ in measurements}]
    if missing and (plan.named or not measurements):
        place = "it" if plan.split == "both" else f"its {plan.split} split"
        why = f"{', '.join(missing)}: the dataset has no labelled rows for that in {place}"
        raise Refused(f"evaluator: {why}; possible without labels: geometry, as in evaluate RUN geometry")
    return measurements
