"""Near duplicates: planted copies and nothing else, hashes and similarity by hand, bounded memory."""

import torch
from evaluator_toys import photographs, saved
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_runner.dataset.shapes import Shapes
from ssl_runner.probing import near_duplicates as duplicates
from ssl_runner.probing.near_duplicates import find_pairs
from ssl_runner.probing.similarity import structural_similarity

PHOTOGRAPHS = photographs()


def found(query, bank, distance=14, least=0.78):
    return find_pairs(query, bank, distance=distance, least=least)


def test_planted_copies_are_found_and_nothing_else():
    bank, query = PHOTOGRAPHS[:200].clone(), PHOTOGRAPHS[200:].clone()
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


def test_a_pair_is_of_one_kind():
    bank = PHOTOGRAPHS[:6].clamp(max=250)
    bank[..., 16:] = bank[..., :16].flip(3)  # as like their mirror images as themselves
    got = found(bank + 1, bank, distance=64)
    assert [(p.query, p.bank, p.kind) for p in got] == [(i, i, "near") for i in range(6)]
    copies = PHOTOGRAPHS[:1].expand(10, -1, -1, -1)
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


def test_larger_images_are_compared_as_thumbnails():
    large = nn.functional.interpolate(PHOTOGRAPHS[:60].float(), size=(96, 80), mode="bilinear")
    large = large.round().clamp(0, 255).to(torch.uint8)
    query = large[50:].clone()
    query[3] = saved(large[7], format="jpeg", quality=60)
    assert [(p.query, p.bank, p.kind) for p in found(query, large[:50])] == [(3, 7, "near")]


def test_similarity_by_hand():
    a, b = PHOTOGRAPHS[:20], PHOTOGRAPHS[20:40]
    torch.testing.assert_close(structural_similarity(a, a), torch.ones(20))
    negative = structural_similarity(a, 255 - a)
    assert (negative == 0).all()  # as unlike as can be: not looked at closer
    assert structural_similarity(a, b).max() < 0.5
    faint = (128 + (a.float() - 128) / 40).round().to(torch.uint8)
    assert (structural_similarity(faint, faint) == 0).all()  # a grey level or so is no content
    half = ((a.float() - 128) * 0.5 + 128).round().to(torch.uint8)
    assert structural_similarity(a, half).min() > 0.97
    assert structural_similarity(a, a.roll((2, -2), (2, 3))).min() > 0.99
    assert structural_similarity(a, a.roll((6, 6), (2, 3))).max() < 0.78


def test_hash_distance_is_hamming_distance():
    """Against a loop over bits, and no more candidates of a row than the nearest."""
    hashed = duplicates.perceptual_hashes(PHOTOGRAPHS)
    assert set(hashed.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal((hashed > 0).sum(1), torch.full((300,), 32))  # the median parts them in two
    got = duplicates.nearest_hashes(hashed[:5], hashed[5:], 26)
    for row in range(5):
        bits = [(int((hashed[row] != other).sum()), place) for place, other in enumerate(hashed[5:])]
        nearest = sorted(pair for pair in bits if pair[0] <= 26)[: duplicates.CANDIDATES]
        assert [(d, place) for q, place, d in got.tolist() if q == row] == nearest
    assert len(got) > 5


def test_candidates_in_pieces_are_candidates_at_once(monkeypatch):
    hashed = duplicates.perceptual_hashes(PHOTOGRAPHS)
    whole = duplicates.nearest_hashes(hashed[:50], hashed[50:], 24)
    monkeypatch.setattr(duplicates, "CELLS", 7 * 250)
    assert torch.equal(duplicates.nearest_hashes(hashed[:50], hashed[50:], 24), whole)


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
        got = duplicates.nearest_hashes(query, bank, 14)
    assert got.tolist() == [[row, other, 0] for row in range(70) for other in range(duplicates.CANDIDATES)]
    assert max(sizes) <= duplicates.CELLS


def test_keys_of_candidates_are_exact_at_the_largest_part():
    """Hashes as far apart as can be, in the last rows: the largest keys, where float32 would first be wrong."""
    bank = torch.ones(duplicates.PART, 64)
    bank[-9:] = -1
    bank[-2:, 0] = 1
    got = duplicates.nearest_hashes(-bank[:1], bank, 64)
    nearest = [(0, duplicates.PART - 9 + place) for place in range(7)] + [(1, duplicates.PART - 2)]
    assert [(distance, place) for _, place, distance in got.tolist()] == nearest
    got = duplicates.nearest_hashes(bank[-1:] * 0 - bank[:1], bank[:-9], 64)
    assert got[:, 1:].tolist() == [[place, 64] for place in range(8)]


def test_a_bank_in_parts_is_looked_through_as_a_whole(monkeypatch):
    bank, query = PHOTOGRAPHS[:200], PHOTOGRAPHS[200:].clone()
    query[0], query[1], query[2] = bank[10], bank[150].flip(2), saved(bank[199], format="jpeg", quality=70)
    whole = found(query, bank)
    assert [(p.query, p.bank, p.kind) for p in whole] == [(0, 10, "exact"), (1, 150, "mirrored"), (2, 199, "near")]
    monkeypatch.setattr(duplicates, "PART", 60)
    assert found(query, bank) == whole
