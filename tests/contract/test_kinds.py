"""Every task meets every kind of samples: it runs, or is refused with what to choose instead."""

import pytest
import torch
from conftest import names, tiny
from modality_toys import KINDS, BagOfWords, Bands

from ssl_runner.contract import Batch
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.run.preflight import read_job, rehearse

DATA = {"image": (Shapes, {"images": 40, "test": 10}), "text": (KINDS["text"]["dataset"], {})}
DATA |= {"audio": (KINDS["audio"]["dataset"], {})}
TASKS = [*names("pretext"), BagOfWords, Bands]


def named(target):
    return f"{target.__module__}.{target.__name__}"


@pytest.fixture
def job(composer, monkeypatch):
    """The job of a task on samples of a kind, with the kind's encoder, and what is wrong with it."""
    monkeypatch.setenv("SSL_RUNNER_TRUST", "modality_toys")

    def build(task, kind):
        pretext = f"pretext={task}" if isinstance(task, str) else "pretext=rotation"
        content = composer.compose(tiny(pretext, "evaluator=[knn]")).content
        if not isinstance(task, str):
            content["pretext"] = {"_target_": named(task)}
        if kind != "image":
            dataset, _ = DATA[kind]
            content |= {"dataset": {"_target_": named(dataset)}, "model": {"_target_": named(KINDS[kind]["model"])}}
        return read_job(content)

    return build


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_task_runs_on_a_kind_or_is_refused_with_a_remedy(job, task, kind):
    whole, problems = job(task, kind)
    takes = whole.pretext.target.kinds
    if kind in takes:
        assert not problems
        dataset = whole.dataset.build()
        known = {"samples": dataset.samples, "shape": dataset.samples.shape}
        channels = 0 if kind == "text" else dataset.samples.shape[0]
        encoder = whole.model.build(**known, mean=(0.5,) * channels, std=(0.25,) * channels)
        pretext = whole.pretext.build(**known, encoder=encoder, rows=dataset.rows)
        rehearse(pretext, whole.regulariser.build(), dataset.samples, 4)  # unlike read_job it raises what is a bug
    else:
        (line,) = problems
        assert line.startswith(f"pretext: {whole.pretext.target.__name__} takes {' or '.join(takes)}")
        assert f"the dataset has {kind}; choose a pretext for {kind}, or a dataset of {' or '.join(takes)}" in line


def test_a_model_of_another_kind_is_refused_too(composer, monkeypatch):
    monkeypatch.setenv("SSL_RUNNER_TRUST", "modality_toys")
    content = composer.compose(tiny("pretext=rotation")).content
    _, problems = read_job({**content, "dataset": {"_target_": named(KINDS["text"]["dataset"])}})
    assert [line.partition(":")[0] for line in problems] == ["model", "pretext"]
    assert "choose a model for text, or a dataset of image" in problems[0]


@pytest.mark.parametrize("kind", DATA)
def test_noise_is_as_samples_are(kind):
    """What pre-flight and export try a network with looks like what a dataset gives it."""
    dataset = DATA[kind][0](**DATA[kind][1])
    rng = torch.Generator().manual_seed(0)
    noise, real = (
        dataset.samples.example(5, rng),
        dataset.samples.from_rows(dataset.load().train[:5]),
    )
    assert noise.shape == real.shape == (5, *dataset.samples.shape)
    assert noise.dtype == real.dtype
    low, high = {"image": (0, 1), "audio": (-1, 1), "text": (0, dataset.samples.vocabulary - 1)}[kind]
    for x in (noise, real):
        assert low <= x.min() < x.max() <= high
    assert Batch(noise, torch.arange(5))._fields == ("x", "index"), "there is no label to read"
