"""Fine-tuning: how well the whole encoder tells the classes apart after training with labels.

Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020, arXiv 2002.05709,
appendix B.5: crop and flip are the only augmentation. The training itself is that of probing/supervised.py.
Differs: an epoch is chosen on rows that are not reported on.
"""

import copy
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from ssl_runner.contract import Encoder, Metric, Split
from ssl_runner.data.rows import Subset, stratified_split
from ssl_runner.probing.class_scores import NUMBERS, score_classes, top_accuracies
from ssl_runner.probing.protocol import Count, Encode, Part, Seed
from ssl_runner.probing.supervised import Network, Trained, rank_classes, train


@dataclass(frozen=True, kw_only=True)
class FineTune(Trained):
    """Shares of query rows whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    With them come the scores of probing.class_scores.score_classes.
    Beside them stand the `epoch` that was chosen, from 1, and `choice_top1`, its share of hits on the rows that it was
    chosen on: those of `validation`, or, if that is missing or is the query, a held-out part of the bank that is not
    trained on. Of equal epochs the first is taken. If nothing can be held out it is the last, and there is no
    `choice_top1`. It costs as much as `epochs` epochs of pretraining in float32 on one view.
    Raises: as probing.supervised.Trained.
    """

    version = 3
    numbers = (*NUMBERS, "choice_top1", "epoch")
    epochs: Count = 20  # passes over the labelled rows
    batch_size: Count = 64
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0  # this and the next: see probing.supervised.Trained
    warm_up: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    held_out: Part = 0.1  # share of each class of the bank that the epoch is chosen on without another validation
    seed: Seed = 0  # of order, views and dropout; not the run's, so that runs are measured alike
    validation: Split | None

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        bank, choice = self.split_bank()
        best, kept = {"epoch": self.epochs}, {}

        def choose(epoch: int, network: Network) -> None:
            hits = top_accuracies(rank_classes(network, choice.x)[0], choice.y, self.classes)["top1"]
            if hits > best.get("choice_top1", -1):
                best.update(epoch=epoch, choice_top1=hits)
                kept.update(copy.deepcopy(network.state_dict()))

        steps = self.epochs * max(1, len(bank.y) // self.batch_size)
        network = train(encoder, bank, self, steps=steps, seed=self.seed, after_epoch=choose if choice else None)
        network.load_state_dict(kept or network.state_dict())
        epoch = Metric(float(best.pop("epoch")), None, "number")
        scores = score_classes(*rank_classes(network, self.query.x), self.query.y, self.classes, self.class_names)
        return scores | {name: Metric(value) for name, value in best.items()} | {"epoch": epoch}

    def split_bank(self) -> tuple[Split, Split | None]:
        """The rows that are trained on, and those that the epoch is chosen on: never the query."""
        if self.validation is not None and self.validation is not self.query and len(self.validation.x):
            return self.bank, self.validation
        parts = stratified_split(self.bank.y, self.held_out, self.seed)
        rest, held = (Split(Subset(self.bank.x, rows), self.bank.y[rows]) for rows in parts)
        return (rest, held) if len(held.x) else (self.bank, None)
