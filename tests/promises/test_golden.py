"""The numbers of 20 steps, bit for bit: a change that is not meant to alter results alters none of these.

Each trace holds the machine that it was made on. On the same machine each loss and the final weights must be equal to
the last bit. Elsewhere other instructions add in another order, and the losses must agree as far as rounding lets them.

Bit for bit on any machine: traces of the code before a change, made on the same machine in a folder that the
environment variable GOLDEN names, stand in for the committed ones. CONTRIBUTING.md has the lines.
"""

import hashlib
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import names
from rich.console import Console
from torch import Tensor

import ssl_runner
from ssl_runner.augment.image.views import Views
from ssl_runner.config.compose import Composer
from ssl_runner.contract import Context
from ssl_runner.engine.trainer import Trainer
from ssl_runner.layers.ema import momentum_at
from ssl_runner.pretext import byol
from ssl_runner.pretext.simclr import SimCLR
from ssl_runner.run.assemble import assemble
from ssl_runner.run.preflight import read_job

HERE, CODE = Path(__file__).parents[2], Path(ssl_runner.__file__).parents[1]
TRACES = Path(__file__).parents[1] / "golden" / "traces"
FOLDER = "GOLDEN"
STEPS = 20
UPDATE = "UPDATE_GOLDEN"
HOW = (
    f"if that is meant, say so in CHANGELOG.md and type {UPDATE}=1 pytest tests/promises/test_golden.py; to compare with the "
    f"code before the change bit for bit on this machine, make its traces with {FOLDER}=FOLDER, as CONTRIBUTING.md says"
)

# Elsewhere: how far a loss may be off, in shares of the case's largest loss, from which step on. The bounds are ten (at
# the end five) times what the worst case drifts from AVX512 to scalar code or to AVX2 (ATEN_CPU_CAPABILITY=default or
# avx2, ONEDNN_MAX_CPU_ISA=SSE41 or AVX2): float32 1.8e-7, 3.3e-5, 1e-2; bf16 2.5e-5, 6.6e-4, 1.6e-3. What the first
# step makes of its views is thus as good as exact anywhere; then training multiplies each rounding.
NEAR = {"float32": {0: 2e-6, 1: 3e-4, 3: 5e-2}, "bf16": {0: 3e-4, 1: 7e-3, 3: 5e-2}}

TINY = ["dataset.images=100", "dataset.test=20", "batch_size=16", "evaluator=none", "device=cpu", "device.threads=1"]
SMALL = ("model=convnet_small", "model.widths=[8,8,8]")
MASKED = ("model=vit_tiny", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")

LESS = {"bigan": ("pretext.width=8",)}
GENTLY = ("dataset.size=16", "optimizer.lr=1e-4")  # so deep a net magnifies rounding at a higher rate


def others(group: str, default: str) -> list[str]:
    """All choices of a group but the one that pretext-simclr has."""
    return [name for name in names(group) if name != default]


CASES: dict[str, tuple[str, ...]] = {
    **{f"pretext-{name}": (f"pretext={name}", *LESS.get(name, ())) for name in names("pretext")},
    **{f"optimizer-{name}": ("pretext=simclr", f"optimizer={name}") for name in others("optimizer", "adamw")},
    **{f"regulariser-{name}": ("pretext=simclr", f"regulariser={name}") for name in others("regulariser", "none")},
    **{
        f"augment-{name}": ("pretext=simclr", f"augment@pretext.augment={name}") for name in others("augment", "simclr")
    },
    "model-resnet18": ("pretext=simclr", "model=resnet18", "model.stem=large", *GENTLY),
    "clip": ("pretext=byol", "optimizer.clip=0.1"),
    "accumulate": ("pretext=rotation", "accumulate=2"),
    "accumulate-groups": ("pretext=bigan", "pretext.width=8", "accumulate=2"),
    "bf16": ("pretext=byol", "device.precision=bf16"),
    "bf16-mae": ("pretext=mae", "device.precision=bf16"),
    "channels_first": ("pretext=byol", "device.channels_last=false"),
    "channels_last": ("pretext=byol", "device.channels_last=true"),
}


def machine() -> dict[str, Any]:
    """What bits depend on: versions, libm, instructions, caches (which decide how a product is cut), threads."""
    cpu = Path("/proc/cpuinfo")
    known = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpu.read_text() if cpu.exists() else "", re.MULTILINE))
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    vector = [flag for flag in known.get("flags", "").split() if re.match("sse|avx|amx|fma|f16c", flag)]
    return {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpu": " ".join(known.get(key, "?") for key in ("vendor_id", "cpu family", "model", "stepping", "cache size")),
        "caches": " ".join((each / "size").read_text().strip() for each in caches if (each / "size").exists()),
        "flags": " ".join(sorted(vector)),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "limits": {key: value for key, value in sorted(os.environ.items()) if re.match("ONEDNN_|DNNL_|MKL_", key)},
        "threads": torch.get_num_threads(),
    }


def digest(state: Mapping[str, Tensor]) -> str:
    """Of names, types, shapes and bits."""
    found = hashlib.sha256()
    for name, value in state.items():
        name = re.sub(r"encoder\.patches\.", "encoder.embed.", name)  # so it was called when the traces were made
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def traced(trainer: Trainer) -> dict[str, Any]:
    """Each group's loss at each step, and the weights and buffers after the last."""
    losses: dict[str, list[str]] = {}
    for step in range(STEPS):
        numbers = trainer.learner.step(step)
        for name, number in numbers.items():
            value = number.item()
            if name.endswith("loss") or name.startswith("regulariser/"):
                losses.setdefault(name, []).append(value.hex())
    return {"machine": machine(), "losses": losses, "state": digest(trainer.learner.pretext.state_dict())}


def settings(case: str) -> list[str]:
    """A job of the case that takes a second. Not conftest's `tiny`: to change that is no reason for other traces."""
    chosen = CASES[case]
    own = any(each.startswith("model=") for each in chosen) or "pretext=mae" in chosen
    return [*TINY, *(MASKED if "pretext=mae" in chosen else () if own else SMALL), f"length={STEPS}st", *chosen]


@pytest.fixture
def trace(composer: Composer, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The trace of a case as the code is now."""

    def run(case: str, *overrides: str) -> dict[str, Any]:
        composed = composer.compose([*settings(case), *overrides])
        assert not composed.problems
        job, problems = read_job(composed.content)
        assert job is not None, problems
        dataset = job.dataset.build()
        return traced(assemble(job, dataset, dataset.load(), tmp_path, Console(file=io.StringIO()), {}))

    return run


def elsewhere_in(golden: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what the machines of two traces differ."""
    return [key for key, was in golden["machine"].items() if was != now["machine"].get(key)]


def difference(golden: Mapping[str, Any], now: Mapping[str, Any], near: Mapping[int, float]) -> str:
    """In words: which loss first differs by more than it may, at which step and by how much; empty where none does."""
    if golden["losses"].keys() != now["losses"].keys():
        return f"it logs {', '.join(now['losses'])}, where it logged {', '.join(golden['losses'])}"
    elsewhere = elsewhere_in(golden, now)
    worst, found = 0.0, []
    for name, was in golden["losses"].items():
        pairs = [(float.fromhex(a), float.fromhex(b)) for a, b in zip(was, now["losses"][name], strict=True)]
        scale = max(abs(a) for a, _ in pairs)
        for step, (a, b) in enumerate(pairs):
            off = abs(a - b) / scale if a != b else 0.0  # a loss that is not a number is off by one, which is no less
            worst = max(worst, off)
            bound = near[max(first for first in near if first <= step)] if elsewhere else 0.0
            if not off <= bound:
                found.append((step, name, a, b, off, bound))
    if found:
        step, name, a, b, off, bound = min(found)
        words = f"{name} first differs at step {step}: it was {a!r} ({a.hex()}), is {b!r} ({b.hex()})"
        words += f", off by {off:.1e}; the largest difference of {STEPS} steps is {worst:.1e}"
        if elsewhere:
            words += f". Another machine ({', '.join(elsewhere)}) explains up to {bound:g}"
        return words
    if not elsewhere and golden["state"] != now["state"]:
        return "every loss is as it was, but the weights or buffers after the last step are not"
    return ""


def compare(case: str, now: Mapping[str, Any]) -> None:
    """Fails where a trace is not what it was: in the folder that GOLDEN names, bit for bit, or else as committed."""
    given, update = os.environ.get(FOLDER), os.environ.get(UPDATE)
    if (given or update) and CODE != HERE:  # as by `pytest` in a second checkout, which runs the code that is installed
        pytest.fail(f"this would trace the code of {CODE}; type python -m pytest in {HERE}", pytrace=False)
    folder = Path(given) if given else TRACES
    path = folder / f"{case}.json"
    if update:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=1) + "\n")
    if given and not path.exists() and any(folder.glob("*.json")):
        pytest.skip(f"{case} is new: {folder} does not have it")
    if not path.exists():
        where = f"{FOLDER}={folder} " if given else ""
        pytest.fail(
            f"{case} has no trace yet; type {where}{UPDATE}=1 pytest tests/promises/test_golden.py", pytrace=False
        )
    golden = json.loads(path.read_text())
    if given and (elsewhere := elsewhere_in(golden, now)):
        pytest.fail(f"{path} is of another machine ({', '.join(elsewhere)}); make it on this one", pytrace=False)
    if words := difference(golden, now, NEAR["bf16" if "bf16" in case else "float32"]):
        pytest.fail(f"{case}: {words}\n{HOW}", pytrace=False)


@pytest.mark.parametrize("case", CASES)
def test_20_steps_are_bit_for_bit_what_they_were(case: str, trace: Callable[..., dict[str, Any]]) -> None:
    compare(case, trace(case))


def test_no_trace_outlives_its_case() -> None:
    assert {file.stem for file in TRACES.glob("*.json")} == set(CASES)


def reordered(patch: pytest.MonkeyPatch) -> None:
    """Cross-entropy as the same sum in another order."""

    def entropy(logits: Tensor, positive: Tensor) -> Tensor:
        return (logits.logsumexp(1) - logits.gather(1, positive[:, None])[:, 0]).mean()

    patch.setattr(F, "cross_entropy", entropy)


def momentum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(byol, "momentum_at", lambda start, progress: momentum_at(start, progress) - 0.001)


def lost_view(patch: pytest.MonkeyPatch) -> None:
    """The second view is the first one again."""
    patch.setattr(SimCLR, "views", lambda self, batch, ctx: (self.augment(batch.x, ctx.rng),) * 2)


def drawn(patch: pytest.MonkeyPatch) -> None:
    """One more random number, before all others."""
    call = Views.__call__

    def more(self: Views, x: Tensor, rng: torch.Generator) -> Tensor:
        torch.rand(1, generator=rng)
        return call(self, x, rng)

    patch.setattr(Views, "__call__", more)


def statistics(patch: pytest.MonkeyPatch) -> None:
    """The running means of norms, which no loss reads."""

    def fade(self: SimCLR, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        for name, each in self.named_buffers():
            if name.endswith("running_mean"):
                each.mul_(0.9)

    patch.setattr(SimCLR, "after_step", fade)


PLANTED: list[tuple[Callable[[pytest.MonkeyPatch], None], str, str, bool]] = [
    (reordered, "pretext-simclr", "train/loss first differs at step", False),
    (momentum, "pretext-byol", "train/loss first differs at step 1", False),
    (lost_view, "pretext-simclr", "train/loss first differs at step 0", True),
    (drawn, "pretext-simclr", "train/loss first differs at step 0", True),
    (statistics, "pretext-simclr", "every loss is as it was, but", False),
]


ONCE: dict[str, dict[str, Any]] = {}  # traces without anything planted


@pytest.mark.parametrize(("plant", "case", "words", "anywhere"), PLANTED, ids=[each[0].__name__ for each in PLANTED])
def test_what_is_planted_is_told_with_its_step(
    plant: Callable, case: str, words: str, anywhere: bool, trace: Callable[..., dict[str, Any]]
) -> None:
    """On the same machine everything is seen; on another one what changes the task, and not what rounding explains."""
    if case not in ONCE:
        ONCE[case] = trace(case)
    before = ONCE[case]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        after = trace(case)
    assert difference(before, after, NEAR["float32"]).startswith(words)
    after["machine"]["cpu"] = "another"
    told = difference(before, after, NEAR["float32"])
    assert told.startswith(words) and "Another machine (cpu)" in told if anywhere else told == ""


def test_a_folder_of_traces_is_compared_bit_for_bit(
    trace: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `reordered` changes is rounding, which the committed traces let pass on another machine."""
    case, module, folder = "pretext-simclr", sys.modules[__name__], tmp_path / "traces"
    monkeypatch.setattr(module, "HERE", CODE)  # also where an installed package is tested
    monkeypatch.delenv(UPDATE, raising=False)
    monkeypatch.setenv(FOLDER, str(folder))
    before = trace(case)
    with pytest.raises(pytest.fail.Exception, match=f"no trace yet; type GOLDEN={re.escape(str(folder))} UPDATE"):
        compare(case, before)
    with monkeypatch.context() as patch:
        patch.setenv(UPDATE, "1")
        compare(case, before)
    compare(case, json.loads(json.dumps(before)))
    with monkeypatch.context() as patch:
        reordered(patch)
        after = trace(case)
    with pytest.raises(pytest.fail.Exception, match="train/loss first differs at step"):
        compare(case, after)
    with pytest.raises(pytest.skip.Exception, match="clip is new"):
        compare("clip", after)
    for key in ("libc", "caches"):
        with pytest.raises(pytest.fail.Exception, match=rf"another machine \({key}\)"):
            compare(case, before | {"machine": before["machine"] | {key: "another"}})
    monkeypatch.setattr(module, "HERE", tmp_path)
    with pytest.raises(pytest.fail.Exception, match="type python -m pytest in"):
        compare(case, before)
