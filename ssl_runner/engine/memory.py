"""Out of memory: which micro-batch would fit, found by trying smaller ones and bf16 on the device itself."""

import gc
import re
import traceback
from typing import TYPE_CHECKING

import torch

from ssl_runner.contract import Batch
from ssl_runner.device import ranks
from ssl_runner.errors import plural

if TYPE_CHECKING:
    from ssl_runner.engine.learner import Learner

WORDS = re.compile("out of memory|can't allocate memory|not enough memory", re.IGNORECASE)  # torch's
SMALLEST = 2  # samples that batch normalisation needs


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | RuntimeError) and (
        isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(WORDS.search(str(error)))
    )


def advise(learner: "Learner", error: BaseException) -> str:
    """What to type so that a run that ran out of memory fits. Trials spoil the learner, which cannot train any more.

    With several processes nothing is tried, since all would have to try at the same time.
    """
    traceback.clear_frames(error.__traceback__)  # they hold the tensors of the step
    batch, accumulate, device = learner.length.batch_size, learner.loader.accumulate, learner.device
    micro, line = batch // accumulate, f"out of memory on {device.device.type}"
    if ranks.count() > 1:
        return f"{line}; type accumulate={2 * accumulate}, a smaller batch_size, or device.precision=bf16"
    if fits(learner, micro):
        return f"{line}, though a step of training fits: leave out an evaluator, or end what else is on the device"
    sizes = [batch // parts for parts in range(accumulate + 1, batch + 1) if batch % parts == 0]
    largest = next((size for size in sizes if size >= SMALLEST and fits(learner, size)), None)
    half = device.precision == "float32" and device.device.type == "cuda" and fits(learner, micro, "bf16")
    remedies = ["device.precision=bf16"] * half
    if largest is not None:
        remedies += [f"accumulate={batch // largest} (the same gradient where samples do not meet)"]
        remedies += [f"batch_size={largest * accumulate}"]
    given = f"{line}: micro-batches of {plural(micro, 'sample')} do not fit"
    if not remedies:
        return f"{given}, and no smaller ones do; choose a smaller model, or smaller samples"
    return f"{given}; {'' if largest is None else f'{largest} do: '}type {' or '.join(remedies)}"


def fits(learner: "Learner", size: int, precision: str | None = None) -> bool:
    """Whether forward and backward passes of so many samples fit, beside the optimizer's averages."""
    device, before = learner.device, learner.device.precision
    device.precision = precision or before  # type: ignore[assignment]
    gc.collect()
    if device.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        stepped = any(each.optimizer.state for each in learner.optimizers.values())
        numbers = 0 if stepped else 2 * sum(p.numel() for p in learner.pretext.parameters() if p.requires_grad)
        averages = torch.zeros(numbers, device=device.device)
        x, index = learner.loader.batches(0)[0]
        repeated = -(-size // len(x))
        batch = Batch(x.repeat(repeated, *[1] * (x.ndim - 1))[:size], index.repeat(repeated)[:size])
        for group in learner.groups:
            learner.objective(learner.views(batch, 0, group), group, size).total.backward()
        del averages
    except Exception:  # out of memory, or a size that the task cannot take
        return False
    finally:
        device.precision = before
        learner.pretext.zero_grad(set_to_none=True)
    return True
