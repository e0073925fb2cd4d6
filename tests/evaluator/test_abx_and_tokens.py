"""ABX and token probes on rows that can be solved by hand."""

import math

import pytest
import torch
from evaluator_toys import EVERY, KINDS, metrics, numbers
from modality_toys import Words

from ssl_runner.contract import Encoder, Features, Samples, Split
from ssl_runner.evaluator.abx import ABX
from ssl_runner.evaluator.tokens import Tokens, at_times

AUDIO = KINDS["audio"]


class Frames(Encoder):
    """Rows of frames of two numbers each are their own tokens; frames of zeros behind are padding."""

    kinds, dim = ("audio",), 2

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x, keep=None):
        tokens = x.view(len(x), -1, 2)
        real = tokens.abs().sum(2) > 0
        return Features(tokens.sum(1), tokens, (tokens.shape[1],), real)


def abx(split, **settings):
    return numbers(
        ABX(every=EVERY, query=split, sample=AUDIO, **settings),
        Frames(),
        lambda rows: rows.view(len(rows), -1, 2).sum(1),
    )


def anagrams():
    """Classes of the same frames in another order, at two speeds and with padding; the pooled features are the same."""
    one, other = torch.eye(2)[[0, 0, 1, 1]], torch.eye(2)[[1, 1, 0, 0]]
    rows = torch.zeros(8, 8, 2)
    for row in range(8):
        word = (one, other)[row % 2]
        rows[row, : 4 * (1 + row // 4)] = word.repeat_interleave(1 + row // 4, 0)
    return Split(
        rows.view(8, 1, 16), torch.arange(8) % 2, {"speaker": torch.arange(8) // 2 % 2, "pitch": torch.rand(8)}
    )


def test_order_is_seen_by_alignment_alone():
    values = abx(anagrams())
    assert values == {"pooled_any": 0.5, "dtw_any": 0.0}
    assert abx(anagrams(), by="speaker").keys() == {f"{k}_{m}" for k in ("pooled", "dtw") for m in ("within", "across")}
    assert abx(anagrams(), dtw=False) == {"pooled_any": 0.5}


def test_a_factor_that_outweighs_the_class_is_seen_across_and_not_within():
    """Speaker 0 is along one axis and speaker 1 along another; the class is a small turn away from it."""
    y, speaker = torch.arange(16) % 2, torch.arange(16) // 2 % 2
    angle = 1.2 * speaker + 0.3 * torch.where(speaker == 0, y, 1 - y) + 0.001 * torch.arange(16)
    x = torch.stack([angle.cos(), angle.sin()], 1).view(16, 1, 2)
    values = abx(Split(x, y, {"speaker": speaker}), by="speaker")
    # Across speakers X lies beyond both, and the class that is the nearer one for speaker 0 is 1, whichever X is.
    assert (values["pooled_within"], values["pooled_across"]) == (0.0, 0.5)
    assert values["dtw_across"] == 0.5
    assert (
        ABX(every=EVERY, query=Split(x, y, {"speaker": speaker}), sample=AUDIO, by="speaker").headline
        == "pooled_across"
    )


def test_features_without_an_order_err_half_the_time():
    constant = Split(torch.ones(30, 1, 8), torch.arange(30) % 3)
    assert abx(constant) == {"pooled_any": 0.5, "dtw_any": 0.5}
    noise = Split(torch.randn(300, 1, 8, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3)
    assert all(abs(value - 0.5) < 0.03 for value in abx(noise).values())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"by": "speakr"}, "given speakr; possible are speaker, pitch"),
        ({"by": "pitch"}, "by: given pitch, which is of no whole numbers"),
    ],
)
def test_a_factor_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        abx(anagrams(), **settings)


def test_a_query_without_triples_is_refused():
    with pytest.raises(ValueError, match="no triple of A, B and X within speakers in the query; give it more rows"):
        abx(Split(torch.ones(4, 1, 8), torch.arange(4) % 2, {"speaker": torch.arange(4)}), by="speaker")
    with pytest.raises(ValueError, match="the rows have no class"):
        abx(Split(torch.ones(4, 1, 8)))


def spoken(n, seed):
    """Frames that lie along the axis of their class, or are padding; the first frames of each row have no class."""
    rng = torch.Generator().manual_seed(seed)
    classes = torch.randint(2, (n, 10), generator=rng)
    frames = torch.eye(2)[classes] + 0.1 * torch.randn(n, 10, 2, generator=rng)
    lengths = torch.randint(4, 11, (n, 1), generator=rng)
    frames[torch.arange(10) >= lengths] = 0
    classes[:, :2] = -1
    return frames.view(n, 1, 20), classes


def probe(bank, query, sample=AUDIO, encoder=None, **settings):
    return metrics(Tokens(every=EVERY, bank=bank, query=query, sample=sample, **settings), encoder or Frames())


def test_classes_of_tokens_are_read_off_and_padding_is_left_out():
    """Half of the padding has a wrong class; were it counted, no more than 90 % could be right."""
    bank, query = (Split(x, None, {}, {"phone": classes}) for x, classes in (spoken(60, 1), spoken(40, 2)))
    found = probe(bank, query)
    assert found["top1"].value > 0.99
    counts = sum(map(sum, found["top1"].confusion))
    real = query.x.view(40, 10, 2).abs().sum(2) > 0
    assert counts == int((real & (query.tokens["phone"] >= 0)).sum())
    assert found["top1"].majority == pytest.approx(max(map(sum, found["top1"].confusion)) / counts)
    shuffled = Split(query.x, None, {}, {"phone": query.tokens["phone"][torch.randperm(40)].roll(1, 1)})
    assert probe(bank, shuffled)["top1"].value < 0.75, "classes of other tokens are not read off"
    fewer = probe(bank, query, samples=50)
    assert sum(map(sum, fewer["top1"].confusion)) <= 50


def test_a_class_has_the_token_at_the_middle_of_its_time():
    classes = torch.tensor([[0, 1, 2, 3, 4, 5]])
    assert at_times(classes, 6, 1, 6).tolist() == classes.tolist()
    assert at_times(classes, 3, 1, 3).tolist() == [[1, 3, 5]]
    assert at_times(classes, 2, 1, 2).tolist() == [[1, 4]]
    assert at_times(classes, 12, 1, 12).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]]
    assert at_times(classes, 3, 5, 12).tolist() == [[1, 3, -1]], "the middle of the third is behind the row"


def test_a_token_has_the_class_of_its_own_samples():
    """Five tokens of 4 samples cover a row of 18: equal parts would be of 3.6, and the later ones in others."""

    class Hops(Frames):
        hop = 4

        def forward(self, x, keep=None):
            tokens = torch.nn.functional.pad(x, (0, 2)).view(len(x), -1, 4)[:, :, :2]
            return Features(tokens.sum(1), tokens, (tokens.shape[1],))

    classes = torch.arange(18).expand(8, -1).clone()
    split = Split(torch.rand(8, 1, 18) + 0.1, tokens={"phone": classes})
    tokens = Tokens(every=EVERY, bank=split, query=split, sample=Samples("audio", (1, 18), rate=18))
    _, y, _ = tokens.labelled(Hops(), split)
    assert y.view(8, -1)[0].tolist() == [2, 6, 10, 14], "the middle of the fifth is at 18, behind the row"
    x, _ = spoken(40, 1)
    slow = (x.view(40, 10, 2)[:, :, 1] > x.view(40, 10, 2)[:, :, 0]).long().repeat_interleave(3, 1)  # (40, 30)
    split = Split(x, None, {}, {"phone": slow})
    assert probe(split, split)["top1"].value > 0.99


def test_the_choice_is_made_on_other_rows_than_those_that_are_fitted():
    """Tokens of a row resemble each other: were some of them held out, a model that knows the row would be chosen."""
    split = Split(torch.ones(40, 1, 12), None, {}, {"row": (torch.arange(40) % 2)[:, None].expand(-1, 6)})
    tokens = Tokens(every=EVERY, bank=split, query=split, sample=AUDIO)
    rows = torch.arange(40).repeat_interleave(6)
    held = tokens.held_rows(rows)
    assert held.view(40, 6).all(1).sum() == 8 == (held.sum() / 6)


def test_a_row_is_left_to_be_fitted_whatever_share_is_held_out():
    """Of none all weights are NaN, and their guesses an accuracy like any other."""
    x, phones = spoken(3, 0)
    split = Split(x, None, {}, {"phone": phones})
    assert math.isfinite(probe(split, split, held_out=0.9)["ece"].value)


def test_words_have_parts_of_speech_by_their_own_embedding():
    sample = Samples("text", (8,), vocabulary=20)
    x = torch.randint(1, 20, (80, 8), generator=torch.Generator().manual_seed(0))
    x[torch.arange(8) >= torch.randint(3, 9, (80, 1), generator=torch.Generator().manual_seed(1))] = 0
    tags = torch.where(x > 0, x % 4, -1).to(torch.int8)
    bank, query = (Split(x[part], None, {}, {"pos": tags[part]}) for part in (slice(50), slice(50, 80)))
    torch.manual_seed(0)
    found = probe(bank, query, sample, Words(samples=sample), l2=(1e-4,))
    assert found["top1"].value > 0.9
    assert found["l2"].value == 1e-4


@pytest.mark.parametrize(
    ("tokens", "target", "said"),
    [
        ({}, None, "the dataset tells no classes of tokens; leave tokens out"),
        ({"a": 0, "b": 0}, None, "given null; possible are a, b"),
        ({"a": 0}, "c", "given c; possible are a"),
    ],
)
def test_what_is_not_told_of_tokens_is_refused(tokens, target, said):
    split = Split(torch.ones(4, 1, 8), None, {}, dict.fromkeys(tokens, torch.zeros(4, 4, dtype=torch.int64)))
    with pytest.raises(ValueError, match=said):
        Tokens(every=EVERY, bank=split, query=split, sample=AUDIO, target=target)


def test_rows_whose_tokens_have_no_class_are_refused():
    split = Split(torch.ones(4, 1, 8), None, {}, {"a": torch.full((4, 4), -1)})
    with pytest.raises(ValueError, match="no token of these rows has a a"):
        probe(split, split)
