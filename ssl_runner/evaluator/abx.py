"""ABX error of frozen features: of two samples of one class and one of another, how often the wrong two are nearer.

Schatz et al., Evaluating speech features with the minimal-pair ABX task, Interspeech 2013; the Zero Resource Speech
Benchmark 2021, Nguyen et al., arXiv 2011.11588. probing/abx.py has the triples and probing/dtw.py the alignment.
Differs: items are whole samples, and not phonemes cut out of speech.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Samples, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.abx import Mode, Triples, draw_triples, error_rate
from ssl_runner.probing.dtw import warped_distances
from ssl_runner.probing.protocol import Count, Encode, Seed, require_finite, require_labelled
from ssl_runner.probing.token_features import packed_tokens


@dataclass(frozen=True, kw_only=True)
class ABX:
    """Error rates in [0, 1], 0.5 by chance: shares of triples whose X is nearer to B, of another class, than to A.

    `pooled_any` by the cosine of pooled features, and, of samples in time, `dtw_any` by the angles of their tokens
    along the best alignment; padding is left out. With a factor `by`, such as the speaker, A and B share its value, and
    so does X in `pooled_within` and `dtw_within`; in `pooled_across` and `dtw_across` X has another. Nothing is fitted.
    Raises ValueError if the query has no classes, no such factor, or no triple; FloatingPointError from the call, if a
    feature is not finite.
    """

    version = 1
    headline = "pooled_any"
    numbers = tuple(f"{kind}_{mode}" for kind in ("pooled", "dtw") for mode in ("any", "within", "across"))
    every: Duration
    by: str | None = None  # factor of the dataset, of whole numbers; None: none
    dtw: bool = True  # whether tokens are aligned as well, which takes the longest
    triples: Count = 5_000  # about; as many of each two classes and value of the factor
    seed: Seed = 0  # of the draw; not the run's, so that runs are measured alike
    query: Split
    sample: Samples

    def __post_init__(self) -> None:
        require_labelled("abx", None, query=self.query)
        if self.by is not None:
            require_labelled("abx", self.by, query=self.query)
            if self.query.targets[self.by].is_floating_point() or self.query.targets[self.by].ndim != 1:
                raise ValueError(f"by: given {self.by}, which is of no whole numbers; choose a factor that is, or null")
            object.__setattr__(self, "headline", "pooled_across")
        if self.query.y.any():  # before there are samples all are of class 0
            self.draw()

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        pooled = encode(self.query.x)
        require_finite(pooled)
        unit, drawn = F.normalize(pooled, dim=1), self.draw()
        errors = {f"pooled_{mode}": self.pooled_error(unit, each) for mode, each in drawn.items()}
        if self.dtw and self.sample.kind != "image":
            errors |= {f"dtw_{mode}": self.warped_error(encoder, each) for mode, each in drawn.items()}
        return {name: Metric(error, "smaller") for name, error in errors.items()}

    def draw(self) -> dict[Mode, Triples]:
        """Raises ValueError if there is no triple."""
        y: Tensor = self.query.y
        modes: tuple[Mode, ...] = ("any",) if self.by is None else ("within", "across")
        group = torch.zeros_like(y) if self.by is None else self.query.targets[self.by]
        drawn: dict[Mode, Triples] = {}
        for mode in modes:
            try:
                drawn[mode] = draw_triples(y, group, mode, self.triples, self.seed)
            except ValueError as error:
                where = f"{mode} {self.by}s" if self.by else "of any two classes"
                remedy = "give it more rows of each, or leave abx out"
                raise ValueError(f"{error} {where} in the query; {remedy}") from None
        return drawn

    def pooled_error(self, unit: Tensor, triples: Triples) -> float:
        a, b, x = (unit[each.to(unit.device)] for each in triples[:3])
        return error_rate(-(a * x).sum(1), -(b * x).sum(1), triples)

    def warped_error(self, encoder: Encoder, triples: Triples) -> float:
        rows, place = torch.stack(triples[:3]).unique(return_inverse=True)  # those that occur, and where
        tokens, lengths = packed_tokens(encoder, self.query.x, rows, self.sample)
        asked = torch.cat([sorted_pairs(place[0], place[2]), sorted_pairs(place[1], place[2])])
        pairs, number = asked.to(tokens.device).unique(dim=0, return_inverse=True)
        to_a, to_b = warped_distances(tokens, lengths, pairs)[number].chunk(2)
        return error_rate(to_a, to_b, triples)


def sorted_pairs(first: Int[Tensor, " t"], second: Int[Tensor, " t"]) -> Int[Tensor, "t 2"]:
    """Pairs with the smaller row first: the distance of two rows is one number, whichever is asked for first."""
    return torch.stack([first, second], 1).sort(1).values
