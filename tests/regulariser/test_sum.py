"""Several regularisers at once and none; what each YAML says."""

import importlib
import inspect

import pytest
import torch
import yaml
from conftest import names

from ssl_runner.config.compose import TREE, Composer
from ssl_runner.contract import Loss, Pretext, Regulariser
from ssl_runner.regulariser.covariance import Covariance
from ssl_runner.regulariser.koleo import KoLeo
from ssl_runner.regulariser.l1 import L1
from ssl_runner.regulariser.l2 import L2
from ssl_runner.regulariser.none import Nothing
from ssl_runner.regulariser.orthogonal import Orthogonal
from ssl_runner.regulariser.sum import Sum
from ssl_runner.regulariser.uniformity import Uniformity
from ssl_runner.regulariser.variance import Variance


class Task(Pretext):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 2)


def terms(regulariser: Regulariser, rng: torch.Generator) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(regulariser(Loss(torch.zeros(()), {}, torch.randn(8, 4, generator=rng)), Task()))


def test_no_regulariser_adds_no_term(rng):
    assert terms(Nothing(), rng) == {}


def test_a_sum_has_the_terms_of_its_parts(rng):
    parts = {"spread": Variance(weight=2.0), "weights": L1(weight=0.5), "nothing": Nothing()}
    merged = terms(Sum(terms=parts), rng)
    expected = {name: term for part in parts.values() for name, term in terms(part, rng.manual_seed(0)).items()}
    assert set(merged) == set(expected) == {"variance", "l1"}
    assert all(torch.equal(merged[name], expected[name]) for name in merged)


@pytest.mark.parametrize("kind", [L1, L2, Orthogonal, Variance, Covariance, KoLeo, Uniformity])
def test_the_weight_multiplies_the_term(kind, rng):
    large, small = (terms(kind(weight=weight), rng.manual_seed(0)) for weight in (0.6, 0.2))
    torch.testing.assert_close(*large.values(), 3 * next(iter(small.values())))


def test_a_sum_refuses_no_terms_and_two_of_a_name(rng):
    with pytest.raises(ValueError, match="regulariser=none"):
        Sum(terms={})
    with pytest.raises(ValueError, match=r"terms.b yields 'l1'"):
        terms(Sum(terms={"a": L1(), "b": L1()}), rng)


@pytest.mark.parametrize("name", names("regulariser"))
def test_each_config_spells_out_the_defaults(name):
    settings = yaml.safe_load((TREE / "regulariser" / f"{name}.yaml").read_text())
    module, _, kind = settings.pop("_target_").rpartition(".")
    assert module == f"ssl_runner.regulariser.{name}"
    signature = inspect.signature(getattr(importlib.import_module(module), kind)).parameters
    if name != "sum":
        assert settings == {key: p.default for key, p in signature.items()}


def test_the_config_of_a_sum_mounts_those_of_its_terms(composer: Composer):
    content = composer.compose(["regulariser=sum", "+regulariser@regulariser.terms.k=koleo", "pretext=simclr"]).content
    found = content["regulariser"]["terms"]
    assert set(found) == {"variance", "covariance", "k"}
    assert found["variance"] == yaml.safe_load((TREE / "regulariser" / "variance.yaml").read_text())
