"""Optimizer of a parameter group: the schedule's rate and decay times the method's factors, clipping, loss scaling."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ssl_runner.contract import Optimizer, Rate, Settings
from ssl_runner.device.sharding import share_of
from ssl_runner.layers.weights import is_weight

Named = Sequence[tuple[str, nn.Parameter]]


class GroupOptimizer:
    """An optimizer whose parameter groups are cut by the prefixes that a method has rates for.

    `first`: the settings of step 0. Raises ValueError if there are no parameters.
    """

    def __init__(
        self, recipe: Optimizer, named: Named, prefixes: Sequence[str], first: Settings, scaler: torch.amp.GradScaler
    ):
        self.recipe, self.scaler, self.optimizer = recipe, scaler, recipe.build(list(named))
        self.parameters = [p for _, p in named]
        self.prefixes: list[str] = []  # of each parameter group; "" has no rate of its own
        self.decays: list[bool] = []  # whether weight decay is meant for it
        name_of, groups = {id(p): name for name, p in named}, []
        for group in self.optimizer.param_groups:
            parts: dict[str, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                parts[longest_prefix(name_of[id(p)], prefixes)].append(p)
            for prefix, part in parts.items():
                weights = all(is_weight(name_of[id(p)], p) for p in part)
                groups.append({**group, "params": part})
                self.prefixes.append(prefix)
                self.decays.append(group["weight_decay"] > 0 or (first.weight_decay == 0 and weights))
        self.optimizer.param_groups[:] = groups

    def apply(self, settings: Settings, rates: Mapping[str, Rate]) -> None:
        """Sets learning rate and weight decay of a step. At a rate of 0 parameters lose their gradient."""
        for group, prefix, decays in zip(self.optimizer.param_groups, self.prefixes, self.decays, strict=True):
            rate = rates.get(prefix, Rate())
            group["lr"] = (settings.peak if rate.constant else settings.lr) * rate.lr
            if decays:
                group["weight_decay"] = settings.weight_decay * rate.decay
            if rate.lr == 0:
                for parameter in group["params"]:
                    parameter.grad = None

    def step(self, settings: Settings, rates: Mapping[str, Rate], *, measure: bool) -> Tensor | None:
        """Clips and steps. Returns the norm of the gradient if it was clipped or must be measured, and there is one."""
        self.apply(settings, rates)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:  # held still: fp16's scaler would miss its checks of them
            return None
        norm, clip, clip_each = None, self.recipe.clip, self.recipe.clip_each
        if clip is not None or clip_each is not None or measure:
            self.scaler.unscale_(self.optimizer)
            if clip_each is not None:
                clip_tensors(gradients, clip_each)
            norm = nn.utils.get_total_norm(gradients)
            norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
            if clip is not None:
                nn.utils.clip_grads_with_norm_(self.parameters, clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm

    def load(self, state: dict[str, Any]) -> None:
        """Takes over a saved state, but for the kernels: those that this optimizer was built with, fused or not.

        Raises ValueError if the state has another number of parameter groups.
        """
        groups = [
            saved | {key: own[key] for key in ("fused", "foreach") if key in own}
            for saved, own in zip(state["param_groups"], self.optimizer.param_groups, strict=True)
        ]
        number = [each for group in groups for each in group["params"]]
        own = dict(zip(number, (p for group in self.optimizer.param_groups for p in group["params"]), strict=True))
        tensors = {i: {key: share_of(each, own[i]) for key, each in kept.items()} for i, kept in state["state"].items()}
        self.optimizer.load_state_dict({"state": tensors, "param_groups": groups})


def longest_prefix(name: str, prefixes: Sequence[str]) -> str:
    """The longest prefix that fits a parameter's name, or ""."""
    return max((each for each in prefixes if name.startswith(each)), key=len, default="")


def clip_tensors(gradients: list[Tensor], largest: float) -> None:
    """Scales each gradient whose norm is above `largest` down to it, in place."""
    if gradients:
        norms = torch._foreach_norm(gradients)
        torch._foreach_mul_(gradients, [(largest / (norm + 1e-6)).clamp(max=1) for norm in norms])
