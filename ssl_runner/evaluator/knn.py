"""Weighted k-nearest-neighbour prediction on frozen features: no fit, and nothing to tune.

Wu, Xiong, Yu, Lin: Unsupervised feature learning via non-parametric instance discrimination, CVPR 2018,
arXiv 1805.01978, section 3.4.
Differs: k is 20, not 200, as in Caron et al., Emerging properties in self-supervised vision transformers, ICCV 2021,
arXiv 2104.14294.
"""

from dataclasses import dataclass

from ssl_runner.contract import Encoder, Metric
from ssl_runner.probing.class_scores import NUMBERS
from ssl_runner.probing.knn_vote import Neighbours
from ssl_runner.probing.protocol import Count, Encode, Positive, Targeted, require_neighbours


@dataclass(frozen=True, kw_only=True)
class KNN(Targeted):
    """Shares of query rows whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    With them come the scores of probing.class_scores.score_classes; a class's probability is its share of the votes.
    Of a target of numbers it is `r2`: R squared over all components of the neighbours' weighted mean. Of several labels
    at once it is `map`: average precision by a label's share of the votes, averaged over labels.
    Raises: as probing.protocol.Targeted, and ValueError if k is larger than the bank.
    """

    version = 1
    raw = True  # it is measured on raw features as well
    numbers = (*NUMBERS, "r2", "map")
    k: Count = 20  # neighbours that vote, by cosine similarity
    temperature: Positive = 0.07  # of a vote exp(similarity / temperature)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_neighbours(self.name, self.k, self.bank)

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        bank, query = self.encode_both(encode)
        return self.score(Neighbours(bank, self.known, self.target_classes, self.k, self.temperature), query)
