"""Every YAML of a group spells out all settings of the class that it names but those that a run gives."""

import inspect
import typing

import pytest
from conftest import names
from toys import choice

from ssl_runner.run.job import RUNTIME

GIVEN = {"model": {*RUNTIME["model"]}, "optimizer": {"batch_size"}, "regulariser": set(), "augment": set()}
GIVEN["dataset"] = set()
CASES = [(group, name) for group in GIVEN for name in names(group) if name != "sum"]  # whose terms are mounted


@pytest.mark.parametrize(("group", "name"), CASES)
def test_a_yaml_spells_out_every_setting_and_those_of_a_class_of_its_own_are_the_defaults(group, name):
    kind, settings, defaults = choice(group, name)
    required = {key for key, default in defaults.items() if default is inspect.Parameter.empty}
    assert required - {"root"} <= GIVEN[group]
    assert not GIVEN[group] & settings.keys()
    assert settings.keys() == defaults.keys() - GIVEN[group]
    assert group != "augment" or list(settings) == list(defaults)  # in the same order
    if group in ("optimizer", "regulariser") or name == "simclr":
        assert kind.__module__ == f"ssl_runner.{group}.{'image.views' if name == 'simclr' else name}"
        assert settings == {key: default for key, default in defaults.items() if key not in required}
    if group == "model":
        assert kind.kinds
        assert kind.kinds != ("image",) or required == {"shape", "mean", "std"}
    if group == "optimizer":  # the signature is a schema
        assert typing.get_type_hints(kind.__init__, include_extras=True)["lr"].__metadata__[0].gt == 0
