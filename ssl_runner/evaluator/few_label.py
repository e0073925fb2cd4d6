"""Label efficiency: probe, kNN and fine-tuning at few labels a class, beside training from scratch with these labels.

Semi-supervised evaluation as in Chen et al., A simple framework for contrastive learning of visual representations,
ICML 2020, arXiv 2002.05709, section 6 and appendix B.5, at labels a class as in Kolesnikov et al., Big transfer (BiT),
ECCV 2020, arXiv 1912.11370, sections 3.3 and 3.5: training has a length in steps, whatever the labels, and is not
chosen on anything.
Differs: several draws of the labels, with the interval of their mean; AdamW; 200 steps, not 500; crops of half of it or
more, as few samples want mild augmentation (Kim et al., How to fine-tune models with few samples, arXiv 2205.07874).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import MinLen
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Split
from ssl_runner.data.rows import Subset
from ssl_runner.duration import Phase
from ssl_runner.layers.weights import device_of
from ssl_runner.probing.class_scores import class_labels, score_classes
from ssl_runner.probing.knn_vote import Neighbours
from ssl_runner.probing.label_efficiency import half_width, overlap, rank_within_class, write_plot
from ssl_runner.probing.linear import fit_classifier
from ssl_runner.probing.protocol import L2, Count, Encode, Part, Penalties, Positive, Seed
from ssl_runner.probing.supervised import Trained, isolated_generators, rank_classes, train
from ssl_runner.run_folder.atomic import write

log = logging.getLogger("ssl_runner")

COLUMNS = ("top1", "balanced_accuracy", "macro_f1", "ece")  # of few_label.csv
SHOWN = 5  # classes in a line
METHODS = ("probe", "knn", "finetune", "supervised")


@dataclass(frozen=True, kw_only=True)
class FewLabel(Trained):
    """Mean shares of query rows whose class is first, over draws of a few labelled rows, in [0, 1].

    `probe_5` is the probe's at five labels a class, `probe_0.01` at 1 % of them, and `probe_5_interval` half the width
    of the 95 % interval of that mean, over draws of labels from this bank, of one encoder on one query: see
    probing.label_efficiency.half_width. `mean` averages the first method over all numbers of labels. In `folder`,
    few_label.csv holds every draw and few_label.png shows them. `short_20` is how many classes have fewer than 20 rows.
    All methods see the same draws, and a draw's larger sets hold its smaller ones. A class with fewer rows than asked
    gives all it has; a number of labels that would take the whole bank is left out. Nothing is chosen on the query: the
    probe's L2 weight is chosen within the drawn rows, and is the strongest if no class has two; training has a fixed
    length. No more neighbours vote than a class has labels: further ones could only be of others. `supervised` trains
    another random encoder each draw, in the same way as `finetune` trains the one given. At 1 to 5 labels the probe is
    often ahead of fine-tuning (Kim et al. find the same); a tenth of `lr` narrows the gap and starves the baseline.
    The defaults are 40 trainings of steps * min(batch_size, labelled rows) images for each split: measure once, by
    ssl-runner evaluate RUN few_label split=test. methods=[probe,knn] takes seconds.
    Raises: as probing.supervised.Trained, and ValueError if every number of labels takes the whole bank.
    """

    version = 3
    headline = "mean"
    labels: tuple[Count, ...] = (1, 5, 20, 100)  # labelled rows a class
    shares: tuple[Part, ...] = ()  # further numbers: of each class, a row at least
    draws: Count = 5  # of labelled rows
    methods: Annotated[tuple[Literal["probe", "knn", "finetune", "supervised"], ...], MinLen(1)] = METHODS
    steps: Count = 200  # optimizer steps of a training
    batch_size: Count = 32
    l2: Penalties = L2  # this and the next: of the probe, see probing.linear.fit_classifier
    held_out: Part = 0.2
    k: Count = 20  # this and the next: of kNN, see probing.knn_vote
    temperature: Positive = 0.07
    seed: Seed = 0  # of draws, training and random encoders; not the run's
    fresh: Callable[[int], Encoder]
    folder: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.label_counts():
            given = f"labels={list(self.labels)} and shares={list(self.shares)} take the whole bank"
            remedy = "give smaller ones, as evaluator.few_label.labels=[1], or leave few_label out"
            raise ValueError(f"{given} of {len(self.bank.x)} rows; {remedy}")

    trains = property(lambda self: bool({"finetune", "supervised"} & set(self.methods)))
    class_sizes = property(lambda self: self.bank.y.cpu().bincount(minlength=self.classes))  # rows of the bank

    def asked(self) -> dict[str, Int[Tensor, " c"]]:
        """Labels of each class by the name of their number."""
        has = self.class_sizes
        numbers = {str(number): torch.full_like(has, number) for number in sorted(set(self.labels))}
        shares = {f"{share:g}": (share * has).round().long().clamp(min=1) for share in sorted(set(self.shares))}
        return numbers | shares

    def label_counts(self) -> dict[str, Int[Tensor, " c"]]:
        """The same as rows that there are, without those numbers that take the whole bank."""
        has = self.class_sizes
        return {name: each.minimum(has) for name, each in self.asked().items() if bool((each < has).any())}

    def short_classes(self) -> dict[str, Metric]:
        """How many classes have fewer rows than labels are drawn of each: `short_20` of twenty, with their rows."""
        short = {}
        rows = dict(zip(class_labels(self.class_names, self.classes), self.class_sizes.tolist(), strict=True))
        for name in filter(str.isdecimal, self.label_counts()):
            if few := {each: float(has) for each, has in rows.items() if has < int(name)}:
                listed = ", ".join(f"{each} ({has:g})" for each, has in [*few.items()][:SHOWN])
                more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
                what = f"{name} labels a class are more than the rows of {listed}{more}"
                log.warning("few_label: %s, which give all they have", what)
                short[f"short_{name}"] = Metric(float(len(few)), None, "number", classes=few)
        return short

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        rng, y = torch.Generator().manual_seed(self.seed), self.bank.y.cpu()
        table, top1 = [",".join(("labels,draw,rows,method", *COLUMNS))], {}
        if left_out := self.asked().keys() - self.label_counts().keys():
            taken = ", ".join(sorted(left_out, key=float))
            log.warning("few_label: %s labels a class take all %d labelled rows, and are left out", taken, len(y))
        fits = self.draws * len(self.methods) * len(self.label_counts())
        phase = Phase("few_label", fits, "fits")
        for draw in range(self.draws):
            ranks = rank_within_class(y, rng)
            seed = int(torch.randint(2**63 - 1, (), generator=rng))  # not seed + draw: seed=1 would repeat all but one
            for name, counts in self.label_counts().items():
                rows = (ranks < counts[y]).nonzero().flatten()
                for method in self.methods:
                    guesses = self.guess(method, rows, seed, encoder, encode)
                    scores = score_classes(*guesses, self.query.y, self.classes)
                    table.append(
                        f"{name},{draw},{len(rows)},{method},{','.join(f'{scores[c].value}' for c in COLUMNS)}"
                    )
                    top1.setdefault((name, method), []).append(scores["top1"].value)
                    phase.advance()
            if self.trains:
                log.info("few_label: draw %d of %d is done", draw + 1, self.draws)
        write(self.folder / "few_label.csv", "\n".join(table) + "\n")
        return self.report(top1) | self.short_classes()

    def report(self, top1: dict[tuple[str, str], list[float]]) -> dict[str, Metric]:
        """Means and half-widths of their intervals, by number of labels and method, also as a plot."""
        counts, has = self.label_counts(), self.class_sizes
        means = {key: float(np.mean(draws)) for key, draws in top1.items()}
        widths = {key: half_width(draws, overlap(counts[key[0]], has)) for key, draws in top1.items()}
        sizes = {name: float(each.sum()) / self.classes for name, each in counts.items()}
        curves = {
            method: np.array([(size, means[n, method], widths[n, method] or np.nan) for n, size in sizes.items()])
            for method in self.methods
        }
        write_plot(curves, 1 / self.classes, self.folder / "few_label.png")
        metrics = {"mean": Metric(float(curves[self.methods[0]][:, 1].mean()))}
        metrics |= {f"{method}_{name}": Metric(mean) for (name, method), mean in means.items()}
        return metrics | {f"{m}_{n}_interval": Metric(width, None) for (n, m), width in widths.items() if width}

    def guess(
        self, method: str, rows: Int[Tensor, " n"], seed: int, encoder: Encoder, encode: Encode
    ) -> tuple[Int[Tensor, "q r"], Float[Tensor, "q r"]]:
        """Ranked classes of the query, and their probabilities, of a method that knows some labels of the bank."""
        y = self.bank.y.cpu()[rows]
        if method in ("probe", "knn"):
            bank, query = self.encode_both(encode)
            bank = bank[rows.to(bank.device)]
            if method == "probe":
                return fit_classifier(bank, y, self.classes, l2=self.l2, held_out=self.held_out).rank_classes(query)
            k = min(self.k, int(y.bincount().max()))
            return Neighbours(bank, y, self.classes, k, self.temperature).rank_classes(query)
        if method == "supervised":
            with isolated_generators(seed):
                encoder = self.fresh(seed).to(device_of(encoder))
        network = train(encoder, Split(Subset(self.bank.x, rows), y), self, steps=self.steps, seed=seed)
        return rank_classes(network, self.query.x)
