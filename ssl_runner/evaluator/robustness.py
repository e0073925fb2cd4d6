"""Robustness to corruption: accuracy of kNN and a linear probe on frozen features of corrupted images.

Hendrycks & Dietterich: Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019,
arXiv 1903.12261: five strengths of each corruption, none of them seen in the fit.
Differs: accuracy itself, not an error divided by another network's; the corruptions are those of
augment/image/corruption.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Literal, get_args

import torch
from annotated_types import MinLen
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ssl_runner.augment.image.corruption import STRENGTHS, corrupt
from ssl_runner.contract import Encoder, Metric
from ssl_runner.layers.weights import device_of
from ssl_runner.probing.protocol import Classifiers, Count, Encode, Seed, require_finite
from ssl_runner.run_folder.atomic import replacing

AT_ONCE = 512  # images that are corrupted and encoded together
Corruption = Literal["noise", "blur", "brightness", "contrast", "occlusion", "jpeg"]
TITLES = {"probe": "linear probe", "knn": "kNN"}


@dataclass(frozen=True, kw_only=True)
class Robustness(Classifiers):
    """Accuracy in [0, 1] of kNN and a linear probe, both fitted on clean images, on corrupted ones.

    `probe_clean` is that on the images as they are, `probe_noise_3` that under noise of strength 3, `probe_noise` the
    mean over the five strengths, `probe_mean` the mean over corruptions; `knn_` likewise. `robustness.png` shows
    accuracy against strength. The query is encoded once for every corruption and strength, 30 times in all.
    Raises: as probing.protocol.Classifiers.
    """

    version = 2
    headline = "probe_mean"
    numbers = ("probe_*", "knn_*")
    corruptions: Annotated[tuple[Corruption, ...], MinLen(1)] = get_args(Corruption)
    samples: Count | None = None  # query rows, drawn once; None: all
    seed: Seed = 0  # of rows and corruptions; not the run's, so that runs are measured alike

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        bank = encode(self.bank.x)
        require_finite(bank)
        models = self.fit(bank)
        rng = torch.Generator().manual_seed(self.seed)
        rows = torch.randperm(len(self.query.y), generator=rng)[: self.samples].sort().values
        truth = self.query.y.cpu()[rows]

        def measure(query: Float[Tensor, "q d"]) -> dict[str, float]:
            require_finite(query)
            hits = {name: model.rank_classes(query)[0][:, 0].cpu() == truth for name, model in models.items()}
            return {name: float(each.double().mean()) for name, each in hits.items()}

        def corrupted(kind: str, strength: int) -> Float[Tensor, "q d"]:
            """Features. Random draws depend on the seed, and are the same at each strength."""
            device, rng = device_of(encoder), torch.Generator().manual_seed(self.seed)
            images = (self.query.x[index].to(device).float() / 255 for index in rows.split(AT_ONCE))
            return torch.cat([encoder(corrupt(each, kind, strength, rng)).pooled.float() for each in images])

        clean = measure(encode(self.query.x)[rows.to(bank.device)])
        curves = {kind: [measure(corrupted(kind, each)) for each in STRENGTHS] for kind in self.corruptions}
        self.draw(clean, curves)
        values = {}
        for name in TITLES:
            means = {f"{name}_{kind}": fmean(each[name] for each in curve) for kind, curve in curves.items()}
            values |= {f"{name}_mean": fmean(means.values()), f"{name}_clean": clean[name], **means}
        for kind, curve in curves.items():
            for strength, each in zip(STRENGTHS, curve, strict=True):
                values |= {f"{name}_{kind}_{strength}": each[name] for name in TITLES}
        return {name: Metric(value) for name, value in values.items()}

    def draw(self, clean: Mapping[str, float], curves: Mapping[str, list[dict[str, float]]]) -> None:
        """Accuracy against strength, a line a corruption, the probe beside kNN."""
        figure = Figure(figsize=(10, 4), layout="constrained")
        for axis, (name, title) in zip(figure.subplots(1, 2, sharey=True), TITLES.items(), strict=True):
            for kind, curve in curves.items():
                axis.plot((0, *STRENGTHS), [clean[name], *(each[name] for each in curve)], "o-", label=kind, ms=4)
            axis.axhline(1 / self.classes, color="grey", linestyle=":", label="chance")
            axis.set(title=title, xlabel="strength (0: clean)", xticks=(0, *STRENGTHS))
            axis.grid(alpha=0.3)
        figure.axes[0].set(ylabel="accuracy", ylim=(0, 1))
        figure.axes[1].legend()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "robustness.png") as file:
            figure.savefig(file, format="png")
