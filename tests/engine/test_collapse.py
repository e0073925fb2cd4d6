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
    assert health is not None
    return health.verdict, health.kind, health.since


def test_without_geometry_there_is_no_verdict():
    assert diagnose([]) is None
    assert diagnose([{"step": 0, "time": 0.0, "knn/top1": 0.3}]) is None


def test_the_random_encoder_is_healthy_whatever_it_is():
    assert verdict(std=[0.0], rank=[0.0]) == ("healthy", None, None)


def test_two_measurements_make_a_collapse():
    assert verdict(std=[0.5, 0.4, 0.01]) == ("shrinking", "complete", 20)
    assert verdict(std=[0.5, 0.4, 0.01, 0.01]) == ("collapsed", "complete", 20)
    assert verdict(std=[0.5, 0.01, 0.01, 0.01, 0.01]) == ("collapsed", "complete", 10), "since its first measurement"


def test_a_transient_is_no_collapse():
    assert verdict(std=[0.5, 0.01, 0.4]) == ("healthy", None, None)
    assert verdict(std=[0.5, 0.4, 0.1]) == ("healthy", None, None), "shrunk once is not shrinking"
    assert verdict(std=[0.5, 0.01, 0.4, 0.01]) == ("shrinking", "complete", 30)


def test_shrinking_and_back():
    assert verdict(std=[0.5, 0.1, 0.1]) == ("shrinking", "complete", 10)
    assert verdict(std=[0.5, 0.1, 0.1, 0.4]) == ("healthy", None, None)
    assert verdict(std=[0.5, 0.1, 0.01, 0.1]) == ("shrinking", "complete", 10), "out of the hole, not out of the wood"


def test_what_is_small_by_itself_counts_too():
    assert verdict(std=[0.9, 0.3, 0.3]) == ("healthy", None, None), "a third of much is still enough"
    assert verdict(std=[0.1, 0.029, 0.029]) == ("collapsed", "complete", 10), "a point, if not far from the start"
    assert verdict(std=[0.04, 0.029, 0.029]) == ("healthy", None, None), "an encoder that began like that"


def test_a_loss_of_directions_is_a_dimensional_collapse():
    assert verdict(rank=[41, 20, 4.5, 4.5]) == ("collapsed", "dimensional", 20)
    assert verdict(rank=[41, 20, 6, 6]) == ("shrinking", "dimensional", 20)
    assert verdict(rank=[41, 20, 15, 15]) == ("healthy", None, None), "as flip does in four epochs"
    assert verdict(rank=[5, 4, 1.3, 1.3]) == ("collapsed", "dimensional", 20), "of few directions, one is a collapse"


def test_a_point_has_no_directions_to_speak_of():
    """Rounding errors around a point fill every direction; and where both have gone, the point is what is told."""
    assert verdict(std=[0.5, 1e-6, 1e-6], rank=[40, 40, 40])[:2] == ("collapsed", "complete")
    assert verdict(std=[0.5, 1e-6, 1e-6], rank=[40, 2, 2])[:2] == ("collapsed", "complete")


def test_the_embedding_speaks_for_itself():
    """BYOL without its predictor: the projections are a point, the features behind them live on."""
    fine = {"std": [0.2, 0.6, 0.6], "rank": [40, 30, 30]}
    assert verdict(**fine, embedding_std=[0.8, 0.03, 0.03])[:2] == ("collapsed", "complete")
    assert verdict(**fine, embedding_rank=[60, 4, 4])[:2] == ("collapsed", "dimensional")
    assert verdict(**fine, embedding_std=[0.8, 0.7, 0.7])[:2] == ("healthy", None)


def test_the_verdict_says_what_and_what_to_type():
    health = diagnose(history(std=[0.5, 0.01, 0.01]))
    assert health is not None
    assert str(health).startswith("collapsed (complete) at step 10: all features are one point (std 0.01, 0.5 at the s")
    assert "no setting is far from where it usually is" in str(health)
    told = Health("collapsed", 20, "complete", 10, "a point", [Suspect("a=1, too much", "a=0", 1.0)])
    assert str(told).endswith("likely cause: a=1, too much; type a=0")
    cause = {"cause": "a=1, too much", "remedy": "a=0"}
    sign = {"verdict": "collapsed", "kind": "complete", "since": 10, "text": str(told), "sign": "a point"}
    assert told.summary() == {**sign, **cause, "suspects": [cause]}


# Start and end of real runs: tasks on `shapes` for a minute each, and CIFAR-10 for up to 25 epochs.
HEALTHY = {  # rank, std, and of an embedding that is not the features themselves
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


@pytest.mark.parametrize("run", HEALTHY)
def test_runs_that_learnt_are_not_accused(run):
    rank, std, *rest = HEALTHY[run]
    numbers = dict(zip(("embedding_rank", "embedding_std"), rest, strict=False)) | {"rank": rank, "std": std}
    assert verdict(**{name: (start, end, end) for name, (start, end) in numbers.items()})[0] == "healthy"
