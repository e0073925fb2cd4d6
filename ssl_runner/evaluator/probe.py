"""Linear probe: how well a linear classifier tells the classes apart on frozen features.

After Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv 1610.01644.
Fitted as in Radford et al., Learning transferable visual models from natural language supervision, ICML 2021,
arXiv 2103.00020, appendix A: multinomial logistic regression by L-BFGS, its L2 weight chosen on held-out training rows.
Differs: the features are standardised, and the loss is a mean, so that one grid of L2 weights serves banks of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Duration, Encoder, Rows, Split
from ssl_runner.parts.logistic import path
from ssl_runner.parts.split import stratified

SEED = 0  # of the held-out part; not the run's seed, so that runs are measured alike
CHOOSING, FITTING = 1e-4, 1e-6  # largest gradient at the end; the last only settles the fourth digit


class Probe:
    """Shares of query samples whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    Beside them stands `l2`, the weight that was chosen: at an end of the grid, the grid is too short.
    It works in float64 and draws nothing at random. The query plays no part in the fit or in the choice.

    Args:
        every: how often it runs.
        l2: weights of |W|^2 / 2 beside the mean cross-entropy, to choose from; scikit-learn's C is 1 / (n * l2).
        held_out: share of each class of the bank that they are chosen on; the fit then takes the whole bank.
        bank: what it is fitted on.
        query: what it is measured on.

    Raises:
        ValueError: the bank or the query is empty.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 1
    headline = "top1"

    def __init__(
        self,
        *,
        every: Duration,
        l2: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        bank: Split,
        query: Split,
        classes: Annotated[int, Ge(1)],
    ):
        for name, split in (("bank", bank), ("query", query)):
            if len(split.y) == 0:
                raise ValueError(f"the {name} holds no labelled sample; give it some or leave the probe out")
        self.every = every
        self.l2 = l2
        self.held_out = held_out
        self.bank = bank
        self.query = query
        self.classes = classes

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, float]:
        bank, query = _wide(encode(self.bank.x)), _wide(encode(self.query.x))
        if not (bank.isfinite().all() and query.isfinite().all()):
            raise FloatingPointError("the features are not all finite: the encoder has diverged; lower optimizer.lr")
        y, truth = self.bank.y.to(bank.device, torch.int64), self.query.y.to(bank.device, torch.int64)
        mean, deviation = bank.mean(0), bank.std(0, correction=0)
        # A constant feature has a deviation of rounding errors: dividing by it would blow noise up to unit size.
        constant = deviation <= 1e-6 * bank.abs().amax(0)
        per_unit = torch.where(constant, 0, 1 / deviation)  # (d,)
        bank, query = (bank - mean) * per_unit, (query - mean) * per_unit
        l2 = self.choose(bank, y)
        ((_, linear),) = path(bank, y, self.classes, (l2,), FITTING)
        guesses = linear.scores(query).topk(min(5, self.classes)).indices  # (q, 5)
        hits = (guesses == truth[:, None]).double()
        shares = {"top1": hits[:, 0].mean().item(), "l2": l2}
        return shares | ({"top5": hits.sum(1).mean().item()} if self.classes > 5 else {})

    def choose(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> float:
        """The L2 weight with the most hits on the held-out part of standardised rows; of equals, the strongest.

        Where no class has two rows nothing can be held out, and all are equal.
        """
        rest, held = (rows.to(x.device) for rows in stratified(y, self.held_out, SEED))
        if len(self.l2) == 1:
            return self.l2[0]
        best, most = max(self.l2), -1
        for l2, linear in path(x[rest], y[rest], self.classes, self.l2, CHOOSING):
            hits = int((linear.scores(x[held]).argmax(1) == y[held]).sum())
            if hits > most:
                best, most = l2, hits
        return best


def _wide(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """In float64, on the CPU where the device has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()
