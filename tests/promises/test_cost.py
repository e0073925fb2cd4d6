"""What a step costs, counted and not timed: waits for the device, operations, bytes, calls.

Counts are the same on an idle and on a busy machine. What only time tells is a ratio of CPU seconds of one process.
"""

import importlib
import inspect
import json
import os
import time
import timeit
from collections import Counter
from operator import methodcaller
from pathlib import Path

import pytest
import torch
from conftest import CHOICES
from ledger import CPU_ALONE, Ledger, Requests, calls
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from ssl_runner.augment.image.views import Views
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.logbook import Window
from ssl_runner.pretext.simclr import SimCLR

COSTS = Path(__file__).parents[1] / "golden" / "costs"
UPDATE, HOW = "UPDATE_GOLDEN", "UPDATE_GOLDEN=1 pytest tests/promises/test_cost.py"
UNLESS = "a line that is reached on a CPU only, by its device's type, may be named in CPU_ALONE of ledger.py"
SLACK, ELSEWHERE = 1.05, 1.5  # how many times more a count may become; with another torch, whose operations are others
SPARE = {"step": 3, "views": 3, "calls": 3, "bytes of views": 1024, "bytes of step": 1024}  # how much more than that
CASES = {
    **CHOICES,
    "clip": ("pretext=simclr", "optimizer.clip=1"),
    "accumulate": (*CHOICES["pretext-bigan"], "accumulate=2"),
    "bf16": ("pretext=simclr", "device.precision=bf16"),
}
every_case = pytest.mark.parametrize("case", CASES)


def counters(learner):
    """Ids of the steps that optimizers count, which torch and timm leave on the CPU wherever the weights are."""
    optimizers = [each.optimizer for each in learner.optimizers.values()]
    states = [state for each in optimizers for state in [*each.state.values(), *each.param_groups]]
    return frozenset(id(s["step"]) for s in states if isinstance(s.get("step"), Tensor))


def cost(trainer):
    """Of a step in the midst of an epoch that logs nothing, and of what it makes its views with."""
    learner, window = trainer.learner, Window()
    for step in range(2):
        window.add(learner.step(step))
    with Ledger(counters(learner)) as whole, Requests(whole):
        window.add(learner.step(2))
    batch = learner.loader.batches(3)[0]
    with Ledger() as views:
        learner.views(batch, 3, learner.main)
    return {
        "torch": torch.__version__,
        "waits": dict(whole.waits),
        "step": dict(sorted(whole.operations.items())),
        "views": dict(sorted(views.operations.items())),
        "bytes of views": views.bytes,
        "bytes of step": whole.bytes,
        "calls": calls(lambda: window.add(learner.step(3))),
    }


def growth(golden, now):
    """What costs more than it did and than it may, a line each."""
    slack, lines = SLACK if golden["torch"] == now["torch"] else ELSEWHERE, []
    for what, spare in SPARE.items():
        was, counts = (Counter(c[what] if isinstance(c[what], dict) else {"": c[what]}) for c in (golden, now))
        if counts.total() > was.total() * slack + spare:
            more = (counts - was).most_common(8)
            most = ", ".join(f"{name} {was[name]} -> {counts[name]}" for name, _ in more if name)
            lines.append(f"{what}: {was.total():,} became {counts.total():,} ({most})")
    return lines


@every_case
def test_a_step_waits_for_nothing_and_costs_what_it_did(case, make):
    now = cost(make("evaluator=none", *CASES[case]))
    if waits := now.pop("waits"):
        places = "\n".join(f"{place}, {n} times" for place, n in waits.items())
        pytest.fail(f"{case}: a step that logs nothing waits for the device\n{places}\n{UNLESS}", pytrace=False)
    path = COSTS / f"{case}.json"
    if os.environ.get(UPDATE):
        path.write_text(json.dumps(now, indent=1) + "\n")
    if not path.exists():
        pytest.fail(f"{case} has no golden cost yet; type {HOW}", pytrace=False)
    if more := "\n".join(growth(json.loads(path.read_text()), now)):
        pytest.fail(
            f"{case} costs more; if that is meant, say so in CHANGELOG.md and type {HOW}\n{more}", pytrace=False
        )


def test_no_cost_outlives_its_case():
    assert {file.stem for file in COSTS.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("place", CPU_ALONE)
def test_nothing_is_excused_that_is_gone_or_asks_for_the_device(place):
    file, name, _ = place.split(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    code = inspect.unwrap(getattr(module, name)).__code__
    assert code.co_name == name
    assert "device" not in code.co_names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the driver's own word needs a GPU")
@every_case
def test_the_driver_sees_no_wait_either(case, make):
    learner = make("evaluator=none", *CASES[case], "device=cuda").learner
    for step in range(2):
        learner.step(step)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.step(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


READS = {  # what would wait for the value of a loss, and what the ledger calls it
    "item": (lambda x: x.item(), "aten::_local_scalar_dense at"),
    "float": (float, "aten::_local_scalar_dense at"),
    **{each: (methodcaller(each), f"torch's {each} at") for each in ("tolist", "cpu", "numpy", "__array__")},
    "to": (lambda x: x.to("cpu"), "torch's to at"),
    "to-device": (lambda x: x.to(device="cpu"), "torch's to at"),
    "tensor": (lambda x: torch.tensor([1.0], device=x.device), "torch's tensor at"),
    "new_tensor": (lambda x: x.new_tensor([1.0]), "torch's new_tensor at"),
    "sent": (lambda x: torch.tensor([1.0]).to(x.device), "torch's to at"),
    "listed": (lambda x: x.expand(2)[[0, 1]], "torch's __getitem__ at"),
}


def reading(act):
    def change(loss, again):
        act(loss.value.detach())
        return loss

    return change


CHANGES = {  # a method, what takes the place of its result, and what is said of it; `again` calls it once more
    "masked": (SimCLR, "views", lambda views, again: tuple(v[v.mean((1, 2, 3)) >= 0] for v in views), "aten::index at"),
    "doubled": (Views, "__call__", lambda view, again: again(), "views: "),
    "copied": (Views, "__call__", lambda view, again: view.clone(), "bytes of views: "),
    "counted": (Learner, "settings", lambda settings, again: max(again() for _ in range(20)), "calls: "),
    **{name: (SimCLR, "forward", reading(act), words) for name, (act, words) in READS.items()},
}


@pytest.mark.parametrize(("owner", "name", "change", "words"), CHANGES.values(), ids=CHANGES)
def test_what_is_planted_is_told(owner, name, change, words, make, monkeypatch):
    before, method = cost(make("evaluator=none", "pretext=simclr")), getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given: change(method(*given), lambda: method(*given)))
    after = cost(make("evaluator=none", "pretext=simclr"))
    assert not before["waits"]
    lines = [*after["waits"], *growth(before, after)]
    assert any(each.startswith(words) for each in lines), lines


def test_views_of_a_batch_are_many_times_faster_than_a_sample_at_a_time(rng):
    """SimCLR's views of 32 px. Twenty times and more is what is aimed at, measured by scripts/benchmark.py."""
    images, augment = torch.rand(256, 3, 32, 32, generator=rng), Views(scale=(0.2, 1.0), blur=0.0)
    pictures = [to_pil_image(image) for image in images[:64]]
    jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
    crop, flip = transforms.RandomResizedCrop(32, scale=(0.2, 1.0)), transforms.RandomHorizontalFlip()
    peer = transforms.Compose([crop, flip, jitter, transforms.RandomGrayscale(0.2), transforms.ToTensor()])
    ways = (lambda: torch.stack([peer(each) for each in pictures]), lambda: augment(images, rng))
    slow, fast = (min(timeit.repeat(way, timer=time.thread_time, number=1, repeat=5)) for way in ways)
    assert slow / len(pictures) >= 8 * fast / len(images)
