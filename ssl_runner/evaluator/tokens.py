"""Linear probe of tokens: what a linear model reads off each frame or word, such as its phoneme or part of speech.

Frames: Oord, Li, Vinyals: Representation learning with contrastive predictive coding, 2018, arXiv 1807.03748, section
3.1, phones. Words: Belinkov, Durrani, Dalvi, Sajjad, Glass: What do neural machine translation models learn about
morphology?, ACL 2017, arXiv 1704.03471. Logistic regression of probing/linear.py.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Samples, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.class_scores import NUMBERS, score_classes
from ssl_runner.probing.linear import fit_classifier
from ssl_runner.probing.protocol import L2, Count, Encode, Part, Penalties, Seed
from ssl_runner.probing.token_features import features_of, real_tokens


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Share of the query's tokens whose class is first (`top1`), in [0, 1], and the other scores of classes.

    A token of the encoder has the class that the dataset tells of the middle of its time: of its samples, if the
    encoder says how many they are (`hop`), else of an equal part of the row. Left out are padding, tokens whose middle
    is behind the row, and what has no class. The L2 weight is chosen on tokens of held-out rows of the bank; the query
    plays no part in it.
    Raises ValueError if the dataset tells no class of tokens, or several and none is chosen; from the call, if no token
    has one; FloatingPointError from the call, if a feature is not finite.
    """

    version = 2
    headline = "top1"
    numbers = (*NUMBERS, "l2")
    every: Duration
    target: str | None = None  # what of tokens; None: the one thing that the dataset tells of them
    samples: Count = 20_000  # tokens of the bank, and of the query, drawn once; all of them if there are fewer
    l2: Penalties = L2  # weights of |W|^2 / 2 beside the mean cross-entropy, to choose from
    held_out: Part = 0.2  # share of the bank's rows that the choice is made on
    seed: Seed = 0  # of these draws; not the run's, so that runs are measured alike
    bank: Split
    query: Split
    sample: Samples

    def __post_init__(self) -> None:
        known = [name for name in self.bank.tokens if name in self.query.tokens]
        given = f"target: given {self.target or 'null'}"
        if not known:
            raise ValueError(f"{given}, and the dataset tells no classes of tokens; leave tokens out")
        if self.target not in (None, *known) or (self.target is None and len(known) > 1):
            raise ValueError(f"{given}; possible are {', '.join(known)}")
        object.__setattr__(self, "known", self.target or known[0])

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        x, y, rows = self.labelled(encoder, self.bank)
        classes = 1 + max(int(split.tokens[self.known].max()) for split in (self.bank, self.query))
        model = fit_classifier(x, y, classes, l2=self.l2, held_out=self.held_rows(rows))
        x, truth, _ = self.labelled(encoder, self.query)
        return score_classes(*model.rank_classes(x), truth, classes) | {"l2": Metric(model.l2, None, "number")}

    def labelled(
        self, encoder: Encoder, split: Split
    ) -> tuple[Float[Tensor, "k d"], Int[Tensor, " k"], Int[Tensor, " k"]]:
        """Features of tokens that have a class, their classes, and their rows. Raises ValueError if there is none."""
        one = next(features_of(encoder, split.x, torch.zeros(1, dtype=torch.int64), self.sample))
        times, hop = one.tokens.shape[1], getattr(encoder, "hop", None)
        parts = (hop, self.sample.shape[-1]) if hop else (1, times)
        classes = at_times(split.tokens[self.known].cpu(), times, *parts)  # (N, t)
        places = (classes >= 0).nonzero()  # (k, 2): row and time
        rng = torch.Generator().manual_seed(self.seed)
        places = places[torch.randperm(len(places), generator=rng)[: self.samples].sort().values]
        rows, number = places[:, 0].unique(return_inverse=True)
        x, kept, first = [], [places[:0]], 0
        for features in features_of(encoder, split.x, rows, self.sample):
            last = first + len(features.tokens)
            here = (number >= first) & (number < last)
            row, time = (each.to(features.tokens.device) for each in (number[here] - first, places[here, 1]))
            real = real_tokens(features)[row, time]
            x.append(features.tokens[row, time][real].float())
            kept.append(places[here][real.cpu()])
            first = last
        row, time = torch.cat(kept).T
        if not len(row):
            raise ValueError(f"no token of these rows has a {self.known}; give more rows, or another target")
        return torch.cat(x), classes[row, time].long(), row

    def held_rows(self, rows: Int[Tensor, " k"]) -> Bool[Tensor, " k"]:
        """Which tokens are of held-out rows, never of all: those of one row resemble each other."""
        distinct, number = rows.unique(return_inverse=True)
        order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(self.seed))
        return order[number] < min(round(self.held_out * len(distinct)), len(distinct) - 1)


def at_times(classes: Int[Tensor, "n l"], times: int, hop: int, length: int) -> Int[Tensor, "n t"]:
    """The class at the middle of so many parts of `hop` in a row of `length`; -1 if that is behind the row."""
    place = (2 * torch.arange(times) + 1) * hop * classes.shape[1] // (2 * length)
    return F.pad(classes, (0, 1), value=-1)[:, place.clamp(max=classes.shape[1])]
