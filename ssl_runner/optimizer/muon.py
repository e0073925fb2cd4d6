"""Muon: An optimizer for hidden layers in neural networks.

Keller Jordan and others. 2024, https://kellerjordan.github.io/posts/muon. Steps are scaled to the size of AdamW's, so
that both share a rate: Jingyuan Liu and others, Muon is Scalable for LLM Training, 2025, arXiv 2502.16982, section 2.2.

timm's, from 1.0.27 (before it, the rate of what AdamW takes did not follow the schedule): torch.optim.Muon takes
matrices only, and exists from torch 2.9. Newton-Schulz has timm's coefficients: a step differs by 21-25 % from that of
torch.optim.Muon, and is nearer the exact polar factor (of random matrices off by 2 %, of square ones by up to 12 %,
where torch's is off by 19-24 %).

Differs: on a CPU without units for bfloat16 Newton-Schulz is computed in float32 (docs/performance.md). Embeddings of
words and the layers that tell words are orthogonalised, too; both papers leave them to AdamW. mlm on `grammar` learns
no slower so: a loss of 2.96 after 250 steps at a rate of 0.006, and 3.10 with them in AdamW.
"""

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import timm.optim.muon
import torch
from torch import Tensor

from ssl_runner.layers.bf16 import multiplies_bf16
from ssl_runner.layers.ranges import Count, NotNegative, Positive
from ssl_runner.optimizer.recipe import Momentum, Parameters, Recipe, split

newton_schulz = timm.optim.muon.zeropower_via_newtonschulz


@dataclass(frozen=True, kw_only=True)
class Muon(Recipe):
    """timm's Muon; the step of each weight, flattened to (out, in * kernel), is orthogonalised.

    AdamW (NAdamW with `nesterov`) takes biases, norms, learnt tokens and positions, and weights too thin to
    orthogonalise: a side below 4, sides 1 to 128 and beyond, depthwise kernels.
    """

    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.05  # decoupled
    momentum: Momentum = 0.95
    nesterov: bool = True
    iterations: Count = 5  # of Newton and Schulz, in bfloat16, or float32 on a CPU without units for it
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)  # of AdamW

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        return _Muon(
            split(parameters, self.weight_decay, rest={"use_fallback": True}),
            lr=self.peak,
            momentum=self.momentum,
            nesterov=self.nesterov,
            ns_steps=self.iterations,
            betas=self.betas,
            adjust_lr_fn="match_rms_adamw",
        )


class _Muon(timm.optim.Muon):
    """timm's has no setting for the type that Newton-Schulz is computed in: its function gives way for the step."""

    def step(self, closure: Any = None) -> Any:
        with patch.object(timm.optim.muon, "zeropower_via_newtonschulz", orthogonalised):
            return super().step(closure)


def orthogonalised(step: Tensor, *given: Any, **settings: Any) -> Tensor:
    """timm's Newton-Schulz, in float32 on a CPU without units for bfloat16."""
    slow = step.device.type == "cpu" and not multiplies_bf16(step.device)
    return newton_schulz(step, *given, **settings | {"dtype": torch.float32 if slow else torch.bfloat16})
