"""What a step costs, counted and not timed: waits for the device, operations, bytes, live tensors, calls.

Counts are the same on an idle and on a busy machine. The two things that only time tells are ratios of CPU seconds of
one process, taken in turns.
"""

import gc
import importlib
import inspect
import json
import os
import statistics
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import pytest
import torch
from conftest import names
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

import ssl_runner
from ssl_runner.augment.image.views import Views
from ssl_runner.engine import learner as learners
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.trainer import Trainer
from ssl_runner.engine.window import Window
from ssl_runner.pretext.simclr import SimCLR

PACKAGE = Path(ssl_runner.__file__).parent
COSTS = Path(__file__).parents[1] / "golden" / "costs"
UPDATE = "UPDATE_GOLDEN"
HOW = f"if that is meant, say so in CHANGELOG.md and type {UPDATE}=1 pytest tests/promises/test_cost.py"
WAITS = {  # operations that bring a value or a size to the CPU; indexing by a mask is another, below
    *("aten::_local_scalar_dense", "aten::item", "aten::equal", "aten::is_nonzero", "aten::nonzero"),
    *("aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount"),
    *("aten::histc", "aten::repeat_interleave", "aten::argwhere", "aten::masked_scatter", "aten::allclose"),
}
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
READS = ("tolist", "numpy", "cpu", "__array__")  # methods that bring values to the CPU and that no operation tells of
MAKES = ("tensor", "as_tensor", "asarray")  # functions that put what Python holds on a device, if they are told one
CPU_ALONE = ("ssl_runner/augment/image/views.py:change_rows:",)  # reached on a CPU only, where to look costs no waiting
UNLESS = "a line that is reached on a CPU only, by its device's type, may be named in CPU_ALONE of tests/promises/test_cost.py"
SLACK, SPARE = 1.05, 3  # a count may grow by a twentieth and three; of another torch's operations, by a half
ELSEWHERE = 1.5

LESS = {"bigan": ("pretext.width=8",)}


def others(group: str, default: str) -> list[str]:
    """All choices of a group but the one that pretext-simclr has."""
    return [name for name in names(group) if name != default]


CASES: dict[str, tuple[str, ...]] = {
    **{f"pretext-{name}": (f"pretext={name}", *LESS.get(name, ())) for name in names("pretext")},
    **{f"optimizer-{name}": ("pretext=simclr", f"optimizer={name}") for name in others("optimizer", "adamw")},
    **{f"regulariser-{name}": ("pretext=simclr", f"regulariser={name}") for name in others("regulariser", "none")},
    **{
        f"augment-{name}": ("pretext=simclr", f"augment@pretext.augment={name}") for name in others("augment", "simclr")
    },
    "clip": ("pretext=simclr", "optimizer.clip=1"),
    "accumulate": ("pretext=bigan", *LESS["bigan"], "accumulate=2"),
    "bf16": ("pretext=simclr", "device.precision=bf16"),
}


class Ledger(TorchDispatchMode):
    """Every operation while it is open: how often by name, the bytes that are new, and the lines that wait."""

    def __init__(self, known: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.bytes = 0
        self.waits: Counter[str] = Counter()
        self.known = known  # tensors that are on the CPU wherever the others are, by id: to read them is no wait
        self.asked = Asked(self)

    def __enter__(self) -> "Ledger":
        self.asked.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.asked.__exit__(*raised)

    def wait(self, name: str, arguments: Any, frame: FrameType) -> None:
        if arguments and id(arguments[0]) in self.known:
            return
        place = line(frame)
        if not place.startswith(CPU_ALONE):
            self.waits[f"{name} at {place}"] += 1

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        name = function._schema.name
        self.operations[name] += 1
        if waits(name, arguments):
            self.wait(name, arguments, sys._getframe(1))
        given = {storage(each) for each in tensors((arguments, named))}
        made = {storage(each): each.untyped_storage().nbytes() for each in tensors(result)}
        self.bytes += sum(size for place, size in made.items() if place not in given)
        return result


class Asked(TorchFunctionMode):
    """What Python asks torch for, to tell a ledger of waits that are no operation where the device is a CPU."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.host: dict[int, Tensor] = {}  # made of what Python holds, and on the CPU as no device was named; by id

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named, name = named or {}, getattr(function, "__name__", "")
        result = function(*arguments, **named)
        to, first = named.get("device"), arguments[0] if arguments else named.get("data")
        places = [each for each in (*arguments[1:], to) if isinstance(each, str | torch.device | Tensor)]
        python = name in MAKES and not isinstance(first, Tensor)  # what Python holds is given
        if (python and to is None) or name == "from_numpy":
            self.host[id(result)] = result
        if (
            name in READS
            or name == "new_tensor"
            or (python and to is not None and not on_cpu(to))
            or (name in ("to", "cuda") and id(first) in self.host and (places or name == "cuda"))
            or (name in ("to", *MAKES) and not python and any(map(on_cpu, places)))
            or (name in ("__getitem__", "__setitem__") and has_list(arguments[1]))
        ):
            self.ledger.wait(f"torch's {name}", arguments, sys._getframe(1))
        return result


def on_cpu(device: Any) -> bool:
    """Whether it is the CPU by name. The device of a tensor is no name: it is the CPU here, and elsewhere a GPU."""
    return isinstance(device, str) and device.startswith("cpu")


def has_list(index: Any) -> bool:
    """Whether an index must be sent to the device first."""
    return any(isinstance(each, list | numpy.ndarray) for each in (index if isinstance(index, tuple) else (index,)))


def waits(name: str, arguments: Any) -> bool:
    if name in INDEXING:
        return any(each.dtype in (torch.bool, torch.uint8) for each in tensors(arguments[1]))
    return name in WAITS


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def line(frame: FrameType | None) -> str:
    """The innermost line of ours; where a library stands between, the line of its that is not torch's."""
    outer = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(str(PACKAGE)):
            return f"{Path(file).relative_to(PACKAGE.parent)}:{frame.f_code.co_name}:{frame.f_lineno}{outer}"
        if not outer and "/torch/" not in file and file.endswith(".py") and "site-packages" in file:
            outer = f", of {file.rpartition('site-packages/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return f"no line of ours{outer}"


def steps_of(learner: Learner) -> frozenset[int]:
    """The counters of optimizers, which torch and timm leave on the CPU wherever the weights are."""
    states = [
        state
        for each in learner.rated.values()
        for state in [*each.optimizer.state.values(), *each.optimizer.param_groups]
    ]
    return frozenset(id(s["step"]) for s in states if isinstance(s.get("step"), Tensor))


def calls(act: Callable[[], Any]) -> dict[str, int]:
    """Calls of Python functions of the engine and of the device in a step, by file."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith((str(PACKAGE / "engine"), str(PACKAGE / "device"))):
            found[str(Path(file).relative_to(PACKAGE))] += 1

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return dict(sorted(found.items()))


def cost(trainer: Trainer) -> dict[str, Any]:
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


def grown(golden: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
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
def test_a_step_waits_for_nothing_and_costs_what_it_did(case: str, make: Callable[..., Trainer]) -> None:
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


def test_no_cost_outlives_its_case() -> None:
    assert {file.stem for file in COSTS.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("place", CPU_ALONE)
def test_nothing_is_excused_that_is_gone_or_asks_for_the_device(place: str) -> None:
    file, name, _ = place.split(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    code = inspect.unwrap(getattr(module, name)).__code__
    assert code.co_name == name
    assert "device" not in code.co_names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the driver's own word needs a GPU")
@pytest.mark.parametrize("case", CASES)
def test_the_driver_sees_no_wait_either(case: str, make: Callable[..., Trainer]) -> None:
    learner = make("evaluator=none", *CASES[case], "device=cuda").learner
    for step in range(2):
        learner.step(step)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.step(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def after_the_loss(act: Callable[[Tensor], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        forward = SimCLR.forward

        def read(self: SimCLR, views: tuple, group: str = "main") -> Any:
            loss = forward(self, views, group)
            act(loss.value.detach())
            return loss

        patch.setattr(SimCLR, "forward", read)

    return plant


def masked(patch: pytest.MonkeyPatch) -> None:
    views = SimCLR.views
    patch.setattr(SimCLR, "views", lambda *both: tuple(v[v.mean((1, 2, 3)) >= 0] for v in views(*both)))


def doubled(patch: pytest.MonkeyPatch) -> None:
    """Each view is made twice, and the second is taken."""
    call = Views.__call__
    patch.setattr(Views, "__call__", lambda self, x, rng: (call(self, x, rng), call(self, x, rng))[1])


def copied(patch: pytest.MonkeyPatch) -> None:
    call = Views.__call__
    patch.setattr(Views, "__call__", lambda self, x, rng: call(self, x, rng).clone())


def counted(patch: pytest.MonkeyPatch) -> None:
    """The engine asks for the settings of a step once for each parameter."""
    settings = Learner.settings
    patch.setattr(Learner, "settings", lambda self, step: max(settings(self, step) for _ in self.pretext.parameters()))


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
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


ONCE: list[dict[str, Any]] = []  # what a step costs without anything planted


@pytest.mark.parametrize(("plant", "words"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_told(plant: Callable, words: str, make: Callable[..., Trainer]) -> None:
    if not ONCE:
        ONCE.append(cost(make("evaluator=none", "pretext=simclr")))
    before = ONCE[0]
    assert not before["waits"]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        after = cost(make("evaluator=none", "pretext=simclr"))
    told = [*after["waits"], *grown(before, after)]
    assert any(each.startswith(words) for each in told), told


def held(trainer: Trainer, folder: Path, steps: tuple[int, int]) -> tuple[Counter[tuple[int, ...]], int]:
    """What a run holds more at the later of two steps: tensors by shape, and things in containers of any kind.

    The rows that the logbook keeps are not counted. Blocks of Python's memory would tell less: caches of names grow.
    """
    seen: dict[int, tuple[tuple, int]] = {}  # of tuples, which are not counted themselves
    show = trainer.progress.show
    logbook = Logbook(folder, 0)

    def look(step: int, *others: Any, **named: Any) -> None:
        show(step, *others, **named)
        if step in steps:
            gc.collect()
            objects = gc.get_objects()
            alive = tuple(tuple(o.shape) for o in objects if type(o) in (Tensor, nn.Parameter))
            # The collector knows no dictionary of numbers and strings alone, but it knows who holds it.
            sizes = {id(o): len(o) for o in gc.get_referents(*objects) if type(o) in CONTAINERS}
            seen[step] = alive, sum(sizes.values()) - sum(1 + len(row) for row in logbook.rows)

    trainer.progress.show = look  # type: ignore[method-assign]
    with Interrupt() as interrupt, trainer.progress:
        trainer.fit(0, logbook, interrupt)
        logbook.close("completed")
    (alive_early, early), (alive_late, late) = (seen[step] for step in steps)
    return Counter(alive_late) - Counter(alive_early), late - early


CONTAINERS = {list, dict, set, deque, Counter, OrderedDict, defaultdict}
LONG = ("evaluator=none", "dataset.size=16", "length=42st", "log_every=5st", "show_every=100st", "batch_size=4")
AT = (20, 40)
FEW = 10  # things that may be more for any reason; one thing a step is 20


@pytest.mark.parametrize("name", names("pretext"))
def test_memory_is_flat_in_the_number_of_steps(name: str, make: Callable[..., Trainer], tmp_path: Path) -> None:
    tensors_more, more = held(make(*LONG, f"pretext={name}", *LESS.get(name, ())), tmp_path / "run", AT)
    assert not tensors_more, f"alive at step {AT[1]} and not at {AT[0]}, by shape: {dict(tensors_more)}"
    assert more <= FEW, f"containers hold {more} things more at step {AT[1]} than at {AT[0]}"


def hoard_tensors(hoard: dict[str, Any], step: int, numbers: dict[str, Tensor]) -> None:
    hoard.setdefault("losses", []).extend(numbers.values())


def hoard_numbers(hoard: dict[str, Any], step: int, numbers: dict[str, Tensor]) -> None:
    hoard.setdefault("steps", []).append(float(step))


def hoard_a_table(hoard: dict[str, Any], step: int, numbers: dict[str, Tensor]) -> None:
    hoard.setdefault("table", {})[step] = float(step)


@pytest.mark.parametrize("keep", [hoard_tensors, hoard_numbers, hoard_a_table])
def test_what_grows_with_the_steps_is_seen(
    keep: Callable, make: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hoard: dict[str, Any] = {}
    step = Learner.step

    def hoards(self: Learner, number: int, **named: Any) -> dict[str, Tensor]:
        numbers = step(self, number, **named)
        keep(hoard, number, numbers)
        return numbers

    monkeypatch.setattr(learners.Learner, "step", hoards)
    tensors_more, more = held(make(*LONG, "pretext=flip"), tmp_path / "run", AT)
    assert more >= AT[1] - AT[0] - FEW
    assert tensors_more[()] >= AT[1] - AT[0] if keep is hoard_tensors else not tensors_more


def ratio(slow: Callable[[], Any], fast: Callable[[], Any], rounds: int = 5) -> float:
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


def test_views_of_a_batch_are_many_times_faster_than_a_sample_at_a_time(rng: torch.Generator) -> None:
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
