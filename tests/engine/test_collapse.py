"""The collapse detector: each planted collapse is named with its cause, and no healthy run is accused."""

import copy
import itertools
import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import in_turn, names
from engine_toys import Slope

from ssl_runner.contract import Suspect
from ssl_runner.engine.collapse import SCORE, Health, diagnose, find_causes, measure_embedding
from ssl_runner.testing.promises import fit

GEOMETRY = "evaluator=[geometry] evaluator.geometry.views=2 evaluator.geometry.samples=64 show_every=100%"
LEARNT = f"{GEOMETRY} length=40st evaluator.geometry.every=8st optimizer.warm_up=0st"
BYOL = "pretext=byol pretext.predictor=false pretext.momentum=0 pretext.hidden=32 pretext.out=16"
SIMCLR = "pretext=simclr pretext.hidden=32 pretext.out=64 batch_size=40 optimizer.lr=0.1"


def history(**numbers):
    """Rows of metrics.jsonl every 10 steps, rows of training between them."""
    numbers = {"std": [0.5] * len(next(iter(numbers.values()))), **numbers}
    for i, each in enumerate(zip(*numbers.values(), strict=True)):
        yield {"step": 10 * i, "time": 1.0, **{f"geometry/{k}": v for k, v in zip(numbers, each, strict=True)}}
        yield {"step": 10 * i + 5, "time": 1.0, "train/loss": 1.0}


def verdict(**numbers):
    health = diagnose(list(history(**numbers)))
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


# Start and end of real runs: tasks on `shapes` for a minute each, and CIFAR-10 for up to 25 epochs.
REAL = {  # rank, std, and of an embedding that is not the features themselves
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


@pytest.mark.parametrize("run", REAL)
def test_real_runs_are_not_accused(run):
    names = ("rank", "std", "embedding_rank", "embedding_std")
    numbers = {name: (start, end, end) for name, (start, end) in zip(names, REAL[run], strict=False)}
    assert verdict(**numbers) == HEALTHY


def test_without_geometry_there_is_no_verdict():
    assert diagnose([]) is diagnose([{"step": 0, "time": 0.0, "knn/top1": 0.3}]) is None


def test_the_verdict_says_what_and_what_to_type():
    text = str(diagnose(list(history(std=[0.5, 0.01, 0.01]))))
    assert text.startswith("collapsed (complete) at step 10: all features are one point (std 0.01, 0.5 at the start)")
    assert "no setting is far from its usual value" in text
    told = Health("collapsed", 20, "complete", 10, "a point", [Suspect("a=1, too much", "a=0", 1.0)])
    assert str(told).endswith("likely cause: a=1, too much; type a=0")
    cause = {"cause": "a=1, too much", "remedy": "a=0"}
    sign = {"verdict": "collapsed", "kind": "complete", "since": 10, "text": str(told), "sign": "a point"}
    assert told.summary() == {**sign, **cause, "suspects": [cause]}


AIMS = {
    "aim=point": lambda z: 1 - F.cosine_similarity(z, torch.ones_like(z), dim=1).mean(),
    # Samples stay apart, and every dimension comes to say the same, as in VICReg without its covariance term.
    "aim=line": lambda z: (z - z.mean(0)).var(1).mean() / z.var(0).mean(),
}


def scores(trainer):
    return [row["geometry/health"] for row in trainer.logbook.rows if "geometry/health" in row]


PREDICTOR = ["pretext.predictor=true", "pretext.momentum=0.99"]
RUNS = [  # overrides, the verdict or the kind of collapse, and what to type first
    ("aim=point model.batch_norm=false optimizer.lr=0.02", "collapsed complete", ["optimizer.lr=0.001"]),  # 20 fold
    ("aim=line optimizer.lr=0.03", "collapsed dimensional", []),
    (f"{BYOL} optimizer.lr=0.01", "collapsed complete", PREDICTOR),  # the target is the network itself
    (f"{BYOL} pretext.momentum=0.9 optimizer.lr=0.006", "shrinking complete", PREDICTOR[:1]),  # slowly
    (f"{BYOL} {' '.join(PREDICTOR)} optimizer.lr=0.01", "healthy None", []),
    (f"{SIMCLR} pretext.temperature=100", "collapsed dimensional", ["pretext.temperature=0.5"]),  # a flat loss
    (f"{SIMCLR} pretext.temperature=0.5", "healthy None", []),
]


@pytest.mark.parametrize(("words", "called", "remedies"), RUNS)
def test_runs_that_collapse_are_named_with_their_causes(make, caplog, words, called, remedies):
    aim, typed = AIMS.get(words.split()[0]), [word for word in words.split() if not word.startswith("aim=")]

    def build(encoder, **_):
        """A task whose features go where `aim`, which scores them, has its least."""
        task = Slope(lambda loss: loss._replace(value=aim(loss.embedding)))
        task.encoder = encoder
        return task

    trainer = make(*LEARNT.split(), *typed, change=lambda task: SimpleNamespace(build=build) if aim else task)
    with caplog.at_level(logging.INFO, "ssl_runner"):
        health = fit(trainer).measurements.health
    assert f"{health.verdict} {health.kind}" == called
    assert [each.remedy for each in health.causes][: len(remedies)] == remedies
    measured = scores(trainer)
    assert (measured[0], measured[-1]) == (2, SCORE[health.verdict])
    said = [each.getMessage() for each in caplog.records if each.getMessage().startswith(("coll", "shr", "the feat"))]
    assert len(said) == sum(a != b for a, b in itertools.pairwise(measured)), "once for each new verdict"
    assert not remedies or said[-1].endswith(f"type {remedies[0]}")
    assert "aim=point" not in words or "all features are one point" in health.sign


@pytest.mark.parametrize("pretext", in_turn(names("pretext")))
def test_no_task_is_accused_at_its_own_settings(make, pretext):
    """Of its batch, too: of 16 rows, a loss that spreads them by a covariance or a coding rate leaves a large mean."""
    words = (*GEOMETRY.split(), "length=12st", "evaluator.geometry.every=4st", "batch_size=64", f"pretext={pretext}")
    trainer = fit(make(*words))
    assert trainer.measurements.health.verdict == "healthy"
    assert list(trainer.learner.pretext.suspects()) == [], "and suspects none of its own settings"


@pytest.mark.parametrize("words", ["simclr", "simclr batch_size=2", "byol", "rotation", "mae"])
def test_embeddings_are_measured_if_they_are_no_features(make, words):
    """Of small batches, which are put together for it, too: four rows alone could not have so many directions."""
    learner = make(*GEOMETRY.split(), *f"pretext={words}".split()).learner
    before = copy.deepcopy(learner.pretext.state_dict())
    first = measure_embedding(learner)
    learner.loader.batches = None  # read once: in a long run that would throw away what is read ahead
    assert first["geometry/embedding_rank"].value > 4 if words not in ("rotation", "mae") else first == {}
    assert first == measure_embedding(learner)
    torch.testing.assert_close(learner.pretext.state_dict(), before, rtol=0, atol=0)  # batch norm has seen nothing


EMBEDDED = {"step": 8, "geometry/embedding_std": 0.0}
REGULARISED, SHARP = {**EMBEDDED, "train/loss": 1, "regulariser/l2": 50}, "pretext.temperature=0.5"
FOUND = [  # batch, learning rate, weight decay and regulariser against what is usual; a method's own weak spots
    *(("simclr", {}, ""), ("simclr batch_size=64", EMBEDDED, ""), ("simclr optimizer=sgd optimizer.lr=0.1", {}, "")),
    ("simclr batch_size=4", EMBEDDED, "batch_size=64"),
    ("simclr batch_size=16 accumulate=4", EMBEDDED, "batch_size=64 accumulate=1"),
    ("simclr optimizer.lr=1 optimizer.weight_decay=1", {}, "optimizer.lr=0.001, optimizer.weight_decay=0.05"),
    ("simclr batch_size=64", REGULARISED, "regulariser=none"),
    ("simclr pretext.temperature=100 optimizer.lr=0.01", {}, "pretext.temperature=0.5, optimizer.lr=0.001"),
    *(("simclr pretext.temperature=10", {}, SHARP), ("simclr pretext.temperature=0.01", {}, SHARP)),
    *(("mae pretext.ratio=0.95", {}, "pretext.ratio=0.6"), ("mae pretext.ratio=0.2", {}, "pretext.ratio=0.6")),
    ("byol pretext.momentum=0.5", {}, "pretext.momentum=0.99"),
    ("byol pretext.predictor=false", {}, "pretext.predictor=true"),
    ("autoencoder pretext.mask=0.95", {}, "pretext.mask=0.25"),
    ("bigan pretext.latent=2", {}, "pretext.latent=64"),
]


@pytest.mark.parametrize(("words", "row", "remedies"), FOUND)
def test_causes_are_found_in_the_settings(make, words, row, remedies):
    causes = find_causes(make(*GEOMETRY.split(), *f"pretext={words}".split()).learner, [row])
    assert ", ".join(each.remedy for each in causes) == remedies


def test_the_predictor_leaves_weights_as_they_were(method):
    """The setting draws nothing: projector and encoder begin as with it, and nothing else is missing."""
    whole, bare = (method("byol", *words).state_dict() for words in ((), ("pretext.predictor=false",)))
    kept = {name: each for name, each in whole.items() if not name.startswith("predictor.")}
    assert len(kept) < len(whole)
    torch.testing.assert_close(dict(bare), kept, rtol=0, atol=0)


@pytest.mark.slow
def test_a_resumed_run_says_the_same(make):
    words = f"{LEARNT} {BYOL} optimizer.lr=0.01".split()
    whole = fit(make(*words, folder="whole"))
    fit(make(*words, folder="part"), turns=21)
    part = fit(make(*words, folder="part"))
    assert scores(part) == scores(whole)
    assert part.measurements.health == whole.measurements.health
    assert str(part.measurements.health) == str(whole.measurements.health)
