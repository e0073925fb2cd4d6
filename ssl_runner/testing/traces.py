"""Traces of 20 steps: how one is taken, and in what two of them differ."""

import hashlib
import os
import platform
import re
from pathlib import Path

import numpy
import timm
import torch

STEPS = 20

# Elsewhere: how far a loss may be off, in shares of the case's largest loss, from which step on. The bounds are ten (at
# the end five) times what the worst case drifts from AVX512 to scalar code or to AVX2 (ATEN_CPU_CAPABILITY=default or
# avx2, ONEDNN_MAX_CPU_ISA=SSE41 or AVX2): float32 1.8e-7, 3.3e-5, 1e-2; bf16 2.5e-5, 6.6e-4, 1.6e-3. What the first
# step makes of its views is thus as good as exact anywhere; then training multiplies each rounding.
NEAR = {"float32": {0: 2e-6, 1: 3e-4, 3: 5e-2}, "bf16": {0: 3e-4, 1: 7e-3, 3: 5e-2}}


def machine():
    """What bits depend on: versions, libm, instructions, caches (which decide how a product is cut), threads."""
    cpu = Path("/proc/cpuinfo")
    known = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpu.read_text() if cpu.exists() else "", re.MULTILINE))
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    vector = [flag for flag in known.get("flags", "").split() if re.match("sse|avx|amx|fma|f16c", flag)]
    return {
        **{each.__name__: each.__version__ for each in (torch, timm, numpy)},
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpu": " ".join(known.get(key, "?") for key in ("vendor_id", "cpu family", "model", "stepping", "cache size")),
        "caches": " ".join(each.read_text().strip() for each in caches),
        "flags": " ".join(sorted(vector)),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "limits": {key: value for key, value in sorted(os.environ.items()) if re.match("ONEDNN_|DNNL_|MKL_", key)},
        "threads": torch.get_num_threads(),
    }


def digest(state):
    """Of names, types, shapes and bits."""
    sha = hashlib.sha256()
    for name, value in state.items():
        name = re.sub(r"encoder\.patches\.", "encoder.embed.", name)  # so it was called when the traces were made
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def traced(trainer):
    """Each group's loss at each step, and the weights and buffers after the last."""
    losses = {}
    for step in range(STEPS):
        for name, number in trainer.learner.step(step).items():
            if name.endswith("loss") or name.startswith("regulariser/"):
                losses.setdefault(name, []).append(number.item().hex())
    return {"machine": machine(), "losses": losses, "state": digest(trainer.learner.pretext.state_dict())}


def elsewhere_in(golden, now):
    """In what the machines of two traces differ."""
    return ", ".join(key for key, was in golden["machine"].items() if was != now["machine"].get(key))


def difference(golden, now, near):
    """In words: which loss first differs by more than it may, at which step and by how much; empty where none does."""
    if golden["losses"].keys() != now["losses"].keys():
        return f"it logs {', '.join(now['losses'])}, where it logged {', '.join(golden['losses'])}"
    elsewhere, rows = elsewhere_in(golden, now), []
    for name, was in golden["losses"].items():
        pairs = [(float.fromhex(a), float.fromhex(b)) for a, b in zip(was, now["losses"][name], strict=True)]
        scale = max(abs(a) for a, _ in pairs)
        # NaN where a loss is not a number: it is within no bound.
        rows += [(step, name, a, b, abs(a - b) / scale if a != b else 0.0) for step, (a, b) in enumerate(pairs)]
    bounds = [near[max(first for first in near if first <= step)] if elsewhere else 0.0 for step in range(STEPS)]
    if beyond := [row for row in rows if not row[-1] <= bounds[row[0]]]:
        step, name, a, b, off = min(beyond)
        words = f"{name} first differs at step {step}: it was {a!r} ({a.hex()}), is {b!r} ({b.hex()})"
        words += f", off by {off:.1e}; the largest difference of {STEPS} steps is {max(row[-1] for row in rows):.1e}"
        return words + (f". Another machine ({elsewhere}) explains up to {bounds[step]:g}" if elsewhere else "")
    if not elsewhere and golden["state"] != now["state"]:
        return "every loss is as it was, but the weights or buffers after the last step are not"
    return ""
