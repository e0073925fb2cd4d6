"""Parameter groups: learning rate and weight decay of each, the optimizer's schedule times the method's factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ssl_runner.contract import Optimizer, Rate, Settings
from ssl_runner.layers.weights import is_weight


@dataclass
class Rated:
    """An optimizer whose parameter groups are cut by the prefixes that a method has rates for."""

    optimizer: torch.optim.Optimizer
    prefixes: list[str]  # of each parameter group; "" has no rate of its own
    decays: list[bool]  # whether weight decay is meant for it

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


def rated(
    recipe: Optimizer, named: Sequence[tuple[str, nn.Parameter]], prefixes: Sequence[str], first: Settings
) -> Rated:
    """The optimizer of named parameters. `first`: the settings of step 0. Raises ValueError if there are none."""
    optimizer = recipe.build(list(named))
    name_of = {id(p): name for name, p in named}
    groups, cut, decays = [], [], []
    for group in optimizer.param_groups:
        parts: dict[str, list[nn.Parameter]] = {}
        for p in group["params"]:
            parts.setdefault(longest_prefix(name_of[id(p)], prefixes), []).append(p)
        for prefix, part in parts.items():
            groups.append({**group, "params": part})
            cut.append(prefix)
            weights = all(is_weight(name_of[id(p)], p) for p in part)
            decays.append(group["weight_decay"] > 0 or (first.weight_decay == 0 and weights))
    optimizer.param_groups[:] = groups
    return Rated(optimizer, cut, decays)


def longest_prefix(name: str, prefixes: Sequence[str]) -> str:
    """The longest prefix that fits a parameter's name, or ""."""
    return max((each for each in prefixes if name.startswith(each)), key=len, default="")


def restorable(state: dict, optimizer: torch.optim.Optimizer) -> dict:
    """An optimizer's saved state, to go on by the kernels that this one was built with, be they fused or not.

    Raises ValueError if the state has another number of parameter groups.
    """
    groups = [
        saved | {key: own[key] for key in ("fused", "foreach") if key in own}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}
