"""Section `evaluation`: seconds of the kNN and of the probe on 50,000 x 512 features, and of encoding 50,000 images by
convnet_small, on the device and threads of the job. The features are ten overlapping clouds, a fifth as many are the
query, and nothing is cached.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarking.place import synchronise
from benchmarking.process import alone
from benchmarking.settings import Settings
from benchmarking.work import SAMPLES, STATISTICS, pictures
from ssl_runner.config.compose import Composer
from ssl_runner.contract import Evaluator, Split
from ssl_runner.device.placement import Placement
from ssl_runner.duration import Duration
from ssl_runner.engine.encoding import Encoding
from ssl_runner.engine.learner import frozen
from ssl_runner.evaluator.knn import KNN
from ssl_runner.evaluator.probe import Probe
from ssl_runner.run.preflight import read_job

CLASSES, WIDTH = 10, 512
SPREAD = 6.0  # a cloud's, where centres are of length one a dimension: neither separable nor hopeless


def measure(settings: Settings, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    tell("evaluation: kNN and probe, and encoding")
    return alone(evaluate, settings)


def evaluate(settings: Settings) -> list[dict[str, Any]]:
    """Called in a process of its own."""
    own = [word for word in settings.overrides if word.startswith("device.")]
    typed = ["model=convnet_small", "dataset.images=1000", "dataset.test=0", "evaluator=none"]
    job, _ = read_job(Composer().compose([*typed, f"device={settings.device}", *own]).content)
    assert job is not None
    placement: Placement = job.device.build()
    placement.apply()
    device, n = placement.device, settings.features
    bank, query = clouds(n, device, 0), clouds(max(CLASSES, n // 5), device, 1)
    common: dict[str, Any] = {"every": Duration.parse("100%"), "bank": bank, "query": query, "classes": CLASSES}
    common["class_names"] = tuple(map(str, range(CLASSES)))
    encoder = placement.place(job.model.build(samples=SAMPLES, shape=SAMPLES.shape, **STATISTICS))
    found = []
    evaluators: dict[str, Evaluator] = {"kNN": KNN(**common), "probe": Probe(**common)}
    for name, evaluator in evaluators.items():
        began = time.perf_counter()
        values = evaluator(encoder, as_they_are)
        synchronise(device)
        found.append({"what": name, "seconds": time.perf_counter() - began, "top1": values["top1"].value})
    images = pictures(n)
    with frozen(encoder):
        encode = Encoding(encoder, SAMPLES, device)
        encode(images[:1024])  # warms up
        began = time.perf_counter()
        encode(images)
        synchronise(device)
        took = time.perf_counter() - began
    found.append({"what": f"encoding {n:,} images", "seconds": took, "images_per_second": n / took})
    return found


def as_they_are(features: Any) -> Tensor:
    """Stands for the encoding of rows that are features already."""
    return features


def clouds(n: int, device: torch.device, seed: int) -> Split:
    """Features (n, 512) and their classes."""
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(7))
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    x: Tensor = centres[y] + SPREAD * torch.randn(n, WIDTH, generator=rng)
    return Split(x.to(device), y.to(device))


def tables(found: list[dict[str, Any]]) -> list[Table]:
    table = Table("evaluation", "seconds", "top1", "images/s", box=None)
    for row in found:
        top1 = f"{row['top1']:.1%}" if "top1" in row else ""
        speed = f"{row['images_per_second']:,.0f}" if "images_per_second" in row else ""
        table.add_row(row["what"], f"{row['seconds']:.1f}", top1, speed)
    return [table]
