"""Which devices have units that multiply bfloat16."""

import torch


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device is faster in bfloat16 than in float32: GPUs from Ampere on, x86 CPUs with AVX-512 BF16 or AMX.

    Elsewhere torch emulates it, on a CPU with AVX2 alone in twenty to sixty times the time (docs/performance.md). It is
    asked and not timed, so that a run repeats itself on the same machine.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
