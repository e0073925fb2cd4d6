"""Factors read off where they were planted, against scikit-learn and by hand."""

import pytest
import torch
from evaluator_toys import EVERY, Pixels, encoded, numbers
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from ssl_runner.contract import Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.evaluator.factors import Factors


def planted(n, seed):
    """Features that hold `seen`, half of `noisy`, the angle `hue` and the class `kind`, and nothing of `unseen`."""
    rng = torch.Generator().manual_seed(seed)
    seen, unseen, noisy = (torch.randn(n, *size, generator=rng) for size in ((2,), (), ()))
    hue, kind = torch.rand(n, generator=rng), torch.randint(4, (n,), generator=rng)
    angle = 2 * torch.pi * hue
    parts = [seen, (noisy + torch.randn(n, generator=rng))[:, None], torch.stack([angle.cos(), angle.sin()], 1)]
    x = torch.cat([*parts, torch.eye(4)[kind], torch.randn(n, 3, generator=rng)], 1)
    x = x @ torch.randn(x.shape[1], 20, generator=torch.Generator().manual_seed(9))
    return Split(x, kind, {"seen": seen, "unseen": unseen, "noisy": noisy, "hue": hue, "kind": kind})


def factors(bank, query, **settings):
    return numbers(Factors(every=EVERY, bank=bank, query=query, **settings))


def test_factors_are_read_off_where_they_were_planted():
    bank, query = planted(1500, 0), planted(1000, 1)
    values = factors(bank, query)
    assert list(values) == ["mean", "seen", "unseen", "noisy", "hue", "kind"]
    assert values["seen"] > 0.999
    assert values["kind"] == 1
    assert values["hue"] > 0.999
    assert values["noisy"] == pytest.approx(0.5, abs=0.05)
    assert values["unseen"] == pytest.approx(0, abs=0.02)
    assert values["mean"] == pytest.approx(sum(v for k, v in values.items() if k != "mean") / 5)
    assert factors(bank, query, circular=())["hue"] < 0.7  # an angle read as a number breaks where it starts anew
    moved = [Split(s.x, s.y, {**s.targets, "hue": (s.targets["hue"] + 0.37) % 1}) for s in (bank, query)]
    assert factors(*moved)["hue"] == pytest.approx(values["hue"], abs=1e-3)


def test_a_continuous_factor_scores_what_scikit_learn_scores():
    bank, query = planted(300, 0), planted(200, 1)
    values = factors(bank, query, l2=(1e-2,))
    x, z = bank.x.double(), query.x.double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    for name in ("seen", "noisy"):
        peer = Ridge(1e-2 * 300).fit((x - mean) / deviation, bank.targets[name].double())
        truth, guess = query.targets[name].double().numpy(), peer.predict((z - mean) / deviation)
        assert values[name] == pytest.approx(r2_score(truth, guess, multioutput="variance_weighted"), abs=1e-6)


def test_the_strength_is_chosen_for_rows_that_were_not_fitted():
    """Forty rows and sixty features of noise: the weakest penalty fits them all and reads nothing off."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(240, 60, generator=rng)
    z = x[:, 0] + 0.5 * torch.randn(240, generator=rng)
    bank, query = (Split(x[s], targets={"z": z[s]}) for s in (slice(40), slice(40, None)))
    weak, strong, both = (factors(bank, query, l2=l2, circular=())["z"] for l2 in ((1e-6,), (1.0,), (1e-6, 1.0)))
    assert strong > weak + 0.05
    assert both == strong


def test_the_scale_of_a_categorical_factor_begins_at_the_commonest_value():
    """Features that tell nothing score 0 and not 0.7 if 70 % are of one kind."""
    kind = torch.tensor([0] * 70 + [1] * 30)
    split = Split(torch.ones(100, 3), kind, {"kind": kind})
    assert factors(split, split, circular=()) == {"kind": 0.0, "mean": 0.0}
    half = torch.zeros(100, 1)
    half[70:85] = 1  # half of the 30 are known: (0.85 - 0.7) / 0.3
    split = Split(half, kind, {"kind": kind})
    assert factors(split, split, circular=())["kind"] == pytest.approx(0.5)


def test_a_factor_that_does_not_vary_is_left_out():
    bank, query = planted(200, 0), planted(100, 1)
    query = Split(query.x, query.y, {**query.targets, "seen": torch.ones(100, 2), "kind": torch.ones(100).long()})
    assert set(factors(bank, query)) == {"unseen", "noisy", "hue", "mean"}
    with pytest.raises(ValueError, match="no factor varies"):
        factors(bank, Split(query.x[:1], query.y[:1], {name: each[:1] for name, each in query.targets.items()}))


def test_a_dataset_without_factors_is_refused():
    bare, known = Split(torch.zeros(9, 3), torch.zeros(9).long()), planted(20, 0)
    with pytest.raises(ValueError, match="use dataset=shapes"):
        factors(bare, bare)
    with pytest.raises(ValueError, match=r"'turn'.*seen, unseen"):
        factors(known, known, circular=("turn",))


def test_colour_is_read_off_pixels_of_shapes():
    data, encoder = Shapes(images=400, test=200, validation=0.0).load(), Pixels()
    values = numbers(Factors(every=EVERY, bank=data.bank, query=data.test), encoder, encoded(encoder))
    assert set(values) == {*data.bank.targets, "mean"}
    assert values["background"] > 0.5 > values["shape"]
