"""The collapse detector: a pure function of what was measured, which accuses no healthy run."""

import pytest

from ssl_runner.contract import Suspect
from ssl_runner.engine.collapse import Health, diagnose


def history(**numbers):
    """Rows of metrics.jsonl every 10 steps, rows of training between them."""
    numbers = {"std": [0.5] * len(next(iter(numbers.values()))), **numbers}
    measured = [
        {"step": 10 * i, "time": 1.0, **{f"geometry/{k}": v for k, v in zip(numbers, each, strict=True)}}
        for i, each in enumerate(zip(*numbers.values(), strict=True))
    ]
    return [row for each in measured for row in (each, {"step": each["step"] + 5, "time": 1.0, "train/loss": 1.0})]


def verdict(**numbers):
    health = diagnose(history(**numbers))
    return health.verdict, health.kind, health.since


HEALTHY = ("healthy", None, None)
LIVE = {"std": [0.2, 0.6, 0.6], "rank": [40, 30, 30]}  # features behind a projection
CASES = [
    ({"std": [0.0], "rank": [0.0]}, HEALTHY, "the random encoder, whatever it is"),
    ({"std": [0.5, 0.4, 0.01]}, ("shrinking", "complete", 20), "one measurement is no collapse yet"),
    ({"std": [0.5, 0.4, 0.01, 0.01]}, ("collapsed", "complete", 20), "two are"),
    ({"std": [0.5, 0.01, 0.01, 0.01, 0.01]}, ("collapsed", "complete", 10), "since the first of them"),
    ({"std": [0.5, 0.01, 0.4]}, HEALTHY, "a transient"),
    ({"std": [0.5, 0.4, 0.1]}, HEALTHY, "shrunk once is not shrinking"),
    ({"std": [0.5, 0.01, 0.4, 0.01]}, ("shrinking", "complete", 30), "a transient is forgotten"),
    ({"std": [0.5, 0.1, 0.1]}, ("shrinking", "complete", 10), "shrunk twice"),
    ({"std": [0.5, 0.1, 0.1, 0.4]}, HEALTHY, "and back"),
    ({"std": [0.5, 0.1, 0.01, 0.1]}, ("shrinking", "complete", 10), "no longer collapsed, and still shrunk"),
    ({"std": [0.9, 0.3, 0.3]}, HEALTHY, "a third of much is still enough"),
    ({"std": [0.1, 0.029, 0.029]}, ("collapsed", "complete", 10), "a point, if not far from the start"),
    ({"std": [0.04, 0.029, 0.029]}, HEALTHY, "an encoder that began like that"),
    ({"rank": [41, 20, 4.5, 4.5]}, ("collapsed", "dimensional", 20), "directions are lost"),
    ({"rank": [41, 20, 6, 6]}, ("shrinking", "dimensional", 20), "some of them"),
    ({"rank": [41, 20, 15, 15]}, HEALTHY, "as flip does in four epochs"),
    ({"rank": [5, 4, 1.3, 1.3]}, ("collapsed", "dimensional", 20), "of few directions, one is a collapse"),
    ({"std": [0.5, 1e-6, 1e-6], "rank": [40, 40, 40]}, ("collapsed", "complete", 10), "rounding has every direction"),
    ({"std": [0.5, 1e-6, 1e-6], "rank": [40, 2, 2]}, ("collapsed", "complete", 10), "of both, the point is named"),
    ({**LIVE, "embedding_std": [0.8, 0.03, 0.03]}, ("collapsed", "complete", 10), "projections are a point"),
    ({**LIVE, "embedding_rank": [60, 4, 4]}, ("collapsed", "dimensional", 10), "or a line"),
    ({**LIVE, "embedding_std": [0.8, 0.7, 0.7]}, HEALTHY, "or neither"),
]


@pytest.mark.parametrize(("numbers", "expected", "why"), CASES, ids=[each[2] for each in CASES])
def test_the_verdict_on_a_history(numbers, expected, why):
    assert verdict(**numbers) == expected


def test_without_geometry_there_is_no_verdict():
    assert diagnose([]) is None
    assert diagnose([{"step": 0, "time": 0.0, "knn/top1": 0.3}]) is None


def test_the_verdict_says_what_and_what_to_type():
    health = diagnose(history(std=[0.5, 0.01, 0.01]))
    assert str(health).startswith("collapsed (complete) at step 10: all features are one point (std 0.01, 0.5 at the s")
    assert "no setting is far from where it usually is" in str(health)
    told = Health("collapsed", 20, "complete", 10, "a point", [Suspect("a=1, too much", "a=0", 1.0)])
    assert str(told).endswith("likely cause: a=1, too much; type a=0")
    cause = {"cause": "a=1, too much", "remedy": "a=0"}
    sign = {"verdict": "collapsed", "kind": "complete", "since": 10, "text": str(told), "sign": "a point"}
    assert told.summary() == {**sign, **cause, "suspects": [cause]}


# Start and end of real runs: tasks on `shapes` for a minute each, and CIFAR-10 for up to 25 epochs.
LEARNT = {  # rank, std, and of an embedding that is not the features themselves
    "autoencoder": ((43.7, 44.9), (0.215, 0.331)),
    "bigan": ((43.7, 28.4), (0.215, 0.649)),
    "byol": ((43.7, 42.7), (0.215, 0.548), (115, 29.2), (0.8, 0.741)),
    "crop": ((43.7, 59.8), (0.215, 0.244)),
    "flip": ((43.7, 15.6), (0.215, 0.61)),
    "mae": ((22.8, 32.3), (0.572, 0.295)),
    "rotation": ((43.7, 78.2), (0.215, 0.217)),
    "simclr": ((43.7, 52.3), (0.215, 0.475), (71.5, 23.8), (0.802, 0.976)),
    "transformation": ((43.7, 23.0), (0.215, 0.538)),
    "cifar byol": ((87.2, 116), (0.217, 0.406), (138, 44.2), (0.782, 0.772)),
    "cifar rotation": ((87.2, 142), (0.217, 0.353)),
    "cifar simclr": ((87.2, 136), (0.217, 0.394), (80, 19.4), (0.773, 0.987)),
    "cifar tutorial": ((84.8, 31.8), (0.22, 0.319)),
}


@pytest.mark.parametrize("run", LEARNT)
def test_runs_that_learnt_are_not_accused(run):
    names = ("rank", "std", "embedding_rank", "embedding_std")
    numbers = {name: (start, end, end) for name, (start, end) in zip(names, LEARNT[run], strict=False)}
    assert verdict(**numbers) == HEALTHY
