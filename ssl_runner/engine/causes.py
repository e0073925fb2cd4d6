"""Causes of a collapse: the geometry of what the loss sees, and the settings that may have made features collapse."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call

from ssl_runner.contract import Batch, Metric, Suspect
from ssl_runner.engine.collapse import NAME
from ssl_runner.loss.embedding import unit
from ssl_runner.probing.geometry import centred_rank, unit_std

if TYPE_CHECKING:
    from ssl_runner.engine.learner import Learner

SAMPLES = 32  # that the embedding is measured on, from as many batches as it takes


def measure_embedding(learner: Learner) -> dict[str, Metric]:
    """`geometry/embedding_std` and `geometry/embedding_rank` of what the loss sees, on the run's first batches.

    Nothing if the method has no embedding, or if it is the encoder's features themselves. The network is in
    training mode, as its loss is, and is left as it was: the pass works on copies of its buffers.
    """
    pooled: list[torch.Tensor] = []
    pretext, parts, rows, step = learner.pretext, [], 0, 0
    hook = pretext.encoder.register_forward_hook(lambda module, given, features: pooled.append(features.pooled))
    try:
        while rows < SAMPLES and step < learner.length.steps:
            for batch in learner.loader.batches(step):
                few = Batch(batch.x[:SAMPLES], batch.index[:SAMPLES])
                views = learner.views(few, step, learner.main)
                buffers = {name: buffer.clone() for name, buffer in pretext.named_buffers()}
                with torch.no_grad(), learner.device.autocast():
                    embedding = functional_call(pretext, buffers, (views, learner.main)).embedding
                if embedding is None or any(each is embedding for each in pooled):
                    return {}
                parts.append(embedding.float())
                rows += len(few.x)
                if rows >= SAMPLES:
                    break
            step += 1
    finally:
        hook.remove()
    z = torch.cat(parts)
    if not z.isfinite().all():
        return {}
    values = {"embedding_std": unit_std(unit(z)), "embedding_rank": centred_rank(z)}
    return {f"{NAME}/{name}": Metric(value, None, "number") for name, value in values.items()}


def find_causes(learner: Learner, rows: Sequence[Mapping[str, Any]]) -> list[Suspect]:
    """The settings that may have done it, the likeliest first: the method's own, and those that any run has."""
    causes = list(learner.pretext.suspects())
    loader, recipe = learner.loader, learner.recipe
    batch_size = loader.length.batch_size
    together = batch_size // loader.accumulate
    if together < 16 and any(f"{NAME}/embedding_std" in row for row in rows):
        causes.append(
            Suspect(
                f"batch_size={batch_size} with accumulate={loader.accumulate}, so {together} samples meet",
                "batch_size=64 accumulate=1" if loader.accumulate > 1 else "batch_size=64",
                0.7 if together < 8 else 0.4,
            )
        )
    usual = {name: each.default for name, each in inspect.signature(type(recipe)).parameters.items()}
    for name, attribute in (("lr", "peak"), ("weight_decay", "weight_decay")):
        value, default = getattr(recipe, attribute, 0.0), usual.get(name)
        if isinstance(default, float) and default > 0 and value >= 5 * default:
            cause = f"optimizer.{name} of {value:.4g}, {value / default:,.0f} times the usual {default:g}"
            causes.append(Suspect(cause, f"optimizer.{name}={default:g}", min(0.95, 0.4 * (value / default) ** 0.15)))
    newest: dict[str, float] = {}
    for row in rows:
        newest.update(row)
    loss = abs(newest.get(f"train/{learner.prefix(learner.main)}loss", torch.inf))
    for name, value in newest.items():
        if name.startswith("regulariser/") and value > 10 * loss:
            causes.append(Suspect(f"{name} is {value:.3g} beside a loss of {loss:.3g}", "regulariser=none", 0.8))
    return sorted(causes, key=lambda each: -each.weight)
