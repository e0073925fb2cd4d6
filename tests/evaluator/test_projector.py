"""Projector: what TensorBoard reads, the t-SNE picture, thumbnails."""

from inspect import signature
from unittest.mock import Mock

import numpy as np
import pytest
import sklearn.manifold
import torch
from evaluator_toys import EVERY, STRIPES, Small, corners, encoded, numbers, stripes
from google.protobuf import text_format
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from ssl_runner.contract import Samples
from ssl_runner.evaluator import projector as projector_file
from ssl_runner.evaluator.projector import Projector, draw_points, make_thumbnails, project


def projector(query, folder, classes=2, sample=STRIPES, **settings):
    return Projector(every=EVERY, query=query, classes=classes, folder=folder, sample=sample, **settings)


def test_the_picture_keeps_classes_apart_and_a_collapsed_or_narrow_encoder_has_one(tmp_path, rng):
    split = corners(60)
    points = project(split.x, 10.0, 0)
    assert torch.equal(points, project(split.x, 10.0, 0))
    away = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert torch.equal(split.y[away.argmin(1)], split.y)
    assert project(torch.ones(10, 4), 3.0, 0).abs().max() == 0
    assert project(torch.randn(10, 1, generator=rng), 3.0, 0).isfinite().all()
    values = numbers(projector(stripes(20), tmp_path), Small(), lambda rows: torch.ones(len(rows), 4))
    assert 0 <= values["trustworthiness"] <= 1


def test_trustworthiness_is_of_some_points_if_there_are_many(tmp_path, monkeypatch):
    """Its ranks are of n x n points."""
    trustworthiness = Mock(wraps=sklearn.manifold.trustworthiness)
    monkeypatch.setattr(projector_file, "RANKED", 20)
    monkeypatch.setattr(sklearn.manifold, "trustworthiness", trustworthiness)
    values = numbers(projector(corners(60), tmp_path, 3, Samples("audio", (1, 8))))
    assert ([len(each) for each in trustworthiness.call_args.args], values["samples"]) == ([20, 20], 60)
    assert 0.5 < values["trustworthiness"] <= 1
    with pytest.raises(ValueError, match="holds 4 rows, and the picture needs 8"):
        projector(stripes(4), tmp_path)


def test_it_writes_what_tensorboard_reads(tmp_path, capsys):
    """Twice, with another sample: the second is all that there is. The plugin itself reads classes and rows."""
    query, folder, encoder = stripes(40), tmp_path / "new", Small().eval()
    for samples in (30, 20):
        values = numbers(projector(query, folder, samples=samples), encoder)
        assert values["samples"] == samples
    assert 0.5 < values["trustworthiness"] <= 1
    assert not capsys.readouterr().out
    (event,) = folder.glob("events.out.tfevents.*")
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    below = {f"00000/features/{name}" for name in ("tensors.tsv", "metadata.tsv", "sprite.png")}
    assert files == {event.name, "projector_config.pbtxt", "tsne.png"} | below
    (embedding,) = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    assert {embedding.tensor_path, embedding.metadata_path, embedding.sprite.image_path} == below
    lines = (folder / embedding.metadata_path).read_text().splitlines()
    assert lines[0] == "class\trow"
    labels, places = np.loadtxt(lines[1:], dtype=int, unpack=True)
    assert labels.tolist() == query.y[places].tolist()
    with torch.no_grad():
        ratio = np.loadtxt(folder / embedding.tensor_path) / encoded(encoder)(query.x)[places].numpy()
    assert ratio == pytest.approx(ratio.mean(), rel=1e-2, abs=1e-2)
    assert list(embedding.sprite.single_image_dim) == [8, 8]
    sprite = imread(folder / embedding.sprite.image_path)
    assert sprite.shape == (40, 40, 3)  # five by five
    assert (255 * sprite[2, 8 * 3 + 2]).round().tolist() == query.x[places[3], :, 2, 2].tolist()
    assert EventAccumulator(str(folder)).Reload().Tags()["images"] == ["tsne"]


def test_thumbnails_are_square_and_small_enough_for_tensorboard(rng):
    small = make_thumbnails(torch.ones(2, 1, 100, 50))
    assert small.shape == (2, 1, 32, 32)
    assert small[0, 0].sum(0).nonzero().flatten().tolist() == list(range(8, 24))  # in the middle
    assert make_thumbnails(torch.zeros(2, 5, 8, 8)).shape == (2, 1, 8, 8)
    assert projector_file.THUMBNAIL * signature(Projector).parameters["samples"].default ** 0.5 < 8192
    exact = torch.rand(2, 3, 8, 8, generator=rng)
    assert torch.equal(make_thumbnails(exact), exact)


def test_many_classes_have_a_scale_and_few_a_legend(rng):
    points, y = torch.randn(40, 2, generator=rng), torch.arange(40)
    assert len(draw_points(points, y, 40).axes) == 2
    legend = draw_points(points, y % 3, 3).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
