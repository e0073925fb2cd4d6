"""Several processes against one: gradients of a step and weights after five, of a job on 1 and on 2 ranks.

In float64, where rounding is 1e-16 and a mistake is not: a factor of the number of ranks, a missing gather, statistics
of a share of the batch, numbers that each rank draws for itself.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing
from torch.distributed.tensor import DTensor

from ssl_runner.device import strategy
from ssl_runner.device.sharding import local
from ssl_runner.engine import encoding
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.rates import GroupOptimizer

Build = Callable[[Mapping[str, Any], Path], Learner]  # the learner of a config, in a folder; a function of a module
STEPS, SAVED = 5, 3
LATE = timedelta(seconds=60)
GRADIENTS, WEIGHTS = 1e-9, 1e-6  # how far they may be off, as shares of the largest number of a tensor


def enter_float64(rank: int, count: int, meeting: Path) -> None:
    """Makes this process compute in float64, as a rank of a group if there are several."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # losses are taken in float32, at least
    encoding.READ_BATCH = 16
    strategy.UNIT = 500
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=LATE)


def learn(learner: Learner, start: int = 0) -> dict[str, Any]:
    """Gradients of the first step by group, the state at SAVED, numbers and weights at the end."""
    gradients: dict[str, dict[str, Tensor]] = {}
    states: dict[str, Any] = {}
    step_of = GroupOptimizer.step

    def step(self: GroupOptimizer, *arguments: Any, **named: Any) -> Any:
        group = next(name for name, each in learner.optimizers.items() if each is self)
        own = {name: plain(p.grad) for name, p in learner.groups[group] if p.grad is not None}
        gradients.setdefault(group, own)
        return step_of(self, *arguments, **named)

    GroupOptimizer.step = step  # type: ignore[method-assign]
    try:
        for number in range(start, STEPS):
            if number == SAVED:
                states = copy.deepcopy(learner.state())
            numbers = learner.step(number, measure_gradient=True)
    finally:
        GroupOptimizer.step = step_of  # type: ignore[method-assign]
    weights = {name: plain(each) for name, each in learner.pretext.state_dict().items()}
    kept = [each for of in learner.optimizers.values() for each in of.optimizer.state.values()]
    held = sum(
        local(each).numel() for each in [*learner.pretext.parameters(), *(x for of in kept for x in of.values())]
    )
    return {"gradients": gradients, "state": states, "weights": weights, "numbers": numbers, "held": held}


def plain(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def differences(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, float]:
    """Of each tensor, the largest difference as a share of its largest number."""
    assert ours.keys() == theirs.keys()
    shares = {}
    for name, one in ours.items():
        largest = theirs[name].abs().max().clamp(min=1e-6) if theirs[name].is_floating_point() else 1
        shares[name] = float((one - theirs[name]).abs().max() / largest) if one.numel() else 0.0
    return shares


def work(rank: int, count: int, learner_of: Build, content: Mapping[str, Any], folder: Path) -> None:
    """What a rank comes to, in a file; the first rank learns alone as well, before the group is there."""
    enter_float64(rank, 1, folder)
    results = [learn(learner_of(content, folder / f"alone-{rank}"))] if rank == 0 else []
    enter_float64(rank, count, folder / "meet")
    results.append(learn(learner_of(content, folder / f"together-{rank}")))
    if rank == 0:
        torch.save([{key: each[key] for key in ("gradients", "weights")} for each in results], folder / "results.pt")
    dist.destroy_process_group()


def rank_differences(learner_of: Build, content: Mapping[str, Any], count: int = 2) -> list[str]:
    """A line for each tensor in which processes together do not learn what one learns."""
    with tempfile.TemporaryDirectory() as name:
        multiprocessing.spawn(work, (count, learner_of, content, Path(name)), count)
        alone, together = torch.load(Path(name) / "results.pt", weights_only=True)
    lines = []
    for group, gradients in alone["gradients"].items():
        for key, share in differences(together["gradients"][group], gradients).items():
            lines += [f"gradient of {key}: {share:.2g} of its largest"] if not share <= GRADIENTS else []
    for key, share in differences(together["weights"], alone["weights"]).items():
        lines += [f"{key} after {STEPS} steps: {share:.2g} of its largest"] if not share <= WEIGHTS else []
    return lines
