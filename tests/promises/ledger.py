"""A ledger of what torch is asked for: operations, bytes, and the lines that wait for the device."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import ssl_runner

PACKAGE = Path(ssl_runner.__file__).parent
WAITS = {  # operations that bring a value or a size to the CPU; indexing by a mask is another, below
    *("aten::_local_scalar_dense", "aten::item", "aten::equal", "aten::is_nonzero", "aten::nonzero"),
    *("aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount"),
    *("aten::histc", "aten::repeat_interleave", "aten::argwhere", "aten::masked_scatter", "aten::allclose"),
}
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
READS = ("tolist", "numpy", "cpu", "__array__")  # methods that bring values to the CPU and that no operation tells of
MAKES = ("tensor", "as_tensor", "asarray")  # functions that put what Python holds on a device, if they are told one
CPU_ALONE = ("ssl_runner/augment/image/views.py:change_rows:",)  # reached on a CPU only, where to look costs no waiting


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
