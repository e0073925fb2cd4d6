"""Forecast of a run on a CPU: told once, if the run is long, with what to type for a shorter one."""

from types import SimpleNamespace

import pytest
import torch
from conftest import tiny
from runs import enter

from ssl_runner.contract import Samples
from ssl_runner.duration import Length
from ssl_runner.run import forecast
from ssl_runner.run.forecast import describe_cost, measurements_left


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(forecast, "usable_cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


def job_of(steps=100_000, per_epoch=1000, width=10, seconds=0.0, every=None, in_two_steps=False, **arguments):
    """A run of batches of 64 whose last measurement took so many seconds, and its job."""
    encoder = torch.nn.Linear(width, 1000)
    encoder.in_two_steps = in_two_steps
    measured = SimpleNamespace(encoder=encoder, seconds=seconds, every=every or {})
    run = SimpleNamespace(length=Length(steps, per_epoch, 64), measurements=measured)
    return run, SimpleNamespace(choices={"model": "resnet50"}, dataset=SimpleNamespace(arguments=arguments))


def line_of(given, step=10, seconds=0.5, pixels=32, kind="image"):
    shape = (3, pixels, pixels) if kind == "image" else (128,)
    return "".join(describe_cost(*given, Samples(kind, shape, vocabulary=9), step, seconds))


def test_a_long_run_is_told_with_the_length_that_takes_ten_minutes():
    told = "without an accelerator this takes about 13:53:15 more (128 samples/s); for a shorter run type length=1ep"
    assert line_of(job_of(), step=10, seconds=0.5) == told
    assert line_of(job_of(), seconds=6.0).endswith("type length=100st")
    assert line_of(job_of(per_epoch=100), seconds=0.5).endswith("type length=12ep")
    assert line_of(job_of(steps=100, per_epoch=1000), seconds=200.0).endswith("type length=3st")
    assert line_of(job_of(steps=1000)) == ""


def test_large_models_and_images_have_smaller_ones():
    assert line_of(job_of(width=5000)).endswith("model=convnet_small (now resnet50)")
    assert line_of(job_of(width=5000, in_two_steps=True)).endswith("model=vit_mini (now resnet50)")
    assert line_of(job_of(size=None), pixels=96).endswith("dataset.size=32 (now 96)")
    assert "dataset.size" not in line_of(job_of(), pixels=96), "a data set of one size"
    assert "model=" not in line_of(job_of(width=5000), kind="text")


def test_measuring_counts_and_is_made_rarer_if_it_is_most_of_it():
    """Every 10 steps and every 25 of 100 are 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90; then the end, and the test."""
    every = {"knn": 10, "probe": 25, "geometry": 100}
    assert measurements_left(every, 0, 100) == 11 + 2
    assert measurements_left(every, 50, 100) == 5 + 2
    assert measurements_left({}, 0, 100) == 0
    told = line_of(job_of(steps=100, seconds=100.0, every=every), step=0, seconds=1.0)
    assert "about 23:20 more (64 samples/s, 21:40 of it to measure)" in told
    assert told.endswith("evaluator.knn.every=50%, evaluator.probe.every=50%")
    assert "evaluator" not in line_of(job_of(steps=10_000, seconds=10.0, every=every), seconds=100.0)


def test_idle_cores_and_an_accelerator_that_was_not_chosen_are_named(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    told = line_of(job_of())
    assert told.startswith("on the CPU this takes about")
    assert told.endswith("device.threads=4 (now 1), device=auto")


@pytest.mark.slow
def test_a_run_says_it_once_and_a_short_one_says_nothing(here, capsys, monkeypatch):
    words = tiny("length=6st", "device=cpu", "log_every=2st")
    short = enter(capsys, [*words, "hydra.run.dir=short"], "shapes: 90 training samples (3 x ", "; 10 classes: ")
    assert "this takes about" not in short
    monkeypatch.setattr(forecast, "LONG", 0.0)
    monkeypatch.setattr("ssl_runner.engine.progress.KNOWN", 3)
    told = enter(capsys, [*words, "hydra.run.dir=long"], "without an accelerator this takes about 0:0")
    assert told.count("this takes about") == 1
