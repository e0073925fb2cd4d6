"""The race: rows and table of records, and rivals that train."""

import json
from types import SimpleNamespace

import pytest
import speedrun
import torch
from benchmarking.place import Place
from benchmarking.rivals import RIVALS, train
from benchmarking.work import composed_job
from image_trees import paint
from torch import nn

from ssl_runner.config.compose import Composer
from ssl_runner.contract import Encoder, Features
from ssl_runner.device.placement import Placement

PLAIN = "before\n<!-- records: begin -->\nold\n<!-- records: end -->\nafter\n"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Rows and page in a folder; nothing is trained."""
    probes = iter((0.60, 0.62, 0.64, 0.30, 0.70))
    row = lambda *_: {"probe": next(probes), "knn": 0.5, "minutes": 4.9, "steps": 9, "command": "typed"}  # noqa: E731
    monkeypatch.setattr(speedrun, "race", row)
    monkeypatch.setattr(speedrun, "rival", lambda name, seed, minutes, root: {**row(), "minutes": minutes})
    monkeypatch.setattr(speedrun, "ROWS", tmp_path / "rows.json")
    monkeypatch.setattr(speedrun, "PAGE", tmp_path / "page.md")
    (tmp_path / "rows.json").write_text("[]")
    (tmp_path / "page.md").write_text(PLAIN)

    def typed(*words):
        assert speedrun.main(["--cifar10", str(tmp_path), "--tracks", "cpu5", *words]) == 0
        return json.loads((tmp_path / "rows.json").read_text()), (tmp_path / "page.md").read_text()

    return typed


def test_a_record_has_an_interval_and_rivals_stand_below_it(desk):
    rows, page = desk("--seeds", "3")
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert "| cpu5 | ssl_runner | 4.9 | 62.0 ± 5.0 | 50.0 ± 0.0 | 3 |" in page  # 4.30 * 2 / sqrt(3)
    rows, page = desk("--rivals", "lightly", "--minutes", "25")
    assert page.index("ssl_runner") < page.index("| cpu5 | lightly | 25.0 | 30.0 | 50.0 | 1 |")
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    rows, page = desk()
    assert len(rows) == 4, "a newer run of a seed takes the older one's place"
    assert rows[0]["probe"] == 0.70


class Small(Encoder):
    dim = 8

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x, keep=None):
        tokens = self.layers(x).flatten(2).mT
        return Features(pooled=tokens.mean(1), tokens=tokens, grid=(15, 15))


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_learns_for_as_long_as_it_is_given(name, monkeypatch):
    if name == "lightly":
        pytest.importorskip("lightly")
    monkeypatch.setattr(Place, "workers", (0,))
    images = torch.randint(0, 256, (512, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    encoder = Small()
    before = encoder.layers[0].weight.clone()
    clock = iter(range(100))
    monkeypatch.setattr("benchmarking.rivals.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert train(name, encoder, images.numpy(), 3, Place(Placement(name="cpu"), ours=True)) == 3
    assert (encoder.layers[0].weight - before).abs().max() > 1e-5
    assert encoder.layers[0].weight.isfinite().all()


@pytest.mark.slow
def test_a_rival_is_trained_and_measured_on_a_folder_of_images(tmp_path, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    for part in ("train", "test"):
        for place, name in enumerate(("dark", "light")):
            for number in range(40):
                pixel = 40 + 150 * place + int(torch.randint(0, 20, (), generator=rng))
                paint(tmp_path / part / name / f"{number}.png", (pixel,) * 3, (32, 32))
    small = lambda typed: composed_job([*typed, "model=convnet_small", "dataset.cache=false"])  # noqa: E731
    monkeypatch.setattr(speedrun, "composed_job", small)
    monkeypatch.setattr(Place, "workers", (0,))
    row = speedrun.rival("solo-learn", 0, 0.001, tmp_path)
    assert row["steps"] >= 1
    assert 0.9 <= row["probe"] <= 1, "brightness alone tells the two classes apart"
    assert 0 <= row["knn"] <= 1


def test_rates_of_rivals_end_at_nothing():
    for name, build in RIVALS.items():
        if name == "lightly":
            pytest.importorskip("lightly")
        rival = build(Small())
        assert rival.rate(1.0) == pytest.approx(0, abs=1e-9)
        assert max(rival.rate(share / 100) for share in range(101)) == pytest.approx(rival.lr, rel=1e-3)


@pytest.mark.parametrize("track", speedrun.TRACKS)
def test_recipes_of_the_tracks_compose(track):
    recipe, _ = speedrun.TRACKS[track]
    typed = [f"experiment={recipe}", "dataset=image_folder", "dataset.root=FOLDER", "device=cpu"]
    assert not Composer().compose(typed).problems
