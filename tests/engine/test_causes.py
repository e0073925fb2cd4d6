"""Runs that collapse: each collapse is planted, and must be named with its cause; no healthy run may be accused."""

import itertools
import logging

import pytest
import torch
import torch.nn.functional as F
from conftest import names
from engine_toys import fit

from ssl_runner.contract import Loss, Pretext
from ssl_runner.engine.causes import find_causes, measure_embedding
from ssl_runner.pretext.autoencoder import Autoencoder
from ssl_runner.pretext.bigan import BiGAN
from ssl_runner.pretext.byol import BYOL
from ssl_runner.pretext.mae import MAE
from ssl_runner.pretext.simclr import SimCLR

GEOMETRY = (
    *("evaluator=[geometry]", "evaluator.geometry.views=2", "evaluator.geometry.samples=64"),
    *("save_every=100%", "show_every=100%"),
)
LEARNT = (*GEOMETRY, "length=40st", "evaluator.geometry.every=8st", "optimizer.warm_up=0st")
BARE_BYOL = ("pretext=byol", "pretext.predictor=false", "pretext.momentum=0", "pretext.hidden=32", "pretext.out=16")


class Planted(Pretext):
    """Pulls features to where `aim`, which scores them, has its least."""

    def __init__(self, encoder, aim):
        super().__init__()
        self.encoder, self.aim = encoder, aim

    def views(self, batch, ctx):
        return (batch.x,)

    def forward(self, views, group="main"):
        pooled = self.encoder(views[0]).pooled
        return Loss(self.aim(pooled), {}, pooled)


class Node:
    def __init__(self, aim):
        self.aim = aim

    def build(self, encoder, **_):
        return Planted(encoder, self.aim)


def to_a_point(z):
    return 1 - F.cosine_similarity(z, torch.ones_like(z), dim=1).mean()


def to_a_line(z):
    """Samples stay apart, and every dimension comes to say the same, as in VICReg without its covariance term."""
    z = z - z.mean(0)
    return (z - z.mean(1, keepdim=True)).square().sum() / z.square().sum()


def verdict(trainer):
    """The trainer's health once it was fitted, and what it is called."""
    health = fit(trainer).measurements.health
    assert health is not None
    return health, (health.verdict, health.kind)


def scores(trainer):
    return [row["geometry/health"] for row in trainer.logbook.rows if "geometry/health" in row]


def test_features_pulled_to_a_point(make):
    """The learning rate, twenty times the usual, is what is left to be blamed."""
    wild = ("model.batch_norm=false", "optimizer.lr=0.02")
    trainer = make(*LEARNT, *wild, change=lambda _: Node(to_a_point))
    health, called = verdict(trainer)
    assert called == ("collapsed", "complete")
    assert "all features are one point" in health.sign
    assert health.causes[0].remedy == "optimizer.lr=0.001"
    assert scores(trainer)[-1] == 0


def test_features_pulled_to_a_line(make):
    _, called = verdict(make(*LEARNT, "optimizer.lr=0.03", change=lambda _: Node(to_a_line)))
    assert called == ("collapsed", "dimensional")


def test_byol_without_its_predictor(make, caplog):
    """It collapses completely, the predictor is named first, a target that is the network itself second."""
    trainer = make(*LEARNT, *BARE_BYOL, "optimizer.lr=0.01")
    with caplog.at_level(logging.WARNING, "ssl_runner"):
        health, called = verdict(trainer)
    assert called == ("collapsed", "complete")
    assert [each.remedy for each in health.causes[:2]] == ["pretext.predictor=true", "pretext.momentum=0.99"]
    measured = scores(trainer)
    assert (measured[0], measured[-1]) == (2, 0)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == sum(a != b and b < 2 for a, b in itertools.pairwise(measured)), "once for each new verdict"
    assert said[-1].startswith("collapsed (complete) at step")
    assert "likely cause: pretext.predictor=false" in said[-1]
    assert said[-1].endswith("type pretext.predictor=true")


def test_a_slow_collapse_shrinks_first(make):
    health, called = verdict(make(*LEARNT, *BARE_BYOL, "pretext.momentum=0.9", "optimizer.lr=0.006"))
    assert called == ("shrinking", "complete")
    assert health.causes[0].remedy == "pretext.predictor=true"


@pytest.mark.parametrize(("temperature", "end"), [(100, ("collapsed", "dimensional")), (0.5, ("healthy", None))])
def test_simclr_at_an_absurd_temperature(make, temperature, end):
    """The loss is then about flat: what is left of it spreads the samples along a line or two."""
    heat = ("pretext=simclr", f"pretext.temperature={temperature}", "pretext.hidden=32", "pretext.out=64")
    health, called = verdict(make(*LEARNT, *heat, "batch_size=40", "optimizer.lr=0.1"))
    assert called == end
    assert ("pretext.temperature=0.5" in [each.remedy for each in health.causes]) == (temperature == 100)


def test_with_its_predictor_it_does_not(make):
    whole = ("pretext.predictor=true", "pretext.momentum=0.99", "optimizer.lr=0.01")
    assert verdict(make(*LEARNT, *BARE_BYOL, *whole))[1] == ("healthy", None)


@pytest.mark.parametrize("pretext", names("pretext"))
def test_no_task_is_accused_at_its_own_settings(make, pretext):
    trainer = make(*GEOMETRY, "length=24st", "evaluator.geometry.every=8st", f"pretext={pretext}")
    assert verdict(trainer)[0].verdict == "healthy"
    assert list(trainer.learner.pretext.suspects()) == [], "and suspects none of its own settings"


@pytest.mark.parametrize(("pretext", "has"), [("simclr", True), ("byol", True), ("rotation", False), ("mae", False)])
def test_embeddings_are_measured_where_they_are_no_features(make, pretext, has):
    learner = make(*GEOMETRY, f"pretext={pretext}").learner
    before = {name: each.clone() for name, each in learner.pretext.state_dict().items()}
    first, second = measure_embedding(learner), measure_embedding(learner)
    assert bool(first) == has
    assert first == second
    after = learner.pretext.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items()), "batch norm has seen nothing"


def test_small_batches_are_put_together_for_it(make):
    small = measure_embedding(make(*GEOMETRY, "pretext=simclr", "batch_size=2").learner)
    assert small["geometry/embedding_rank"].value > 4, "four rows alone could not have so many directions"


def test_a_cause_outside_the_method(make):
    """Batch, learning rate, weight decay and regulariser, each judged against what is usual."""

    def causes(*overrides, rows=()):
        return [each.remedy for each in find_causes(make(*GEOMETRY, "pretext=simclr", *overrides).learner, rows)]

    embedded = [{"step": 8, "geometry/embedding_std": 0.0}]
    assert causes() == causes("batch_size=64", rows=embedded) == []
    assert causes("batch_size=4", rows=embedded) == ["batch_size=64"]
    assert causes("batch_size=16", "accumulate=4", rows=embedded) == ["batch_size=64 accumulate=1"]
    assert causes("optimizer.lr=1", "optimizer.weight_decay=1") == ["optimizer.lr=0.001", "optimizer.weight_decay=0.05"]
    assert causes("optimizer=sgd", "optimizer.lr=0.1") == []
    regularised = [{**embedded[0], "train/loss": 1, "regulariser/l2": 50}]
    assert causes("batch_size=64", rows=regularised) == ["regulariser=none"]
    both = causes("pretext.temperature=100", "optimizer.lr=0.01")
    assert both == ["pretext.temperature=0.5", "optimizer.lr=0.001"]


@pytest.mark.parametrize(
    ("kind", "setting", "remedy"),
    [
        (BYOL, "momentum=0.5", "momentum=0.99"),
        (BYOL, "predictor=false", "predictor=true"),
        (SimCLR, "temperature=10", "temperature=0.5"),
        (SimCLR, "temperature=0.01", "temperature=0.5"),
        (MAE, "ratio=0.95", "ratio=0.75"),
        (MAE, "ratio=0.2", "ratio=0.75"),
        (Autoencoder, "mask=0.95", "mask=0.25"),
        (BiGAN, "latent=2", "latent=64"),
    ],
)
def test_methods_know_their_own_weak_spots(make, kind, setting, remedy):
    pretext = make(*GEOMETRY, f"pretext={kind.__name__.lower()}", f"pretext.{setting}").learner.pretext
    assert type(pretext) is kind
    assert [each.remedy for each in pretext.suspects()] == [f"pretext.{remedy}"]


def test_the_predictor_leaves_weights_as_they_were(make):
    """The setting draws nothing: projector and encoder begin as with it, and nothing else is missing."""
    whole = make(*GEOMETRY, "pretext=byol", folder="a").learner.pretext.state_dict()
    bare = make(*GEOMETRY, "pretext=byol", "pretext.predictor=false", folder="b").learner.pretext.state_dict()
    assert {name for name in whole if name not in bare} == {name for name in whole if name.startswith("predictor.")}
    assert all(torch.equal(each, whole[name]) for name, each in bare.items())


def test_a_resumed_run_says_the_same(make):
    words = (*LEARNT, *BARE_BYOL, "optimizer.lr=0.01")
    whole = fit(make(*words, folder="whole"))
    fit(make(*words, folder="part"), turns=21)
    part = fit(make(*words, folder="part"))
    assert scores(part) == scores(whole)
    assert part.measurements.health == whole.measurements.health
    assert str(part.measurements.health) == str(whole.measurements.health)
