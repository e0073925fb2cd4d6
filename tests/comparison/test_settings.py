"""Which settings tell runs apart, and their names."""

import pytest
from comparison_toys import SETTINGS, plain_run, pretext

from ssl_runner.comparison.settings import choices_of, differing, flat, shorten, text


def inner(recipe: str, flip: float) -> dict:
    return {"choices": {"augment@pretext.augment": recipe}, "pretext": {"augment": {"flip": flip}}}


HARMLESS = {"log_every": "9st", "keep": 5, "device": {"threads": 1, "name": "cpu"}, "choices": {"device": "cpu"}}
HARMLESS |= {"dataset": {"root": "elsewhere", "workers": 3}, "evaluator": {"knn": {"k": 5}}, "seed": 1}
SIMCLR = [pretext("simclr", temperature=each) for each in (0.5, 0.1)]
CLIP = [{"optimizer": {"clip": each}} for each in (None, 1.0)]
CASES = {  # configs of the runs, what tells them apart
    "lists": (
        [{}, {"model": {"widths": [32, 128]}}, {"optimizer": {"lr": 0.01, "betas": [0.9, 0.99]}}],
        ["model.widths", "optimizer.lr", "optimizer.betas"],
    ),
    "implied by a choice": ([{}, SIMCLR[0], {"optimizer": {"lr": 0.01}}], ["pretext", "optimizer.lr"]),
    "below a choice": (
        [{}, *SIMCLR, {"optimizer": {"lr": 0.01}}],
        ["pretext", "pretext.temperature", "optimizer.lr"],
    ),
    "inner choice": ([inner("simclr", 0.5), inner("none", 0)], ["pretext.augment"]),
    "below an inner choice": (
        [inner("simclr", 0.5), inner("none", 0), inner("none", 1)],
        ["pretext.augment", "pretext.augment.flip"],
    ),
    "harmless settings, evaluators, seed": ([{}, HARMLESS], []),
    "precision": ([{}, {"device": {"precision": "bf16"}, "choices": {"device": "cpu"}}], ["device.precision"]),
    "absent in an older version": ([{}, CLIP[0]], []),
    "null or set": ([{}, *CLIP], ["optimizer.clip"]),
    "seed that follows": ([{"seed": each, "dataset": {"seed": each}} for each in (0, 1)], []),
    "seed of its own": ([{"dataset": {"seed": each}} for each in (0, 1)], ["dataset.seed"]),
}


@pytest.mark.parametrize("case", CASES)
def test_settings_that_can_change_a_result_and_that_no_choice_implies_tell_runs_apart(case):
    configs, keys = CASES[case]
    assert differing([plain_run(**config) for config in configs]) == keys


def test_settings_are_shown_as_they_are_typed():
    nested = {"a": {"b": [1, 2.0, None]}, "c": [{"d": True}, {"e": {}}]}
    assert flat(nested) == {"a.b": "[1,2,null]", "c.0.d": "true", "c.1.e": "{}"}
    assert text(1) == text(1.0) != text(True)
    assert [plain_run(**each).traits.get("optimizer.clip", "-") for each in ({}, *CLIP)] == ["-", "-", "1"]
    assert choices_of(SETTINGS | {"choices": {}})["pretext"] == "Rotation", "the class if there is no choice"


def test_names_are_as_short_as_they_can_be():
    keys = ["optimizer.lr", "pretext.lr", "length"]
    assert shorten(keys) == dict(zip(keys, keys, strict=True))
    assert shorten(["optimizer.lr", "dataset.test"], ["test"]) == {"optimizer.lr": "lr", "dataset.test": "dataset.test"}
