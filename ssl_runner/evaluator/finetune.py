"""Fine-tuning: how well the whole encoder tells the classes apart once it is trained with labels.

Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020, arXiv 2002.05709,
appendix B.5: crop and flip are the only augmentation. The training itself is that of probing/supervised.py.
Differs: an epoch is chosen on rows that are not reported on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from annotated_types import Ge, Gt, Interval
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.data.split import Subset, stratified
from ssl_runner.duration import Duration
from ssl_runner.probing.accuracy import as_shares, shares
from ssl_runner.probing.require import require_labelled
from ssl_runner.probing.supervised import Network, Recipe, fit, ranked


class FineTune:
    """Shares of query samples whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    Beside them stand the `epoch` that was chosen, from 1, and `choice_top1`, its share of hits on the rows that it was
    chosen on: those of `validation`, or, where that is missing or is the query, a held-out part of the bank that is
    then not trained on. Of equal epochs the first is taken. Where nothing can be held out it is the last, and there is
    no `choice_top1`. The encoder that is trained is a copy.

    It costs as much as `epochs` epochs of pretraining in float32 on one view.

    Args:
        every: how often it runs.
        epochs: passes over the labelled rows.
        batch_size, lr, head_lr, weight_decay, label_smoothing, warm_up: see parts.supervised.Recipe.
        augment: what makes a view of images; null for samples that are none.
        held_out: share of each class of the bank that the epoch is chosen on where there is no other validation.
        seed: of order, views and dropout; not the run's, so that runs are measured alike.
        bank: what it is trained on.
        query: what it is measured on.

    Raises:
        ValueError: the bank or the query is empty.
        FloatingPointError: from the call, where the loss is no number any more.
    """

    version = 2
    headline = "top1"

    def __init__(
        self,
        *,
        every: Duration,
        epochs: Annotated[int, Ge(1)] = 20,
        batch_size: Annotated[int, Ge(1)] = 64,
        lr: Annotated[float, Gt(0)] = 2e-3,
        head_lr: Annotated[float, Gt(0)] = 2e-2,
        weight_decay: Annotated[float, Ge(0)] = 0.05,
        label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        warm_up: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        augment: Views | None,
        held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        seed: Annotated[int, Ge(0)] = 0,
        bank: Split,
        query: Split,
        validation: Split | None,
        classes: Annotated[int, Ge(1)],
    ):
        require_labelled("fine-tuning", bank=bank, query=query)
        self.every, self.epochs, self.batch_size = every, epochs, batch_size
        self.lr, self.head_lr, self.weight_decay = lr, head_lr, weight_decay
        self.label_smoothing, self.warm_up, self.augment = label_smoothing, warm_up, augment
        self.held_out, self.seed = held_out, seed
        self.bank, self.query, self.validation, self.classes = bank, query, validation, classes

    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, choice = self.parts()
        best, kept = {"epoch": float(self.epochs)}, {}

        def choose(epoch: int, network: Network) -> None:
            if choice is None:
                return
            hits = shares(ranked(network, choice.x), choice.y, self.classes)["top1"]
            if hits > best.get("choice_top1", -1):
                best.update(epoch=float(epoch), choice_top1=hits)
                kept.update({name: value.clone() for name, value in network.state_dict().items()})

        recipe = Recipe(
            lr=self.lr,
            head_lr=self.head_lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            label_smoothing=self.label_smoothing,
            warm_up=self.warm_up,
            augment=self.augment,
        )
        steps = self.epochs * max(1, len(bank.y) // self.batch_size)
        network = fit(encoder, bank.x, bank.y, self.classes, recipe, steps=steps, seed=self.seed, after_epoch=choose)
        if kept:
            network.load_state_dict(kept)
        epoch = Metric(best.pop("epoch"), None, "number")
        return as_shares(shares(ranked(network, self.query.x), self.query.y, self.classes) | best) | {"epoch": epoch}

    def parts(self) -> tuple[Split, Split | None]:
        """What is trained on, and what the epoch is chosen on: never the query."""
        if self.validation is not None and self.validation is not self.query and len(self.validation.y):
            return self.bank, self.validation
        x, y = self.bank.x, self.bank.y
        rest, held = stratified(y, self.held_out, self.seed)
        if len(held) == 0:
            return self.bank, None
        return Split(Subset(x, rest), y[rest]), Split(Subset(x, held), y[held])
