"""Robustness: what is left of kNN's and the linear probe's accuracy when images are corrupted, features frozen.

Hendrycks & Dietterich: Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019,
arXiv 1903.12261: five strengths of each corruption, none of them seen in the fit.
Differs: accuracy itself, not an error divided by another network's; the corruptions are those of augment/corruption.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.corruption import STRENGTHS, corrupt
from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.layers.weights import device_of
from ssl_runner.probing.accuracy import as_shares, shares
from ssl_runner.probing.knn_vote import ranked
from ssl_runner.probing.linear import fit
from ssl_runner.probing.require import require_finite, require_labelled, require_neighbours
from ssl_runner.run_folder.atomic import replacing

AT_ONCE = 512  # images that are corrupted and encoded together
READERS = ("probe", "knn")


class Robustness:
    """Accuracy in [0, 1] of kNN and a linear probe, both fitted on clean images, on corrupted ones.

    `probe_clean` is that on the images as they are, `probe_noise_3` that under noise of strength 3, `probe_noise` the
    mean over the five strengths, `probe_mean` the mean over corruptions; `knn_` likewise. `robustness.png` shows
    accuracy against strength.

    It encodes the query once for every corruption and strength, 30 times in all.

    Args:
        every: how often it runs.
        corruptions: which of them.
        samples: query rows that are looked at, drawn once; null for all.
        k, temperature: see evaluator.knn.KNN.
        l2, held_out: see evaluator.probe.Probe.
        seed: of the draw of rows and of what is random in a corruption; not the run's, so that runs are measured alike.
        bank: clean images that both are fitted on.
        query: images that are corrupted.
        folder: where the plot goes.

    Raises:
        ValueError: k is larger than the bank, or the query is empty; from the call, where the samples are no images.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 2
    headline = "probe_mean"

    def __init__(
        self,
        *,
        every: Duration,
        corruptions: Annotated[
            tuple[Literal["noise", "blur", "brightness", "contrast", "occlusion", "jpeg"], ...], MinLen(1)
        ] = ("noise", "blur", "brightness", "contrast", "occlusion", "jpeg"),
        samples: Annotated[int, Ge(1)] | None = None,
        k: Annotated[int, Ge(1)] = 20,
        temperature: Annotated[float, Gt(0)] = 0.07,
        l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        seed: Annotated[int, Ge(0)] = 0,
        bank: Split,
        query: Split,
        classes: Annotated[int, Ge(1)],
        folder: Path,
    ):
        require_neighbours(k, bank, "robustness")
        require_labelled("robustness", query=query)
        self.every = every
        self.corruptions = corruptions
        self.samples = samples
        self.k = k
        self.temperature = temperature
        self.l2 = l2
        self.held_out = held_out
        self.seed = seed
        self.bank = bank
        self.query = query
        self.classes = classes
        self.folder = folder

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        one = self.query.x[torch.zeros(1, dtype=torch.int64)]
        if one.ndim != 4 or one.dtype != torch.uint8 or one.shape[1] not in (1, 3):
            raise ValueError(f"corruptions are of images of 1 or 3 channels, and a sample is {tuple(one.shape[1:])}")
        bank, y = encode(self.bank.x), self.bank.y
        require_finite(bank)
        classifier = fit(bank, y, self.classes, l2=self.l2, held_out=self.held_out)
        drawn = torch.randperm(len(self.query.y), generator=torch.Generator().manual_seed(self.seed))
        rows = drawn[: self.samples].sort().values
        truth = self.query.y.cpu()[rows]

        def measured(query: Float[Tensor, "q d"]) -> dict[str, float]:
            require_finite(query)
            guesses = ranked(bank, y, query, k=self.k, temperature=self.temperature, classes=self.classes)
            both = zip(READERS, (classifier.ranked(query), guesses), strict=True)
            return {reader: shares(each, truth, self.classes)["top1"] for reader, each in both}

        clean = measured(encode(self.query.x)[rows.to(bank.device)])
        curves: dict[str, list[dict[str, float]]] = {
            kind: [measured(self.corrupted(encoder, rows, kind, strength)) for strength in STRENGTHS]
            for kind in self.corruptions
        }
        self.draw(clean, curves)
        values = {}
        for reader in READERS:
            means = {kind: sum(each[reader] for each in curve) / len(curve) for kind, curve in curves.items()}
            values |= {f"{reader}_mean": sum(means.values()) / len(means), f"{reader}_clean": clean[reader]}
            values |= {f"{reader}_{kind}": mean for kind, mean in means.items()}
        for kind, curve in curves.items():
            for strength, each in zip(STRENGTHS, curve, strict=True):
                values |= {f"{reader}_{kind}_{strength}": each[reader] for reader in READERS}
        return as_shares(values)

    def corrupted(self, encoder: Encoder, rows: Tensor, kind: str, strength: int) -> Float[Tensor, "q d"]:
        """Features of corrupted query rows; what is drawn depends on the seed, and is alike at each strength."""
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
        for axis, reader, title in zip(
            figure.subplots(1, 2, sharey=True), READERS, ("linear probe", "kNN"), strict=True
        ):
            for kind, curve in curves.items():
                axis.plot((0, *STRENGTHS), [clean[reader], *(each[reader] for each in curve)], "o-", label=kind, ms=4)
            axis.axhline(1 / self.classes, color="grey", linestyle=":", label="chance")
            axis.set(title=title, xlabel="strength (0: as they are)", xticks=(0, *STRENGTHS))
            axis.grid(alpha=0.3)
        figure.axes[0].set(ylabel="accuracy", ylim=(0, 1))
        figure.axes[1].legend()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "robustness.png") as file:
            FigureCanvasAgg(figure).print_png(file)
