"""What a step costs, counted and not timed: waits for the device, operations, bytes, calls.

Counts are the same on an idle and on a busy machine. What only time tells is a ratio of CPU seconds of one process,
taken in turns.
"""

import importlib
import inspect
import json
import os
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import LESS
from ledger import CPU_ALONE, Ledger, calls
from step_cases import CHOICES
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from ssl_runner.augment.image.views import Views
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.logbook import Window
from ssl_runner.pretext.simclr import SimCLR

COSTS = Path(__file__).parents[1] / "golden" / "costs"
UPDATE = "UPDATE_GOLDEN"
HOW = f"if that is meant, say so in CHANGELOG.md and type {UPDATE}=1 pytest tests/promises/test_cost.py"
UNLESS = "a line that is reached on a CPU only, by its device's type, may be named in CPU_ALONE of ledger.py"
SLACK, SPARE = 1.05, 3  # a count may grow by a twentieth and three; of another torch's operations, by a half
ELSEWHERE = 1.5

CASES = {
    **CHOICES,
    "clip": ("pretext=simclr", "optimizer.clip=1"),
    "accumulate": ("pretext=bigan", *LESS["bigan"], "accumulate=2"),
    "bf16": ("pretext=simclr", "device.precision=bf16"),
}


def steps_of(learner):
    """The counters of optimizers, which torch and timm leave on the CPU wherever the weights are."""
    optimizers = [each.optimizer for each in learner.optimizers.values()]
    states = [state for each in optimizers for state in [*each.state.values(), *each.param_groups]]
    return frozenset(id(s["step"]) for s in states if isinstance(s.get("step"), Tensor))


def cost(trainer):
    """Of a step in the midst of an epoch that logs nothing, and of what it makes its views with."""
    learner, window = trainer.learner, Window()
    for step in range(2):
        window.add(learner.step(step))
    with Ledger(steps_of(learner)) as whole:
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


def grown(golden, now):
    """In words, what costs more than it did and than it may."""
    slack, found = SLACK if golden["torch"] == now["torch"] else ELSEWHERE, []
    for what in ("step", "views", "calls"):
        was, counts = golden[what], now[what]
        before, after = sum(was.values()), sum(counts.values())
        if after > before * slack + SPARE:
            more = Counter(counts)
            more.subtract(was)
            most = ", ".join(f"{k} {was.get(k, 0)} -> {counts[k]}" for k, n in more.most_common(8) if n > 0)
            found.append(f"{what}: {before} became {after} ({most})")
    found += [
        f"{what}: {golden[what]:,} became {now[what]:,}"
        for what in ("bytes of views", "bytes of step")
        if now[what] > golden[what] * slack + 1024
    ]
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_nothing_and_costs_what_it_did(case, make):
    now = cost(make("evaluator=none", *CASES[case]))
    waited = now.pop("waits")
    if waited:
        places = "\n".join(f"{place}, {n} times" for place, n in waited.items())
        pytest.fail(f"{case}: a step that logs nothing waits for the device\n{places}\n{UNLESS}", pytrace=False)
    path = COSTS / f"{case}.json"
    if os.environ.get(UPDATE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=1) + "\n")
    if not path.exists():
        pytest.fail(f"{case} has no golden cost yet; type {UPDATE}=1 pytest tests/promises/test_cost.py", pytrace=False)
    if more := grown(json.loads(path.read_text()), now):
        pytest.fail("\n".join([f"{case} costs more; {HOW}", *more]), pytrace=False)


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
@pytest.mark.parametrize("case", CASES)
def test_the_driver_sees_no_wait_either(case, make):
    learner = make("evaluator=none", *CASES[case], "device=cuda").learner
    for step in range(2):
        learner.step(step)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.step(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def after_the_loss(act):
    def plant(patch):
        forward = SimCLR.forward

        def read(self, views, group="main"):
            loss = forward(self, views, group)
            act(loss.value.detach())
            return loss

        patch.setattr(SimCLR, "forward", read)

    return plant


def masked(patch):
    views = SimCLR.views
    patch.setattr(SimCLR, "views", lambda *both: tuple(v[v.mean((1, 2, 3)) >= 0] for v in views(*both)))


def doubled(patch):
    """Each view is made twice, and the second is taken."""
    call = Views.__call__
    patch.setattr(Views, "__call__", lambda self, x, rng: (call(self, x, rng), call(self, x, rng))[1])


def copied(patch):
    call = Views.__call__
    patch.setattr(Views, "__call__", lambda self, x, rng: call(self, x, rng).clone())


def counted(patch):
    """The engine asks for the settings of a step once for each parameter."""
    settings = Learner.settings
    patch.setattr(Learner, "settings", lambda self, step: max(settings(self, step) for _ in self.pretext.parameters()))


PLANTED = {
    "item": (after_the_loss(lambda x: x.item()), "aten::_local_scalar_dense at"),
    "float": (after_the_loss(float), "aten::_local_scalar_dense at"),
    "tolist": (after_the_loss(lambda x: x.tolist()), "torch's tolist at"),
    "cpu": (after_the_loss(lambda x: x.cpu()), "torch's cpu at"),
    "numpy": (after_the_loss(lambda x: x.numpy()), "torch's numpy at"),
    "array": (after_the_loss(lambda x: x.__array__()), "torch's __array__ at"),
    "to": (after_the_loss(lambda x: x.to("cpu")), "torch's to at"),
    "to-device": (after_the_loss(lambda x: x.to(device="cpu")), "torch's to at"),
    "tensor": (after_the_loss(lambda x: torch.tensor([1.0], device=x.device)), "torch's tensor at"),
    "new_tensor": (after_the_loss(lambda x: x.new_tensor([1.0])), "torch's new_tensor at"),
    "sent": (after_the_loss(lambda x: torch.tensor([1.0]).to(x.device)), "torch's to at"),
    "listed": (after_the_loss(lambda x: x.expand(2)[[0, 1]]), "torch's __getitem__ at"),
    "masked": (masked, "aten::index at"),
    "doubled": (doubled, "views: "),
    "copied": (copied, "bytes of views: "),
    "counted": (counted, "calls: "),
}


ONCE = []  # what a step costs without anything planted


@pytest.mark.parametrize(("plant", "words"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_told(plant, words, make):
    if not ONCE:
        ONCE.append(cost(make("evaluator=none", "pretext=simclr")))
    before = ONCE[0]
    assert not before["waits"]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        after = cost(make("evaluator=none", "pretext=simclr"))
    told = [*after["waits"], *grown(before, after)]
    assert any(each.startswith(words) for each in told), told


def ratio(slow, fast, rounds=5):
    """The median of how many times the CPU seconds of one the other takes, in turns."""
    found = []
    slow(), fast()
    for _ in range(rounds):
        seconds = []
        for run in (slow, fast):
            began = time.thread_time()
            run()
            seconds.append(time.thread_time() - began)
        found.append(seconds[0] / seconds[1])
    return statistics.median(found)


def test_views_of_a_batch_are_many_times_faster_than_a_sample_at_a_time(rng):
    """SimCLR's views of 32 px. Twenty times and more is what is aimed at, measured by scripts/benchmark.py."""
    images, augment = torch.rand(256, 3, 32, 32, generator=rng), Views(scale=(0.2, 1.0), blur=0.0)
    pictures, share = [to_pil_image(image) for image in images[:64]], 64 / 256
    peer = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
        ]
    )
    times = ratio(lambda: torch.stack([peer(each) for each in pictures]), lambda: augment(images, rng)) / share
    assert times >= 8, f"only {times:.1f} times"
