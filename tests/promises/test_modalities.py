"""Text and audio by config, from data of one's own to an exported encoder: trained, measured, resumed, loaded again."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from modality_toys import KINDS
from runs import change, measured, said, same, saved, summary

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.encoder.load import find_encoder, load_encoder

WORDS = (
    *("device=cpu", "batch_size=16", "length=300st", "save_every=100st", "log_every=50st", "optimizer.lr=0.01"),
    *("evaluator=[knn,probe,geometry]", "evaluator.knn.k=5", "evaluator.knn.every=50%", "evaluator.probe.every=50%"),
    *("evaluator.geometry.samples=64", "evaluator.geometry.every=50%"),
)


@pytest.fixture(params=KINDS)
def kind(request, here, monkeypatch):
    """A kind of samples; in conf/, choices of the user's own, whose package is trusted."""
    monkeypatch.setenv("SSL_RUNNER_TRUST", "modality_toys")
    for group, target in KINDS[request.param].items():
        file = Path("conf") / group / f"{target.__name__.lower()}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump({"_target_": f"{target.__module__}.{target.__name__}"}))
    return request.param


def words(kind, folder="run"):
    chosen = [f"{group}={target.__name__.lower()}" for group, target in KINDS[kind].items()]
    return ["--config-dir", "conf", *chosen, *WORDS, f"hydra.run.dir={folder}"]


def test_a_kind_is_trained_measured_resumed_and_exported(kind, capsys):
    assert main(words(kind)) == 0, capsys.readouterr()
    told, done = said(capsys), summary("run")
    assert "samples/s" in told
    assert "image" not in told
    for name in ("knn/top1", "probe/top1"):
        assert done["final"][name] >= done["baseline"][name] + 0.08, "what was planted is found"
    assert done["final"].keys() >= {"test/knn/top1", "geometry/rankme", "geometry/std", "geometry/health"}
    assert "geometry/lidar" not in done["final"], "there are no views of this kind"
    assert [step for step, _ in measured("run")] == [0, 150, 300]

    cut = Path("cut")
    shutil.copytree("run", cut)
    for path in (cut / "checkpoints/0000300.pt", cut / "encoder.safetensors"):
        path.unlink()
    change(cut, "summary.json", status="running")
    assert saved(cut) == [200]
    assert main(["resume", "cut"]) == 0
    assert same("cut", "run")

    dataset = KINDS[kind]["dataset"]()
    rows = dataset.samples.from_rows(dataset.load().test.x)
    with torch.no_grad():
        trained = find_encoder(Path("run"))
        wanted = trained.encoder(rows)
    assert trained.samples.kind == kind
    assert wanted.mask is not None
    assert main(["export", "run", "--format", "safetensors,torch"]) == 0, capsys.readouterr()
    assert files.read(Path("run/export/encoder.yaml"))["samples"]["kind"] == kind
    with torch.no_grad():
        assert torch.equal(load_encoder("run/export/encoder.safetensors")(rows).pooled, wanted.pooled)
        program = torch.export.load("run/export/encoder.pt2").module()(rows)
    assert torch.allclose(program["pooled"], wanted.pooled, atol=1e-5)


def test_padding_does_not_change_what_is_measured(kind):
    """More of it is the same sample: the features of an encoder that knows what padding is are the same."""
    torch.manual_seed(0)
    toys = KINDS[kind]
    dataset = toys["dataset"]()
    given = {"samples": dataset.samples} if kind == "text" else {"shape": dataset.samples.shape, "std": (0.3,)}
    encoder, x = toys["model"](**given).eval(), dataset.samples.from_rows(dataset.load().train[:8])
    longer = torch.cat([x, x.new_zeros(*x.shape[:-1], 40)], dim=-1)
    with torch.no_grad():
        assert torch.allclose(encoder(x).pooled, encoder(longer).pooled, atol=1e-3)


def test_without_trust_nothing_of_it_runs(kind, monkeypatch, capsys):
    monkeypatch.delenv("SSL_RUNNER_TRUST")
    assert main(words(kind)) == 2
    assert "modality_toys" in said(capsys)
    assert not Path("run").exists()
