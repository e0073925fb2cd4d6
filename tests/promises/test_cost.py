"""What a step costs, counted and not timed: waits for the device, operations, bytes, calls, and what stays alive."""

import gc
import importlib
import inspect
import json
import logging
import os
import time
import timeit
from collections import Counter, OrderedDict, defaultdict, deque
from functools import partial
from operator import methodcaller
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import CHOICES, in_turn, names
from ledger import CPU_ALONE, cost, growth
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image
from toys import kind_of

from ssl_runner.augment.image.views import Views
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.logbook import Logbook
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.pretext.simclr import SimCLR

COSTS = Path(__file__).parents[1] / "golden" / "costs"
UPDATE, HOW = "UPDATE_GOLDEN", "UPDATE_GOLDEN=1 pytest tests/promises/test_cost.py"
UNLESS = "a line that is reached on a CPU only, by its device's type, may be named in CPU_ALONE of ledger.py"
CASES = {
    **CHOICES,
    "clip": ("pretext=simclr", "optimizer.clip=1"),
    "accumulate": (*CHOICES["pretext-bigan"], "accumulate=2"),
    "bf16": ("pretext=simclr", "device.precision=bf16"),
}
every_case = pytest.mark.parametrize("case", sorted({*CASES, *(file.stem for file in COSTS.glob("*.json"))}))
CONTAINERS = {list, dict, set, deque, Counter, OrderedDict, defaultdict}
LONG = ("evaluator=none", "length=26st", "log_every=5st", "show_every=100st", "batch_size=4")
EARLY, LATE = 8, 24
FEW = 10  # things that may be more for any reason; one thing a step is 16
HOARDS = {
    "tensors": lambda hoard, step, numbers: hoard.setdefault("losses", []).extend(numbers.values()),
    "numbers": lambda hoard, step, numbers: hoard.setdefault("steps", []).append(float(step)),
    "a table": lambda hoard, step, numbers: hoard.setdefault("table", {}).update({step: float(step)}),
}


@every_case
def test_a_step_waits_for_nothing_and_costs_what_it_did(case, make):
    assert case in CASES, "a cost must not outlive its case"
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


@pytest.mark.parametrize("place", CPU_ALONE)
def test_nothing_is_excused_that_is_gone_or_asks_for_the_device(place):
    file, name, _ = place.split(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    code = inspect.unwrap(getattr(module, name)).__code__
    assert code.co_name == name
    assert "device" not in code.co_names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the driver's own word needs a GPU")
@every_case
def test_the_driver_sees_no_wait_either(case, make, request):
    learner = make("evaluator=none", *CASES[case], "device=cuda").learner
    for step in range(2):
        learner.step(step)
    request.addfinalizer(partial(torch.cuda.set_sync_debug_mode, "default"))
    torch.cuda.set_sync_debug_mode("error")
    learner.step(2)


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


def read_loss(act, loss, again):
    act(loss.value.detach())
    return loss


CHANGES = {  # a method, what takes the place of its result, and what is said of it; `again` calls it once more
    "masked": (SimCLR, "views", lambda views, again: tuple(v[v.mean((1, 2, 3)) >= 0] for v in views), "aten::index at"),
    "doubled": (Views, "__call__", lambda view, again: again(), "views: "),
    "copied": (Views, "__call__", lambda view, again: view.clone(), "bytes of views: "),
    "counted": (Learner, "settings", lambda settings, again: max(again() for _ in range(20)), "calls: "),
    **{name: (SimCLR, "forward", partial(read_loss, act), words) for name, (act, words) in READS.items()},
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
    """SimCLR's views of 32 px, by CPU seconds. Twenty times is aimed at, and measured by scripts/benchmark.py."""
    images, augment = torch.rand(256, 3, 32, 32, generator=rng), Views(scale=(0.2, 1.0), blur=0.0)
    pictures = [to_pil_image(image) for image in images[:64]]
    jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
    crop, flip = transforms.RandomResizedCrop(32, scale=(0.2, 1.0)), transforms.RandomHorizontalFlip()
    peer = transforms.Compose([crop, flip, jitter, transforms.RandomGrayscale(0.2), transforms.ToTensor()])
    ways = (
        lambda: torch.stack([peer(each) for each in pictures]),
        lambda: augment(images, CounterRng(0, images.device)),
    )
    slow, fast = (min(timeit.repeat(way, timer=time.thread_time, number=1, repeat=5)) for way in ways)
    assert slow / len(pictures) >= 8 * fast / len(images)


def containers(objects: list) -> dict:
    """Containers among objects and in them, by identity: the collector knows no dictionary of numbers and strings.

    Not in modules, whose dictionaries it knows: what asyncio's has freed Python 3.12 would free again (cpython#122695).
    """
    holders = (o for o in objects if type(o) is not ModuleType)
    return {id(o): o for o in (*objects, *gc.get_referents(*holders)) if type(o) in CONTAINERS}


@pytest.fixture(scope="module")
def before():
    """Containers from before any of these runs."""
    gc.collect()
    yield list(containers(gc.get_objects()).values())
    gc.unfreeze()


@pytest.fixture
def increase(make, tmp_path, monkeypatch, before):
    """What a run holds more at the later of two steps: tensors by shape, and things in containers but its rows."""
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "disabled", True)  # pytest keeps every line that is logged
    known = {id(each) for each in before}
    gc.collect()
    gc.freeze()  # what is there already the collector then leaves out: to go through all of it takes seconds

    def measure(*overrides):
        trainer, logbook, seen = make(*LONG, *overrides), Logbook(tmp_path / "run", 0), {}
        show = trainer.progress.show

        def look(step, *others, **named):
            show(step, *others, **named)
            if step in (EARLY, LATE):
                gc.collect()
                objects = gc.get_objects()
                alive = tuple(tuple(o.shape) for o in objects if type(o) in (Tensor, nn.Parameter))
                new = (each for key, each in containers(objects).items() if key not in known)
                # Rows are tuples, which are not counted themselves.
                held = sum(map(len, (*before, *new))) - sum(1 + len(row) for row in logbook.rows)
                seen[step] = alive, held

        trainer.progress.show = look
        with Interrupt() as interrupt, trainer.progress:
            trainer.fit(0, logbook, interrupt)
            logbook.close("completed")
        return Counter(seen[LATE][0]) - Counter(seen[EARLY][0]), seen[LATE][1] - seen[EARLY][1]

    return measure


@pytest.mark.parametrize("name", in_turn(names("pretext")))
def test_memory_is_flat_in_the_number_of_steps(name, increase):
    small = ["dataset.size=16"] if kind_of("pretext", name) == "image" else []
    tensors, things = increase(*CHOICES[f"pretext-{name}"], *small)
    assert not tensors, f"alive at step {LATE} and not at {EARLY}, by shape: {dict(tensors)}"
    assert things <= FEW, f"containers hold {things} things more at step {LATE} than at {EARLY}"


@pytest.mark.parametrize("kind", HOARDS)
def test_what_grows_with_the_steps_is_seen(kind, increase, monkeypatch):
    hoard, step = {}, Learner.step

    def hoarding(self, number, **named):
        numbers = step(self, number, **named)
        HOARDS[kind](hoard, number, numbers)
        return numbers

    monkeypatch.setattr(Learner, "step", hoarding)
    tensors, things = increase("pretext=flip", "dataset.size=16")
    assert things >= LATE - EARLY - FEW
    assert tensors[()] >= LATE - EARLY if kind == "tensors" else not tensors
