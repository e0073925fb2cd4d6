"""Linear probe: how well a linear model predicts a target from frozen features.

After Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv 1610.01644.
Classes: multinomial logistic regression. Numbers: ridge regression. Several labels at once: a logistic regression of
each. All are in probing/linear.py; the L2 weight is chosen on held-out training rows.
"""

from dataclasses import dataclass

from ssl_runner.contract import Encoder, Metric
from ssl_runner.probing.class_scores import NUMBERS
from ssl_runner.probing.linear import fit_classifier, fit_labels, fit_ridge
from ssl_runner.probing.protocol import L2, Encode, Part, Penalties, Targeted


@dataclass(frozen=True, kw_only=True)
class Probe(Targeted):
    """Shares of query rows whose class is first (`top1`), and among the first five of more (`top5`), in [0, 1].

    With them come the scores of probing.class_scores.score_classes.
    Of a target of numbers it is `r2`: R squared over all components. Of several labels at once it is `map`: average
    precision, averaged over labels. `l2` is the weight that was chosen: at an end of the grid, the grid is too short.
    The minimum is settled in float64, and the held-out part is not drawn from the run's seed: runs are measured alike.
    The query plays no part in the fit or in the choice.
    Raises: as probing.protocol.Targeted.
    """

    version = 2
    raw = True  # it is measured on raw features as well
    numbers = (*NUMBERS, "r2", "map", "l2")
    l2: Penalties = L2  # weights of |W|^2 / 2 beside the mean cross-entropy, to choose from; scikit-learn's 1 / (n * C)
    held_out: Part = 0.2  # share of each class that the choice is made on

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        bank, query = self.encode_both(encode)
        settings = {"l2": self.l2, "held_out": self.held_out}
        if self.headline == "top1":
            model = fit_classifier(bank, self.known, self.target_classes, **settings)
        else:
            fit = fit_ridge if self.headline == "r2" else fit_labels
            model = fit(bank, self.known.reshape(len(bank), -1), **settings)
        return self.score(model, query) | {"l2": Metric(model.l2, None, "number")}
