"""The numbers of 20 steps, bit for bit: a change that is not meant to alter results alters none of these.

On another machine than a trace was made on, losses must agree as far as rounding lets them. The environment variable
GOLDEN names a folder of traces made here with the code before a change, for the bits; CONTRIBUTING.md has the lines.
"""

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import CHOICES
from runs import put

import ssl_runner
from ssl_runner.augment.image.views import Views
from ssl_runner.layers.ema import momentum_at
from ssl_runner.testing.traces import NEAR, STEPS, difference, elsewhere_in, traced

HERE, CODE = Path(__file__).parents[2], Path(ssl_runner.__file__).parents[1]
TRACES = HERE / "tests/golden/traces"
FOLDER, UPDATE, COMMAND = "GOLDEN", "UPDATE_GOLDEN", "pytest tests/promises/test_golden.py"
HOW = f"if that is meant, say so in CHANGELOG.md and type {UPDATE}=1 {COMMAND}; CONTRIBUTING.md has {FOLDER}=FOLDER"
GENTLY = ("dataset.size=16", "optimizer.lr=1e-4")  # so deep a net magnifies rounding at a higher rate
CASES = {
    **CHOICES,
    "model-resnet18": ("pretext=simclr", "model=resnet18", "model.stem=large", *GENTLY),
    "clip": ("pretext=byol", "optimizer.clip=0.1"),
    "accumulate": ("pretext=rotation", "accumulate=2"),
    "accumulate-groups": (*CHOICES["pretext-bigan"], "accumulate=2"),
    "bf16": ("pretext=byol", "device.precision=bf16"),
    "bf16-mae": ("pretext=mae", "device.precision=bf16"),
    "channels_first": ("pretext=byol", "device.channels_last=false"),
    "channels_last": ("pretext=byol", "device.channels_last=true"),
}


@pytest.fixture
def trace(make):
    """The trace of a case as the code is now."""
    return lambda case: traced(make("evaluator=none", "device.threads=1", f"length={STEPS}st", *CASES[case]))


def compare(case, now):
    """Fails where a trace is not what it was: in the folder that GOLDEN names, bit for bit, or else as committed."""
    given, update = os.environ.get(FOLDER), os.environ.get(UPDATE)
    folder, fail = Path(given or TRACES), partial(pytest.fail, pytrace=False)
    path = folder / f"{case}.json"
    if (given or update) and CODE != HERE:  # as by `pytest` in a second checkout, which runs the code that is installed
        fail(f"this would trace the code of {CODE}; type python -m pytest in {HERE}")
    if update:
        put(path, json.dumps(now, indent=1) + "\n")
    if given and not path.exists() and any(folder.glob("*.json")):
        pytest.skip(f"{case} is new: {folder} does not have it")
    if not path.exists():
        fail(f"{case} has no trace yet; type {FOLDER + f'={folder} ' if given else ''}{UPDATE}=1 {COMMAND}")
    golden = json.loads(path.read_text())
    if given and (elsewhere := elsewhere_in(golden, now)):
        fail(f"{path} is of another machine ({elsewhere}); make it on this one")
    if words := difference(golden, now, NEAR["bf16" if "bf16" in case else "float32"]):
        fail(f"{case}: {words}\n{HOW}")


@pytest.mark.parametrize("case", sorted({*CASES, *(file.stem for file in TRACES.glob("*.json"))}))
def test_20_steps_are_bit_for_bit_what_they_were(case, trace):
    assert case in CASES, "a trace must not outlive its case"
    compare(case, trace(case))


def one_draw_more(self, x, rng, call=Views.__call__):
    rng.rand(len(x))
    return call(self, x, rng)


def fade(self, ctx, kept):
    """Changes the running means of norms, which no loss reads."""
    torch._foreach_mul_([each for name, each in self.named_buffers() if name.endswith("running_mean")], 0.9)


def same_sum(logits, positive):
    """Cross-entropy as the same sum in another order."""
    return (logits.logsumexp(1) - logits.gather(1, positive[:, None])[:, 0]).mean()


FIRST, CROSS_ENTROPY = "train/loss first differs at step", "torch.nn.functional.cross_entropy"
SIMCLR, CALL = "ssl_runner.pretext.simclr.SimCLR", "ssl_runner.augment.image.views.Views.__call__"
PLANTED = {  # what is put in the place of what, how it is told, and whether on another machine too
    "another order": (CROSS_ENTROPY, same_sum, FIRST, False),
    "momentum": ("ssl_runner.pretext.byol.momentum_at", lambda *x: momentum_at(*x) - 0.001, f"{FIRST} 1", False),
    "lost view": (f"{SIMCLR}.views", lambda self, b, c: (self.augment(b.x, c.rng),) * 2, f"{FIRST} 0", True),
    "one draw more": (CALL, one_draw_more, f"{FIRST} 0", True),
    "statistics": (f"{SIMCLR}.after_step", fade, "every loss is as it was, but", False),
}


@pytest.mark.parametrize(("place", "change", "words", "anywhere"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_told_with_its_step(place, change, words, anywhere, trace, monkeypatch):
    """On the same machine everything is seen; on another one what changes the task, and not what rounding explains."""
    case = "pretext-byol" if "byol" in place else "pretext-simclr"
    before = trace(case)
    monkeypatch.setattr(place, change)
    after = trace(case)
    assert difference(before, after, NEAR["float32"]).startswith(words)
    after["machine"]["cpu"] = "another"
    sentence = difference(before, after, NEAR["float32"])
    assert sentence.startswith(words) and "Another machine (cpu)" in sentence if anywhere else sentence == ""


def test_a_folder_of_traces_is_compared_bit_for_bit(trace, tmp_path, monkeypatch):
    """What another order changes is rounding, which the committed traces let pass on another machine."""
    case, folder = "pretext-simclr", tmp_path / "traces"
    monkeypatch.setattr("test_golden.HERE", CODE)  # also where an installed package is tested
    monkeypatch.delenv(UPDATE, raising=False)
    monkeypatch.setenv(FOLDER, str(folder))

    def require_failure(now, words):
        with pytest.raises(pytest.fail.Exception, match=re.escape(words)):
            compare(case, now)

    before = trace(case)
    require_failure(before, f"no trace yet; type GOLDEN={folder} UPDATE")
    with monkeypatch.context() as patch:
        patch.setenv(UPDATE, "1")
        compare(case, before)
    compare(case, json.loads(json.dumps(before)))
    monkeypatch.setattr(CROSS_ENTROPY, same_sum)
    require_failure(trace(case), FIRST)
    with pytest.raises(pytest.skip.Exception, match="clip is new"):
        compare("clip", before)
    for key in ("libc", "caches"):
        require_failure(before | {"machine": before["machine"] | {key: "another"}}, f"another machine ({key})")
    monkeypatch.setattr("test_golden.HERE", tmp_path)
    require_failure(before, "type python -m pytest in")
