"""Tasks of text against formulas of their papers, written out token by token in float64; and planted mistakes."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import context

from ssl_runner.augment.text.hiding import hidden_places, random_starts
from ssl_runner.augment.text.trim import width_of
from ssl_runner.augment.text.views import TextViews
from ssl_runner.contract import Batch, Samples
from ssl_runner.data.text_files.tokenizer import byte_tokenizer
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.loss.word_prediction import mean_of_tokens, word_prediction
from ssl_runner.model.text_transformer import TextTransformer
from ssl_runner.pretext.clm import CLM
from ssl_runner.pretext.electra import ELECTRA
from ssl_runner.pretext.mlm import MLM
from ssl_runner.pretext.simcse import SimCSE
from ssl_runner.pretext.tsdae import TSDAE

SAMPLES = Samples("text", (20,), vocabulary=30)
STILL = TextViews(deletion=0.0)
LENGTHS = (20, 1, 7, 13, 2, 20, 9, 4)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def exact(monkeypatch):
    """What is computed in float32, at least, in float64 here."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture
def batch(rng):
    x = torch.randint(1, 30, (8, 20), generator=rng)
    x = x.masked_fill(torch.arange(20) >= torch.tensor(LENGTHS)[:, None], 0)
    return Batch(x, torch.arange(8))


def encoder(**given):
    return TextTransformer(samples=SAMPLES, **{"width": 16, "depth": 2, "heads": 2, "dropout": 0.0} | given)


def mlm(**given):
    return MLM(encoder=encoder(), samples=SAMPLES, assets={}, **given)


def rng_of(seed):
    return CounterRng(seed, torch.device("cpu"))


def nats(logits, target):
    """Minus the logarithm of the share of the softmax."""
    return math.log(sum(math.exp(each) for each in logits.tolist())) - logits[target].item()


def test_the_loss_is_the_mean_over_real_tokens(rng, exact):
    logits, target = torch.randn(3, 4, 5, generator=rng), torch.randint(5, (3, 4), generator=rng)
    counts = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    value, metrics = word_prediction(logits, target, counts)
    told = [nats(logits[b, m], target[b, m]) for b, m in counts.nonzero().tolist()]
    assert value.item() == pytest.approx(sum(told) / 5)
    assert metrics["cross_entropy"].item() == value.item()
    right = sum(int(logits[b, m].argmax() == target[b, m]) for b, m in counts.nonzero().tolist())
    assert metrics["masked_accuracy"].item() == pytest.approx(right / 5)
    changed = torch.where(counts, target, (target + 1) % 5)
    assert word_prediction(logits, changed, counts)[0] == value, "a target at a padded place is none"
    assert mean_of_tokens(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool)) == 0


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("unit", ["token", "span"])
def test_exactly_a_share_of_each_row_is_hidden(batch, ratio, unit):
    for seed in range(20):
        rng, real = rng_of(seed), batch.x != 0
        starts = random_starts(8, 20, 3.0, rng) if unit == "span" else torch.ones_like(real)
        places, counts = hidden_places(real, starts, ratio, rng)
        for row, length in enumerate(LENGTHS):
            own = places[row][counts[row]].tolist()
            assert len(own) == len({*own}) == min(length, max(1, round(length * ratio)))
            assert max(own) < length, "padding is told by none"


def test_places_are_drawn_evenly_and_spans_hold_together():
    real = torch.ones(4000, 20, dtype=torch.bool)
    places, _ = hidden_places(real, real, 0.2, rng_of(0))
    share = F.one_hot(places, 20).sum(1).double().mean(0)
    assert (share - 0.2).abs().max() < 5 * math.sqrt(0.16 / 4000)
    runs = {}
    for span in (1.0, 4.0):
        places, _ = hidden_places(real, random_starts(4000, 20, span, rng_of(1)), 0.3, rng_of(2))
        hidden = F.one_hot(places, 20).sum(1).bool()
        runs[span] = 6 * 4000 / (hidden & ~F.pad(hidden, (1, 0))[:, :-1]).sum().item()  # tokens of a run
    assert runs[1.0] < 1.5 < 2.5 < runs[4.0]


def test_80_10_10(rng):
    x = torch.randint(1, 30, (4000, 20), generator=rng)
    task = mlm(ratio=0.25)
    seen, hidden, places, words, counts = task.views(Batch(x, torch.arange(4000)), context())
    assert (places.shape, int(counts.sum())) == ((4000, 5), 20_000)
    assert torch.equal(words, x.gather(1, places))
    masked = hidden.gather(1, places)
    assert masked.sum() == hidden.sum(), "the vector stands at told places alone"
    other = seen.gather(1, places) != words
    assert masked.double().mean().item() == pytest.approx(0.8, abs=0.015)
    assert (other & ~masked).double().mean().item() == pytest.approx(0.1 * 28 / 29, abs=0.01)
    assert (~other & ~masked).double().mean().item() == pytest.approx(0.1 + 0.1 / 29, abs=0.01)
    untold = torch.ones_like(x, dtype=torch.bool).scatter(1, places, False)
    assert torch.equal(seen[untold], x[untold])
    random = seen.gather(1, places)[other & ~masked]
    assert (random.min(), random.max()) == (1, 29)
    kinds = [mlm(replaced=0.0, kept=0.0), mlm(replaced=1.0, kept=0.0), mlm(replaced=0.0, kept=1.0)]
    shares = [each.views(Batch(x, torch.arange(4000)), context())[1].double().mean().item() for each in kinds]
    assert shares == [0.2, 0.0, 0.0]


def test_whole_words_are_hidden_with_all_their_bytes():
    tokenizer = byte_tokenizer(True)
    samples, assets = Samples("text", (20,), vocabulary=257), {"tokenizer.json": tokenizer.content}
    inner = TextTransformer(samples=samples, width=16, depth=1, heads=2)
    task = MLM(encoder=inner, samples=samples, assets=assets, unit="word", ratio=0.25, replaced=0.0, kept=0.0)
    x = torch.tensor(tokenizer.encode(["abcd efgh ijkl mnopq"])).expand(64, -1)
    _, hidden, *_ = task.views(Batch(x, torch.arange(64)), context())
    drawn = {"".join("_#"[int(each)] for each in row).rstrip("_") for row in hidden}
    # A blank is of the word after it. The first word has four bytes, and then the first of another are taken.
    whole = {"_" * 4 + "#####", "_" * 9 + "#####", "_" * 14 + "#####"}
    assert whole <= drawn
    assert all(each in whole or each.startswith("####_") or each == "#####" for each in drawn)


def test_mlm_tells_hidden_words_from_what_is_left(batch, exact):
    task = mlm(ratio=0.3).eval()
    views = task.views(batch, context())
    x, hidden, places, words, counts = views
    loss = task(views)
    told = []
    for row in range(8):
        z = task.encoder.words(x[row]) * 4.0  # the root of the width
        z[hidden[row]] = task.token
        length = LENGTHS[row]
        tokens = task.encoder.encode(z[None, :length]).tokens[0]
        for place, word in zip(places[row][counts[row]], words[row][counts[row]], strict=True):
            told.append(nats(task.head(tokens[None, place : place + 1])[0, 0], word))
    assert loss.value.item() == pytest.approx(sum(told) / len(told))


def test_what_mlm_fills_in_is_its_likeliest_word_at_each_hidden_place(batch):
    task = mlm(ratio=0.3).eval()
    x, hidden, places, words, counts = views = task.views(batch, context())
    with torch.no_grad():
        filled, tokens = task.pictures(views)["filled in"], task.encoder.encode(task.embed(x, hidden), mask=x != 0)
        guess = task.head(tokens.tokens).argmax(2)
    told = torch.zeros_like(x, dtype=torch.bool)
    for row in range(8):
        told[row, places[row][counts[row]]] = True
    assert torch.equal(filled, torch.where(told, guess, x))
    task.head.forward = lambda z: F.one_hot(words, 30).float()
    restored = task.pictures(views)["filled in"]
    assert torch.equal(restored, batch.x[:, : x.shape[1]]), "all told right, it is the original"


def test_a_hidden_word_that_is_seen_would_be_noticed(batch):
    """The prediction does not change with the word that is hidden."""
    task = mlm(ratio=0.3, replaced=0.0, kept=0.0).eval()
    x, hidden, *_ = task.views(batch, context())
    other = torch.where(hidden, x % 29 + 1, x)
    with torch.no_grad():
        same = [task.encoder.encode(task.embed(each, hidden)).tokens for each in (x, other)]
        seen = [task.encoder.encode(task.embed(each, hidden & False)).tokens for each in (x, other)]
    torch.testing.assert_close(*same)
    assert not torch.allclose(*seen)


def test_clm_tells_each_word_from_those_before_it(batch, exact):
    task = CLM(encoder=encoder(causal=True), samples=SAMPLES).eval()
    views = task.views(batch, context())
    told = []
    for row, length in enumerate(LENGTHS):
        for place in range(1, length):
            before = task.encoder(batch.x[row : row + 1, :place]).tokens[0, -1]
            told.append(nats(task.head(before), batch.x[row, place]))
    assert task(views).value.item() == pytest.approx(sum(told) / len(told))


@pytest.mark.parametrize("causal", [True, False])
def test_a_prediction_that_sees_its_own_position_would_be_noticed(batch, causal):
    """Gradient of a token's own word in what is told of it: none, but for an encoder that is not causal."""
    task = CLM(encoder=encoder(causal=True), samples=SAMPLES).eval()
    task.encoder.causal = causal
    z = task.encoder.embed(batch.x[:1]).detach().requires_grad_()
    logits = task.head(task.encoder.encode(z).tokens[:, :-1])
    (gradient,) = torch.autograd.grad(logits[0, 6].square().sum(), z)
    assert bool(gradient[0, 7].any()) != causal


def test_simcse_is_equation_4(batch, exact):
    task = SimCSE(encoder=encoder(), augment=TextViews(deletion=0.3), temperature=0.05).eval()
    views = task.views(batch, context())
    z, other = (F.normalize(task.projector(task.encoder(each).pooled), dim=1) for each in views)
    cosine = z @ other.T / 0.05
    expected = sum(nats(cosine[i], i) for i in range(8)) / 8
    assert task(views).value.item() == pytest.approx(expected)


def test_dropout_is_drawn_for_each_of_simcses_views(batch, monkeypatch):
    task = SimCSE(encoder=encoder(dropout=0.3), augment=STILL).train()
    views = task.views(batch, context())
    assert torch.equal(*views)
    first, second = task(views).embedding.chunk(2)
    assert not torch.isclose(first, second).any(0).all()
    assert task(views).value > 0

    class Once(nn.Dropout):  # the same places for both halves: the planted mistake
        def forward(self, x):
            half = x.shape[0] // 2
            kept = (torch.rand_like(x[:half]) >= self.p).repeat(2, *[1] * (x.ndim - 1))
            return x * kept / (1 - self.p)

    for module in [each for each in task.encoder.modules() if isinstance(each, nn.Dropout)]:
        module.__class__ = Once
    first, second = task(views).embedding.chunk(2)
    torch.testing.assert_close(first, second)
    off = SimCSE(encoder=encoder(), augment=STILL).suspects()
    assert [each.remedy for each in off] == ["model.dropout=0.1"]
    assert not SimCSE(encoder=encoder(dropout=0.1), augment=STILL).suspects()
    assert not SimCSE(encoder=encoder(), augment=TextViews()).suspects()


def test_electra_has_two_losses(batch, exact):
    task = ELECTRA(encoder=encoder(), samples=SAMPLES, ratio=0.4, width=8, depth=1, heads=2, weight=7.0).eval()
    views = task.views(batch, context())
    x, places, counts, noise = views
    logits = task.generate(x, places, counts)
    made, told, corrupt = [], [], x.clone()
    for row, k in counts.nonzero().tolist():
        place = int(places[row, k])
        made.append(nats(logits[row, k], x[row, place]))
        corrupt[row, place] = 1 + int((logits[row, k] + noise[row, k])[1:].argmax())
    for row, length in enumerate(LENGTHS):
        tokens = task.encoder(corrupt[row : row + 1, :length]).tokens[0]
        for place in range(length):
            score = task.original(tokens[place]).item()
            true = corrupt[row, place] == x[row, place]
            told.append(math.log1p(math.exp(-score if true else score)))
    loss = task(views)
    assert loss.value.item() == pytest.approx(sum(made) / len(made) + 7 * sum(told) / len(told))
    assert loss.metrics["replaced"].item() == pytest.approx((corrupt != x).sum().item() / sum(LENGTHS))
    loss.value.backward()
    assert all(p.grad is not None for p in task.parameters())


def test_electras_words_are_the_generators_samples():
    """Gumbel noise makes of logits draws of their softmax; padding is never one."""
    task = ELECTRA(encoder=encoder(), samples=SAMPLES, width=8, heads=2)
    x = torch.ones(20_000, 1, dtype=torch.int64)
    _, places, counts, noise = task.views(Batch(F.pad(x, (0, 19)), torch.arange(len(x))), context())
    logits = torch.randn(30).mul(2)
    drawn = task.corrupt(x, places[:, :1], counts[:, :1], logits.expand(len(x), 1, 30), noise[:, :1])
    share = torch.bincount(drawn[:, 0], minlength=30) / len(x)
    wanted = logits.clone().index_fill(0, torch.tensor(0), -torch.inf).softmax(0)
    assert share[0] == 0
    assert (share - wanted).abs().max() < 0.015


def test_tsdae_makes_words_of_one_vector_and_those_before(batch, exact):
    task = TSDAE(encoder=encoder(), samples=SAMPLES, augment=TextViews(deletion=0.6), heads=2, depth=2).eval()
    views = task.views(batch, context())
    left, words = views
    assert int((left != 0).sum()) < 0.6 * int((words != 0).sum())
    told = []
    for row, length in enumerate(LENGTHS):
        sentence = task.encoder(left[row : row + 1]).pooled
        for place in range(length):
            before = words[row : row + 1, : place + 1]  # of which the last one is not read
            logits = task.head(task.decode(sentence, before)[0, -1])
            told.append(nats(logits, words[row, place]))
    assert task(views).value.item() == pytest.approx(sum(told) / len(told))
    sentence = task.encoder(left).pooled
    moved = task.decode(sentence, words)
    changed = words.clone()
    changed[:, 5] = 1 + changed[:, 5] % 29
    assert torch.equal(task.decode(sentence, changed)[:, :6], moved[:, :6]), "a word is not told by itself"
    assert not torch.equal(task.decode(sentence + 1, words)[:, 0], moved[:, 0])


@pytest.mark.parametrize("task", [MLM, ELECTRA, CLM])
def test_the_wrong_direction_is_refused(task):
    causal = task is not CLM
    given = {"assets": {}} if task is MLM else {}
    with pytest.raises(ValueError, match="model.causal=" + ("true" if causal else "false")):
        task(encoder=encoder(causal=causal), samples=SAMPLES, **given)


VIEWS = {
    "deletion": TextViews(deletion=0.4),
    "spans": TextViews(deletion=0.0, span_deletion=0.4, span=4.0),
    "shuffle": TextViews(deletion=0.0, shuffle=3),
    "unknown": TextViews(deletion=0.0, word_dropout=0.3),
    "all": TextViews(deletion=0.2, span_deletion=0.2, shuffle=2, word_dropout=0.2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_keep_padding_behind_and_each_row_its_own_words(batch, name):
    for seed in range(10):
        view = VIEWS[name](batch.x, rng_of(seed))
        assert view.shape == batch.x.shape
        lengths = (view != 0).sum(1)
        assert torch.equal(view != 0, torch.arange(20) < lengths[:, None]), "padding comes last"
        assert lengths.min() >= 1
        for row, own in zip(view, batch.x, strict=True):
            assert {*row.tolist()} <= {*own.tolist(), 0, *([1] if name in ("unknown", "all") else [])}
        alone = VIEWS[name](batch.x[:1], rng_of(seed))
        assert torch.equal(alone[0], view[0]), "a row's view is its own"
    assert torch.equal(STILL(batch.x, rng_of(0)), batch.x)


def test_how_much_is_deleted_moved_and_unknown():
    x = torch.arange(1, 21).expand(2000, 20)
    kept = {name: (VIEWS[name](x, rng_of(0)) != 0).double().mean().item() for name in ("deletion", "spans")}
    assert kept["deletion"] == pytest.approx(0.6, abs=0.01)
    assert kept["spans"] == pytest.approx(0.6, abs=0.03)
    deleted = VIEWS["spans"](x, rng_of(0))
    jumps = [sum(b - a > 1 for a, b in itertools.pairwise([0, *row[row != 0].tolist(), 21])) for row in deleted]
    assert sum(jumps) / len(jumps) < 4, "of 8 tokens that are left out, many are side by side"
    moved = (VIEWS["shuffle"](x, rng_of(0)) - x).abs()
    assert moved.max() == 3
    assert moved.double().mean() > 0.7
    unknown = VIEWS["unknown"](x + 1, rng_of(0)) == 1
    assert unknown.double().mean().item() == pytest.approx(0.3, abs=0.01)


def test_batches_are_trimmed_to_their_longest_row(batch):
    for length, width in ((1, 8), (8, 8), (9, 16), (17, 20), (20, 20)):
        x = batch.x[:1].masked_fill(torch.arange(20) >= length, 0)
        assert width_of(x) == width
    assert width_of(batch.x[:1] * 0) == 8
    assert width_of(batch.x.to("meta")) == 20, "on a GPU to ask would be to wait"
    short = Batch(batch.x[1:3], batch.index[1:3])  # 1 and 7 tokens
    for task in (mlm(), CLM(encoder=encoder(causal=True), samples=SAMPLES), SimCSE(encoder=encoder(), augment=STILL)):
        assert task.views(short, context())[0].shape == (2, 8)
