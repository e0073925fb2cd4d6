"""data2vec of text and sound: its loss by hand, a sample at a time and without padding, and planted mistakes."""

import pytest
import torch
import torch.nn.functional as F
from toys import choice, context

from ssl_runner.contract import Batch, Samples
from ssl_runner.pretext import data2vec
from ssl_runner.pretext.data2vec import Data2Vec

SAMPLES = {"text": Samples("text", (24,), vocabulary=40), "audio": Samples("audio", (1, 4000), rate=8000)}
MODEL = {"text": ("text_transformer_tiny", {"dropout": 0.0}), "audio": ("ast_tiny", {})}
LENGTHS = {"text": (24, 3, 9), "audio": (4000, 900, 2200)}


class Same:
    """Views that change nothing."""

    kinds = ("text", "audio")

    def __call__(self, x, rng):
        return x


@pytest.fixture
def task(monkeypatch):
    """Builds the task of a kind; what it computes in float32, at least, is then in float64."""

    def build(kind, **given):
        made = float_task(kind, **given).double().eval()
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        return made

    return build


def float_task(kind, **given):
    torch.manual_seed(0)
    name, more = MODEL[kind]
    target, own, _ = choice("model", name)
    encoder = target(samples=SAMPLES[kind], **{**own, "width": 16, "heads": 2, "depth": 3, **more})
    made = Data2Vec(encoder=encoder, samples=SAMPLES[kind], augment=Same(), **{"block": 2, **given})
    for parameter in made.teacher_encoder.parameters():  # a teacher that is not the student
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return made


def samples(kind):
    n, rng = SAMPLES[kind].shape[-1], torch.Generator().manual_seed(1)
    real = torch.arange(n) < torch.tensor(LENGTHS[kind])[:, None]
    if kind == "text":
        return torch.randint(1, 40, (3, n), generator=rng) * real
    return (0.1 * torch.randn(3, 1, n, generator=rng, dtype=torch.float64)).clamp(-1, 1) * real[:, None]


def normalised(tokens):
    """Each number over the tokens of one sample (n, d)."""
    return (tokens - tokens.mean(0)) / (tokens.var(0, unbiased=False) + 1e-5).sqrt()


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_loss_is_that_of_each_sample_alone_without_padding(task, kind):
    made, x = task(kind, beta=0.5), samples(kind)
    views = made.views(Batch(x, torch.arange(3)), context())
    loss, (_, hidden) = made(views), views
    told = []
    for row, length in enumerate(LENGTHS[kind]):
        one = x[row : row + 1, ..., :length]
        student, teacher = made.encoder, made.teacher_encoder
        n = int(student.real(x)[row].sum())
        outputs = teacher.encode(teacher.embed(one)[:, :n], layers=(1, 2)).layers
        target = F.layer_norm(sum(normalised(each[0]) for each in outputs) / 2, (16,))
        z = student.embed(one)[:, :n].clone()
        z[0, hidden[row, :n]] = made.token
        apart = (made.predict(student.encode(z).tokens[0]) - target)[hidden[row, :n]].abs()
        told.append(torch.where(apart < 0.5, apart.square(), apart - 0.25).mean())  # beta = 0.5
        assert not hidden[row, n:].any(), "padding is told by none"
        assert 0 < hidden[row].sum() < n
    assert loss.value.item() == pytest.approx(sum(told).item() / 3)
    assert 0 < loss.metrics["spread"] < 2


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_hidden_token_is_not_seen_and_padding_has_no_gradient(task, kind):
    made, x = task(kind), samples(kind)
    _, hidden = made.views(Batch(x, torch.arange(3)), context())
    z = made.encoder.embed(x)[:, : hidden.shape[1]].detach()
    real, other = made.encoder.real(x)[:, : hidden.shape[1]], torch.where(hidden[..., None], z.flip(2), z)
    masked = [torch.where(hidden[..., None], made.token, each).detach().requires_grad_() for each in (z, other)]
    one, two = (made.encoder.encode(each, mask=real).tokens for each in masked)
    assert torch.equal(one[real], two[real])
    one[real].square().sum().backward()
    assert masked[0].grad[~real].abs().sum() == 0
    assert masked[0].grad[real].abs().sum() > 0


@pytest.mark.parametrize("kind", SAMPLES)
def test_what_is_normalised_over_padding_too_would_be_noticed(task, kind, monkeypatch):
    made, x = task(kind), samples(kind)
    views = made.views(Batch(x, torch.arange(3)), context())
    right = made(views).value
    normalise = data2vec.normalise_tokens
    monkeypatch.setattr(data2vec, "normalise_tokens", lambda tokens, over, real: normalise(tokens, over))
    assert not torch.allclose(right, made(views).value, rtol=1e-3)


def test_targets_are_the_same_whatever_is_dropped_out_of_the_student():
    made, x = float_task("text"), samples("text")
    for each in made.modules():
        if isinstance(each, torch.nn.Dropout):
            each.p = 0.5
    for mode in (True, False, True):
        made.train(mode)
        assert torch.equal(made.mean_of_blocks(x), made.mean_of_blocks(x))
    views = made.views(Batch(x, torch.arange(3)), context())
    assert made(views).value != made(views).value  # while the student is asked with dropout


def test_an_encoder_without_blocks_is_refused():
    encoder = choice("model", "audio_convnet")
    with pytest.raises(ValueError, match="model="):
        Data2Vec(encoder=encoder[0](samples=SAMPLES["audio"], **encoder[1]), samples=SAMPLES["audio"], augment=Same())
