"""Robustness to corruption: accuracy of kNN and a linear probe on frozen features of corrupted images.

Hendrycks & Dietterich: Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019,
arXiv 1903.12261: five strengths of each corruption, none of them seen in the fit.
Differs: accuracy itself, not an error divided by another network's; the corruptions are those of
augment/image/corruption.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.corruption import STRENGTHS, corrupt
from ssl_runner.contract import Encoder, Metric, Rows, Samples, Split
from ssl_runner.duration import Duration
from ssl_runner.layers.weights import device_of
from ssl_runner.probing.knn_vote import rank_classes
from ssl_runner.probing.linear import fit_classifier
from ssl_runner.probing.require import require_finite, require_images, require_labelled, require_neighbours
from ssl_runner.probing.scores import as_shares, top_accuracies
from ssl_runner.run_folder.atomic import replacing

AT_ONCE = 512  # images that are corrupted and encoded together
CLASSIFIERS = {"probe": "linear probe", "knn": "kNN"}


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Accuracy in [0, 1] of kNN and a linear probe, both fitted on clean images, on corrupted ones.

    `probe_clean` is that on the images as they are, `probe_noise_3` that under noise of strength 3, `probe_noise` the
    mean over the five strengths, `probe_mean` the mean over corruptions; `knn_` likewise. `robustness.png` shows
    accuracy against strength. The query is encoded once for every corruption and strength, 30 times in all.

    Raises:
        ValueError: k is larger than the bank, the query is empty, or samples are not images of 1 or 3 channels.
        FloatingPointError: from the call, if a feature is not finite.
    """

    version: ClassVar[int] = 2
    headline: ClassVar[str] = "probe_mean"

    every: Duration
    corruptions: Annotated[
        tuple[Literal["noise", "blur", "brightness", "contrast", "occlusion", "jpeg"], ...], MinLen(1)
    ] = ("noise", "blur", "brightness", "contrast", "occlusion", "jpeg")
    samples: Annotated[int, Ge(1)] | None = None  # query rows, drawn once; None: all
    k: Annotated[int, Ge(1)] = 20  # this and the next: see evaluator.knn.KNN
    temperature: Annotated[float, Gt(0)] = 0.07
    # This and the next: see evaluator.probe.Probe.
    l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Ge(0)] = 0  # of rows and corruptions; not the run's, so that runs are measured alike
    bank: Split  # clean images that both are fitted on
    query: Split  # images that are corrupted
    classes: Annotated[int, Ge(1)]
    sample: Samples
    folder: Path

    def __post_init__(self) -> None:
        require_images("robustness", self.sample)
        require_neighbours(self.k, self.bank, "robustness")
        require_labelled("robustness", bank=self.bank, query=self.query)

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, y = encode(self.bank.x), self.bank.y
        require_finite(bank)
        probe = fit_classifier(bank, y, self.classes, l2=self.l2, held_out=self.held_out)
        drawn = torch.randperm(len(self.query.y), generator=torch.Generator().manual_seed(self.seed))
        rows = drawn[: self.samples].sort().values
        truth = self.query.y.cpu()[rows]

        def measure(query: Float[Tensor, "q d"]) -> dict[str, float]:
            require_finite(query)
            votes = rank_classes(bank, y, query, k=self.k, temperature=self.temperature, classes=self.classes)
            guesses = {"probe": probe.rank_classes(query), "knn": votes}
            return {name: top_accuracies(each, truth, self.classes)["top1"] for name, each in guesses.items()}

        clean = measure(encode(self.query.x)[rows.to(bank.device)])
        curves: dict[str, list[dict[str, float]]] = {
            kind: [measure(self.encode_corrupted(encoder, rows, kind, strength)) for strength in STRENGTHS]
            for kind in self.corruptions
        }
        self.draw(clean, curves)
        values = {}
        for name in CLASSIFIERS:
            means = {kind: sum(each[name] for each in curve) / len(curve) for kind, curve in curves.items()}
            values |= {f"{name}_mean": sum(means.values()) / len(means), f"{name}_clean": clean[name]}
            values |= {f"{name}_{kind}": mean for kind, mean in means.items()}
        for kind, curve in curves.items():
            for strength, each in zip(STRENGTHS, curve, strict=True):
                values |= {f"{name}_{kind}_{strength}": each[name] for name in CLASSIFIERS}
        return as_shares(values)

    def encode_corrupted(self, encoder: Encoder, rows: Tensor, kind: str, strength: int) -> Float[Tensor, "q d"]:
        """Features of corrupted query rows. Random draws depend on the seed, and are the same at each strength."""
        device = device_of(encoder)
        rng = torch.Generator().manual_seed(self.seed)
        return torch.cat(
            [
                encoder(corrupt(self.query.x[index].to(device).float() / 255, kind, strength, rng)).pooled.float()
                for index in rows.split(AT_ONCE)
            ]
        )

    def draw(self, clean: Mapping[str, float], curves: Mapping[str, list[dict[str, float]]]) -> None:
        """Accuracy against strength, a line a corruption, the probe beside kNN."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        for axis, (name, title) in zip(figure.subplots(1, 2, sharey=True), CLASSIFIERS.items(), strict=True):
            for kind, curve in curves.items():
                axis.plot((0, *STRENGTHS), [clean[name], *(each[name] for each in curve)], "o-", label=kind, ms=4)
            axis.axhline(1 / self.classes, color="grey", linestyle=":", label="chance")
            axis.set(title=title, xlabel="strength (0: clean)", xticks=(0, *STRENGTHS))
            axis.grid(alpha=0.3)
        figure.axes[0].set(ylabel="accuracy", ylim=(0, 1))
        figure.axes[1].legend()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "robustness.png") as file:
            FigureCanvasAgg(figure).print_png(file)
