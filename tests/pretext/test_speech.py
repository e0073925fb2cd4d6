"""CPC, wav2vec 2.0 and HuBERT: losses by other formulas, what may be seen and asked for, mistakes that are planted."""

import math

import pytest
import torch
import torch.nn.functional as F
from modality_toys import OFF
from toys import context

from ssl_runner.augment.audio import spans
from ssl_runner.augment.audio.views import SoundViews
from ssl_runner.contract import Batch, Context, Features, Samples
from ssl_runner.duration import Duration, Length
from ssl_runner.layers.counter_rng import CounterRng
from ssl_runner.layers.gumbel import GumbelQuantiser, diversity, mean_use, perplexities
from ssl_runner.layers.sound import lengths
from ssl_runner.model.ast import AST
from ssl_runner.model.audio_convnet import AudioConvNet
from ssl_runner.model.mel_gru import MelGRU
from ssl_runner.pretext import cpc as cpc_module
from ssl_runner.pretext import hubert as hubert_module
from ssl_runner.pretext import wav2vec2 as wav2vec2_module
from ssl_runner.pretext.cpc import CPC
from ssl_runner.pretext.hubert import HuBERT
from ssl_runner.pretext.wav2vec2 import Wav2Vec2

SAMPLES = Samples("audio", (1, 4000), rate=8000)
WHOLE = SoundViews(**OFF)


def sounds(n=6, seed=0):
    """Three tones after one another, in noise, of a third to all of 4,000 samples."""
    rng = torch.Generator().manual_seed(seed)
    long = torch.linspace(1400, 4000, n).long()[:, None, None]
    hertz = 300 + 3000 * torch.rand(n, 1, 3, generator=rng).repeat_interleave(1334, 2)[..., :4000]
    x = 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(4000) / 8000) + 0.02 * torch.randn(n, 1, 4000, generator=rng)
    return x * (torch.arange(4000) < long)


def at(step, steps=100, seed=0, rows=None):
    x = sounds() if rows is None else rows

    def sweep():
        return (Batch(x[part], part) for part in torch.arange(len(x)).split(4))

    return Context(step, Length(steps, 10, 6), CounterRng(seed, torch.device("cpu")), sweep)


BATCH = Batch(sounds(), torch.arange(6))


@pytest.fixture
def cpc():
    torch.manual_seed(0)
    return CPC(encoder=MelGRU(samples=SAMPLES, width=16), augment=WHOLE, steps=3)


@pytest.fixture
def wav2vec2():
    torch.manual_seed(0)
    return Wav2Vec2(
        encoder=AST(samples=SAMPLES, width=16, depth=2, heads=2), augment=WHOLE, codes=6, distractors=5, out=16
    )


def make_hubert(**given):
    torch.manual_seed(0)
    encoder = AST(samples=SAMPLES, width=16, depth=2, heads=2)
    settings = {"units": 8, "layer": -1, "out": 16, "masked": 0.7, **given}
    return HuBERT(encoder=encoder, augment=WHOLE, samples=SAMPLES, rows=6, **settings)


@pytest.fixture
def hubert():
    return make_hubert()


# CPC


def test_cpc_is_the_mean_of_equation_4_over_steps_frames_and_clips(cpc, monkeypatch):
    cpc.double()
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    x = sounds().double()
    z, real = cpc.encoder.embed(x), cpc.encoder.real(x)
    c = cpc.encoder.encode(z).tokens
    total = []
    for clip in range(len(x)):
        losses = []
        for k in range(1, 4):
            for t in range(z.shape[1] - k):
                if real[clip, t + k]:
                    scores = (z @ (cpc.predict[k - 1].weight @ c[clip, t])).tolist()  # by clip and frame
                    negatives = [scores[clip][i] for i in range(k, z.shape[1]) if real[clip, i] and i != t + k]
                    negatives += [scores[b][t + k] for b in range(len(x)) if b != clip and real[b, t + k]]
                    positive = scores[clip][t + k]
                    losses.append(math.log(sum(math.exp(each - positive) for each in [positive, *negatives])))
        total.append(sum(losses) / len(losses))
    assert cpc((x,)).value.item() == pytest.approx(sum(total) / len(total), rel=1e-9)


def test_cpc_hears_only_what_came_before(cpc):
    """The prediction of a frame does not change with the frame itself: else it would see its own position."""
    z = cpc.encoder.embed(BATCH.x)
    changed = z.clone()
    changed[:, 8:] += torch.randn(z[:, 8:].shape)
    before, after = (cpc.encoder.encode(each).tokens for each in (z, changed))
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])


@pytest.mark.parametrize("shift", [0, 1])
def test_planted_in_cpc_a_context_that_holds_the_next_frame_is_seen(cpc, monkeypatch, shift):
    """If c_t already holds z_{t+1}, the identity solves the task at once; the frame of now does not."""
    task, z = CPC(encoder=cpc.encoder, augment=WHOLE, steps=1), F.normalize(torch.randn(6, 17, 16), dim=2)
    with torch.no_grad():
        task.predict[0].weight.copy_(20 * torch.eye(16))
    monkeypatch.setattr(cpc.encoder, "embed", lambda x: z)
    monkeypatch.setattr(cpc.encoder, "encode", lambda z, **_: Features(z.mean(1), z.roll(-shift, 1), (17,)))
    assert task((BATCH.x,)).metrics["accuracy"].item() == pytest.approx(float(shift), abs=0.2)


def test_cpc_asks_for_no_frame_of_padding_and_none_is_a_negative(cpc, monkeypatch):
    longer = F.pad(BATCH.x, (0, 2000))
    assert torch.allclose(cpc((BATCH.x,)).value, cpc((longer,)).value, atol=1e-5)
    monkeypatch.setattr(cpc_module, "mean_of_clips", lambda value, counted: value.mean())  # planted
    assert not torch.allclose(cpc((BATCH.x,)).value, cpc((longer,)).value, atol=1e-3)


def test_what_cpc_cannot_take_is_refused():
    with pytest.raises(ValueError, match="type model=mel_gru"):
        CPC(encoder=AST(samples=SAMPLES), augment=WHOLE)
    with pytest.raises(ValueError, match="type model=mel_gru"):
        CPC(encoder=AudioConvNet(samples=SAMPLES), augment=WHOLE)
    with pytest.raises(ValueError, match=r"type pretext\.same=true"):
        CPC(encoder=MelGRU(samples=SAMPLES), augment=WHOLE, others=False, same=False)
    short = CPC(encoder=MelGRU(samples=SAMPLES), augment=WHOLE, steps=20)
    with pytest.raises(ValueError, match=r"clips of 17 frames .* type pretext\.steps=16"):
        short((BATCH.x,))


# wav2vec 2.0


def test_diversity_is_the_footnotes_formula_and_a_hand_case():
    use = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert perplexities(use).tolist() == pytest.approx([2.0, 1.0])
    assert diversity(use).item() == pytest.approx((6 - 2 - 1) / 6)
    assert diversity(torch.full((2, 40), 1 / 40)).item() == pytest.approx(0, abs=1e-6)
    logits = torch.randn(3, 4, 2, 5, dtype=torch.float64, requires_grad=True)
    counted = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]], dtype=torch.bool)
    mean = logits.softmax(3)[counted].mean(0)
    wanted = (10 - (-(mean * mean.log()).sum(1)).exp().sum()) / 10
    value = diversity(mean_use(logits.softmax(3), counted))
    assert torch.allclose(value, wanted)
    ours, theirs = (torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (value, wanted))
    assert torch.allclose(ours, theirs)
    assert not ours[~counted].any(), "frames that are not asked for have no say"


def test_codes_are_drawn_as_their_probabilities_say():
    """Gumbel's trick: the argmax of logits plus noise has the distribution of the softmax."""
    torch.manual_seed(0)
    quantiser, z = GumbelQuantiser(4, 1, 5, 8), torch.randn(1, 1, 4).expand(1, 20_000, 4)
    u = CounterRng(0, torch.device("cpu")).rand(1, 20_000, 1, 5)
    _, ids, probabilities = quantiser(z, u, torch.tensor(0.7))
    assert torch.allclose(ids.flatten().bincount(minlength=5) / 20_000, probabilities[0, 0, 0], atol=0.015)
    cold, _, _ = quantiser(z, torch.full_like(u, 0.5), torch.tensor(0.7))
    assert torch.allclose(
        cold[0, 0], quantiser.project(quantiser.entries[0, probabilities[0, 0, 0].argmax()]), atol=1e-6
    )


def test_wav2vec2_is_equation_3_over_its_distractors(wav2vec2, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    c, q = torch.randn(2, 2, 6, 16, dtype=torch.float64)
    ids = torch.arange(12).view(2, 6, 1).repeat(1, 1, 2)
    ids[0, 1] = ids[0, 2]  # of the same codes: no distractors of each other
    others = torch.tensor([[1, 2, 5], [2, 2, 3], [1, 4, 4], [0, 0, 0], [5, 3, 1], [0, 1, 2]]).expand(2, -1, -1)
    losses, hits, told = wav2vec2.contrast(c, q, ids, others)
    for clip in range(2):
        for frame in range(6):
            cosines = (F.cosine_similarity(c[clip, frame][None], q[clip], dim=1) / 0.1).tolist()
            drawn = [i for i in others[clip, frame].tolist() if not torch.equal(ids[clip, i], ids[clip, frame])]
            terms = [cosines[frame], *(cosines[i] for i in drawn)]
            wanted = math.log(sum(math.exp(each) for each in terms)) - terms[0]
            assert losses[clip, frame].item() == pytest.approx(wanted, abs=1e-9)
            assert hits[clip, frame] == (terms[0] == max(terms))
    assert told.all()


def test_a_hidden_frame_does_not_see_itself_and_shown_ones_are_not_asked_for(wav2vec2):
    x, hidden, others, u = wav2vec2.views(BATCH, context())
    seen = []
    wav2vec2.encoder.register_forward_hook(lambda *_: None)
    encode = wav2vec2.encoder.encode
    wav2vec2.encoder.encode = lambda z, **given: seen.append(z) or encode(z, **given)
    wav2vec2((x, hidden, others, u))
    (z,) = seen
    assert torch.equal(z[hidden], wav2vec2.token.expand(int(hidden.sum()), -1)), "what stands there is the mask alone"
    assert torch.equal(z[~hidden], wav2vec2.encoder.embed(x)[~hidden])


def test_padding_is_no_target_of_masked_tasks(wav2vec2, hubert):
    hubert.before_step(at(0))
    for task in (wav2vec2, hubert):
        for seed in range(20):
            x, hidden, *_ = task.views(BATCH, context(seed))
            real = task.encoder.real(x)
            assert not (hidden & ~real).any()
            assert hidden.any(1).all()


def test_planted_a_distractor_that_is_the_positive_and_a_target_at_a_padded_place(wav2vec2, monkeypatch):
    """The tests above see both: the spans and the distractors that they look at are those of the task."""
    real = wav2vec2.encoder.real(BATCH.x)
    everywhere = spans.hidden_spans(torch.ones_like(real), 0.5, 5, CounterRng(0, torch.device("cpu")))
    assert (everywhere & ~real).any()

    def itself(hidden, count, rng):
        return torch.arange(hidden.shape[1])[None, :, None].expand(len(hidden), -1, count)

    plain = wav2vec2(wav2vec2.views(BATCH, context())).metrics
    monkeypatch.setattr(wav2vec2_module, "other_hidden", itself)
    planted = wav2vec2(wav2vec2.views(BATCH, context()))
    assert plain["masked_accuracy"] > 0 == planted.metrics["masked_accuracy"], "it cannot be told from itself"


def test_heat_falls_from_first_to_last(wav2vec2):
    heats = []
    for step in (0, 50, 100):
        wav2vec2.before_step(context(step=step))
        heats.append(wav2vec2.heat.item())
    assert heats == pytest.approx([2.0, 1.0, 0.5])
    assert "heat" in wav2vec2.state_dict()


# HuBERT


def test_units_are_clusters_of_real_frames_of_the_sound(hubert):
    hubert.before_step(at(0))
    x = BATCH.x
    real = hubert.encoder.real(x)
    bands = hubert.sound.bands(x)
    distance = (bands[:, :, None] - hubert.sound_centroids).square().sum(3)
    units = hubert.targets(x, False)
    assert torch.equal(units, distance.argmin(2))
    for unit in units[real].unique():
        mean = bands[real][units[real] == unit].mean(0)
        assert torch.allclose(mean, hubert.sound_centroids[unit], atol=1e-3), "a centroid is the mean of its frames"
    longer = F.pad(x, (0, 2000))
    again = make_hubert()
    again.before_step(at(0, rows=longer))
    assert torch.allclose(again.sound_centroids, hubert.sound_centroids, atol=1e-4), "padding is not clustered"


def test_planted_clusters_of_padding_are_seen(hubert, monkeypatch):
    hubert.before_step(at(0))
    plain = hubert.sound_centroids.clone()
    monkeypatch.setattr(hubert.encoder, "real", lambda x: torch.ones(len(x), 17, dtype=torch.bool))
    hubert.before_step(at(0))
    assert not torch.allclose(hubert.sound_centroids, plain, atol=1e-2)


def test_the_unit_of_a_clip_is_the_same_wherever_and_whenever_it_is_asked_for(hubert):
    """In any batch, at any step of a round, though the encoder has learnt: none moves between train and validation."""
    hubert.train()
    for first, step in ((0, 30), (50, 90)):
        hubert.before_step(at(first))
        own = hubert.own(at(first))
        units = hubert.targets(BATCH.x, own)
        with torch.no_grad():
            for parameter in hubert.encoder.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        hubert.before_step(at(step))
        assert torch.equal(hubert.targets(BATCH.x, own), units)
        alone = torch.cat([hubert.targets(BATCH.x[row : row + 1], own) for row in range(6)])
        real = hubert.encoder.real(BATCH.x)
        assert torch.equal(alone[real], units[real])
        given = hubert.views(BATCH, at(step))[2]
        assert not given.numel() if own else torch.equal(given, units)
    other = make_hubert()
    other.load_state_dict(hubert.state_dict())
    assert torch.equal(other.targets(BATCH.x, True), units), "all of it is in the state"


def test_planted_units_of_the_encoder_of_now_are_seen_to_move(hubert):
    hubert.before_step(at(50))
    units = hubert.targets(BATCH.x, True)
    hubert.teacher_encoder = hubert.encoder  # planted
    with torch.no_grad():
        for parameter in hubert.encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    assert not torch.equal(hubert.targets(BATCH.x, True), units)


def test_hubert_is_equation_2_of_masked_and_unmasked_terms(hubert, monkeypatch):
    hubert.double()
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    hubert.before_step(at(0, rows=sounds().double()))
    batch = Batch(sounds().double(), torch.arange(6))
    x, hidden, units = hubert.views(batch, at(0))
    loss, real = hubert((x, hidden, units)), hubert.encoder.real(x)
    z = torch.where(hidden[..., None], hubert.token, hubert.encoder.embed(x))
    tokens = hubert.project(hubert.encoder.encode(z, mask=real).tokens)
    terms = {True: [], False: []}
    for asked in terms:
        for clip in range(6):
            losses = []
            for frame in range(17):
                if real[clip, frame] and bool(hidden[clip, frame]) == asked:
                    cosines = F.cosine_similarity(tokens[clip, frame][None], hubert.codes.weight, dim=1) / 0.1
                    losses.append(-cosines.log_softmax(0)[units[clip, frame]])
            terms[asked].append(sum(losses) / len(losses))
    wanted = 0.7 * sum(terms[True]) / 6 + 0.3 * sum(terms[False]) / 6
    assert loss.value.item() == pytest.approx(wanted.item(), rel=1e-9)
    assert 1 <= loss.metrics["code_perplexity"] <= 8


def test_the_second_round_is_of_its_own_features(hubert):
    hubert.before_step(at(0))
    assert not hubert.own(at(49))
    assert hubert.own(at(50))
    before = hubert.centroids.clone()
    hubert.before_step(at(50))
    assert not torch.equal(hubert.centroids, before)
    frames = hubert.clustered(BATCH.x, True)[hubert.encoder.real(BATCH.x)]
    assert frames.shape[1] == hubert.encoder.dim
    never = make_hubert(second=Duration(100.0, "%"))
    assert not never.own(at(99))
    assert not any(parameter.requires_grad for parameter in hubert.teacher_encoder.parameters())


def test_frames_of_one_unit_are_refused(hubert, monkeypatch):
    """As all targets of an empty dictionary would be one: the loss is 0, and nothing is learnt."""
    monkeypatch.setattr(hubert, "clustered", lambda x, own: torch.ones(len(x), 17, 40))
    with pytest.raises(ValueError, match=r"all .* frames fall into one unit"):
        hubert.before_step(at(0))


def test_what_hubert_and_wav2vec2_cannot_take_is_refused():
    for act in (
        lambda encoder: HuBERT(encoder=encoder, augment=WHOLE, samples=SAMPLES, rows=6),
        lambda encoder: Wav2Vec2(encoder=encoder, augment=WHOLE),
    ):
        with pytest.raises(ValueError, match="cannot hide frames; type model="):
            act(AudioConvNet(samples=SAMPLES))
    with pytest.raises(ValueError, match="layers"):
        make_hubert(layer=5)
    with pytest.raises(ValueError, match="no multiple"):
        Wav2Vec2(encoder=AST(samples=SAMPLES), augment=WHOLE, out=15)


def test_parts_are_of_what_is_real():
    view = SoundViews(**{**OFF, "part": (0.8, 1.0)})(BATCH.x, CounterRng(0, torch.device("cpu")))
    assert (lengths(view) >= 0.79 * lengths(BATCH.x)).all()
    assert hubert_module.FRAMES >= 10_000
