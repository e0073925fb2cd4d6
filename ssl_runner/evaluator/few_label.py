"""Label efficiency: probe, kNN and fine-tuning at few labels a class, beside training from scratch with these labels.

Semi-supervised evaluation as in Chen et al., A simple framework for contrastive learning of visual representations,
ICML 2020, arXiv 2002.05709, section 6 and appendix B.5, at labels a class as in Kolesnikov et al., Big transfer (BiT),
ECCV 2020, arXiv 1912.11370, sections 3.3 and 3.5: training has a length in steps, whatever the labels, and is not
chosen on anything.
Differs: several draws of the labels, with the interval of their mean; AdamW; 200 steps, not BiT's 500; crops of half
the image or more, as few samples want mild augmentation (Kim et al., How to fine-tune models with few samples, 2022,
arXiv 2205.07874).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Metric, Rows, Samples, Split
from ssl_runner.data.rows import Subset
from ssl_runner.duration import Duration
from ssl_runner.layers.weights import device_of
from ssl_runner.probing import knn_vote, supervised
from ssl_runner.probing.intervals import half_width, overlap
from ssl_runner.probing.label_efficiency import Score, write_plot, write_table
from ssl_runner.probing.linear import fit_classifier
from ssl_runner.probing.require import require_augmentable, require_finite, require_labelled
from ssl_runner.probing.sampling import rank_within_class
from ssl_runner.probing.scores import as_shares, top_accuracies

logger = logging.getLogger("ssl_runner")


@dataclass(frozen=True, kw_only=True)
class FewLabel:
    """Mean shares of query rows whose class is first, over draws of a few labelled rows, in [0, 1].

    `probe_5` is the probe's at five labels a class, `probe_0.01` at 1 % of them, and `probe_5_interval` half the width
    of the 95 % interval of that mean; `mean` averages the first method over all numbers of labels. In `folder`,
    few_label.csv holds every draw and few_label.png shows them.

    The interval is over draws of labels from this bank, of one encoder on one query: another pretraining or other query
    images would add to it. It is widened if draws have many rows in common, see probing.intervals.half_width: at 100 of
    120 rows a class it is five times that of draws apart. It is absent for one draw, and if all draws agree.

    All methods see the same draws, and a draw's larger sets hold its smaller ones. A class with fewer rows than asked
    gives all it has; a number of labels that would take the whole bank is left out. Nothing is chosen on the query: the
    probe's L2 weight is chosen within the drawn rows, and is the strongest if no class has two; training has a fixed
    length. No more neighbours vote than a class has labels: further ones could only be of others. `supervised` trains
    another random encoder each draw, in the same way as `finetune` trains the one given. At 1 to 5 labels the probe is
    often ahead of fine-tuning (Kim et al. find the same); a tenth of `lr` narrows the gap and starves the baseline.

    A training costs steps * min(batch_size, labelled rows) images, and the defaults are 40 trainings for each split
    that it measures: with convnet_small on 32x32 images of ten classes 3 minutes of one CPU core, and 1.5 more to rank
    a query of 10,000 after each (extrapolated from trainings of 20 steps). A run that has it among its evaluators pays
    for validation before the first step and after the last, and for test. Rather measure once: ssl-runner evaluate RUN
    few_label split=test. methods=[probe,knn] takes seconds.

    Raises:
        ValueError: the query is empty, every number of labels takes the whole bank, or views of images are wanted of
            other samples.
        FloatingPointError: from the call, if a feature or a loss is not finite.
    """

    version: ClassVar[int] = 2
    headline: ClassVar[str] = "mean"

    every: Duration
    labels: tuple[Annotated[int, Ge(1)], ...] = (1, 5, 20, 100)  # labelled rows a class
    shares: tuple[Annotated[float, Interval(gt=0, lt=1)], ...] = ()  # further numbers: of each class, a row at least
    draws: Annotated[int, Ge(1)] = 5  # of labelled rows
    methods: Annotated[tuple[Literal["probe", "knn", "finetune", "supervised"], ...], MinLen(1)] = (
        "probe",
        "knn",
        "finetune",
        "supervised",
    )
    steps: Annotated[int, Ge(1)] = 200  # optimizer steps of a training
    batch_size: Annotated[int, Ge(1)] = 32  # this and the next four, of both trainings: see probing.supervised.Recipe
    lr: Annotated[float, Gt(0)] = 2e-3
    head_lr: Annotated[float, Gt(0)] = 2e-2
    weight_decay: Annotated[float, Ge(0)] = 0.05
    augment: Views | None  # makes a view of images; None for other samples
    # Of the probe, see probing.linear.fit_classifier.
    l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    k: Annotated[int, Ge(1)] = 20  # of kNN, see probing.knn_vote
    temperature: Annotated[float, Gt(0)] = 0.07
    seed: Annotated[int, Ge(0)] = 0  # of draws, training and random encoders; not the run's
    bank: Split  # the rows that labels are drawn from
    query: Split
    classes: Annotated[int, Ge(1)]
    sample: Samples
    fresh: Callable[[int], Encoder]
    folder: Path

    def __post_init__(self) -> None:
        if self.trains:
            require_augmentable("few_label", self.augment, self.sample)
        require_labelled("few_label", bank=self.bank, query=self.query)
        if not self.label_counts():
            raise ValueError(
                f"labels={list(self.labels)} and shares={list(self.shares)} take the whole bank of {len(self.bank.x)} "
                f"rows; give smaller ones, as evaluator.few_label.labels=[1], or leave few_label out"
            )

    @property
    def trains(self) -> bool:
        return bool({"finetune", "supervised"} & set(self.methods))

    @property
    def class_sizes(self) -> Int[Tensor, " c"]:
        """Rows of the bank by class."""
        return self.bank.y.cpu().bincount(minlength=self.classes)

    def label_counts(self) -> dict[str, Int[Tensor, " c"]]:
        """Labelled rows of each class by the name of their number, without those that take the whole bank."""
        has = self.class_sizes
        asked = {str(number): torch.full_like(has, number) for number in sorted(set(self.labels))}
        asked |= {f"{share:g}": (share * has).round().long().clamp(min=1) for share in sorted(set(self.shares))}
        return {name: each for name, each in asked.items() if bool((each < has).any())}

    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        rng, scores = torch.Generator().manual_seed(self.seed), []
        for draw in range(self.draws):
            ranks = rank_within_class(self.bank.y, rng)
            seed = int(torch.randint(2**63 - 1, (), generator=rng))  # not seed + draw: seed=1 would repeat all but one
            for name, counts in self.label_counts().items():
                rows = (ranks < counts[self.bank.y.cpu()]).nonzero().flatten()
                for method in self.methods:
                    guesses = self.guess(method, rows, seed, encoder, encode)
                    top1 = top_accuracies(guesses, self.query.y, self.classes)["top1"]
                    scores.append(Score(name, draw, len(rows), method, top1))
            if self.trains:
                logger.info("few_label: draw %d of %d is done", draw + 1, self.draws)
        return self.report(scores)

    def report(self, scores: Sequence[Score]) -> dict[str, Metric]:
        """Means and half-widths of their intervals, by method and number of labels; writes the table and the plot."""
        means: dict[str, float] = {}
        widths: dict[tuple[str, str], float] = {}
        has, label_counts = self.class_sizes, self.label_counts()
        for name, counts in label_counts.items():
            shared = overlap(counts.minimum(has), has)
            for method in self.methods:
                drawn = [score.top1 for score in scores if (score.labels, score.method) == (name, method)]
                means[f"{method}_{name}"] = fmean(drawn)
                if (width := half_width(drawn, shared)) is not None:
                    widths[name, method] = width
        self.folder.mkdir(parents=True, exist_ok=True)
        write_table(scores, self.folder / "few_label.csv")
        write_plot(scores, widths, self.classes, self.folder / "few_label.png")
        intervals = {f"{method}_{name}_interval": Metric(width, None) for (name, method), width in widths.items()}
        mean = fmean(means[f"{self.methods[0]}_{name}"] for name in label_counts)
        return as_shares({"mean": mean} | means) | intervals

    def guess(
        self,
        method: str,
        rows: Int[Tensor, " n"],
        seed: int,
        encoder: Encoder,
        encode: Callable[[Rows], Float[Tensor, "n d"]],
    ) -> Int[Tensor, "q r"]:
        """Classes of the query, the likeliest first, by a method that knows the labels of some rows of the bank."""
        y = self.bank.y.cpu()[rows]
        if method in ("probe", "knn"):
            bank, query = encode(self.bank.x), encode(self.query.x)
            require_finite(bank, query)
            bank = bank[rows.to(bank.device)]
            if method == "probe":
                return fit_classifier(bank, y, self.classes, l2=self.l2, held_out=self.held_out).rank_classes(query)
            k = min(self.k, int(y.bincount().max()))
            return knn_vote.rank_classes(bank, y, query, k=k, temperature=self.temperature, classes=self.classes)
        if method == "supervised":
            with supervised.isolated_generators(seed):
                encoder = self.fresh(seed).to(device_of(encoder))
        names = ("lr", "head_lr", "weight_decay", "batch_size", "augment")
        recipe = supervised.Recipe(**{name: getattr(self, name) for name in names})
        known = Split(Subset(self.bank.x, rows), y)
        network = supervised.train(encoder, self.sample, known, self.classes, recipe, steps=self.steps, seed=seed)
        return supervised.rank_classes(network, self.query.x)
