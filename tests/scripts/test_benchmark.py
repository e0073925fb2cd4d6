"""The benchmark measures what it says: in turn, over whole waves, the same work for all; nothing is lost by a failure.

The peers' tests are skipped where the peers are not installed: pip install -e '.[test,bench]', and then
pytest tests/scripts/test_benchmark.py.
"""

import functools
import importlib
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ssl_runner.command.train import main as train
from ssl_runner.duration import Length
from ssl_runner.loss.info_nce import nt_xent
from ssl_runner.pretext.byol import distance

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = ("device.threads=1", "model.widths=[8,8,8]", "dataset.size=32")
VIT = ("device.threads=1", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")
PEERS = {"peer_lightly": "lightly", "peer_solo_learn": "lightning", "peer_kornia": "kornia"}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("benchmark")


@pytest.fixture
def accelerator(benchmark, monkeypatch):
    module = importlib.import_module("accelerator")
    monkeypatch.setattr(module, "FAST", (*module.FAST, "device.threads=1"))
    return module


@pytest.fixture
def settings(benchmark):
    from benchmarking.settings import Settings
    from benchmarking.work import Work

    return Settings(
        works=(Work("convnet_small", "simclr", 16, 400, "cpu", TINY),),
        contestants=("limit", "runner"),
        rounds=3,
        seconds=0.01,
        device="cpu",
        quick=True,
        overrides=TINY,
        rows=400,
        features=400,
        batches=(16, 32),
        sizes=(100,),
        marks=(4, 12),
    )


class Here:
    """Stands for `Hired`, in this process: a contestant, whose turns are written down."""

    fails = {}  # by module, the verb at which it does
    turns = []

    def __init__(self, module, ours=False):
        self.module, self.ours = module, ours
        self.contestant = None

    def prepare(self, setting):
        self._may("prepare")
        self.contestant = importlib.import_module(self.module).Contestant(setting, self.ours)
        self.took = self.contestant.took
        return self.contestant.note

    def turn(self, steps):
        return self.contestant.turn(steps)

    def run(self, steps):
        self._may("run")
        self.turns.append((self.module, steps))
        return self.contestant.run(steps)

    def release(self):
        if self.contestant is not None:
            self.contestant.close()
        self.contestant = None

    def close(self):
        pass

    def _may(self, verb):
        from benchmarking.process import Failed

        if self.fails.get(self.module) == verb:
            raise Failed(f"{self.module} failed:\nTraceback\nValueError: of its own")


@pytest.fixture
def here(benchmark, monkeypatch):
    monkeypatch.setattr(Here, "fails", {})
    monkeypatch.setattr(Here, "turns", [])
    for section in ("speed", "augmentation", "batch"):
        monkeypatch.setattr(importlib.import_module(f"benchmarking.{section}"), "Hired", Here)
    return Here


class Scripted:
    """A contestant that takes as long as it is told, and is counted fairly over a multiple of some steps."""

    def __init__(self, name, seconds, turns, each=1):
        self.name, self.seconds, self.turns, self.each, self.took = name, iter(seconds), turns, each, None

    def turn(self, steps):
        return -(-steps // self.each) * self.each

    def run(self, steps):
        from benchmarking.process import Failed

        self.turns.append((self.name, steps))
        took = next(self.seconds)
        if took < 0:
            raise Failed("it is gone")
        return took


def test_turns_alternate_and_ratios_are_taken_within_a_round(benchmark):
    from benchmarking.turns import alternate, ratio

    turns = []
    # the machine is ten times slower in the second round, for both alike: a ratio of medians would say 2.5
    a = Scripted("a", [0.1, 1.0, 10.0, 4.0], turns)
    b = Scripted("b", [0.4, 2.0, 20.0, 8.0], turns, each=4)
    hired = {"a": a, "b": b}
    found = alternate(hired, rounds=3, seconds=1.0, tell=lambda _: None)
    assert [name for name, _ in turns] == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [steps for _, steps in turns[2:]] == [10, 4, 4, 10, 10, 4]  # b's three are rounded up to a whole wave
    assert found == {"a": [1.0, 10.0, 4.0], "b": [2.0, 20.0, 8.0]}
    assert ratio(found["a"], found["b"]) == 0.5


def test_one_that_fails_in_a_round_has_no_more_turns(benchmark):
    from benchmarking.process import Failed
    from benchmarking.turns import alternate

    turns = []
    lost = []
    a, b = Scripted("a", [1.0, 1.0, 1.0], turns), Scripted("b", [1.0, -1.0], turns)
    hired = {"a": a, "b": b}
    found = alternate(hired, rounds=2, seconds=1, tell=lambda _: None, lose=lambda name, _: lost.append(name))
    assert found == {"a": [1.0, 1.0]}
    assert lost == ["b"]
    hired = {"b": Scripted("b", [-1.0], turns)}
    with pytest.raises(Failed, match="it is gone"):
        alternate(hired, rounds=2, seconds=1, tell=lambda _: None)


class Sleepy(torch.utils.data.Dataset):
    """Items that take a while, and fewer of them than a turn takes."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 7

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return index


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # they sleep, and need no cores
@pytest.mark.parametrize("asked", [2, 3, 5, 6])
def test_batches_that_were_fetched_ahead_are_not_taken_for_speed(benchmark, asked):
    """Four workers with items of 80 ms yield one in 20 ms, however few steps were asked for."""
    from benchmarking.loop import timed, warm_up, whole
    from benchmarking.photographs import batches_of, endless

    workers, place = 4, SimpleNamespace(synchronise=lambda: None)
    with batches_of(endless(Sleepy(0.08), 1, workers)) as batches:
        took = timed(place, batches, lambda _: None, warm_up(workers), whole(asked, workers))
    assert took == pytest.approx(0.08 / workers, rel=0.2)


def test_workers_end_whatever_happens(benchmark):
    from benchmarking.photographs import batches_of, endless

    with suppress(ZeroDivisionError), batches_of(endless(Sleepy(0.001), 1, 2)) as batches:
        next(batches)
        workers = batches._workers
        raise ZeroDivisionError
    assert not any(worker.is_alive() for worker in workers)


def test_epochs_follow_one_another_without_an_end(benchmark):
    from benchmarking.photographs import Endless

    order = iter(Endless(5))
    first, second = ([next(order) for _ in range(5)] for _ in range(2))
    assert sorted(first) == sorted(second) == [0, 1, 2, 3, 4]


def test_the_fastest_number_of_workers_is_not_judged_by_what_is_cold(benchmark):
    from benchmarking.loop import fastest

    calls = []

    def run(steps, workers):
        calls.append((steps, workers))
        cold, disturbed = len(calls) == 1, len(calls) == 4
        return 9.0 if cold or disturbed else {0: 1.0, 8: 1.5}[workers]

    assert fastest(run, (0, 8)) == (0, 1.0)
    assert calls == [(1, 0), (4, 0), (16, 8), (4, 0), (16, 8)]


def test_one_command_writes_the_table_as_json(benchmark, settings, here, tmp_path, capsys):
    file = tmp_path / "speed.json"
    typed = benchmark.arguments().parse_args(["--section=speed", "--device=cpu", f"--json={file}"])
    assert benchmark.carry_out(typed, settings, {"machine": "tiny", "rows": []}) == 0
    found = json.loads(file.read_text())
    assert found["machine"] == "tiny"
    assert [(row["work"], row["contestant"]) for row in found["rows"]] == [
        ("convnet_small simclr", "limit"),
        ("convnet_small simclr", "runner"),
    ]
    assert all(row.keys() == {"work", "contestant", "images_per_second", "ratio"} for row in found["rows"])
    (rounds,) = found["speed"]["rounds"].values()
    assert {name: len(times) for name, times in rounds.items()} == {"limit": 3, "runner": 3}
    assert found["rows"][1]["images_per_second"] == pytest.approx(16 / sorted(rounds["runner"])[1])
    quotients = sorted(a / b for a, b in zip(rounds["limit"], rounds["runner"], strict=True))
    assert found["rows"][1]["ratio"] == pytest.approx(quotients[1])
    assert [bar["bar"] for bar in found["bars"]] == ["runner/limit, convnet_small simclr"]
    assert "runner to it" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--batch=16"], ["device.threads=1"]])
def test_bars_are_for_the_works_as_they_are(benchmark, words):
    assert benchmark.has_bars(benchmark.arguments().parse_args(["--device=cpu"]))
    assert not benchmark.has_bars(benchmark.arguments().parse_args(["--device=cpu", *words]))


def test_a_contestant_that_fails_costs_a_line_and_no_works(benchmark, settings, here, monkeypatch):
    from dataclasses import replace

    from benchmarking import speed
    from benchmarking.work import Work

    other = Work("convnet_small", "rotation", 8, 400, "cpu", TINY)
    two = replace(settings, works=(*settings.works, other), rounds=1)
    monkeypatch.setattr(here, "fails", {"benchmarking.runner": "run"})
    kept = []
    found = speed.measure(two, lambda _: None, lambda found: kept.append(len(found["rows"])))
    assert [(row["work"], row["contestant"]) for row in found["rows"]] == [(w.name, "limit") for w in two.works]
    assert found["skipped"] == [f"{work.name}, runner: ValueError: of its own" for work in two.works]
    assert kept == [1, 2]  # written after each work
    monkeypatch.setattr(here, "fails", {"benchmarking.limit": "prepare"})
    (row,) = speed.measure(replace(settings, rounds=1), lambda _: None)["rows"]
    assert row["contestant"] == "runner"
    assert row["ratio"] is None


def test_a_section_that_fails_is_told_and_the_next_goes_on(benchmark, settings, here, monkeypatch, tmp_path, capsys):
    file = tmp_path / "all.json"
    monkeypatch.setattr("benchmarking.size.measure", lambda *_: 1 / 0)
    words = ["--section=size", "--section=batch", "--device=cpu", f"--json={file}"]
    assert benchmark.carry_out(benchmark.arguments().parse_args(words), settings, {"machine": "", "rows": []}) == 1
    found = json.loads(file.read_text())
    assert found["failed"] == {"size": "ZeroDivisionError: division by zero"}
    assert [row["batch"] for row in found["batch"]] == [16, 32]
    assert "size failed: ZeroDivisionError" in capsys.readouterr().out


def test_sections_have_keys_of_their_own(benchmark):
    """`rows` are the images a second, whatever else was measured."""
    assert not {"machine", "rows", "bars", "failed"} & set(benchmark.SECTIONS)


FRAGILE = """
import os
class Contestant:
    note, took = "here", None
    def __init__(self, setting, ours): self.setting = setting
    def turn(self, steps): return steps
    def run(self, steps):
        if self.setting == "dies": os._exit(3)
        return 1 / (steps if self.setting == "works" else 0)
    def close(self): pass
"""


def test_what_goes_wrong_in_a_contestant_s_process_is_raised_here(benchmark, monkeypatch, tmp_path):
    from benchmarking.process import Failed, Hired

    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    hired = Hired("fragile")
    assert hired.prepare("raises") == "here"
    with pytest.raises(Failed, match="ZeroDivisionError") as raised:
        hired.run(1)
    assert raised.value.line == "ZeroDivisionError: division by zero"
    hired.prepare("dies")
    for _ in range(2):  # the second time its pipe is broken
        with pytest.raises(Failed, match=r"^fragile ended with exit code 3$"):
            hired.run(1)
    hired.prepare("works")  # in a new process
    assert hired.run(4) == 0.25
    hired.close()


@pytest.mark.parametrize(("steps", "turn", "logs"), [(2, 2, 1), (5, 5, 1), (10, 10, 1), (13, 20, 2)])
def test_each_turn_of_the_runner_bears_its_share_of_logs(benchmark, settings, steps, turn, logs):
    from benchmarking import limit, runner

    contestant = runner.Contestant(settings.works[0])
    assert contestant.turn(steps) == turn
    assert limit.logged(steps) == turn
    metrics = contestant.trainer.folder / "metrics.jsonl"
    for round_ in range(2):
        before = contestant.reached
        assert contestant.run(turn) > 0
        assert contestant.reached == before + runner.WARM_UP + turn
        counted = range(before + runner.WARM_UP + 1, contestant.reached + 1)
        logged = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
        assert len([step for step in logged if step in counted]) == logs, round_
    contestant.close()


def test_the_runner_goes_on_where_it_was(benchmark, settings):
    from benchmarking.runner import Contestant

    contestant = Contestant(settings.works[0])
    contestant.go_on(5)
    times = contestant.go_on(3)
    assert contestant.reached == 8
    assert len(times) == 4
    assert times == sorted(times)
    contestant.close()


@pytest.mark.parametrize("pretext", ["simclr", "rotation"])
def test_the_limit_does_the_runner_s_work(benchmark, settings, tmp_path, pretext):
    """From the same seed, on the same views and at the same rate, a step gives the same weights, bit for bit."""
    from benchmarking.limit import Contestant
    from benchmarking.work import Work

    work, step = Work("convnet_small", pretext, 16, 400, "cpu", TINY), 10
    limit, learner = Contestant(work), work.trainer(tmp_path).learner
    before = [p.clone() for p in learner.pretext.parameters()]
    views = learner.views(learner.loader.batches(step)[0], step, learner.main)
    for group in limit.optimizer.param_groups:
        group["lr"] = learner.settings(step).lr
    limit.learn(views)
    learner.step(step)
    after, ours = list(learner.pretext.parameters()), list(limit.learner.pretext.parameters())
    assert all(torch.equal(a, b) for a, b in zip(after, ours, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    limit.close()


@pytest.mark.parametrize(
    ("peer", "pretext", "ours", "workers"),
    [
        *(("peer_lightly", pretext, False, 0) for pretext in ("simclr", "byol", "rotation", "mae")),
        *(("peer_solo_learn", pretext, False, 0) for pretext in ("byol", "rotation")),
        *(("peer_kornia", pretext, False, 0) for pretext in ("simclr", "byol", "mae")),
        *((peer, "simclr", True, 0) for peer in PEERS),
        ("peer_lightly", "rotation", True, 2),
        ("peer_solo_learn", "simclr", False, 2),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_peer_learns(benchmark, monkeypatch, peer, pretext, ours, workers):
    pytest.importorskip(PEERS[peer])
    from benchmarking.place import Place
    from benchmarking.work import Work

    compiled = []
    monkeypatch.setattr(Place, "workers", (workers,))
    monkeypatch.setattr(
        "ssl_runner.device.placement.Placement.compiled", lambda self, module: compiled.append(module) or module
    )
    model, overrides = ("vit_tiny", VIT) if pretext == "mae" else ("convnet_small", TINY)
    # 20 images: a turn is longer than an epoch
    contestant = importlib.import_module(f"benchmarking.{peer}").Contestant(
        Work(model, pretext, 8, 20, "cpu", overrides), ours
    )
    assert contestant.turn(3) == (4 if workers else 3)
    module = getattr(contestant, "model", None) or getattr(contestant, "pretext", None) or contestant.module
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert contestant.run(4) > 0
    still = [name for name, p in module.named_parameters() if p.requires_grad and torch.equal(before[name], p)]
    assert not still
    if pretext == "byol":  # the target has followed
        target = [name for name, p in module.named_parameters() if not p.requires_grad]
        assert any(not torch.equal(before[name], module.get_parameter(name)) for name in target)
    assert bool(compiled) == ours  # torch.compile is part of what the runner gives itself
    contestant.close()


@pytest.mark.parametrize("words", [(), ("optimizer=sgd", "optimizer.scale_lr=true"), ("optimizer=adam",)])
def test_a_peer_has_the_job_s_optimizer(benchmark, words):
    from benchmarking.place import Place
    from benchmarking.work import Work

    job = Work("convnet_small", "simclr", 16, 400, "cpu", (*TINY, *words)).job()
    recipe, model = job.optimizer.build(batch_size=16), torch.nn.Linear(2, 2)
    theirs = Place(job.device.build(), ours=False).optimizer(recipe, model)
    ours = Place(job.device.build(), ours=True).optimizer(recipe, model)
    assert type(theirs) is type(ours)
    assert len(theirs.param_groups) == 1
    (group,) = theirs.param_groups
    left_to_torch = {"params", "fused", "foreach"}
    assert {k: v for k, v in group.items() if k not in left_to_torch} == {
        k: v for k, v in ours.param_groups[0].items() if k not in left_to_torch
    }
    assert group["lr"] == recipe.peak
    assert not group["fused"]
    assert bool(ours.param_groups[0]["fused"]) == ("optimizer=sgd" not in words)


def test_rotation_turns_a_batch_as_the_runner_does(benchmark, rng):
    from benchmarking.handed import views_of
    from benchmarking.place import Place
    from benchmarking.work import Work

    work = Work("convnet_small", "rotation", 8, 100, "cpu", (*TINY, "augment@pretext.augment=none"))
    from ssl_runner.contract import Batch, Context

    task, x = work.task(), torch.rand(3, 3, 32, 32, generator=rng)
    images, turns = views_of(task, [x], Place(work.job().device.build(), ours=False))
    theirs = {(i % 3, int(turn)): image for i, (image, turn) in enumerate(zip(images, turns, strict=True))}
    context = Context(0, Length(1, 1, 3), rng, lambda: iter(()))
    for i, (image, turn) in enumerate(zip(*task.views(Batch(x, torch.arange(3)), context), strict=True)):
        assert torch.equal(theirs[i // 4, int(turn)], image)


@pytest.mark.filterwarnings("ignore")
def test_lightly_learns_from_the_same_losses(rng):
    loss = pytest.importorskip("lightly.loss")
    z0, z1 = (torch.randn(12, 8, generator=rng) for _ in range(2))
    value, _ = nt_xent(torch.cat([z0, z1]), 0.5)
    torch.testing.assert_close(loss.NTXentLoss(temperature=0.5)(z0, z1), value)
    # lightly's has neither the factor of two nor the constant
    torch.testing.assert_close(2 + 2 * loss.NegativeCosineSimilarity()(z0, z1), distance(z0, z1))


# numbers unlike any default, so that none can be right by accident
ODD = {"scale": (0.3, 1.0), "flip": 0.45, "jitter": 0.7, "brightness": 0.35, "contrast": 0.25, "saturation": 0.15}
ODD |= {"hue": 0.05, "grey": 0.3}
SAID = ("size=(32, 32)", "scale=(0.3, 1.0)", "0.75, 1.33", "RandomHorizontalFlip(p=0.45", "RandomGrayscale(p=0.3")
JITTER = "brightness=(0.65, 1.35), contrast=(0.75, 1.25), saturation=(0.85, 1.15), hue=(-0.05, 0.05)"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("who", ["lightly simclr", "lightly byol", "torchvision_pil", "torchvision_tensor"])
def test_peers_crop_flip_and_colour_by_the_runner_s_parameters(benchmark, who):
    pytest.importorskip("lightly" if "lightly" in who else "torchvision")
    from ssl_runner.augment.image.views import Views

    views = Views(**ODD)
    prime = Views(**{**ODD, "solarise": 0.2, "grey": 0.4})
    if "lightly" in who:
        from benchmarking.peer_lightly import transform

        made = transform(SimpleNamespace(augment=views, augment_prime=prime), who.split()[1])
        composed = [each.transform for each in made.transforms]
        assert len(composed) == 2
        assert "Normalize" not in repr(composed)
        if "byol" in who:
            assert "RandomGrayscale(p=0.4" in repr(composed.pop())
    else:
        composed = [getattr(importlib.import_module("benchmarking.augmenters"), who)(views)]
    for each in composed:
        assert all(said in repr(each) for said in (*SAID, JITTER)), repr(each)
        (jitter,) = [t for t in each.transforms if "ColorJitter" in repr(t)]
        assert jitter.p == 0.7
        solarise = [t.prob for t in each.transforms if "Solar" in type(t).__name__]
        blur = [t.prob for t in each.transforms if "Blur" in type(t).__name__]
        assert set(solarise + blur) <= {0.0}


@pytest.mark.filterwarnings("ignore")
def test_kornia_crops_flips_and_colours_by_the_runner_s_parameters(benchmark):
    pytest.importorskip("kornia")
    from benchmarking.augmenters import kornia_batched

    from ssl_runner.augment.image.views import Views

    told = repr(kornia_batched(Views(**ODD), torch.device("cpu")))
    assert all(said in told for said in SAID)
    assert "brightness=0.35, contrast=0.25, saturation=0.15, hue=0.05, p=0.7" in told
    assert "same_on_batch=True" not in told  # each image by its own draw
    crop, flip = kornia_batched(Views(jitter=0.0, grey=0.0, scale=(1.0, 1.0), ratio=(1.0, 1.0)), torch.device("cpu"))
    x = torch.rand(200, 3, 32, 32)
    flipped = (flip(x) != x).flatten(1).any(1).float().mean()
    assert 0.3 < flipped < 0.7
    torch.testing.assert_close(crop(x), x, atol=1e-4, rtol=0)


def test_a_peer_that_is_not_installed_costs_a_line(benchmark, monkeypatch):
    from benchmarking.choices import present

    monkeypatch.setitem(sys.modules, "lightly", None)
    can, skipped = present(["limit", "peer-lightly", "peer-lightly+ours"])
    assert can == ["limit"]
    assert skipped == [
        f"{name}: skipped, lightly is not installed; pip install 'ssl-runner[bench]'"
        for name in ("peer-lightly", "peer-lightly+ours")
    ]


def test_bars_say_what_is_met(benchmark):
    from benchmarking.bars import bars

    work = "convnet_small simclr"
    rounds = {"limit": [1.0, 1.0, 1.0], "runner": [1.1, 1.1, 1.1], "peer-lightly": [1.1, 2.2, 3.3]}
    rows = [{"work": work, "contestant": "runner", "images_per_second": 1.0, "ratio": 1 / 1.1}]
    rows.append({"work": "convnet byol", "contestant": "runner", "images_per_second": 1.0, "ratio": None})
    speed = {"rows": rows, "rounds": {work: rounds}, "notes": {work: {"batch": 256}}}
    found = bars({"speed": speed, "startup": [{"command": "--help", "seconds": 0.4}], "memory": {"growth": 1.2}})
    assert {bar["bar"]: bar["met"] for bar in found} == {
        "runner/limit, convnet_small simclr": False,
        "runner/lightly, convnet_small simclr, batch 256": True,
        "--help": True,
        "memory after 500 steps to after 200": False,
    }
    assert found[1]["measured"] == pytest.approx(2)
    assert [bar["met"] for bar in bars({"memory": {"growth": 1.05}})] == [True]


def test_start_up_is_timed_to_the_end_of_the_command(benchmark):
    from benchmarking.startup import ended, started, to_end

    wall, cpu = to_end(["--help"])
    assert 0.05 < cpu < 60  # it starts an interpreter
    assert wall > 0.05
    idle = started([sys.executable, "-c", "import time; time.sleep(0.5)"], ".")
    assert ended(idle) < 0.5  # processor time, and not the clock's
    assert idle.returncode == 0


@pytest.mark.parametrize(
    ("words", "said", "torch_is_there"),
    [
        (["--contestants=limit,peer-lightning"], "possible are limit, runner, peer-lightly", False),
        (["--work=resnet18"], "possible are convnet_small simclr", False),
        (["--rounds=0"], "--rounds: given 0", False),
        (["--seconds=0"], "--seconds: given 0", False),
        (["--json=nowhere/there.json"], "--json: there is no folder nowhere", False),
        (["--batch=60000"], "possible are 1 to 50000", True),
        (["--section=batch", "optimizer.rate=1"], "optimizer.rate", True),
        (["--section=memory", "device.precision=fp16"], "type bf16 or float32", True),
        (["--work=convnet simclr", "--work=resnet18 simclr", "model.widths=[8,8]"], "resnet18 simclr: model", True),
        (["--work=resnet18 simclr", "model.stem=small"], "convnet_small simclr: model", True),  # of the other sections
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(benchmark, monkeypatch, capsys, words, said, torch_is_there):
    if not torch_is_there:
        monkeypatch.setitem(sys.modules, "benchmarking.settings", None)  # which is what imports it
    assert benchmark.main([*words, "--device=cpu"]) == 2
    assert said in capsys.readouterr().err


def test_only_what_is_asked_for_is_checked(benchmark, settings):
    from dataclasses import replace

    own = replace(settings, overrides=("model.widths=[8,8]",), works=())
    own = replace(own, works=(own.work("resnet18", "simclr", 16),))
    assert list(own.check(["startup", "batch"])) == []
    assert any("model.widths" in line for line in own.check(["speed"]))


def test_augmentation_is_measured_for_all_who_augment(benchmark, settings, here, monkeypatch):
    from dataclasses import replace

    from benchmarking import augmentation

    monkeypatch.setattr(augmentation, "BATCH", 8)
    monkeypatch.setattr(augmentation, "ROWS", 40)  # fewer than a turn takes
    monkeypatch.setattr(augmentation, "cores", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    found = augmentation.measure(replace(settings, quick=False, seconds=0.02), lambda _: None)
    names = [name for name in augmentation.NAMES if name != "kornia" or augmentation.installed("kornia")]
    assert [(row["contestant"], row["threads"]) for row in found["rows"]] == [(n, t) for t in (1, 2) for n in names]
    assert all(row["fused_to_it"] == 1 for row in found["rows"] if row["contestant"] == "fused")
    assert all(row["images_per_second"] > 0 for row in found["rows"])
    assert sum(table.row_count for table in augmentation.tables(found)) == len(found["rows"])


def test_batch_sizes_are_compared(benchmark, settings, here):
    from benchmarking import batch

    found = batch.measure(settings, lambda _: None)
    assert [row["batch"] for row in found] == [16, 32]
    for row in found:
        assert row["images_per_second"] == pytest.approx(row["batch"] * row["steps_per_second"])


def test_sections_measure(benchmark, settings):
    """In this process, where they would take one of their own."""
    from benchmarking import evaluation, memory, size

    evaluated = evaluation.evaluate(settings)
    assert [row["what"] for row in evaluated] == ["kNN", "probe", "encoding 400 images"]
    assert all(row["seconds"] > 0 for row in evaluated)
    assert torch.get_num_threads() == 1  # the job's
    held = size.train(settings, 100)
    assert held["rows"] == 100
    assert held["steps_per_second"] > 0
    remembered = memory.hold(settings)
    assert remembered["steps"] == [4, 12]
    assert remembered["growth"] == remembered["resident_mb"][1] / remembered["resident_mb"][0]
    assert 0 <= remembered["data_wait_share"] < 1
    assert remembered["peak_mb"] >= max(remembered["resident_mb"]) * 0.9
    for section, found in ((evaluation, evaluated), (size, [held]), (memory, remembered)):
        assert all(table.row_count for table in section.tables(found))


SMALL = ["--device=cpu", "--model=convnet_small", "--batch=16", "--precision=float32", "--compile=false"]


def test_accelerator_goes_through_its_stages_on_a_cpu(accelerator, monkeypatch, tmp_path, capsys):
    """As its docstring says for a try; a second command adds its stages to the first's."""
    monkeypatch.setattr(accelerator, "PEERS", ("limit", "runner"))
    monkeypatch.setattr(accelerator, "LOOKED_AT", 2)
    out = ["--out", str(tmp_path), *SMALL]
    assert accelerator.main([*out, "--stage=speed", "--stage=waits", "--seconds=0.01", "--rounds=1"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["contestant"] for row in report["speed"]["rows"]] == ["limit", "runner"]
    assert [(each["ratio"], each["aim"]) for each in report["speed"]["ratios"]] == [("runner/limit", 0.9)]
    assert report["speed"]["ratios"][0]["met"] == (report["speed"]["ratios"][0]["measured"] >= 0.9)
    assert "runner to it" in (tmp_path / "speed.txt").read_text()
    assert report["waits"]["milliseconds a step"] > 0

    def in_this_process(command, typed, name):
        assert command[1:3] == ["-m", "ssl_runner"]
        assert train(command[3:]) == 0

    monkeypatch.setattr(accelerator, "carry_out", in_this_process)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    shapes = ["dataset=shapes", "dataset.images=64", "dataset.test=16", "model.widths=[8,8,8]"]
    (tmp_path / "simclr-2st").mkdir()  # taken
    assert accelerator.main([*out, "--stage=quality", "--length=2st", *shapes]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() == {"machine", "speed", "waits", "quality"}
    quality = report["quality"]["2st"]
    assert quality["run"] == str(tmp_path / "simclr-2st-2")
    assert quality["status"] == "completed"
    assert quality["by epoch"]["knn/top1"].keys() == {"0", "0.3333", "0.6667"}


def test_accelerator_loses_nothing_when_a_stage_fails(accelerator, monkeypatch, tmp_path):
    def breaks(typed):
        yield {"half": 1}
        raise KeyError("rounds")

    monkeypatch.setitem(accelerator.STAGES, "speed", breaks)
    monkeypatch.setitem(accelerator.STAGES, "waits", lambda typed: iter([{"host waits": "no"}]))
    assert accelerator.main(["--out", str(tmp_path), *SMALL, "--stage=speed", "--stage=waits"]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["speed"] == {"half": 1, "failed": "KeyError: 'rounds'"}
    assert report["waits"] == {"host waits": "no"}
    assert "in breaks" in (tmp_path / "speed-failed.txt").read_text()


def test_what_takes_too_long_is_ended(accelerator, tmp_path):
    code = "import sys, time; print('begun', flush=True); time.sleep(60)"
    typed = SimpleNamespace(out=tmp_path, minutes=0.01, deadline=time.monotonic() + 1)
    with pytest.raises(accelerator.Late, match=r"after 0.01 minutes; type a larger --minutes"):
        accelerator.carry_out([sys.executable, "-c", code], typed, "run")
    assert (tmp_path / "run.txt").read_text() == "begun\n"
    with pytest.raises(accelerator.Late, match="not begun"):
        accelerator.carry_out([sys.executable, "-c", code], typed, "run")


def test_a_run_for_quality_that_is_late_reports_what_there_is(accelerator, monkeypatch, tmp_path):
    rows = [{"step": 0, "epoch": 0.0, "time": 1.0, "knn/top1": 0.4}, {"step": 5, "epoch": 0.5, "time": 2.0}]
    rows.append({"step": 10, "epoch": 1.0, "time": 3.0, "knn/top1": 0.6})

    def takes_too_long(command, typed, name):
        (typed.out / name).mkdir()
        (typed.out / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        raise accelerator.Late("after 30 minutes")

    monkeypatch.setattr(accelerator, "carry_out", takes_too_long)
    words = ["--out", str(tmp_path), *SMALL, "--stage=quality", "--length=2ep", "--length=4ep", "dataset=shapes"]
    assert accelerator.main(words) == 1
    found = json.loads((tmp_path / "report.json").read_text())["quality"]
    curves = {"knn/top1": {"0": 0.4, "1": 0.6}, "probe/top1": {}}
    run = {"run": str(tmp_path / "simclr-2ep"), "by epoch": curves, "ended": "after 30 minutes"}
    assert found == {"2ep": run, "failed": "Late: after 30 minutes"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stage=quality", "optimizer.rate=1"], "optimizer.rate"),
        (["--stage=quality", "--length=2"], "length"),
        (["--stage=speed", "dataset=shapes"], "type --stage quality"),
        (["--rounds=0"], "above 0"),
        (["--model=resnet"], "resnet18"),
        *([(["--device=cuda"], "this machine has no cuda device")] if not torch.cuda.is_available() else []),
    ],
)
def test_accelerator_refuses_in_a_line(accelerator, tmp_path, capsys, words, said):
    assert accelerator.main(["--out", str(tmp_path / "out"), *SMALL[1:], "--device=cpu", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_device_time_is_counted_once(accelerator):
    from torch.autograd import DeviceType

    event = functools.partial(SimpleNamespace, is_user_annotation=False)
    events = [
        event(device_type=DeviceType.CUDA, self_device_time_total=3e6),  # a kernel
        event(device_type=DeviceType.CPU, self_device_time_total=3e6),  # the operation that called it
        event(device_type=DeviceType.CUDA, self_device_time_total=5e6, is_user_annotation=True),  # a range by name
        event(device_type=DeviceType.CUDA, self_device_time_total=1e6),
    ]
    assert accelerator.device_seconds(events) == 4


def test_only_what_waits_is_a_wait(accelerator, monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    device = torch.device("cuda")

    def raises(said):
        def run():
            raise RuntimeError(said)

        return run

    assert accelerator.where_it_waits(lambda: None, device) == "no"
    assert accelerator.where_it_waits(raises("called a synchronizing CUDA operation"), device).startswith("yes")
    with pytest.raises(RuntimeError, match="out of memory"):
        accelerator.where_it_waits(raises("out of memory"), device)
    assert modes == ["error", "default"] * 3
