"""Layers by hand: heads, decoder, queue, moving average, positions, attention masks and torch's transformer block."""

from math import cos, sin

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import Conv, wander

from ssl_runner.layers.decoder import Decoder
from ssl_runner.layers.ema import follow, frozen_copy, momentum_at
from ssl_runner.layers.heads import Prototypes, mlp, prototype_head
from ssl_runner.layers.queue import Queue
from ssl_runner.layers.transformer import Block, attention_mask, grid_of, masked_mean, sine_cosine, take_tokens


@pytest.mark.parametrize(
    ("dims", "settings", "layers", "biases"),
    [
        ((4, 8, 3), {}, "Linear BatchNorm1d ReLU Linear", [False, True]),
        ((4, 8, 8, 3), {"norm": False, "activation": nn.GELU}, "Linear GELU Linear GELU Linear", [True] * 3),
        ((4, 3), {}, "Linear", [True]),
    ],
)
def test_mlp_has_the_layers_asked_for_and_no_bias_before_a_norm(dims, settings, layers, biases):
    net = mlp(dims, **settings)
    assert [type(m).__name__ for m in net] == layers.split()
    linear = [(m.bias is not None, m.out_features) for m in net if isinstance(m, nn.Linear)]
    assert linear == list(zip(biases, dims[1:], strict=True))
    with pytest.raises(ValueError, match="input and output width"):
        mlp(dims[:1])


def test_prototypes_are_cosines_of_a_length_that_may_be_learnt_behind_three_layers(rng):
    x, layer = torch.randn(5, 6, generator=rng), Prototypes(6, 4)
    cosines = torch.stack([F.cosine_similarity(x, row[None]) for row in layer.weight], 1)
    torch.testing.assert_close((layer(x), layer(7 * x)), (cosines, cosines))
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x), cosines)
    free = Prototypes(6, 4, fixed_norm=False)
    free.load_state_dict({"weight": 3 * layer.weight, "length": torch.arange(4.0)})
    torch.testing.assert_close(free(x), cosines * torch.arange(4.0))
    head = prototype_head(6, 8, 4, 10)
    assert [type(m).__name__ for m in head.projector] == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert "BatchNorm1d" in {type(m).__name__ for m in prototype_head(6, 8, 4, 10, norm=True).modules()}
    linear = [m for m in head.projector if isinstance(m, nn.Linear)]
    assert all(m.bias.abs().max() == 0 and m.weight.abs().max() <= 2 for m in linear)
    assert torch.cat([m.weight.flatten() for m in linear]).std().item() == pytest.approx(0.02, rel=0.25)
    assert head(torch.randn(3, 6)).shape == (3, 10)


@pytest.mark.parametrize(
    "shape",
    [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 96, 96), (3, 20, 50), (2, 37, 9), (1, 31, 31), (1, 3, 5), (4, 1, 1)],
)
def test_decoder_makes_images_of_any_size_and_each_pixel_answers_to_the_vector(shape):
    torch.manual_seed(0)
    decoder = Decoder(12, shape, width=32)
    x = decoder(torch.randn(32, 12))
    assert x.shape == (32, *shape)
    side = min(decoder.grid[1].unflattened_size[1:])
    assert side == min(shape[1:]) if min(shape[1:]) < 8 else 4 <= side <= 8
    assert 0 <= x.min() <= x.max() <= 1
    assert (x.std(0) > 0).all()
    x.sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
    with pytest.raises(ValueError, match="makes images"):
        Decoder(12, (16000,))


def test_a_queue_starts_as_random_directions_holds_the_newest_rows_in_order_and_all_of_it_is_state(rng):
    for batches in ([3, 3], [3, 3, 3], [5], [4, 5, 2], [7], [1, 12, 4], [5, 5, 5]):
        queue = Queue(5, 3)
        ever = [queue.rows.clone(), *(torch.randn(count, 3, generator=rng) for count in batches)]
        for rows in ever[1:]:
            queue.enqueue(rows)
        oldest_first = queue.rows.roll(-int(queue.place), 0)
        torch.testing.assert_close(oldest_first, F.normalize(torch.cat(ever), dim=1)[-5:], msg=str(batches))
    torch.manual_seed(0)
    queue, other = Queue(2000, 8), Queue(2000, 8)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(2000))
    assert queue.rows.mean(0).abs().max() < 5 / (2000 * 8) ** 0.5
    queue.enqueue(torch.randn(3, 8).bfloat16())
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.enqueue(torch.ones(1, 8))
    assert torch.equal(queue.rows, other.rows)
    assert (queue.place, other.place, list(queue.parameters())) == (4, 4, [])


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0, torch.tensor(0.9)])
def test_a_teacher_follows_its_student_and_its_momentum_rises_to_one_along_a_cosine(momentum):
    torch.manual_seed(0)
    student = Conv()
    teacher = frozen_copy(student)
    before = [p.clone() for p in teacher.parameters()]
    wander(student)
    student.norm.running_mean.fill_(3)
    follow(teacher, student, momentum)
    m = float(momentum)
    exact = {} if 0 < m < 1 else {"rtol": 0, "atol": 0}
    for old, now, theirs in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(now, m * old + (1 - m) * theirs, **exact)
        assert (now.requires_grad, theirs.requires_grad) == (False, True)
    assert (teacher.norm.running_mean == 3).all()
    student.norm.running_mean.fill_(4)
    follow(teacher, student, momentum, copy_buffers=False)
    assert (teacher.norm.running_mean == 3).all()
    with pytest.raises(ValueError, match="frozen_copy"):
        follow(nn.Linear(2, 2), student, 0.9)
    expected = [0.9, 1 - 0.1 * (2**-0.5 + 1) / 2, 0.95, 1.0]
    assert [momentum_at(0.9, progress) for progress in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(expected)


def test_positions_by_hand():
    positions = sine_cosine((2, 3), 8)  # the row's sines, its cosines, the column's sines, its cosines
    for place, position in zip(((row, column) for row in range(2) for column in range(3)), positions, strict=True):
        expected = [f(each * w) for each in place for f in (sin, cos) for w in (1, 0.01)]
        torch.testing.assert_close(position, torch.tensor(expected))
    torch.testing.assert_close(sine_cosine((5,), 4)[:, 0], torch.arange(5.0).sin())
    with pytest.raises(ValueError, match=r"a width of 6 .* use a multiple of 4"):
        sine_cosine((2, 2), 6)
    assert [grid_of(24, aspect) for aspect in (2 / 3, 3 / 2, 24.0, 1 / 24)] == [(4, 6), (6, 4), (24, 1), (1, 24)]
    assert grid_of(7, 1.0) == (7,)


def table(*rows: str) -> torch.Tensor:
    return torch.tensor([[mark == "x" for mark in row] for row in rows])


def test_pairs_that_attend_are_the_visible_the_kept_and_the_real():
    """Class tokens attend to what is real; under `visible` they see all and are not seen; who sees none sees itself."""
    assert attention_mask(None, None, torch.tensor([[0]]), 1) is None
    assert torch.equal(attention_mask(table("xx.", "..."), None, None, 1), table("xxx.", "x...")[:, None, None])
    assert torch.equal(attention_mask(table("x.", ".."), None, None, 0), table("x.", "xx")[:, None, None])
    causal, keep = table("x..", "xx.", "xxx"), torch.tensor([[2, 0], [0, 1]])
    expected = torch.stack([table("xxxx", "xxxx", "..xx", "...x"), table("xxxx", "xxxx", "..x.", "..xx")])
    assert torch.equal(attention_mask(None, causal, keep, 2)[:, 0], expected)
    each = torch.stack([causal, table("xxx", "xxx", "xxx")])  # of each sample
    expected = torch.stack([table("xx", ".x"), table("xx", "xx")])
    assert torch.equal(attention_mask(None, each, keep, 0)[:, 0], expected)
    expected = torch.stack([table("xxx.", ".x..", ".x..", ".xx."), table("x.xx", ".x..", "..x.", "..x.")])
    visible = table("...", "x..", "xx.")
    assert torch.equal(attention_mask(table("xx.", ".xx"), visible, None, 1)[:, 0], expected)


def test_tokens_are_taken_as_take_along_dim_does_and_their_mean_is_of_the_real_ones(rng):
    tokens, keep = torch.rand(5, 7, 3, generator=rng), torch.rand(5, 7, generator=rng).argsort(1)[:, :4]
    assert torch.equal(take_tokens(tokens, keep), torch.take_along_dim(tokens, keep[..., None], dim=1))
    assert torch.equal(masked_mean(tokens, None), tokens.mean(1))
    few = torch.tensor([[[1.0], [3.0], [9.0]], [[5.0], [6.0], [7.0]]])
    assert masked_mean(few, table("xx.", "...")).flatten().tolist() == [2, 0]


def test_block_is_torchs_layer_gradients_and_first_values_included():
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    torch.manual_seed(0)
    ours = Block(16, 4)
    x = torch.randn(3, 9, 16)
    for layer in (ours, theirs):
        y = layer(x)
        (y * y.detach().cos()).sum().backward()
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(*({name: p.grad for name, p in each.named_parameters()} for each in (ours, theirs)))
