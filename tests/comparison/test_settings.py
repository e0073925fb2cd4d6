"""Which settings tell runs apart, and their names."""

from comparison_toys import SETTINGS, plain_run, pretext

from ssl_runner.comparison.settings import choices_of, describe, differing, flat, shorten, text


def test_nested_settings_and_lists_that_differ_are_seen():
    lr = {"lr": 0.01, "betas": [0.9, 0.99]}
    runs = [plain_run(), plain_run(model={"widths": [32, 128]}), plain_run(optimizer=lr)]
    assert differing(runs) == ["model.widths", "optimizer.lr", "optimizer.betas"]
    nested = {"a": {"b": [1, 2.0, None]}, "c": [{"d": True}, {"e": {}}]}
    assert flat(nested) == {"a.b": "[1,2,null]", "c.0.d": "true", "c.1.e": "{}"}
    assert text(1) == text(1.0) != text(True)


def test_what_a_choice_implies_is_not_shown():
    runs = [plain_run(), plain_run(**pretext("simclr", temperature=0.5)), plain_run(optimizer={"lr": 0.01})]
    assert differing(runs) == ["pretext", "optimizer.lr"]
    runs.append(plain_run(**pretext("simclr", temperature=0.1)))
    assert differing(runs) == ["pretext", "pretext.temperature", "optimizer.lr"]


def test_an_inner_choice_is_a_setting_below_the_outer_one():
    def run(recipe: str, flip: float):
        return plain_run(choices={"augment@pretext.augment": recipe}, pretext={"augment": {"flip": flip}})

    runs = [run("simclr", 0.5), run("none", 0)]
    assert differing(runs) == ["pretext.augment"]
    assert differing([*runs, run("none", 1)]) == ["pretext.augment", "pretext.augment.flip"]


def test_what_cannot_change_a_result_is_left_out():
    """Log intervals, devices, folders of data, evaluators."""
    other = {"log_every": "9st", "keep": 5, "device": {"threads": 1, "name": "cpu"}, "choices": {"device": "cpu"}}
    other |= {"dataset": {"root": "elsewhere", "workers": 3}, "evaluator": {"knn": {"k": 5}}}
    assert differing([plain_run(), plain_run(seed=1, **other)]) == []
    bf16 = plain_run(device={"precision": "bf16"}, choices={"device": "cpu"})
    assert differing([plain_run(), bf16]) == ["device.precision"]


def test_a_setting_that_an_older_version_did_not_have_is_null():
    old, new, other = plain_run(), plain_run(optimizer={"clip": None}), plain_run(optimizer={"clip": 1.0})
    assert differing([old, new]) == []
    assert differing([old, new, other]) == ["optimizer.clip"]
    assert [describe(run).get("optimizer.clip", "-") for run in (old, new, other)] == ["-", "-", "1"]


def test_a_seed_below_a_group_that_follows_the_run_is_a_seed():
    assert differing([plain_run(seed=s, dataset={"seed": s}) for s in (0, 1)]) == []
    assert differing([plain_run(seed=0, dataset={"seed": s}) for s in (0, 1)]) == ["dataset.seed"]


def test_without_choices_the_class_is_named():
    assert choices_of(SETTINGS | {"choices": {}})["pretext"] == "Rotation"


def test_names_are_as_short_as_they_can_be():
    keys = ["optimizer.lr", "pretext.lr", "length"]
    assert shorten(keys) == dict(zip(keys, keys, strict=True))
    assert shorten(["optimizer.lr", "dataset.test"], ["test"]) == {"optimizer.lr": "lr", "dataset.test": "dataset.test"}
