"""A ledger of what torch is asked for: operations, bytes, and the lines that wait for the device."""

import cProfile
import sys
import traceback
from collections import Counter
from pathlib import Path

import numpy
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ssl_runner
from ssl_runner.engine.logbook import Window

PACKAGE = Path(ssl_runner.__file__).parent
WAITS = {  # operations that bring a value or a size to the CPU; indexing by a mask is another, below
    *("aten::_local_scalar_dense", "aten::item", "aten::equal", "aten::is_nonzero", "aten::nonzero"),
    *("aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount"),
    *("aten::histc", "aten::repeat_interleave", "aten::argwhere", "aten::masked_scatter", "aten::allclose"),
}
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
READS = ("tolist", "numpy", "cpu", "__array__")  # methods that bring values to the CPU and that no operation tells of
MAKES = ("tensor", "as_tensor", "asarray")  # functions that put what Python holds on a device, if they are told one
SLACK, ELSEWHERE = 1.05, 1.5  # how many times more a count may become; with another torch, whose operations are others
SPARE = {"step": 3, "views": 3, "calls": 3, "bytes of views": 1024, "bytes of step": 1024}  # how much more than that
CPU_ALONE = (  # reached on a CPU only, where to look costs no waiting
    "ssl_runner/augment/image/views.py:change_rows:",
    "ssl_runner/augment/text/trim.py:last_token:",
)


class Ledger(TorchDispatchMode):
    """Every operation while it is open: how often by name, the bytes that are new, and the lines that wait.

    `known`: ids of tensors that are on the CPU wherever the others are, so that to read them is no wait.
    """

    def __init__(self, known=frozenset()):
        super().__init__()
        self.operations, self.waits, self.bytes, self.known = Counter(), Counter(), 0, known

    def wait(self, name, arguments, frame):
        place = line(frame)
        if not (arguments and id(arguments[0]) in self.known) and not place.startswith(CPU_ALONE):
            self.waits[f"{name} at {place}"] += 1

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        name = function._schema.name
        self.operations[name] += 1
        by_mask = name in INDEXING and any(x.dtype in (torch.bool, torch.uint8) for x in tensors(arguments[1]))
        if by_mask or name in WAITS:
            self.wait(name, arguments, sys._getframe(1))
        given, made = storages((arguments, named)), storages(result)
        self.bytes += sum(made[place].nbytes() for place in made.keys() - given.keys())
        return result


class Requests(TorchFunctionMode):
    """What Python asks torch for, to tell a ledger of waits that are no operation where the device is a CPU."""

    def __init__(self, ledger):
        super().__init__()
        self.ledger, self.host = ledger, {}  # by id, tensors made of what Python holds that are on the CPU by default

    def __torch_function__(self, function, types, arguments=(), named=None):
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


def on_cpu(device):
    """Whether it is the CPU by name. The device of a tensor is no name: it is the CPU here, and elsewhere a GPU."""
    return isinstance(device, str) and device.startswith("cpu")


def has_list(index):
    """Whether an index must be sent to the device first."""
    return any(isinstance(each, list | numpy.ndarray) for each in (index if isinstance(index, tuple) else (index,)))


def tensors(value):
    return [each for each in tree_leaves(value) if isinstance(each, Tensor)]


def storages(value):
    """Of its tensors, by their place in memory."""
    return {each._cdata: each for each in (tensor.untyped_storage() for tensor in tensors(value))}


def line(frame):
    """The innermost line of ours; where a library stands between, the line of its that is not torch's."""
    outer = ""
    for each, number in traceback.walk_stack(frame):
        file = each.f_code.co_filename
        if file.startswith(str(PACKAGE)):
            return f"{Path(file).relative_to(PACKAGE.parent)}:{each.f_code.co_name}:{number}{outer}"
        if not outer and "/torch/" not in file and file.endswith(".py") and "site-packages" in file:
            outer = f", of {file.rpartition('site-packages/')[2]}:{number}"
    return f"no line of ours{outer}"


def calls(act):
    """Calls of Python functions of the engine and of the device in a step, by file."""
    counts = Counter()
    with cProfile.Profile() as profile:
        act()
    for entry in profile.getstats():
        file = Path(getattr(entry.code, "co_filename", ""))
        if file.is_relative_to(PACKAGE / "engine") or file.is_relative_to(PACKAGE / "device"):
            counts[str(file.relative_to(PACKAGE))] += entry.callcount
    return dict(sorted(counts.items()))


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
