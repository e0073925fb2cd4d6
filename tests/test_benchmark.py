"""The benchmark measures what it says: in turn, against the same limit, and peers that learn from the same loss."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ssl_runner.pretext.byol import distance
from ssl_runner.pretext.simclr import nt_xent

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY = ("device.threads=1", "model.widths=[8,8,8]", "dataset.size=32")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmark")


@pytest.fixture
def settings(benchmark: ModuleType) -> Any:
    from benchmarking.settings import Settings
    from benchmarking.work import Work

    work = Work("convnet_small", "simclr", 16, 400, "cpu", TINY)
    return Settings(
        works=(work,),
        contestants=("limit", "runner"),
        rounds=3,
        seconds=0.01,
        device="cpu",
        quick=True,
        overrides=TINY,
        rows=400,
        features=400,
        batches=(16,),
        sizes=(100,),
        marks=(4, 12),
    )


class Scripted:
    """A contestant whose turns are written down, and take as long as it is told."""

    def __init__(self, name: str, seconds: list[float], turns: list[tuple[str, int]]):
        self.name, self.seconds, self.turns = name, iter(seconds), turns

    def run(self, steps: int) -> float:
        self.turns.append((self.name, steps))
        return next(self.seconds)


def test_turns_alternate_and_ratios_are_taken_within_a_round(benchmark: ModuleType) -> None:
    from benchmarking.turns import alternate, ratio

    turns: list[tuple[str, int]] = []
    # the machine is ten times slower in the second round, for both alike: a ratio of medians would say 2.5
    hired: Any = {"a": Scripted("a", [0.1, 1.0, 10.0, 4.0], turns), "b": Scripted("b", [0.4, 2.0, 20.0, 8.0], turns)}
    found = alternate(hired, rounds=3, seconds=1.0, tell=lambda _: None)
    assert [name for name, _ in turns] == ["a", "b", "a", "b", "a", "b", "a", "b"]
    assert [steps for _, steps in turns[2:]] == [10, 3] * 3
    assert found == {"a": [1.0, 10.0, 4.0], "b": [2.0, 20.0, 8.0]}
    assert ratio(found["a"], found["b"]) == 0.5
    assert ratio(found["a"], found["a"]) == 1


def test_one_command_writes_the_table_as_json(
    benchmark: ModuleType, settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    words = ["--section=speed", "--contestants=runner", f"--json={file}"]
    typed = benchmark.arguments().parse_args(words)
    assert (
        benchmark.carry_out(typed, settings, {"machine": "tiny"}, importlib.import_module("benchmarking.bars").bars)
        == 0
    )
    found = json.loads(file.read_text())
    assert found["machine"] == "tiny"
    assert [(row["work"], row["contestant"]) for row in found["rows"]] == [
        ("convnet_small simclr", "limit"),
        ("convnet_small simclr", "runner"),
    ]
    assert all(row.keys() == {"work", "contestant", "images_per_second", "ratio"} for row in found["rows"])
    assert all(row["images_per_second"] > 0 for row in found["rows"])
    assert found["rows"][0]["ratio"] == 1
    assert {name: len(times) for name, times in found["speed"]["rounds"]["convnet_small simclr"].items()} == {
        "limit": 3,
        "runner": 3,
    }
    assert [bar["bar"] for bar in found["bars"]] == ["runner/limit, convnet_small simclr"]
    printed = capsys.readouterr().out
    assert "limit" in printed
    assert "runner" in printed


def test_the_runner_goes_on_where_it_was_and_its_log_is_counted(benchmark: ModuleType, settings: Any) -> None:
    from benchmarking.runner import WARM_UP, Contestant

    contestant = Contestant(settings.works[0])
    assert contestant.run(8) > 0
    times = contestant.go_on(3)
    assert contestant.reached == WARM_UP + 8 + 3
    assert len(times) == 4
    assert times == sorted(times)
    assert "train/loss" in (contestant.trainer.folder / "metrics.jsonl").read_text()
    contestant.close()


def test_the_limit_learns(benchmark: ModuleType, settings: Any) -> None:
    from benchmarking.limit import Contestant

    contestant = Contestant(settings.works[0])
    before = [p.clone() for p in contestant.learner.pretext.parameters()]
    contestant.run(2)
    assert not any(torch.equal(a, b) for a, b in zip(before, contestant.learner.pretext.parameters(), strict=True))
    contestant.close()


@pytest.mark.parametrize("pretext", ["simclr", "byol", "rotation", "mae"])
@pytest.mark.parametrize("peer", ["peer_lightly", "peer_solo_learn", "peer_kornia"])
@pytest.mark.filterwarnings("ignore")
def test_a_peer_learns(
    benchmark: ModuleType, settings: Any, monkeypatch: pytest.MonkeyPatch, peer: str, pretext: str
) -> None:
    pytest.importorskip({"peer_lightly": "lightly", "peer_solo_learn": "lightning", "peer_kornia": "kornia"}[peer])
    from benchmarking.place import Place
    from benchmarking.work import Work

    monkeypatch.setattr(Place, "workers", (0,))
    vit = ("device.threads=1", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")
    model, overrides = ("vit_tiny", vit) if pretext == "mae" else ("convnet_small", TINY)
    contestant = importlib.import_module(f"benchmarking.{peer}").Contestant(
        Work(model, pretext, 8, 100, "cpu", overrides), ours=False
    )
    module = getattr(contestant, "model", None) or getattr(contestant, "pretext", None) or contestant.module
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert contestant.run(2) > 0
    still = [name for name, p in module.named_parameters() if p.requires_grad and torch.equal(before[name], p)]
    assert not still
    if pretext == "byol":  # the target has followed
        moved = [
            name for name, p in module.named_parameters() if not p.requires_grad and not torch.equal(before[name], p)
        ]
        assert moved
    contestant.close()


@pytest.mark.filterwarnings("ignore")
def test_lightly_learns_from_the_same_losses(rng: torch.Generator) -> None:
    loss = pytest.importorskip("lightly.loss")
    z0, z1 = (torch.randn(12, 8, generator=rng) for _ in range(2))
    value, _ = nt_xent(torch.cat([z0, z1]), 0.5)
    torch.testing.assert_close(loss.NTXentLoss(temperature=0.5)(z0, z1), value)
    # lightly's has neither the factor of two nor the constant
    torch.testing.assert_close(2 + 2 * loss.NegativeCosineSimilarity()(z0, z1), distance(z0, z1))


@pytest.mark.filterwarnings("ignore")
def test_peers_crop_flip_and_colour_by_the_runner_s_parameters(benchmark: ModuleType, settings: Any) -> None:
    pytest.importorskip("lightly")
    from benchmarking.peer_lightly import transform

    task = settings.works[0].task()
    told = repr(transform(task, "simclr").transforms[0].transform)
    assert "RandomResizedCrop(size=(32, 32), scale=(0.2, 1.0), ratio=(0.75, 1.3333333333333333)" in told
    assert "ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.8, 1.2), hue=(-0.1, 0.1))" in told
    assert "RandomGrayscale(p=0.2)" in told
    assert "RandomHorizontalFlip(p=0.5)" in told
    assert "Normalize" not in told


def test_a_peer_that_is_not_installed_costs_a_line(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarking.settings import present

    monkeypatch.setitem(sys.modules, "lightly", None)
    can, skipped = present(["limit", "peer-lightly", "peer-lightly+ours"])
    assert can == ["limit"]
    assert skipped == [
        f"{name}: skipped, lightly is not installed; pip install 'ssl-runner[bench]'"
        for name in ("peer-lightly", "peer-lightly+ours")
    ]


def test_bars_say_what_is_met(benchmark: ModuleType) -> None:
    from benchmarking.bars import bars

    work = "convnet_small simclr"
    rounds = {"limit": [1.0, 1.0, 1.0], "runner": [1.1, 1.1, 1.1], "peer-lightly": [1.1, 2.2, 3.3]}
    rows = [{"work": work, "contestant": "runner", "images_per_second": 1.0, "ratio": 1 / 1.1}]
    speed = {"rows": rows, "rounds": {work: rounds}, "notes": {work: {"batch": 256}}}
    found = bars({"speed": speed, "startup": [{"command": "--help", "seconds": 0.4}], "memory": {"growth": 1.2}})
    assert {bar["bar"]: bar["met"] for bar in found} == {
        "runner/limit, convnet_small simclr": False,
        "runner/lightly, convnet_small simclr, batch 256": True,
        "--help": True,
        "memory after 500 steps to after 50": False,
    }
    assert found[1]["measured"] == pytest.approx(2)
    speed["notes"][work]["batch"] = 64  # a bar is for the batch that it names
    assert [bar["bar"] for bar in bars({"speed": speed})] == ["runner/limit, convnet_small simclr"]


def test_start_up_is_timed_to_the_end_of_the_command(benchmark: ModuleType) -> None:
    from benchmarking.startup import ended, started, to_end

    wall, cpu = to_end(["--help"])
    assert 0 < cpu < 60
    assert wall > 0
    idle = started([sys.executable, "-c", "import time; time.sleep(0.5)"], ".")
    assert ended(idle) < 0.5  # processor time, and not the clock's
    assert idle.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contestants=limit,peer-lightning"], "possible are limit, runner, peer-lightly"),
        (["--work=resnet18"], "possible are convnet_small simclr"),
        (["--section=speed", "optimizer.rate=1"], "optimizer.rate"),
        (["--section=speed", "device.precision=fp16"], "type bf16 or float32"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert benchmark.main([*words, "--device=cpu"]) == 2
    assert said in capsys.readouterr().err


def test_sections_measure(benchmark: ModuleType, settings: Any) -> None:
    """In this process, where they would take one of their own."""
    from benchmarking import evaluation, memory, rows

    evaluated = evaluation.evaluate(settings)
    assert [row["what"] for row in evaluated] == ["kNN", "probe", "encoding 400 images"]
    assert all(row["seconds"] > 0 for row in evaluated)
    held = rows.train(settings, 100)
    assert held["rows"] == 100
    assert held["steps_per_second"] > 0
    remembered = memory.hold(settings)
    assert remembered["steps"] == [4, 12]
    assert 0 <= remembered["data_wait_share"] < 1
    assert remembered["peak_mb"] >= max(remembered["resident_mb"]) * 0.9
    for section, found in ((evaluation, evaluated), (rows, [held]), (memory, remembered)):
        assert all(table.row_count for table in section.tables(found))
