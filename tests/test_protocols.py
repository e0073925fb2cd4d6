"""Protocols on frozen features: clusters, factors, corruptions and leaks, against hand-solved and planted cases."""

import csv
import io
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_runner.augment.image.corruption import CORRUPTIONS, STRENGTHS, corrupt
from ssl_runner.contract import Encoder, Features, Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.duration import Duration
from ssl_runner.evaluator.cluster import Cluster
from ssl_runner.evaluator.factors import Factors
from ssl_runner.evaluator.leakage import Leakage
from ssl_runner.evaluator.robustness import Robustness
from ssl_runner.probing import near_duplicates as duplicates
from ssl_runner.probing.near_duplicates import pairs
from ssl_runner.probing.similarity import structural

CONF = Path(__file__).parents[1] / "conf" / "evaluator"
EVERY = Duration.parse("10%")
KINDS = tuple(CORRUPTIONS)


class Pixels(Encoder):
    """The mean colour and a coarse picture of an image as its features."""

    dim = 3 * 16

    def __init__(self, channels=3):
        super().__init__((0.0,) * channels, (1.0,) * channels)
        self.layer = nn.Linear(2, 2)
        self.seen = []

    def forward(self, x, keep=None):
        self.seen.append(x)
        pooled = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return Features(pooled, pooled[:, None], (1,))


def encoded(encoder):
    return lambda rows: encoder(rows[torch.arange(len(rows))].float() / 255).pooled


def same(x):
    return x.float()


@pytest.fixture(scope="module")
def shapes():
    return Shapes(images=400, test=200, validation=0.0).load()


@pytest.fixture(scope="module")
def photographs():
    """300 images with something in every corner: coarse random colours, finer ones on them, and noise."""
    rng = torch.Generator().manual_seed(0)

    def field(size, amount):
        coarse = amount * torch.randn(300, 3, size, size, generator=rng)
        return nn.functional.interpolate(coarse, size=32, mode="bicubic")

    x = 128 + field(4, 40) + field(10, 25) + field(32, 4)
    return x.round().clamp(0, 255).to(torch.uint8)


def saved(x, **options):
    """An image through a file."""
    file = io.BytesIO()
    Image.fromarray(x.permute(1, 2, 0).squeeze(2).numpy()).save(file, **options)
    return torch.from_numpy(np.array(Image.open(file))).reshape(*x.shape[1:], len(x)).permute(2, 0, 1)


# Clusters


def cluster(x, y, classes, **settings):
    return Cluster(every=EVERY, query=Split(x, torch.as_tensor(y)), classes=classes, **settings)(Pixels(), same)


def test_clusters_are_matched_to_classes_whatever_their_numbers():
    """Three far points: the classes are a permutation of whatever numbers k-means gives, but for one sample in ten."""
    corners = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    where = torch.tensor([2, 2, 2, 2, 0, 0, 0, 1, 1, 1])
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 0])
    got = cluster(corners[where], y, 3)
    assert got["accuracy"] == pytest.approx(0.9)
    # Of 45 pairs 12 are together in clusters (6 + 3 + 3), 14 in classes (10 + 3 + 1) and 10 in both (6 + 3 + 1).
    chance = 12 * 14 / 45
    assert got["ari"] == pytest.approx((10 - chance) / (13 - chance))
    assert 0 < got["nmi"] < 1
    assert cluster(corners[where], where, 3) == pytest.approx({"accuracy": 1, "nmi": 1, "ari": 1})


def test_matching_is_the_best_one_to_one():
    """A greedy matching would give cluster 0 to class 0 (5), and leave 0 of class 1 for cluster 1."""
    x = torch.tensor([[1.0, 0]] * 9 + [[0, 1.0]] * 4)
    y = torch.tensor([0] * 5 + [1] * 4 + [0] * 4)
    assert cluster(x, y, 2)["accuracy"] == pytest.approx(8 / 13)


def test_more_clusters_than_classes_leave_some_without_a_class():
    x = torch.eye(4)[torch.arange(40) % 4]
    assert cluster(x, torch.arange(40) % 2, 2, clusters=4)["accuracy"] == 0.5
    assert cluster(x, torch.arange(40) % 2, 2, clusters=4)["nmi"] == pytest.approx(2 / 3)


def test_clusters_of_unit_length_do_not_see_how_long_a_feature_is():
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 2
    x = torch.eye(2)[y] * torch.tensor([1.0, 30.0, 900.0])[torch.randint(3, (60, 1), generator=rng)]
    assert cluster(x, y, 2)["accuracy"] == 1
    assert cluster(x, y, 2, normalise=False)["accuracy"] < 1


def test_clusters_of_a_collapsed_encoder_are_the_largest_class():
    got = cluster(torch.ones(10, 4), [0] * 6 + [1] * 4, 2)
    assert got == pytest.approx({"accuracy": 0.6, "nmi": 0, "ari": 0})


def test_clusters_by_chance():
    rng = torch.Generator().manual_seed(0)
    got = cluster(torch.randn(600, 8, generator=rng), torch.randint(3, (600,), generator=rng), 3)
    assert abs(got["ari"]) < 0.02
    assert 1 / 3 < got["accuracy"] < 0.45


# Factors


def planted(n, seed):
    """Features that hold `seen`, half of `noisy`, the angle `hue` and the class `kind`, and nothing of `unseen`."""
    rng = torch.Generator().manual_seed(seed)
    seen, unseen, noisy = (torch.randn(n, *size, generator=rng) for size in ((2,), (), ()))
    hue, kind = torch.rand(n, generator=rng), torch.randint(4, (n,), generator=rng)
    angle = 2 * torch.pi * hue
    parts = [seen, (noisy + torch.randn(n, generator=rng))[:, None], torch.stack([angle.cos(), angle.sin()], 1)]
    x = torch.cat([*parts, torch.eye(4)[kind], torch.randn(n, 3, generator=rng)], 1)
    x = x @ torch.randn(x.shape[1], 20, generator=torch.Generator().manual_seed(9))
    factors = {"seen": seen, "unseen": unseen, "noisy": noisy, "hue": hue, "kind": kind}
    return Split(x, kind, factors)


def factors(bank, query, **settings):
    return Factors(every=EVERY, bank=bank, query=query, **settings)(Pixels(), same)


def test_factors_are_read_off_where_they_were_planted():
    got = factors(planted(1500, 0), planted(1000, 1))
    assert list(got) == ["mean", "seen", "unseen", "noisy", "hue", "kind"]
    assert got["seen"] > 0.999
    assert got["kind"] == 1
    assert got["hue"] > 0.999
    assert got["noisy"] == pytest.approx(0.5, abs=0.05)
    assert got["unseen"] == pytest.approx(0, abs=0.02)
    assert got["mean"] == pytest.approx(sum(v for k, v in got.items() if k != "mean") / 5)
    plain = factors(planted(1500, 0), planted(1000, 1), circular=())
    assert plain["hue"] < 0.7  # an angle that is read as a number breaks where it starts anew


def test_an_angle_has_no_beginning():
    bank, query = planted(1500, 0), planted(1000, 1)
    moved = [Split(s.x, s.y, {**s.factors, "hue": (s.factors["hue"] + 0.37) % 1}) for s in (bank, query)]
    assert factors(*moved)["hue"] == pytest.approx(factors(bank, query)["hue"], abs=1e-3)


def test_a_continuous_factor_scores_what_scikit_learn_scores():
    bank, query = planted(300, 0), planted(200, 1)
    got = factors(bank, query, l2=(1e-2,))
    x, z = bank.x.double(), query.x.double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    peer = Ridge(1e-2 * 300)
    for name in ("seen", "noisy"):
        guess = peer.fit((x - mean) / deviation, bank.factors[name].double()).predict((z - mean) / deviation)
        r2 = r2_score(query.factors[name].double().numpy(), guess, multioutput="variance_weighted")
        assert got[name] == pytest.approx(r2, abs=1e-6)


def test_ridge_strength_is_chosen_for_what_was_not_fitted():
    """Forty rows and sixty features of noise: the weakest penalty fits them all and reads nothing off."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(240, 60, generator=rng)
    z = x[:, 0] + 0.5 * torch.randn(240, generator=rng)
    bank, query = (Split(x[s], torch.zeros(len(x[s])).long(), {"z": z[s]}) for s in (slice(40), slice(40, None)))
    weak, strong, both = (factors(bank, query, l2=l2, circular=())["z"] for l2 in ((1e-6,), (1.0,), (1e-6, 1.0)))
    assert strong > weak + 0.05
    assert both == strong


def test_the_scale_of_a_categorical_factor_begins_at_the_commonest_value():
    """Features that tell nothing score 0 and not 0.7, where 70 % are of one kind."""
    kind = torch.tensor([0] * 70 + [1] * 30)
    split = Split(torch.ones(100, 3), kind, {"kind": kind})
    assert factors(split, split, circular=()) == {"kind": 0.0, "mean": 0.0}
    half = torch.zeros(100, 1)
    half[70:85] = 1  # half of the 30 are known: (0.85 - 0.7) / 0.3
    split = Split(half, kind, {"kind": kind})
    assert factors(split, split, circular=())["kind"] == pytest.approx(0.5)


def test_a_factor_that_does_not_vary_is_left_out():
    bank, query = planted(200, 0), planted(100, 1)
    query = Split(query.x, query.y, {**query.factors, "seen": torch.ones(100, 2), "kind": torch.ones(100).long()})
    assert set(factors(bank, query)) == {"unseen", "noisy", "hue", "mean"}
    with pytest.raises(ValueError, match="no factor varies"):
        factors(bank, Split(query.x[:1], query.y[:1], {name: each[:1] for name, each in query.factors.items()}))


def test_a_dataset_without_factors_is_refused():
    bare = Split(torch.zeros(9, 3), torch.zeros(9).long())
    with pytest.raises(ValueError, match="use dataset=shapes"):
        factors(bare, bare)
    known = planted(20, 0)
    with pytest.raises(ValueError, match=r"'turn'.*seen, unseen"):
        factors(known, known, circular=("turn",))


def test_colour_is_read_off_pixels_of_shapes(shapes):
    encoder = Pixels()
    got = Factors(every=EVERY, bank=shapes.bank, query=shapes.test)(encoder, encoded(encoder))
    assert set(got) == {*shapes.bank.factors, "mean"}
    assert got["background"] > 0.5 > got["shape"]


# Corruptions


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_grows_with_its_strength(kind, photographs):
    x = photographs[:40].float() / 255
    results = [corrupt(x, kind, strength, torch.Generator().manual_seed(0)) for strength in STRENGTHS]
    changes = [(x - each).square().mean().item() for each in results]
    assert changes[0] > 0
    assert changes == sorted(changes)
    assert len(set(changes)) == 5
    for each in results:
        assert each.shape == x.shape
        assert each.min() >= 0
        assert each.max() <= 1
        torch.testing.assert_close(each * 255, (each * 255).round(), atol=1e-3, rtol=0)
    again = corrupt(x, kind, 5, torch.Generator().manual_seed(0))
    assert torch.equal(again, results[-1])
    assert torch.equal(corrupt(x[:, :1], kind, 3, torch.Generator()).isfinite(), torch.ones_like(x[:, :1]).bool())


@pytest.mark.parametrize("kind", ["noise", "occlusion"])
def test_each_image_has_a_draw_of_its_own(kind):
    x = torch.full((50, 3, 32, 32), 0.25)
    first = corrupt(x, kind, 5, torch.Generator().manual_seed(0))
    assert len({each.numpy().tobytes() for each in first}) > 40
    other = corrupt(x, kind, 5, torch.Generator().manual_seed(1))
    assert not torch.equal(first, other)


def test_noise_is_centred_and_as_strong_as_it_says():
    x = torch.full((100, 3, 32, 32), 0.5)
    for strength, deviation in zip(STRENGTHS, CORRUPTIONS["noise"][1], strict=True):
        change = corrupt(x, "noise", strength, torch.Generator().manual_seed(0)) - x
        assert abs(change.mean()) < 4 * deviation / len(x.flatten()) ** 0.5 + 0.5 / 255  # 0.5 lies between two bytes
        assert change.std() == pytest.approx(deviation, rel=0.02)


def test_occlusion_lies_anywhere_with_the_same_probability():
    """A square of 20 fits in 13 places a side; its corner is uniform over them, and its area is as it says."""
    hidden = corrupt(torch.zeros(2600, 1, 32, 32), "occlusion", 5, torch.Generator().manual_seed(0))[:, 0] > 0
    assert torch.equal(hidden.sum((1, 2)), torch.full((2600,), 400))
    for axis in (1, 2):
        first = hidden.any(axis).int().argmax(1)
        counts = first.bincount(minlength=13)
        assert len(counts) == 13
        assert ((counts - 200).abs() < 4.5 * 200**0.5).all()


def test_brightness_leaves_hue_and_saturation():
    x = torch.tensor([0.4, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    got = CORRUPTIONS["brightness"][0](x, 0.2, torch.Generator())[0, :, 0, 0]
    torch.testing.assert_close(got, torch.tensor([0.6, 0.3, 0.15]))
    black = CORRUPTIONS["brightness"][0](torch.zeros(1, 3, 2, 2), 0.2, torch.Generator())
    torch.testing.assert_close(black, torch.full((1, 3, 2, 2), 0.2))


def test_contrast_keeps_the_mean_and_blur_keeps_flat_images():
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    got = CORRUPTIONS["contrast"][0](x, 0.3, torch.Generator())
    torch.testing.assert_close(got.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(got.std((2, 3)), 0.3 * x.std((2, 3)))
    flat = torch.full((2, 3, 16, 16), 0.4)
    torch.testing.assert_close(CORRUPTIONS["blur"][0](flat, 1.0, torch.Generator()), flat)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_file_would_hold(photographs, channels):
    x = photographs[:5, :channels]
    ours = corrupt(x.float() / 255, "jpeg", 5, torch.Generator()) * 255
    torch.testing.assert_close(ours, torch.stack([saved(each, format="jpeg", quality=40) for each in x]).float())
    assert (ours - x).abs().mean() > 3


# Robustness


def robustness(bank, query, folder, **settings):
    return Robustness(every=EVERY, bank=bank, query=query, classes=10, folder=folder, **settings)


def test_robustness_names_its_numbers_and_draws_them(shapes, tmp_path):
    encoder = Pixels()
    few = Split(shapes.test.x[:60], shapes.test.y[:60])
    evaluator = robustness(shapes.bank, few, tmp_path / "new" / "folder")
    got = evaluator(encoder, encoded(encoder))
    steps = {f"{reader}_{kind}_{strength}" for reader in ("knn", "probe") for kind in KINDS for strength in STRENGTHS}
    means = {f"{reader}_{kind}" for reader in ("knn", "probe") for kind in (*KINDS, "mean", "clean")}
    assert set(got) == steps | means
    assert evaluator.headline in got
    for reader in ("knn", "probe"):
        for kind in KINDS:
            five = [got[f"{reader}_{kind}_{strength}"] for strength in STRENGTHS]
            assert got[f"{reader}_{kind}"] == pytest.approx(sum(five) / 5)
        assert got[f"{reader}_mean"] == pytest.approx(sum(got[f"{reader}_{kind}"] for kind in KINDS) / 6)
    assert [each.name for each in (tmp_path / "new" / "folder").iterdir()] == ["robustness.png"]
    with Image.open(tmp_path / "new" / "folder" / "robustness.png") as picture:
        assert picture.size[0] > 500
    assert evaluator(encoder, encoded(encoder)) == got


def test_robustness_suffers_where_a_feature_is_hit_and_nowhere_else(tmp_path):
    """The class is the image's contrast. Shrinking it is fatal, a grey square in the corner is not."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    x = 128 + pattern * (20 + 40 * y.view(-1, 1, 1, 1)) + 4 * torch.randn(200, 3, 32, 32, generator=rng)
    bank = Split(x.round().clamp(0, 255).to(torch.uint8), y)

    class Contrast(Pixels):
        def forward(self, x, keep=None):
            pooled = torch.stack([x.std((1, 2, 3)), torch.ones(len(x))], 1)
            return Features(pooled, pooled[:, None], (1,))

    encoder = Contrast()
    got = Robustness(
        every=EVERY, bank=bank, query=bank, classes=2, folder=tmp_path, corruptions=("contrast", "brightness"), k=5
    )(encoder, encoded(encoder))
    assert got["probe_clean"] == 1
    assert got["probe_contrast_5"] == 0.5
    assert got["probe_brightness_1"] == 1
    assert got["probe_mean"] == pytest.approx((got["probe_contrast"] + got["probe_brightness"]) / 2)
    mixed = torch.randperm(200, generator=rng)
    query = Split(bank.x[mixed], y[mixed])
    some = Robustness(
        every=EVERY, bank=bank, query=query, classes=2, folder=tmp_path, corruptions=("brightness",), k=5, samples=50
    )(encoder, encoded(encoder))
    assert some["probe_clean"] == some["knn_clean"] == some["probe_brightness_1"] == 1


def test_robustness_meets_the_same_images_each_time_and_few_at_once(shapes, tmp_path, monkeypatch):
    import ssl_runner.evaluator.robustness as file

    monkeypatch.setattr(file, "AT_ONCE", 16)
    first, second = Pixels(), Pixels()
    for encoder in (first, second):
        torch.manual_seed(len(second.seen))
        evaluator = robustness(shapes.bank, shapes.test, tmp_path, corruptions=("noise",), samples=40)
        evaluator(encoder, lambda rows: torch.rand(len(rows), 48, generator=torch.Generator().manual_seed(0)))
    assert len(first.seen) == 15  # 40 rows in batches of 16, at five strengths
    assert max(len(each) for each in first.seen) == 16
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))


def test_robustness_refuses_what_is_no_image(tmp_path):
    split = Split(torch.zeros(30, 50), torch.zeros(30).long())
    with pytest.raises(ValueError, match="images of 1 or 3 channels"):
        robustness(split, split, tmp_path)(Pixels(), same)


# Leaks


def found(query, bank, distance=14, least=0.78):
    return pairs(query, bank, distance=distance, least=least)


def test_planted_copies_are_found_and_nothing_else(photographs):
    bank, query = photographs[:200].clone(), photographs[200:].clone()
    query[0] = bank[10]
    query[1] = saved(bank[11], format="jpeg", quality=70)
    query[2] = bank[12].roll((1, 1), (1, 2))
    query[3] = (bank[13].float() * 0.7 + 40).round().to(torch.uint8)
    query[4] = bank[14].flip(2)
    query[5] = bank[15].float().mean(0).round().to(torch.uint8).expand(3, -1, -1)
    noise = 6 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
    query[6] = (bank[16].float() + noise).clamp(0, 255).to(torch.uint8)
    got = found(query, bank)
    assert [(p.query, p.bank, p.kind) for p in got] == [
        (0, 10, "exact"),
        (1, 11, "near"),
        (2, 12, "near"),
        (3, 13, "near"),
        (4, 14, "mirrored"),
        *([(5, 15, "near")] if any(p.query == 5 for p in got) else []),  # without its colours it may be one or not
        (6, 16, "near"),
    ]
    assert got[0].distance == 0
    assert got[0].similarity == 1


def test_a_pair_is_of_one_kind(photographs):
    bank = photographs[:6].clamp(max=250)
    bank[..., 16:] = bank[..., :16].flip(3)  # as like their mirror images as themselves
    got = found(bank + 1, bank, distance=64)
    assert [(p.query, p.bank, p.kind) for p in got] == [(i, i, "near") for i in range(6)]
    copies = photographs[:1].expand(10, -1, -1, -1)
    got = found(copies[:1], copies)
    assert [p.kind for p in got] == ["exact"] * duplicates.CANDIDATES


def test_flat_images_are_no_copies_but_by_their_bytes():
    rng = torch.Generator().manual_seed(0)
    levels = torch.randint(20, 230, (60, 3, 1, 1), generator=rng)
    x = (levels + torch.randint(-2, 3, (60, 3, 32, 32), generator=rng)).to(torch.uint8)
    ramp = torch.linspace(-1, 1, 32) * torch.randint(8, 60, (60, 1, 1, 1), generator=rng)
    ramps = (levels.clamp(70, 180) + ramp + 3 * torch.randn(60, 3, 32, 32, generator=rng)).round().to(torch.uint8)
    assert found(x[:30], x[30:], distance=64) == []
    plain = torch.full((3, 3, 32, 32), 7, dtype=torch.uint8)
    assert {p.kind for p in found(plain[:1], plain[1:], distance=64)} == {"exact"}
    assert found(ramps[:30], ramps[30:], distance=64, least=0.9) == []


def test_images_of_one_class_are_no_copies():
    data = Shapes(images=2000, test=400, validation=0.0).load()
    assert found(data.test.x, data.bank.x) == []


def test_tiny_images_have_exact_copies_only():
    x = torch.randint(255, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    query = x[:10].clone()
    query[1:] += 1
    assert [(p.query, p.bank, p.kind) for p in found(query, x)] == [(0, 0, "exact")]


def test_larger_images_are_compared_as_thumbnails(photographs):
    large = nn.functional.interpolate(photographs[:60].float(), size=(96, 80), mode="bilinear")
    large = large.round().clamp(0, 255).to(torch.uint8)
    query = large[50:].clone()
    query[3] = saved(large[7], format="jpeg", quality=60)
    assert [(p.query, p.bank, p.kind) for p in found(query, large[:50])] == [(3, 7, "near")]


def test_similarity_by_hand(photographs):
    a, b = photographs[:20], photographs[20:40]
    torch.testing.assert_close(structural(a, a), torch.ones(20))
    negative = structural(a, 255 - a)
    assert (negative == 0).all()  # as unlike as can be: not looked at closer
    assert structural(a, b).max() < 0.5
    faint = (128 + (a.float() - 128) / 40).round().to(torch.uint8)
    assert (structural(faint, faint) == 0).all()  # a grey level or so is no content
    half = ((a.float() - 128) * 0.5 + 128).round().to(torch.uint8)
    assert structural(a, half).min() > 0.97
    assert structural(a, a.roll((2, -2), (2, 3))).min() > 0.99
    assert structural(a, a.roll((6, 6), (2, 3))).max() < 0.78


def test_hash_distance_is_hamming_distance(photographs):
    """Against a loop over bits, and no more candidates of a row than the nearest."""
    hashed = duplicates.hashes(photographs)
    assert set(hashed.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal((hashed > 0).sum(1), torch.full((300,), 32))  # the median parts them in two
    got = duplicates.candidates(hashed[:5], hashed[5:], 26)
    for row in range(5):
        bits = [(int((hashed[row] != other).sum()), place) for place, other in enumerate(hashed[5:])]
        nearest = sorted(pair for pair in bits if pair[0] <= 26)[: duplicates.CANDIDATES]
        assert [(d, place) for q, place, d in got.tolist() if q == row] == nearest
    assert len(got) > 5


def test_candidates_in_pieces_are_candidates_at_once(photographs, monkeypatch):
    hashed = duplicates.hashes(photographs)
    whole = duplicates.candidates(hashed[:50], hashed[50:], 24)
    monkeypatch.setattr(duplicates, "CELLS", 7 * 250)
    assert torch.equal(duplicates.candidates(hashed[:50], hashed[50:], 24), whole)


def test_no_matrix_is_larger_than_allowed_however_many_hashes_are_alike(monkeypatch):
    """Flat images all have one hash: candidates are the first of the bank, and nothing grows with the pairs."""
    sizes = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            sizes.extend(each.numel() for each in (made if isinstance(made, tuple | list) else [made]))
            return made

    monkeypatch.setattr(duplicates, "CELLS", 64 * 100)
    query, bank = torch.ones(70, 64), torch.ones(100, 64)
    with Watched():
        got = duplicates.candidates(query, bank, 14)
    assert got.tolist() == [[row, other, 0] for row in range(70) for other in range(duplicates.CANDIDATES)]
    assert max(sizes) <= duplicates.CELLS


def test_keys_of_candidates_are_exact_at_the_largest_part():
    """Hashes as far apart as can be, in the last rows: the largest keys, where float32 would first be wrong."""
    bank = torch.ones(duplicates.PART, 64)
    bank[-9:] = -1
    bank[-2:, 0] = 1
    got = duplicates.candidates(-bank[:1], bank, 64)
    nearest = [(0, duplicates.PART - 9 + place) for place in range(7)] + [(1, duplicates.PART - 2)]
    assert [(distance, place) for _, place, distance in got.tolist()] == nearest
    got = duplicates.candidates(bank[-1:] * 0 - bank[:1], bank[:-9], 64)
    assert got[:, 1:].tolist() == [[place, 64] for place in range(8)]


def test_a_bank_in_parts_is_looked_through_as_a_whole(photographs, monkeypatch):
    bank, query = photographs[:200], photographs[200:].clone()
    query[0], query[1], query[2] = bank[10], bank[150].flip(2), saved(bank[199], format="jpeg", quality=70)
    whole = found(query, bank)
    assert [(p.query, p.bank, p.kind) for p in whole] == [(0, 10, "exact"), (1, 150, "mirrored"), (2, 199, "near")]
    monkeypatch.setattr(duplicates, "PART", 60)
    assert found(query, bank) == whole


def leakage(bank, query, folder, train=None, **settings):
    train = bank.x if train is None else train
    return Leakage(every=EVERY, bank=bank, query=query, train=train, classes=4, folder=folder, k=1, **settings)


def test_leakage_counts_lists_and_measures_without(photographs, tmp_path):
    """Labels are drawn by lot: only copies can be right by more than chance. One copy has another label."""
    rng = torch.Generator().manual_seed(1)
    y = torch.randint(4, (300,), generator=rng)
    bank, query = Split(photographs[:200].clone(), y[:200].clone()), Split(photographs[200:].clone(), y[200:].clone())
    query.x[:20], query.y[:20] = bank.x[:20], bank.y[:20]
    bank.x[100], bank.y[100] = saved(bank.x[0], format="jpeg", quality=70), bank.y[0]  # its row is exact all the same
    query.x[20] = saved(bank.x[20], format="jpeg", quality=70)
    query.y[20] = (bank.y[20] + 1) % 4
    query.x[21], query.y[21] = bank.x[21].flip(2), bank.y[21]
    encoder = Pixels()
    got = leakage(bank, query, tmp_path / "deep" / "folder")(encoder, encoded(encoder))
    assert {name: got[name] for name in ("leaked", "exact", "near", "mirrored", "conflicting")} == {
        "leaked": 22,
        "exact": 20,
        "near": 1,
        "mirrored": 1,
        "conflicting": 1,
    }
    assert got["leaked_share"] == 0.22
    assert got["conflicting_share"] == 0.01
    # Whole: 20 copies are right, and 80 others have what they have.
    right = got["knn_top1_clean"] * 78
    assert right == pytest.approx(round(right))
    assert right < 0.45 * 78
    assert 20 + right <= got["knn_top1"] * 100 <= 20 + right + 1
    assert got["probe_top1"] > got["probe_top1_clean"]
    with (tmp_path / "deep" / "folder" / "duplicates.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["kind"], row["query_row"], row["bank_row"]) for row in table[20:]] == [
        ("exact", "19", "19"),
        ("near", "20", "20"),
        ("mirrored", "21", "21"),
    ]
    assert int(table[21]["query_label"]) == query.y[20]
    assert int(table[21]["bank_label"]) == bank.y[20]
    with Image.open(tmp_path / "deep" / "folder" / "duplicates.png") as picture:
        assert picture.size[0] > 1000
    assert not encoder.training or all(p.grad is None for p in encoder.parameters())


def test_leakage_of_all_and_of_none(photographs, tmp_path):
    y = torch.arange(300) % 4
    everything = Split(photographs, y)
    got = leakage(everything, everything, tmp_path)(Pixels(), encoded(Pixels()))
    assert got["leaked_share"] == got["exact_share"] == 1
    assert "knn_top1_clean" not in got
    assert (tmp_path / "duplicates.png").exists()
    parts = Split(photographs[:200], y[:200]), Split(photographs[200:], y[200:])
    got = leakage(*parts, tmp_path)(Pixels(), encoded(Pixels()))
    assert got["leaked"] == 0
    assert got["knn_top1_clean"] == got["knn_top1"]
    assert got["probe_top1_clean"] == got["probe_top1"]
    assert (tmp_path / "duplicates.csv").read_text().count("\n") == 1
    assert not (tmp_path / "duplicates.png").exists()  # the one of before would lie


def test_copies_among_the_images_learnt_from_are_found_too(photographs, tmp_path):
    """The bank is a small labelled part beside them, and clean but for one row; three others were pretrained on."""
    y = torch.arange(300) % 4
    bank, train = Split(photographs[:40], y[:40]), photographs[40:200]
    query = Split(photographs[200:].clone(), y[200:].clone())
    query.x[0], query.y[0] = bank.x[5], bank.y[5]
    query.x[1], query.x[2] = train[7], train[8].flip(2)
    query.x[3] = saved(train[9], format="jpeg", quality=70)
    query.x[4] = bank.x[6]
    encoder = Pixels()
    got = leakage(bank, query, tmp_path, torch.cat([train, bank.x[6:7]]))(encoder, encoded(encoder))
    assert (got["leaked"], got["pretrained_on"], got["pretrained_on_share"]) == (2, 4, 0.04)
    features = [encoded(encoder)(rows) for rows in (bank.x, query.x)]
    near = nn.functional.normalize(features[1], dim=1) @ nn.functional.normalize(features[0], dim=1).T
    right = bank.y[near.argmax(1)] == query.y
    assert got["knn_top1_unseen"] == pytest.approx(float(right[5:].float().mean()))  # neither there nor in the bank
    clean = torch.cat([right[1:4], right[5:]])
    assert got["knn_top1_clean"] == pytest.approx(float(clean.float().mean()))
    assert "probe_top1_unseen" in got
    with (tmp_path / "pretrained_on.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["kind"], row["query_row"], row["train_row"]) for row in table] == [
        ("exact", "1", "7"),
        ("mirrored", "2", "8"),
        ("near", "3", "9"),
        ("exact", "4", "160"),
    ]
    assert int(table[0]["query_label"]) == query.y[1]
    assert "train_label" not in table[0]
    with Image.open(tmp_path / "pretrained_on.png") as picture:
        assert picture.size[0] > 1000


def test_training_rows_that_are_the_banks_are_not_looked_through_again(photographs, tmp_path, monkeypatch):
    import ssl_runner.evaluator.leakage as file

    asked, looked = [], file.pairs
    monkeypatch.setattr(file, "pairs", lambda *rows, **limits: asked.append(rows) or looked(*rows, **limits))
    y = torch.arange(300) % 4
    bank, query = Split(photographs[:40], y[:40]), Split(photographs[200:], y[200:])
    for train in (bank.x, bank.x.clone()):
        got = leakage(bank, query, tmp_path, train)(Pixels(), encoded(Pixels()))
        assert not any("pretrained" in name or "unseen" in name for name in got)
    assert len(asked) == 2
    assert not (tmp_path / "pretrained_on.csv").exists()


def test_leakage_refuses_what_is_no_image(tmp_path):
    split = Split(torch.zeros(30, 50), torch.zeros(30).long())
    with pytest.raises(ValueError, match="uint8 images"):
        leakage(split, split, tmp_path)(Pixels(), same)


# All of them


ALL = {"cluster": Cluster, "factors": Factors, "robustness": Robustness, "leakage": Leakage}


def built(name, split, folder, **settings):
    had = {"bank": split, "query": split, "train": split.x, "classes": 1, "folder": folder}
    wanted = signature(ALL[name].__init__).parameters
    return ALL[name](every=EVERY, **{key: value for key, value in had.items() if key in wanted}, **settings)


@pytest.mark.parametrize("name", ALL)
def test_a_protocol_can_be_checked_before_there_are_samples(name, tmp_path):
    rows = torch.zeros(1, dtype=torch.int64).expand(50)
    built(name, Split(rows, rows, dict.fromkeys(("hue", "shape"), rows)), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ALL)
def test_a_feature_that_is_not_finite_is_refused(name, shapes, tmp_path):
    with pytest.raises(FloatingPointError, match="diverged"):
        built(name, shapes.test, tmp_path)(Pixels(), lambda x: torch.full((len(x), 4), torch.nan))


@pytest.mark.parametrize("name", ALL)
def test_encoder_and_generators_are_left_as_found(name, shapes, tmp_path):
    encoder = Pixels().eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state, drawn = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  it is what must not change
    settings = {"corruptions": ("noise",)} if name == "robustness" else {}
    had = {"bank": shapes.bank, "query": shapes.test, "train": shapes.train, "classes": 10, "folder": tmp_path}
    wanted = signature(ALL[name].__init__).parameters
    evaluator = ALL[name](every=EVERY, **{k: v for k, v in had.items() if k in wanted}, **settings)
    first = evaluator(encoder, encoded(encoder))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], drawn)  # noqa: NPY002
    torch.manual_seed(5)
    assert evaluator(encoder, encoded(encoder)) == first
    assert all(type(value) is float for value in first.values())
    assert evaluator.headline in first
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("name", "few"), [("robustness", "k=9"), ("leakage", "k=9"), ("cluster", "clusters=9")])
def test_refusals_say_what_to_type(name, few, tmp_path):
    x, y = torch.zeros(9, 3, 32, 32, dtype=torch.uint8), torch.zeros(9, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"use evaluator.{name}.{few}"):
        built(name, Split(x, y), tmp_path, **({"clusters": 10} if name == "cluster" else {}))


@pytest.mark.parametrize("name", ALL)
def test_yaml_spells_out_the_defaults(name):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert list(node) == [name]
    node = node[name]
    kind = ALL[name]
    assert node.pop("_target_") == f"{kind.__module__}.{kind.__name__}"
    Duration.parse(node["every"])
    hints = get_type_hints(kind.__init__, include_extras=True)
    assert set(node) == set(hints) - {"return", "bank", "query", "train", "classes", "folder"}
    parameters = signature(kind.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in node.items() if key != "every"} == defaults
