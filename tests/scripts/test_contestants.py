"""Contestants of the benchmark do the same work: the runner, the bare loop that is its limit, and its peers."""

import importlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from benchmark_toys import TINY, WORK
from benchmarking import limit, runner
from benchmarking.handed import views_of
from benchmarking.place import Place
from benchmarking.work import Work

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context
from ssl_runner.device.placement import Placement
from ssl_runner.duration import Length
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.loss.info_nce import nt_xent
from ssl_runner.pretext.byol import distance

VIT = ("device.threads=1", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")
PEERS = {"peer_lightly": "lightly", "peer_solo_learn": "lightning", "peer_kornia": "kornia"}


@pytest.mark.parametrize(("steps", "turn", "logs"), [(2, 2, 1), (5, 5, 1), (10, 10, 1), (13, 20, 2)])
def test_each_turn_of_the_runner_goes_on_and_bears_its_share_of_logs(steps, turn, logs):
    contestant = runner.Contestant(WORK)
    assert contestant.turn(steps) == limit.logged(steps) == turn
    for before in (0, runner.WARM_UP + turn):
        assert contestant.run(turn) > 0
        assert contestant.reached == before + runner.WARM_UP + turn
        rows = (contestant.trainer.folder / "metrics.jsonl").read_text().splitlines()
        assert sum(json.loads(row)["step"] > before + runner.WARM_UP for row in rows) == logs, before
    times = contestant.go_on(3)
    assert contestant.reached == 2 * (runner.WARM_UP + turn) + 3
    assert (len(times), times) == (4, sorted(times))
    contestant.close()


@pytest.mark.parametrize("pretext", ["simclr", "rotation"])
def test_the_limit_does_the_runner_s_work(tmp_path, pretext):
    """From the same seed, on the same views and at the same rate, a step gives the same weights, bit for bit."""
    work, step = replace(WORK, pretext=pretext), 10
    ideal, learner = limit.Contestant(work), work.trainer(tmp_path).learner
    before = [p.clone() for p in learner.pretext.parameters()]
    batch = learner.loader.batches(step)[0]
    views = learner.views(batch, step, learner.main)
    for group in ideal.optimizer.param_groups:
        group["lr"] = learner.settings(step).lr
    ideal.learn((views, learner.main, len(batch.index)))
    learner.step(step)
    for old, new, ours in zip(before, learner.pretext.parameters(), ideal.learner.pretext.parameters(), strict=True):
        assert torch.equal(new, ours)
        assert not torch.equal(old, new)
    ideal.close()


TASKS = dict(zip(PEERS, ("simclr byol rotation mae", "byol rotation", "simclr byol mae"), strict=True))
CASES = [(peer, pretext, False, 0) for peer, tasks in TASKS.items() for pretext in tasks.split()]
CASES += [(peer, "simclr", True, 0) for peer in PEERS]
CASES += [("peer_lightly", "rotation", True, 2), ("peer_solo_learn", "simclr", False, 2)]


@pytest.mark.parametrize(("peer", "pretext", "ours", "workers"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_a_peer_learns(monkeypatch, peer, pretext, ours, workers):
    pytest.importorskip(PEERS[peer])
    compiled = []
    monkeypatch.setattr(Place, "workers", (workers,))
    monkeypatch.setattr(Placement, "compiled", lambda self, module: compiled.append(module) or module)
    model, overrides = ("vit_tiny", VIT) if pretext == "mae" else ("convnet_small", TINY)
    work = Work(model, pretext, 8, 20, "cpu", overrides)  # 20 images: a turn is longer than an epoch
    contestant = importlib.import_module(f"benchmarking.{peer}").Contestant(work, ours)
    assert contestant.turn(3) == (4 if workers else 3)
    module = getattr(contestant, "model", None) or getattr(contestant, "pretext", None) or contestant.module
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert contestant.run(4) > 0
    moved = [(p.requires_grad, not torch.equal(before[name], p)) for name, p in module.named_parameters()]
    assert (True, False) not in moved
    assert (False, True) in moved or pretext != "byol"  # the target has followed
    assert bool(compiled) == ours  # torch.compile is part of what the runner gives itself
    contestant.close()


@pytest.mark.parametrize("words", [(), ("optimizer=sgd", "optimizer.scale_lr=true"), ("optimizer=adam",)])
def test_a_peer_has_the_job_s_optimizer(words):
    job = replace(WORK, overrides=(*TINY, *words)).job()
    recipe, model = job.optimizer.build(batch_size=16), torch.nn.Linear(2, 2)
    theirs, ours = (Place(job.device.build(), ours=each).optimizer(recipe, model) for each in (False, True))
    assert type(theirs) is type(ours)
    (group,), own = theirs.param_groups, ours.param_groups[0]
    assert all(group[name] == own[name] for name in {*group, *own} - {"params", "fused", "foreach"})
    expected = (recipe.peak, False, "optimizer=sgd" not in words)
    assert (group["lr"], bool(group["fused"]), bool(own["fused"])) == expected


def test_rotation_turns_a_batch_as_the_runner_does(rng):
    work = replace(WORK, pretext="rotation", overrides=(*TINY, "augment@pretext.augment=none"))
    task, x = work.task(), torch.rand(3, 3, 32, 32, generator=rng)
    images, turns = views_of(task, [x], Place(work.job().device.build(), ours=False))
    theirs = {(i % 3, int(turn)): image for i, (image, turn) in enumerate(zip(images, turns, strict=True))}
    context = Context(0, Length(1, 1, 3), CounterRng(0, x.device), lambda: iter(()))
    for i, (image, turn) in enumerate(zip(*task.views(Batch(x, torch.arange(3)), context), strict=True)):
        assert torch.equal(theirs[i % 3, int(turn)], image)


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
def test_peers_crop_flip_and_colour_by_the_runner_s_parameters(who):
    pytest.importorskip("lightly" if "lightly" in who else "torchvision")
    views, prime = Views(**ODD), Views(**ODD | {"solarise": 0.2, "grey": 0.4})
    if "lightly" in who:
        from benchmarking.peer_lightly import transform  # which imports lightly

        task = SimpleNamespace(augment=views, augment_prime=prime)
        composed = [each.transform for each in transform(task, who.split()[1]).transforms]
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
        never = [t.prob for t in each.transforms if "Solar" in type(t).__name__ or "Blur" in type(t).__name__]
        assert set(never) <= {0.0}


@pytest.mark.filterwarnings("ignore")
def test_kornia_crops_flips_and_colours_by_the_runner_s_parameters():
    pytest.importorskip("kornia")
    from benchmarking.augmenters import kornia_batched

    printed = repr(kornia_batched(Views(**ODD), torch.device("cpu")))
    jitter = "brightness=0.35, contrast=0.25, saturation=0.15, hue=0.05, p=0.7"
    assert all(said in printed for said in (*SAID, jitter))
    assert "same_on_batch=True" not in printed  # each image by its own draw
    crop, flip = kornia_batched(Views(jitter=0.0, grey=0.0, scale=(1.0, 1.0), ratio=(1.0, 1.0)), torch.device("cpu"))
    x = torch.rand(200, 3, 32, 32)
    flipped = (flip(x) != x).flatten(1).any(1).float().mean()
    assert 0.3 < flipped < 0.7
    torch.testing.assert_close(crop(x), x, atol=1e-4, rtol=0)
