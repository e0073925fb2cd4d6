"""Few labels: probe, kNN and fine-tuning at so many labels a class, beside training from scratch with the same labels.

Semi-supervised evaluation as in Chen et al., A simple framework for contrastive learning of visual representations,
ICML 2020, arXiv 2002.05709, section 6 and appendix B.5, at labels a class as in Kolesnikov et al., Big transfer (BiT),
ECCV 2020, arXiv 1912.11370, sections 3.3 and 3.5: training has a length in steps, whatever the labels, and is not
chosen on anything.
Differs: several draws of the labels, with the interval of their mean; AdamW; 200 steps, not BiT's 500; crops of half
the image or more, as few samples want mild augmentation (Kim et al., How to fine-tune models with few samples, 2022,
arXiv 2205.07874).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.data.split import Subset
from ssl_runner.duration import Duration
from ssl_runner.layers.weights import device_of
from ssl_runner.probing import knn_vote as neighbours
from ssl_runner.probing import supervised
from ssl_runner.probing.accuracy import as_shares, shares
from ssl_runner.probing.intervals import common, half_width
from ssl_runner.probing.label_efficiency import Score, write_plot, write_table
from ssl_runner.probing.linear import fit
from ssl_runner.probing.require import require_finite, require_labelled
from ssl_runner.probing.strata import places

logger = logging.getLogger("ssl_runner")


class FewLabel:
    """Mean shares of query samples whose class is first, over draws of a few labelled rows, in [0, 1].

    `probe_5` is the probe's at five labels a class, `probe_0.01` at 1 % of them, and `probe_5_interval` half the width
    of the 95 % interval of that mean; `mean` averages the first method over all numbers of labels. In `folder`,
    few_label.csv holds every draw and few_label.png shows them.

    The interval is over draws of labels from this bank, of one encoder on one query: what another pretraining or other
    query images would give is not in it. It is widened where draws have many rows in common, see
    probing.intervals.half_width: at 100 of 120 rows a class it is five times that of draws apart. It is absent for
    one draw, and where all draws agree.

    All methods see the same draws, and a draw's larger sets hold its smaller ones. A class with fewer rows than asked
    gives all it has; a number of labels that would take the whole bank is left out. Nothing is chosen on the query: the
    probe's L2 weight is chosen within the drawn rows, and is the strongest where no class has two; training has a fixed
    length. No more neighbours vote than a class has labels: further ones could only be of others. `supervised` trains
    another random encoder each draw, in the same way as `finetune` trains the one given. At 1 to 5 labels the probe is
    often ahead of fine-tuning (Kim et al. find the same); a tenth of `lr` narrows the gap and starves the baseline.

    A training costs steps * min(batch_size, labelled rows) images, and the defaults are 40 trainings for each split
    that it measures: with convnet_small on 32x32 images of ten classes 3 minutes of one CPU core, and 1.5 more to rank
    a query of 10,000 after each (extrapolated from trainings of 20 steps). A run that has it among its evaluators pays
    for validation before the first step and after the last, and for test. Rather measure once: ssl-runner evaluate RUN
    few_label split=test. methods=[probe,knn] takes seconds.

    Args:
        every: how often it runs.
        labels: labelled rows a class.
        shares: further numbers, as shares of each class of the bank, at least one row of it.
        draws: how often labelled rows are drawn.
        methods: what is measured.
        steps: optimizer steps of a training.
        batch_size, lr, head_lr, weight_decay: see parts.supervised.Recipe; for both trainings.
        augment: what makes a view of images; null for samples that are none.
        l2, held_out: of the probe, see parts.linear.fit.
        k, temperature: of kNN, see parts.neighbours.ranked.
        seed: of draws, training and random encoders; not the run's, so that runs are measured alike.
        bank: what labelled rows are drawn from.
        query: what it is measured on.

    Raises:
        ValueError: the query is empty, or every number of labels takes the whole bank.
        FloatingPointError: from the call, where a feature or a loss is no number.
    """

    version = 2
    headline = "mean"

    def __init__(
        self,
        *,
        every: Duration,
        labels: tuple[Annotated[int, Ge(1)], ...] = (1, 5, 20, 100),
        shares: tuple[Annotated[float, Interval(gt=0, lt=1)], ...] = (),
        draws: Annotated[int, Ge(1)] = 5,
        methods: Annotated[tuple[Literal["probe", "knn", "finetune", "supervised"], ...], MinLen(1)] = (
            "probe",
            "knn",
            "finetune",
            "supervised",
        ),
        steps: Annotated[int, Ge(1)] = 200,
        batch_size: Annotated[int, Ge(1)] = 32,
        lr: Annotated[float, Gt(0)] = 2e-3,
        head_lr: Annotated[float, Gt(0)] = 2e-2,
        weight_decay: Annotated[float, Ge(0)] = 0.05,
        augment: Views | None,
        l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        k: Annotated[int, Ge(1)] = 20,
        temperature: Annotated[float, Gt(0)] = 0.07,
        seed: Annotated[int, Ge(0)] = 0,
        bank: Split,
        query: Split,
        classes: Annotated[int, Ge(1)],
        fresh: Callable[[int], Encoder],
        folder: Path,
    ):
        self.every, self.labels, self.shares, self.draws, self.methods = every, labels, shares, draws, methods
        self.steps, self.batch_size, self.lr, self.head_lr = steps, batch_size, lr, head_lr
        self.weight_decay, self.augment = weight_decay, augment
        self.l2, self.held_out, self.k, self.temperature, self.seed = l2, held_out, k, temperature, seed
        self.bank, self.query, self.classes, self.fresh, self.folder = bank, query, classes, fresh, folder
        require_labelled("few_label", query=query)
        if not self.wanted():
            raise ValueError(
                f"labels={list(labels)} and shares={list(shares)} take the whole bank of {len(bank.y)} rows; "
                f"give smaller ones, as evaluator.few_label.labels=[1], or leave few_label out"
            )

    def wanted(self) -> dict[str, Int[Tensor, " c"]]:
        """Labelled rows of each class by the name of their number, without those that take the whole bank."""
        has = self.bank.y.cpu().bincount(minlength=self.classes)  # (c,)
        asked = {str(number): torch.full_like(has, number) for number in sorted(set(self.labels))}
        asked |= {f"{share:g}": (share * has).round().long().clamp(min=1) for share in sorted(set(self.shares))}
        return {name: each for name, each in asked.items() if bool((each < has).any())}

    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        rng = torch.Generator().manual_seed(self.seed)
        wanted, scores = self.wanted(), []
        for draw in range(self.draws):
            place = places(self.bank.y, rng)
            seed = int(torch.randint(2**63 - 1, (), generator=rng))  # not seed + draw: seed=1 would repeat all but one
            for name, each in wanted.items():
                rows = (place < each[self.bank.y.cpu()]).nonzero().flatten()
                for method in self.methods:
                    guesses = self.guesses(method, rows, seed, encoder, encode)
                    top1 = shares(guesses, self.query.y, self.classes)["top1"]
                    scores.append(Score(name, draw, len(rows), method, top1))
            if {"finetune", "supervised"} & set(self.methods):
                logger.info("few_label: draw %d of %d is done", draw + 1, self.draws)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_table(scores, self.folder / "few_label.csv")
        found: dict[str, float] = {}
        widths: dict[tuple[str, str], float] = {}
        has = self.bank.y.cpu().bincount(minlength=self.classes)  # (c,)
        for name, each in wanted.items():
            share = common(each.minimum(has), has)
            for method in self.methods:
                drawn = [score.top1 for score in scores if (score.labels, score.method) == (name, method)]
                found[f"{method}_{name}"] = fmean(drawn)
                if (width := half_width(drawn, share)) is not None:
                    widths[name, method] = width
        write_plot(scores, widths, self.classes, self.folder / "few_label.png")
        intervals = {f"{method}_{name}_interval": Metric(width, None) for (name, method), width in widths.items()}
        return as_shares({"mean": fmean(found[f"{self.methods[0]}_{name}"] for name in wanted)} | found) | intervals

    def guesses(
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
                return fit(bank, y, self.classes, l2=self.l2, held_out=self.held_out).ranked(query)
            k = min(self.k, int(y.bincount().max()))
            return neighbours.ranked(bank, y, query, k=k, temperature=self.temperature, classes=self.classes)
        if method == "supervised":
            with supervised.isolated(seed):
                encoder = self.fresh(seed).to(device_of(encoder))
        recipe = supervised.Recipe(
            lr=self.lr,
            head_lr=self.head_lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            augment=self.augment,
        )
        known = Subset(self.bank.x, rows)
        network = supervised.fit(encoder, known, y, self.classes, recipe, steps=self.steps, seed=seed)
        return supervised.ranked(network, self.query.x)
