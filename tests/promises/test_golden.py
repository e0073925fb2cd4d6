"""The numbers of 20 steps, bit for bit: a change that is not meant to alter results alters none of these.

Each trace holds the machine that it was made on. On the same machine each loss and the final weights must be equal to
the last bit. Elsewhere other instructions add in another order, and the losses must agree as far as rounding lets them.

Bit for bit on any machine: traces of the code before a change, made on the same machine in a folder that the
environment variable GOLDEN names, stand in for the committed ones. CONTRIBUTING.md has the lines.
"""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import CHOICES, masks
from traces import NEAR, STEPS, difference, elsewhere_in, traced

import ssl_runner
from ssl_runner.augment.image.views import Views
from ssl_runner.layers.ema import momentum_at
from ssl_runner.pretext import byol
from ssl_runner.pretext.simclr import SimCLR

HERE, CODE = Path(__file__).parents[2], Path(ssl_runner.__file__).parents[1]
TRACES = Path(__file__).parents[1] / "golden" / "traces"
FOLDER = "GOLDEN"
UPDATE = "UPDATE_GOLDEN"
HOW = (
    f"if that is meant, say so in CHANGELOG.md and type {UPDATE}=1 pytest tests/promises/test_golden.py; to compare "
    f"bit for bit with the code before the change, make its traces with {FOLDER}=FOLDER, as CONTRIBUTING.md says"
)
# Not conftest's `tiny`: to change that is no reason for other traces.
TINY = ["dataset.images=100", "dataset.test=20", "batch_size=16", "evaluator=none", "device=cpu", "device.threads=1"]
SMALL = ("model=convnet_small", "model.widths=[8,8,8]")
MASKED = ("model=vit_tiny", "model.width=24", "model.depth=2", "model.heads=2", "model.patch=8")
GENTLY = ("dataset.size=16", "optimizer.lr=1e-4")  # so deep a net magnifies rounding at a higher rate
CASES = {
    **CHOICES,
    "model-resnet18": ("pretext=simclr", "model=resnet18", "model.stem=large", *GENTLY),
    "clip": ("pretext=byol", "optimizer.clip=0.1"),
    "accumulate": ("pretext=rotation", "accumulate=2"),
    "accumulate-groups": ("pretext=bigan", "pretext.width=8", "accumulate=2"),
    "bf16": ("pretext=byol", "device.precision=bf16"),
    "bf16-mae": ("pretext=mae", "device.precision=bf16"),
    "channels_first": ("pretext=byol", "device.channels_last=false"),
    "channels_last": ("pretext=byol", "device.channels_last=true"),
}


def settings(case):
    """A job of the case that takes a second."""
    chosen = CASES[case]
    own = any(each.startswith("model=") for each in chosen)
    return [*TINY, *(MASKED if masks(chosen) else () if own else SMALL), f"length={STEPS}st", *chosen]


@pytest.fixture
def trace(make):
    """The trace of a case as the code is now."""
    return lambda case: traced(make(case, words=settings))


def compare(case, now):
    """Fails where a trace is not what it was: in the folder that GOLDEN names, bit for bit, or else as committed."""
    given, update, problem = os.environ.get(FOLDER), os.environ.get(UPDATE), ""
    folder = Path(given) if given else TRACES
    path = folder / f"{case}.json"
    if (given or update) and CODE != HERE:  # as by `pytest` in a second checkout, which runs the code that is installed
        pytest.fail(f"this would trace the code of {CODE}; type python -m pytest in {HERE}", pytrace=False)
    if update:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=1) + "\n")
    if given and not path.exists() and any(folder.glob("*.json")):
        pytest.skip(f"{case} is new: {folder} does not have it")
    golden = json.loads(path.read_text()) if path.exists() else None
    if golden is None:
        where = f"{FOLDER}={folder} " if given else ""
        problem = f"{case} has no trace yet; type {where}{UPDATE}=1 pytest tests/promises/test_golden.py"
    elif given and (elsewhere := elsewhere_in(golden, now)):
        problem = f"{path} is of another machine ({elsewhere}); make it on this one"
    elif words := difference(golden, now, NEAR["bf16" if "bf16" in case else "float32"]):
        problem = f"{case}: {words}\n{HOW}"
    if problem:
        pytest.fail(problem, pytrace=False)


@pytest.mark.parametrize("case", CASES)
def test_20_steps_are_bit_for_bit_what_they_were(case, trace):
    compare(case, trace(case))


def test_no_trace_outlives_its_case():
    assert {file.stem for file in TRACES.glob("*.json")} == set(CASES)


def one_draw_more(self, x, rng, call=Views.__call__):
    torch.rand(1, generator=rng)
    return call(self, x, rng)


def fade(self, ctx, kept):
    """Changes the running means of norms, which no loss reads."""
    for name, each in self.named_buffers():
        if name.endswith("running_mean"):
            each.mul_(0.9)


def same_sum(logits, positive):
    """Cross-entropy as the same sum in another order."""
    return (logits.logsumexp(1) - logits.gather(1, positive[:, None])[:, 0]).mean()


FIRST = "train/loss first differs at step"
PLANTED = {  # what is put in the place of what, in which case, how it is told, and whether on another machine too
    "another order": (F, "cross_entropy", same_sum, "simclr", FIRST, False),
    "momentum": (byol, "momentum_at", lambda *given: momentum_at(*given) - 0.001, "byol", f"{FIRST} 1", False),
    "lost view": (SimCLR, "views", lambda self, b, c: (self.augment(b.x, c.rng),) * 2, "simclr", f"{FIRST} 0", True),
    "one draw more": (Views, "__call__", one_draw_more, "simclr", f"{FIRST} 0", True),
    "statistics": (SimCLR, "after_step", fade, "simclr", "every loss is as it was, but", False),
}
UNCHANGED = {}  # traces without anything planted


@pytest.mark.parametrize(("owner", "name", "change", "pretext", "words", "anywhere"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_told_with_its_step(owner, name, change, pretext, words, anywhere, trace, monkeypatch):
    """On the same machine everything is seen; on another one what changes the task, and not what rounding explains."""
    case = f"pretext-{pretext}"
    before = UNCHANGED[case] if case in UNCHANGED else UNCHANGED.setdefault(case, trace(case))
    monkeypatch.setattr(owner, name, change)
    after = trace(case)
    assert difference(before, after, NEAR["float32"]).startswith(words)
    after["machine"]["cpu"] = "another"
    told = difference(before, after, NEAR["float32"])
    assert told.startswith(words) and "Another machine (cpu)" in told if anywhere else told == ""


def test_a_folder_of_traces_is_compared_bit_for_bit(trace, tmp_path, monkeypatch):
    """What another order changes is rounding, which the committed traces let pass on another machine."""
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
        patch.setattr(F, "cross_entropy", same_sum)
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
