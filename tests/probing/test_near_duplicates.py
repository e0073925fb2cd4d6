"""Near duplicates: planted copies and nothing else, hashes and similarity by hand, bounded memory."""

import torch
from evaluator_toys import photographs, saved
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_runner.dataset.shapes import Shapes
from ssl_runner.probing import near_duplicates as duplicates

PHOTOGRAPHS = photographs()


def pairs(query, bank, distance=14, least=0.78):
    return [pair[:3] for pair in duplicates.find_pairs(query, bank, distance=distance, least=least)]


def as_bytes(x):
    return x.round().clamp(0, 255).to(torch.uint8)


def test_planted_copies_are_found_and_nothing_else(rng, monkeypatch):
    bank, query = PHOTOGRAPHS[:200].clone(), PHOTOGRAPHS[200:].clone()
    query[0] = bank[10]
    query[1] = saved(bank[11], format="jpeg", quality=70)
    query[2] = bank[12].roll((1, 1), (1, 2))
    query[3] = as_bytes(bank[13].float() * 0.7 + 40)
    query[4] = bank[14].flip(2)
    query[5] = as_bytes(bank[15].float().mean(0)).expand(3, -1, -1)
    query[6] = as_bytes(bank[16].float() + 6 * torch.randn(3, 32, 32, generator=rng))
    planted = [(i, 10 + i, {0: "exact", 4: "mirrored"}.get(i, "near")) for i in (0, 1, 2, 3, 4, 6)]
    whole = duplicates.find_pairs(query, bank, distance=14, least=0.78)
    assert [pair[:3] for pair in whole if pair[:3] != (5, 15, "near")] == planted  # without its colours: or not
    assert whole[0][3:] == (0, 1)
    monkeypatch.setattr(duplicates, "PART", 12)  # a bank in parts is looked through as a whole
    assert duplicates.find_pairs(query, bank, distance=14, least=0.78) == whole


def test_a_pair_is_of_one_kind():
    bank = PHOTOGRAPHS[:6].clamp(max=250)
    bank[..., 16:] = bank[..., :16].flip(3)  # as like their mirror images as themselves
    assert pairs(bank + 1, bank, distance=64) == [(i, i, "near") for i in range(6)]
    copies = PHOTOGRAPHS[:1].expand(10, -1, -1, -1)
    assert pairs(copies[:1], copies) == [(0, i, "exact") for i in range(duplicates.CANDIDATES)]


def test_flat_images_and_those_of_one_class_are_no_copies_but_by_their_bytes(rng):
    levels = torch.randint(20, 230, (60, 3, 1, 1), generator=rng)
    x = as_bytes(levels + torch.randint(-2, 3, (60, 3, 32, 32), generator=rng))
    ramp = torch.linspace(-1, 1, 32) * torch.randint(8, 60, (60, 1, 1, 1), generator=rng)
    ramps = as_bytes(levels.clamp(70, 180) + ramp + 3 * torch.randn(60, 3, 32, 32, generator=rng))
    assert pairs(x[:30], x[30:], distance=64) == []
    plain = torch.full((3, 3, 32, 32), 7, dtype=torch.uint8)
    assert pairs(plain[:1], plain[1:], distance=64) == [(0, 0, "exact"), (0, 1, "exact")]
    assert pairs(ramps[:30], ramps[30:], distance=64, least=0.9) == []
    data = Shapes(images=2000, test=400, validation=0.0).load()  # images of one class
    assert pairs(data.test.x, data.bank.x) == []


def test_tiny_images_have_exact_copies_only_and_large_ones_are_compared_as_thumbnails(rng):
    x = torch.randint(255, (20, 1, 8, 8), generator=rng).to(torch.uint8)
    assert pairs(torch.cat([x[:1], x[1:10] + 1]), x) == [(0, 0, "exact")]
    large = as_bytes(nn.functional.interpolate(PHOTOGRAPHS[:60].float(), size=(96, 80), mode="bilinear"))
    query = large[50:].clone()
    query[3] = saved(large[7], format="jpeg", quality=60)
    assert pairs(query, large[:50]) == [(3, 7, "near")]


def test_similarity_by_hand():
    a = PHOTOGRAPHS[:20]
    grey, faint = a.float() - 128, as_bytes(128 + (a.float() - 128) / 40)
    for one, other, least, most in (
        (a, a, 1, 1),
        (a, 255 - a, 0, 0),  # as unlike as can be: not looked at closer
        (a, PHOTOGRAPHS[20:40], -1, 0.5),
        (a, as_bytes(grey * 0.5 + 128), 0.97, 1),
        (a, a.roll((2, -2), (2, 3)), 0.99, 1),
        (a, a.roll((6, 6), (2, 3)), -1, 0.78),
        (faint, faint, 0, 0),  # a grey level or so is no content
    ):
        values = duplicates.structural_similarity(one, other)
        assert least - 1e-5 < values.min() <= values.max() < most + 1e-5


def test_hash_distance_is_hamming_distance_in_pieces_and_at_once(monkeypatch):
    """Against a loop over bits, and no more candidates of a row than the nearest."""
    hashed = duplicates.perceptual_hashes(PHOTOGRAPHS)
    assert hashed.unique().tolist() == [-1, 1]
    assert hashed.sum(1).tolist() == [0] * 300  # the median parts them in two
    whole = duplicates.nearest_hashes(hashed[:50], hashed[50:], 26)
    for row in range(5):
        bits = [(int((hashed[row] != other).sum()), place) for place, other in enumerate(hashed[50:])]
        nearest = sorted(pair for pair in bits if pair[0] <= 26)[: duplicates.CANDIDATES]
        assert [(d, place) for q, place, d in whole.tolist() if q == row] == nearest
    assert len(whole) > 50
    monkeypatch.setattr(duplicates, "CELLS", 7 * 250)
    assert torch.equal(duplicates.nearest_hashes(hashed[:50], hashed[50:], 26), whole)


def test_candidates_of_equal_hashes_are_the_first_and_no_matrix_grows_with_the_pairs(monkeypatch):
    """Nor are the largest keys wrong: hashes as far apart as can be, in the last rows of the largest part."""
    sizes, last = [], duplicates.PART - 9

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(each.numel() for each in (result if isinstance(result, tuple | list) else [result]))
            return result

    bank = torch.ones(duplicates.PART, 64)
    bank[-9:] = -1
    bank[-2:, 0] = 1
    nearest = [[last + place, 0] for place in range(7)] + [[last + 7, 1]]
    assert duplicates.nearest_hashes(-bank[:1], bank, 64)[:, 1:].tolist() == nearest
    assert duplicates.nearest_hashes(-bank[:1], bank[:-9], 64)[:, 1:].tolist() == [[place, 64] for place in range(8)]
    monkeypatch.setattr(duplicates, "CELLS", 64 * 100)
    with Watched():
        nearest = duplicates.nearest_hashes(torch.ones(70, 64), torch.ones(100, 64), 14)
    assert nearest.tolist() == [[row, other, 0] for row in range(70) for other in range(duplicates.CANDIDATES)]
    assert max(sizes) <= duplicates.CELLS
