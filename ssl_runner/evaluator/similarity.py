"""Semantic similarity: whether the cosine of two samples' features rises with how alike they are, by rank correlation.

As in SentEval's STS tasks (Conneau & Kiela, SentEval: an evaluation toolkit for universal sentence representations,
LREC 2018, arXiv 1803.05449) and Gao, Yao, Chen: SimCSE, EMNLP 2021, arXiv 2104.08821, section 5: Spearman's correlation
(The proof and measurement of association between two things, 1904) of cosines and scores, over all pairs.
Differs: without a file of scored pairs, the score of two rows is the share of factors, or the class, in which they are
equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Split
from ssl_runner.data.places import expand_home
from ssl_runner.duration import Duration
from ssl_runner.probing.protocol import Count, Encode, Seed, Unlabelled, require_finite, require_labelled
from ssl_runner.probing.rank_correlation import spearman
from ssl_runner.probing.scored_pairs import read_pairs


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Spearman's correlation of cosine and score (`spearman`), in [-1, 1], over random pairs of rows or a file's pairs.

    The score of two rows is the share of factors in which they are equal: targets of whole numbers, or labels that may
    be several; without such targets, whether their class is the same. Features that are all alike give 0.
    A file has two texts and a number in each line, between tabs; then there need not be a query, and validation and
    test give the same number.
    Raises ValueError if the rows have neither factors nor a class, or the file cannot be used; from the call, if the
    score does not vary; FloatingPointError from the call, if a feature is not finite.
    """

    version = 1
    headline = "spearman"
    numbers = ("spearman",)
    every: Duration
    pairs: Count = 20_000  # of rows, drawn once
    file: str | None = None  # of scored pairs of texts, in UTF-8; None: pairs of rows
    seed: Seed = 0  # of the draw; not the run's, so that runs are measured alike
    query: Split | None
    tokenise: Callable[[Sequence[str]], Tensor] | None

    def __post_init__(self) -> None:
        if self.file is not None:
            if self.tokenise is None:
                raise ValueError(f"file: given {self.file}, and this dataset makes no samples of texts; type null")
            read_pairs(expand_home(self.file))
            return
        if self.query is None:
            raise Unlabelled("similarity compares rows that are held out, and there are none; give it a file")
        if not self.factors:
            require_labelled("similarity", None, query=self.query)
        if len(self.query.x) < 2:
            raise ValueError("the query holds fewer than two samples; give it some or leave similarity out")

    @property
    def factors(self) -> list[Tensor]:
        """Targets in which two rows can be equal."""
        assert self.query is not None
        return [each for each in self.query.targets.values() if not each.is_floating_point()]

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        if self.file is None:
            assert self.query is not None
            n, rng = len(self.query.x), torch.Generator().manual_seed(self.seed)
            first, shift = (torch.randint(low, n, (self.pairs,), generator=rng) for low in (0, 1))
            second = (first + shift) % n  # never the same row
            features, score = encode(self.query.x), self.score(first, second)
        else:
            one, other, scores = zip(*read_pairs(expand_home(self.file)), strict=True)
            assert self.tokenise is not None
            features, score = encode(self.tokenise([*one, *other])), torch.tensor(scores)
            first, second = torch.arange(2 * len(score)).chunk(2)
        require_finite(features)
        if score.min() == score.max():
            raise ValueError("all pairs have the same score, so that nothing can correlate with it; give other rows")
        unit = F.normalize(features, dim=1).cpu()
        return {"spearman": Metric(spearman((unit[first] * unit[second]).sum(1), score), "larger", "number")}

    def score(self, first: Int[Tensor, " p"], second: Int[Tensor, " p"]) -> Float[Tensor, " p"]:
        """The share of factors in which two rows are equal, in [0, 1]."""
        assert self.query is not None
        known = self.factors or [self.query.y]
        equal = [
            (each[first] == each[second]).float().view(len(first), -1).mean(1) for each in (k.cpu() for k in known)
        ]
        return torch.stack(equal).mean(0)
