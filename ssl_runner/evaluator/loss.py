"""Held-out loss: the task's own loss and metrics on rows that it does not learn from; perplexity and bits of a token.

Perplexity: Jelinek, Mercer, Bahl, Baker, Perplexity, a measure of the difficulty of speech recognition tasks, Journal
of the Acoustical Society of America 62, 1977: exp of the mean cross-entropy in nats.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.protocol import Encode

NATS = "cross_entropy"  # the metric of a task that is a mean cross-entropy of tokens, in nats


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """`loss`, and each metric of the task under its own name, such as `masked_accuracy`, all over whole batches.

    A task with a `cross_entropy`, in nats a token, has `perplexity`, its exp, `bits`, the same in bits a token, and, if
    tokens are text, `bits_a_byte`: by the bytes of UTF-8 that the query's tokens have in the mean, as the tokenizer
    writes them, so that `clm` of two tokenizers can be compared. What the views draw is the same each time and the
    network drops nothing, so numbers of one run, and of runs with one task, batch size and data, can be compared;
    losses of different tasks cannot.
    Raises ValueError if there is an encoder alone, without the network of its task, or if the query is empty;
    FloatingPointError from the call, if the loss is not finite.
    """

    version = 1
    headline = "loss"
    every: Duration
    query: Split
    decode: Callable[[Iterable[int]], str] | None  # ids to text; None: the data has no tokenizer
    score: Callable[[Rows], Mapping[str, float]] | None  # of rows by the task; None: there is no task

    def __post_init__(self) -> None:
        if self.score is None:
            instead = "measure it in training, by evaluator=[knn,probe,loss], and here knn or probe"
            raise ValueError(f"loss takes the network of the task, and there is an encoder alone; {instead}")
        if not len(self.query.x):
            raise ValueError("the query holds no sample; give it some or leave loss out")

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        assert self.score is not None
        values = dict(self.score(self.query.x))
        if not math.isfinite(values["loss"]):
            raise FloatingPointError("the held-out loss is not finite: the network has diverged; lower optimizer.lr")
        metrics = {"loss": Metric(values.pop("loss"), "smaller", "number")}
        if NATS in values:
            nats = values[NATS]
            metrics["perplexity"] = Metric(math.exp(min(nats, 700)), "smaller", "number")
            metrics["bits"] = Metric(bits := nats / math.log(2), "smaller", "number")
            if self.decode is not None:
                metrics["bits_a_byte"] = Metric(bits / self.bytes_a_token, "smaller", "number")
        for name, value in values.items():
            right = name.endswith("accuracy")
            metrics[name] = Metric(value, "larger", "share") if right else Metric(value, None, "number", detail=True)
        return metrics

    @cached_property
    def bytes_a_token(self) -> float:
        """The mean over the query's tokens, padding aside. The query stays the same for the whole run."""
        assert self.decode is not None
        rows = self.query.x[torch.arange(len(self.query.x))].tolist()
        return sum(len(self.decode(row).encode()) for row in rows) / sum(each != 0 for row in rows for each in row)
