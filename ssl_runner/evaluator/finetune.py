"""Fine-tuning: how well the whole encoder tells the classes apart after training with labels.

Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020, arXiv 2002.05709,
appendix B.5: crop and flip are the only augmentation. The training itself is that of probing/supervised.py.
Differs: an epoch is chosen on rows that are not reported on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Interval
from jaxtyping import Float
from torch import Tensor

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Encoder, Metric, Rows, Samples, Split
from ssl_runner.data.rows import Subset, stratified_split
from ssl_runner.duration import Duration
from ssl_runner.probing.require import require_augmentable, require_labelled
from ssl_runner.probing.scores import as_shares, top_accuracies
from ssl_runner.probing.supervised import Network, Recipe, rank_classes, train


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Shares of query rows whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    Beside them stand the `epoch` that was chosen, from 1, and `choice_top1`, its share of hits on the rows that it was
    chosen on: those of `validation`, or, if that is missing or is the query, a held-out part of the bank that is not
    trained on. Of equal epochs the first is taken. If nothing can be held out it is the last, and there is no
    `choice_top1`. The encoder that is trained is a copy.

    It costs as much as `epochs` epochs of pretraining in float32 on one view.

    Raises:
        ValueError: the bank or the query is empty, or views of images are wanted of other samples.
        FloatingPointError: from the call, if the loss is not finite.
    """

    version: ClassVar[int] = 2
    headline: ClassVar[str] = "top1"

    every: Duration
    epochs: Annotated[int, Ge(1)] = 20  # passes over the labelled rows
    batch_size: Annotated[int, Ge(1)] = 64  # this and the next five: see probing.supervised.Recipe
    lr: Annotated[float, Gt(0)] = 2e-3
    head_lr: Annotated[float, Gt(0)] = 2e-2
    weight_decay: Annotated[float, Ge(0)] = 0.05
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    warm_up: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    augment: Views | None  # makes a view of images; None for other samples
    # Share of each class of the bank that the epoch is chosen on if there is no other validation.
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Ge(0)] = 0  # of order, views and dropout; not the run's, so that runs are measured alike
    bank: Split  # the rows that it is trained on
    query: Split
    validation: Split | None
    classes: Annotated[int, Ge(1)]
    sample: Samples

    def __post_init__(self) -> None:
        require_augmentable("finetune", self.augment, self.sample)
        require_labelled("fine-tuning", bank=self.bank, query=self.query)

    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        bank, choice = self.split_bank()
        best, kept = {"epoch": float(self.epochs)}, {}

        def choose(epoch: int, network: Network) -> None:
            if choice is None:
                return
            hits = top_accuracies(rank_classes(network, choice.x), choice.y, self.classes)["top1"]
            if hits > best.get("choice_top1", -1):
                best.update(epoch=float(epoch), choice_top1=hits)
                kept.update({name: value.clone() for name, value in network.state_dict().items()})

        names = ("lr", "head_lr", "weight_decay", "batch_size", "label_smoothing", "warm_up", "augment")
        recipe = Recipe(**{name: getattr(self, name) for name in names})
        steps = self.epochs * max(1, len(bank.y) // self.batch_size)
        network = train(
            *(encoder, self.sample, bank, self.classes, recipe), steps=steps, seed=self.seed, after_epoch=choose
        )
        if kept:
            network.load_state_dict(kept)
        epoch = Metric(best.pop("epoch"), None, "number")
        accuracies = top_accuracies(rank_classes(network, self.query.x), self.query.y, self.classes)
        return as_shares(accuracies | best) | {"epoch": epoch}

    def split_bank(self) -> tuple[Split, Split | None]:
        """The rows that are trained on, and those that the epoch is chosen on: never the query."""
        if self.validation is not None and self.validation is not self.query and len(self.validation.x):
            return self.bank, self.validation
        x, y = self.bank.x, self.bank.y
        rest, held = stratified_split(y, self.held_out, self.seed)
        if len(held) == 0:
            return self.bank, None
        return Split(Subset(x, rest), y[rest]), Split(Subset(x, held), y[held])
