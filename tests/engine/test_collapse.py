"""The doctor: each collapse is planted and must be named with its cause, and no healthy run may be accused."""

import itertools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import names, tiny
from torch import Tensor, nn

from ssl_runner.__main__ import main
from ssl_runner.contract import Batch, Context, Loss, Pretext, Suspect
from ssl_runner.engine.causes import find_causes, measure_embedding
from ssl_runner.engine.collapse import Health, diagnose
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.trainer import Trainer
from ssl_runner.pretext.autoencoder import Autoencoder
from ssl_runner.pretext.bigan import BiGAN
from ssl_runner.pretext.byol import BYOL
from ssl_runner.pretext.mae import MAE
from ssl_runner.pretext.simclr import SimCLR
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

GEOMETRY = (
    *("evaluator=[geometry]", "evaluator.geometry.views=2", "evaluator.geometry.samples=64"),
    *("save_every=100%", "show_every=100%"),
)
LEARNT = (*GEOMETRY, "length=40st", "evaluator.geometry.every=8st", "optimizer.warm_up=0st")

# A pure function of the history


def history(**numbers: Sequence[float]) -> list[dict[str, float]]:
    """Rows of metrics.jsonl every 10 steps, rows of training between them."""
    numbers = {"std": [0.5] * len(next(iter(numbers.values()))), **numbers}
    measured = [
        {"step": 10 * i, "time": 1.0, **{f"geometry/{k}": v for k, v in zip(numbers, each, strict=True)}}
        for i, each in enumerate(zip(*numbers.values(), strict=True))
    ]
    return [row for each in measured for row in (each, {"step": each["step"] + 5, "time": 1.0, "train/loss": 1.0})]


def verdict(**numbers: Sequence[float]) -> tuple[str, str | None, int | None]:
    health = diagnose(history(**numbers))
    assert health is not None
    return health.verdict, health.kind, health.since


def test_without_geometry_there_is_no_verdict() -> None:
    assert diagnose([]) is None
    assert diagnose([{"step": 0, "time": 0.0, "knn/top1": 0.3}]) is None


def test_the_random_encoder_is_healthy_whatever_it_is() -> None:
    assert verdict(std=[0.0], rank=[0.0]) == ("healthy", None, None)


def test_two_measurements_make_a_collapse() -> None:
    assert verdict(std=[0.5, 0.4, 0.01]) == ("shrinking", "complete", 20)
    assert verdict(std=[0.5, 0.4, 0.01, 0.01]) == ("collapsed", "complete", 20)
    assert verdict(std=[0.5, 0.01, 0.01, 0.01, 0.01]) == ("collapsed", "complete", 10), "since its first measurement"


def test_a_transient_is_no_collapse() -> None:
    assert verdict(std=[0.5, 0.01, 0.4]) == ("healthy", None, None)
    assert verdict(std=[0.5, 0.4, 0.1]) == ("healthy", None, None), "shrunk once is not shrinking"
    assert verdict(std=[0.5, 0.01, 0.4, 0.01]) == ("shrinking", "complete", 30)


def test_shrinking_and_back() -> None:
    assert verdict(std=[0.5, 0.1, 0.1]) == ("shrinking", "complete", 10)
    assert verdict(std=[0.5, 0.1, 0.1, 0.4]) == ("healthy", None, None)
    assert verdict(std=[0.5, 0.1, 0.01, 0.1]) == ("shrinking", "complete", 10), "out of the hole, not out of the wood"


def test_what_is_small_by_itself_counts_too() -> None:
    assert verdict(std=[0.9, 0.3, 0.3]) == ("healthy", None, None), "a third of much is still enough"
    assert verdict(std=[0.1, 0.029, 0.029]) == ("collapsed", "complete", 10), "a point, if not far from the start"
    assert verdict(std=[0.04, 0.029, 0.029]) == ("healthy", None, None), "an encoder that began like that"


def test_a_loss_of_directions_is_a_dimensional_collapse() -> None:
    assert verdict(rank=[41, 20, 4.5, 4.5]) == ("collapsed", "dimensional", 20)
    assert verdict(rank=[41, 20, 6, 6]) == ("shrinking", "dimensional", 20)
    assert verdict(rank=[41, 20, 15, 15]) == ("healthy", None, None), "as flip does in four epochs"
    assert verdict(rank=[5, 4, 1.3, 1.3]) == ("collapsed", "dimensional", 20), "of few directions, one is a collapse"


def test_a_point_has_no_directions_to_speak_of() -> None:
    """Rounding errors around a point fill every direction; and where both have gone, the point is what is told."""
    assert verdict(std=[0.5, 1e-6, 1e-6], rank=[40, 40, 40])[:2] == ("collapsed", "complete")
    assert verdict(std=[0.5, 1e-6, 1e-6], rank=[40, 2, 2])[:2] == ("collapsed", "complete")


def test_the_embedding_speaks_for_itself() -> None:
    """BYOL without its predictor: the projections are a point, the features behind them live on."""
    fine = {"std": [0.2, 0.6, 0.6], "rank": [40, 30, 30]}
    assert verdict(**fine, embedding_std=[0.8, 0.03, 0.03])[:2] == ("collapsed", "complete")
    assert verdict(**fine, embedding_rank=[60, 4, 4])[:2] == ("collapsed", "dimensional")
    assert verdict(**fine, embedding_std=[0.8, 0.7, 0.7])[:2] == ("healthy", None)


def test_the_verdict_says_what_and_what_to_type() -> None:
    health = diagnose(history(std=[0.5, 0.01, 0.01]))
    assert health is not None
    assert str(health).startswith("collapsed (complete) at step 10: all features are one point (std 0.01, 0.5 at the s")
    assert "no setting is far from where it usually is" in str(health)
    told = Health("collapsed", 20, "complete", 10, "a point", [Suspect("a=1, too much", "a=0", 1.0)])
    assert str(told).endswith("likely cause: a=1, too much; type a=0")
    assert told.summary() | {"text": ""} == {
        "verdict": "collapsed",
        "kind": "complete",
        "since": 10,
        "text": "",
        "sign": "a point",
        "cause": "a=1, too much",
        "remedy": "a=0",
        "suspects": [{"cause": "a=1, too much", "remedy": "a=0"}],
    }


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
def test_runs_that_learnt_are_not_accused(run: str) -> None:
    rank, std, *rest = HEALTHY[run]
    numbers = dict(zip(("embedding_rank", "embedding_std"), rest, strict=False)) | {"rank": rank, "std": std}
    assert verdict(**{name: (start, end, end) for name, (start, end) in numbers.items()})[0] == "healthy"


# Runs that collapse


class Planted(Pretext):
    """Pulls features to where `aim`, which scores them, has its least."""

    def __init__(self, encoder: nn.Module, aim: Callable[[Tensor], Tensor]):
        super().__init__()
        self.encoder, self.aim = encoder, aim  # type: ignore[assignment]

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return (batch.x,)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        pooled = self.encoder(views[0]).pooled
        return Loss(self.aim(pooled), {}, pooled)


class Node:
    def __init__(self, aim: Callable[[Tensor], Tensor]):
        self.aim = aim

    def build(self, encoder: nn.Module, **_: Any) -> Planted:
        return Planted(encoder, self.aim)


def to_a_point(z: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(z, torch.ones_like(z), dim=1).mean()


def to_a_line(z: Tensor) -> Tensor:
    """Samples stay apart, and every dimension comes to say the same, as in VICReg without its covariance term."""
    z = z - z.mean(0)
    return (z - z.mean(1, keepdim=True)).square().sum() / z.square().sum()


class Never:
    signal = None


def fit(trainer: Trainer) -> list[Mapping[str, Any]]:
    start = trainer.restore()
    book = Logbook(trainer.folder, start)
    trainer.fit(start, book, Never())  # type: ignore[arg-type]
    book.close()
    return book.rows


def test_features_pulled_to_a_point(make: Callable[..., Trainer]) -> None:
    """The learning rate, twenty times the usual, is what is left to be blamed."""
    wild = ("model.batch_norm=false", "optimizer.lr=0.02")
    trainer = make(*LEARNT, *wild, change=lambda _: Node(to_a_point))
    rows = fit(trainer)
    assert trainer.measurements.health is not None
    assert (trainer.measurements.health.verdict, trainer.measurements.health.kind) == ("collapsed", "complete")
    assert "all features are one point" in trainer.measurements.health.sign
    assert trainer.measurements.health.causes[0].remedy == "optimizer.lr=0.001"
    assert [row["geometry/health"] for row in rows if "geometry/std" in row][-1] == 0


def test_features_pulled_to_a_line(make: Callable[..., Trainer]) -> None:
    trainer = make(*LEARNT, "optimizer.lr=0.03", change=lambda _: Node(to_a_line))
    fit(trainer)
    assert trainer.measurements.health is not None
    assert (trainer.measurements.health.verdict, trainer.measurements.health.kind) == ("collapsed", "dimensional")


BARE_BYOL = ("pretext=byol", "pretext.predictor=false", "pretext.momentum=0", "pretext.hidden=32", "pretext.out=16")


def test_byol_without_its_predictor(make: Callable[..., Trainer], caplog: pytest.LogCaptureFixture) -> None:
    """It collapses completely, the predictor is named first, a target that is the network itself second."""
    trainer = make(*LEARNT, *BARE_BYOL, "optimizer.lr=0.01")
    with caplog.at_level(logging.WARNING, "ssl_runner"):
        rows = fit(trainer)
    assert trainer.measurements.health is not None
    assert (trainer.measurements.health.verdict, trainer.measurements.health.kind) == ("collapsed", "complete")
    assert [each.remedy for each in trainer.measurements.health.causes[:2]] == [
        "pretext.predictor=true",
        "pretext.momentum=0.99",
    ]
    scores = [row["geometry/health"] for row in rows if "geometry/health" in row]
    assert scores[0] == 2
    assert scores[-1] == 0
    said = [record.getMessage() for record in caplog.records]
    changes = sum(a != b and b < 2 for a, b in itertools.pairwise(scores))
    assert len(said) == changes, "once for each change of the verdict"
    assert said[-1].startswith("collapsed (complete) at step")
    assert "likely cause: pretext.predictor=false" in said[-1]
    assert said[-1].endswith("type pretext.predictor=true")


def test_a_slow_collapse_shrinks_first(make: Callable[..., Trainer]) -> None:
    trainer = make(*LEARNT, *BARE_BYOL, "pretext.momentum=0.9", "optimizer.lr=0.006")
    fit(trainer)
    assert trainer.measurements.health is not None
    assert (trainer.measurements.health.verdict, trainer.measurements.health.kind) == ("shrinking", "complete")
    assert trainer.measurements.health.causes[0].remedy == "pretext.predictor=true"


@pytest.mark.parametrize(("temperature", "end"), [(100, "collapsed"), (0.5, "healthy")])
def test_simclr_at_an_absurd_temperature(make: Callable[..., Trainer], temperature: float, end: str) -> None:
    """The loss is then about flat: what is left of it spreads the samples along a line or two."""
    heat = ("pretext=simclr", f"pretext.temperature={temperature}", "pretext.hidden=32", "pretext.out=64")
    trainer = make(*LEARNT, *heat, "batch_size=40", "optimizer.lr=0.1")
    fit(trainer)
    assert trainer.measurements.health is not None
    assert trainer.measurements.health.verdict == end
    if end == "collapsed":
        assert trainer.measurements.health.kind == "dimensional"
        assert "pretext.temperature=0.5" in [each.remedy for each in trainer.measurements.health.causes]


def test_with_its_predictor_it_does_not(make: Callable[..., Trainer]) -> None:
    trainer = make(*LEARNT, *BARE_BYOL, "pretext.predictor=true", "pretext.momentum=0.99", "optimizer.lr=0.01")
    fit(trainer)
    assert trainer.measurements.health is not None
    assert trainer.measurements.health.verdict == "healthy"


@pytest.mark.parametrize("pretext", names("pretext"))
def test_no_task_is_accused_at_its_own_settings(make: Callable[..., Trainer], pretext: str) -> None:
    trainer = make(*GEOMETRY, "length=24st", "evaluator.geometry.every=8st", f"pretext={pretext}")
    fit(trainer)
    assert trainer.measurements.health is not None
    assert trainer.measurements.health.verdict == "healthy"
    assert list(trainer.learner.pretext.suspects()) == [], "and suspects none of its own settings"


def test_embeddings_are_measured_where_they_are_no_features(make: Callable[..., Trainer]) -> None:
    for pretext, has in (("simclr", True), ("byol", True), ("rotation", False), ("mae", False)):
        trainer = make(*GEOMETRY, f"pretext={pretext}", folder=pretext)
        before = {name: each.clone() for name, each in trainer.learner.pretext.state_dict().items()}
        first, second = measure_embedding(trainer.learner), measure_embedding(trainer.learner)
        assert bool(first) == has
        assert first == second
        after = trainer.learner.pretext.state_dict()
        assert all(torch.equal(each, after[name]) for name, each in before.items()), "batch norm has seen nothing"


def test_small_batches_are_put_together_for_it(make: Callable[..., Trainer]) -> None:
    small = measure_embedding(make(*GEOMETRY, "pretext=simclr", "batch_size=2", folder="2").learner)
    assert small["geometry/embedding_rank"].value > 4, "four rows alone could not have so many directions"


def test_a_cause_outside_the_method(make: Callable[..., Trainer]) -> None:
    """Batch, learning rate, weight decay and regulariser, each judged against what is usual."""
    rows: list[dict[str, float]] = [{"step": 8, "geometry/embedding_std": 0.0, "train/loss": 1, "regulariser/l2": 50}]

    def causes(*overrides: str, rows: list[dict[str, float]] = rows[:0]) -> list[str]:
        trainer = make(*GEOMETRY, "pretext=simclr", *overrides)
        return [each.remedy for each in find_causes(trainer.learner, rows)]

    embedded = [{"step": 8, "geometry/embedding_std": 0.0}]
    assert causes() == causes("batch_size=64", rows=embedded) == []
    assert causes("batch_size=4", rows=embedded) == ["batch_size=64"]
    assert causes("batch_size=16", "accumulate=4", rows=embedded) == ["batch_size=64 accumulate=1"]
    assert causes("optimizer.lr=1", "optimizer.weight_decay=1") == ["optimizer.lr=0.001", "optimizer.weight_decay=0.05"]
    assert causes("optimizer=sgd", "optimizer.lr=0.1") == []
    assert causes("batch_size=64", rows=rows) == ["regulariser=none"]
    both = causes("pretext.temperature=100", "optimizer.lr=0.01")
    assert both == ["pretext.temperature=0.5", "optimizer.lr=0.001"]


def test_methods_know_their_own_weak_spots(make: Callable[..., Trainer]) -> None:
    def remedies(*overrides: str) -> list[str]:
        return [each.remedy for each in make(*GEOMETRY, *overrides).learner.pretext.suspects()]

    assert remedies("pretext=byol", "pretext.momentum=0.5") == ["pretext.momentum=0.99"]
    assert remedies("pretext=byol", "pretext.predictor=false") == ["pretext.predictor=true"]
    assert remedies("pretext=simclr", "pretext.temperature=10") == ["pretext.temperature=0.5"]
    assert remedies("pretext=simclr", "pretext.temperature=0.01") == ["pretext.temperature=0.5"]
    assert remedies("pretext=mae", "pretext.ratio=0.95") == ["pretext.ratio=0.75"]
    assert remedies("pretext=mae", "pretext.ratio=0.2") == ["pretext.ratio=0.75"]
    assert remedies("pretext=autoencoder", "pretext.mask=0.95") == ["pretext.mask=0.25"]
    assert remedies("pretext=bigan", "pretext.latent=2") == ["pretext.latent=64"]
    for kind in (Autoencoder, BiGAN, BYOL, MAE, SimCLR):
        assert kind.suspects is not Pretext.suspects


def test_the_predictor_leaves_weights_as_they_were(make: Callable[..., Trainer]) -> None:
    """The setting draws nothing: projector and encoder begin as with it, and nothing else is missing."""
    whole = make(*GEOMETRY, "pretext=byol", folder="a").learner.pretext.state_dict()
    bare = make(*GEOMETRY, "pretext=byol", "pretext.predictor=false", folder="b").learner.pretext.state_dict()
    assert {name for name in whole if name not in bare} == {name for name in whole if name.startswith("predictor.")}
    assert all(torch.equal(each, whole[name]) for name, each in bare.items())


# Warn and stop

COLLAPSE = tiny(*LEARNT, *BARE_BYOL, "optimizer.lr=0.01", "hydra.run.dir=run")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_warn_goes_on(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(COLLAPSE) == 0
    summary = summary_of(here)
    assert (summary["status"], summary["step"]) == ("completed", 40)
    assert summary["health"]["verdict"] == "collapsed"
    assert summary["health"]["kind"] == "complete"
    assert summary["health"]["remedy"] == "pretext.predictor=true"
    assert summary["final"]["geometry/health"] == 0
    assert summary["baseline"]["geometry/health"] == 2
    assert "collapsed (complete) at step" in capsys.readouterr().out
    assert "WARNING collapsed (complete)" in (here / "run.log").read_text()


def test_stop_stops_and_so_does_its_resumption(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*COLLAPSE, "on_collapse=stop"]) == 3
    summary, said = summary_of(here), capsys.readouterr().out
    assert summary["status"] == "stopped"
    assert 0 < summary["step"] < 40
    assert [path.stem for path in checkpoint.steps(here / "checkpoints")][-1] == f"{summary['step']:07d}"
    assert summary["health"]["verdict"] == "collapsed"
    assert "type pretext.predictor=true" in said
    assert "put on_collapse: warn into run/config.yaml" in said
    assert "ssl-runner resume run" in said
    assert "on_collapse" not in (summary["error"] or "")
    rows = read_rows(here / "metrics.jsonl")

    assert main(["resume", "run"]) == 3
    assert summary_of(here)["health"] == summary["health"]
    assert summary_of(here)["step"] == summary["step"]
    assert read_rows(here / "metrics.jsonl") == rows, "nothing was learnt or measured again"
    assert "type pretext.predictor=true" in capsys.readouterr().out

    content = yaml.safe_load((here / "config.yaml").read_text())
    (here / "config.yaml").write_text(yaml.safe_dump({**content, "on_collapse": "warn"}))
    assert main(["resume", "run"]) == 0
    assert summary_of(here)["status"] == "completed"


def test_a_resumed_run_says_the_same(make: Callable[..., Trainer]) -> None:
    whole = make(*LEARNT, *BARE_BYOL, "optimizer.lr=0.01", folder="whole")
    scores = [row["geometry/health"] for row in fit(whole) if "geometry/health" in row]

    class After:
        turns = 21

        @property
        def signal(self) -> int | None:
            self.turns -= 1
            return 2 if self.turns < 0 else None

    part = make(*LEARNT, *BARE_BYOL, "optimizer.lr=0.01", folder="part")
    book = Logbook(part.folder)
    part.fit(0, book, After())  # type: ignore[arg-type]
    book.close()
    part = make(*LEARNT, *BARE_BYOL, "optimizer.lr=0.01", folder="part")
    assert [row["geometry/health"] for row in fit(part) if "geometry/health" in row] == scores
    assert part.measurements.health == whole.measurements.health
    assert str(part.measurements.health) == str(whole.measurements.health)


def test_the_verdict_is_a_text_in_tensorboard(here: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(COLLAPSE) == 0
    events = EventAccumulator(str(here), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    texts = [each.tensor_proto.string_val[0].decode() for each in events.Tensors("health/text_summary")]
    assert any(text.startswith("collapsed (complete) at step") for text in texts)
    assert [each.value for each in events.Scalars("geometry/health")][-1] == 0


def test_no_geometry_no_doctor(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(tiny("evaluator=none", "length=2st", "hydra.run.dir=run")) == 0
    capsys.readouterr()
    assert summary_of(here)["health"] is None
    assert main(tiny("evaluator=none", "length=2st", "on_collapse=stop", "hydra.run.dir=other")) == 2
    assert "type evaluator=[geometry]" in capsys.readouterr().err
