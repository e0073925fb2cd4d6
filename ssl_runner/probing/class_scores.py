"""Scores of predicted classes: accuracy, balanced accuracy, macro F1, calibration error, recall and confusion matrix.

Balanced accuracy: Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010. Macro F1: the mean
of F1 over classes, as scikit-learn has it. Expected calibration error (ECE): Guo et al., On calibration of modern
neural networks, ICML 2017, arXiv 1706.04599, equation 3.
"""

import math
from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssl_runner.contract import Metric

BINS = 15  # of confidence, equally wide, as in the paper
NUMBERS = ("top1", "top5", "balanced_accuracy", "macro_f1", "ece")  # what `score_classes` returns
MOST = 200  # classes that a confusion matrix is kept of


def score_classes(
    ranked: Int[Tensor, "q r"],
    probabilities: Float[Tensor, "q r"],
    truth: Int[Tensor, " q"],
    classes: int,
    names: Sequence[str] = (),
) -> dict[str, Metric]:
    """`top1`, `top5` of more than five classes, `balanced_accuracy`, `macro_f1` and `ece`, all in [0, 1].

    ranked: predicted classes of each row, the likeliest first, beside their probabilities. names: of the classes.
    Balanced accuracy is the mean recall of classes that some row has. F1 is averaged over these, and over classes that
    are predicted without any row having them, whose F1 is 0. `top1` carries the recall of each class, the largest
    class's share of the rows, and the confusion matrix of up to 200 classes.
    """
    ranked, truth = ranked.cpu(), truth.cpu().long()
    accuracies, first = top_accuracies(ranked, truth, classes), ranked[:, 0]
    right = first == truth
    rows, predicted, hits = (each.bincount(minlength=classes).double() for each in (truth, first, truth[right]))
    recall, f1 = hits / rows, 2 * hits / (rows + predicted)  # (c,), NaN of a class that does not occur
    shares = [None if math.isnan(each) else each for each in recall.tolist()]
    cells = (truth * classes + first).bincount(minlength=classes**2) if classes <= MOST else truth[:0]
    carried = {
        "majority": float(rows.max()) / len(truth),
        "classes": dict(zip(class_labels(names, classes), shares, strict=True)),
        "confusion": cells.view(-1, classes).tolist(),
    }
    return {
        "top1": Metric(accuracies.pop("top1"), **carried),
        **{name: Metric(value) for name, value in accuracies.items()},
        "balanced_accuracy": Metric(float(recall.nanmean()), detail=True),
        "macro_f1": Metric(float(f1.nanmean()), detail=True),
        "ece": Metric(calibration_error(probabilities[:, 0].cpu(), right), "smaller", detail=True),
    }


def class_labels(names: Sequence[str], classes: int) -> Sequence[str]:
    """The names of the classes, or numbers if they have none, or not one each."""
    return names if len({*names}) == len(names) == classes else [str(number) for number in range(classes)]


def top_accuracies(guesses: Int[Tensor, "q r"], truth: Int[Tensor, " q"], classes: int) -> dict[str, float]:
    """`top1`, and `top5` if there are more than five classes, in [0, 1]; a guess of -1 is none."""
    hits = guesses == truth.to(guesses.device)[:, None]  # (q, r)
    first = {"top1": float(hits[:, 0].sum()) / len(truth)}
    return first | ({"top5": float(hits[:, :5].sum()) / len(truth)} if classes > 5 else {})


def calibration_error(confidence: Float[Tensor, " q"], right: Bool[Tensor, " q"]) -> float:
    """Distance of accuracy and mean confidence in each bin ((m - 1) / 15, m / 15], averaged over rows."""
    confidence = confidence.double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    return float(bins.bincount(right.double() - confidence, BINS).abs().sum()) / len(right)
