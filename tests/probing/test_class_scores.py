"""Scores of predicted classes: scikit-learn's, absent classes, one class, calibration by hand, the picture."""

import math
import warnings

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from ssl_runner.contract import Metric
from ssl_runner.probing.class_scores import MOST, calibration_error, score_classes
from ssl_runner.probing.confusion_plot import LONGEST, write_confusion
from ssl_runner.probing.logistic import rank_logits


def scored(first, truth, classes, names=(), confidence=0.5):
    ranked = torch.as_tensor(first)[:, None]
    return score_classes(ranked, torch.full(ranked.shape, confidence), torch.as_tensor(truth), classes, names)


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_scores_are_those_of_scikit_learn(classes, rng):
    """Random guesses of a long tail: many classes have few rows, some none, and some are guessed without having any."""
    weights = torch.logspace(0, -2, classes)
    truth = torch.multinomial(weights, 200, replacement=True, generator=rng)
    guesses = torch.where(torch.rand(200, generator=rng) < 0.5, truth, torch.randint(classes, (200,), generator=rng))
    values = scored(guesses, truth, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class is predicted that no row has
        balanced = balanced_accuracy_score(truth, guesses)
    assert values["balanced_accuracy"] == Metric(pytest.approx(balanced, abs=1e-12), detail=True)
    f1 = f1_score(truth, guesses, average="macro")
    assert values["macro_f1"] == Metric(pytest.approx(f1, abs=1e-12), detail=True)
    top1, every = values["top1"], range(classes)
    assert top1.value == float((guesses == truth).double().mean())
    assert top1.confusion == confusion_matrix(truth, guesses, labels=every).tolist()
    recall = recall_score(truth, guesses, labels=every, average=None, zero_division=np.nan)
    known = {str(n): None if math.isnan(each) else pytest.approx(each) for n, each in enumerate(recall.tolist())}
    assert top1.classes == known
    assert top1.majority == int(truth.bincount().max()) / 200
    assert None in known.values() or classes < 40


def test_classes_that_are_absent_and_one_class_alone():
    """By hand: class 0 has recall 1/2, class 1 has 1, class 2 no row and one guess, class 3 neither."""
    values = scored([0, 2, 1, 1], [0, 0, 1, 1], 4, ("a", "b", "c", "d"))
    assert values["top1"].classes == {"a": 0.5, "b": 1.0, "c": None, "d": None}
    assert values["balanced_accuracy"].value == 0.75
    assert values["macro_f1"].value == pytest.approx((2 / 3 + 1 + 0) / 3)
    for names in (("a", "b"), ("a", "a", "b", "c"), ()):  # not one each
        assert [*scored([0], [0], 4, names)["top1"].classes] == ["0", "1", "2", "3"]
    alone = scored([0, 0], [0, 0], 1, ("only",))
    assert {name: each.value for name, each in alone.items()} == dict.fromkeys(
        ("top1", "balanced_accuracy", "macro_f1"), 1.0
    ) | {"ece": 0.5}
    assert alone["top1"] == Metric(1.0, majority=1.0, classes={"only": 1.0}, confusion=[[2]])
    always = scored([0] * 10, [0] * 9 + [1], 2)  # the constant guess, which top1 cannot tell from skill
    assert (always["top1"].value, always["top1"].majority, always["balanced_accuracy"].value) == (0.9, 0.9, 0.5)


def test_calibration_by_hand():
    """Bins of a fifteenth, their upper end in it: (0.6, 2/3] holds 0.61 and 2/3, one of them right; the last has 1."""
    confidence = torch.tensor([0.61, 2 / 3, 0.30, 1.0, 1.0, 0.0], dtype=torch.float64)
    right = torch.tensor([True, False, False, True, True, False])
    # |1/2 - (0.61 + 2/3) / 2| of two rows, |0 - 0.3| of one, 0 of two that are sure and right, 0 of one
    expected = (2 * abs(0.5 - (0.61 + 2 / 3) / 2) + 0.30) / 6
    assert calibration_error(confidence, right) == pytest.approx(expected)
    apart = calibration_error(torch.tensor([0.61, 0.667]), right[:2])  # in two bins
    assert apart == pytest.approx((0.39 + 0.667) / 2)
    sure = score_classes(torch.tensor([[0], [1]]), torch.ones(2, 1), torch.tensor([0, 0]), 2)["ece"]
    assert sure == Metric(0.5, "smaller", detail=True)


def test_probabilities_of_ranked_classes_are_those_of_a_softmax(rng):
    """Also of logits that have no exponential."""
    logits = 1000 * torch.randn(50, 8, generator=rng) * torch.rand(50, 1, generator=rng) ** 4
    ranked, probabilities = rank_logits(logits)
    assert torch.equal(ranked, logits.topk(5).indices)
    expected = logits.gather(1, ranked).double() - logits.double().logsumexp(1, keepdim=True)
    torch.testing.assert_close(probabilities, expected.exp().float(), rtol=1e-4, atol=1e-6)


NAMES = {
    3: ("$x^{$", "猫", "a very long name of a class that goes on"),
    12: tuple("abcdefghijkl"),
    30: tuple(map(str, range(30))),
    60: tuple(map(str, range(60))),
}


@pytest.mark.parametrize("classes", NAMES)
def test_the_picture_shows_every_class_in_its_row(classes, tmp_path, monkeypatch):
    """Names of up to 30 classes, numbers in the cells of up to 12, and no row of a class that is absent."""
    from matplotlib.axes import Axes

    shown, texts, imshow, text = [], [], Axes.imshow, Axes.text
    monkeypatch.setattr(Axes, "imshow", lambda self, x, **more: shown.append((self, x)) or imshow(self, x, **more))
    monkeypatch.setattr(Axes, "text", lambda self, *args, **more: texts.append(args) or text(self, *args, **more))
    truth = torch.arange(classes - 1).repeat(4)
    guesses = torch.where(torch.arange(len(truth)) < classes - 1, (truth + 1) % classes, truth)  # a quarter is wrong
    path = tmp_path / "not" / "yet" / "confusion.png"
    write_confusion(scored(guesses, truth, classes, NAMES[classes])["top1"], path)
    ((axes, shares),) = shown
    expected = np.diag([75.0] * (classes - 1) + [0]) + np.diag([25.0] * (classes - 1), 1)
    assert np.array_equal(shares, expected)
    assert imread(path).shape[0] > 400
    labels = [each.get_text() for each in axes.get_yticklabels()]
    if classes <= 30:
        assert labels == [each.get_text() for each in axes.get_xticklabels()]
        assert labels[:2] == list(NAMES[classes][:2])
        assert max(map(len, labels)) <= LONGEST
    else:
        assert len(labels) < classes
    cells = {args[:2]: args[2] for args in texts}
    assert (len(cells), cells.get((1, 0))) == ((classes**2, "25") if classes <= 12 else (0, None))


def test_no_matrix_is_kept_of_many_classes(rng):
    truth = torch.arange(MOST + 1)
    assert len(scored(truth[:-1], truth[:-1], MOST)["top1"].confusion) == MOST
    values = scored(truth, truth, MOST + 1)
    assert (values["top1"].confusion, len(values["top1"].classes)) == ([], MOST + 1)
    assert values["balanced_accuracy"].value == values["macro_f1"].value == 1
