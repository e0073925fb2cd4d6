"""InfoNCE over time against a loop over equation 4 of CPC, and means over clips of unequal length."""

import math

import pytest
import torch

from ssl_runner.loss.prediction import mean_of_clips, step_ahead


def by_loop(prediction, z, real, others, same):
    """-log of the positive's exponential over the sum of all, one frame after another."""
    losses = torch.zeros(real.shape, dtype=torch.float64)
    for clip in range(len(z)):
        for frame in range(z.shape[1]):
            candidates = [(clip, frame)]
            candidates += [(clip, t) for t in range(z.shape[1]) if t != frame and real[clip, t] and same]
            candidates += [(c, frame) for c in range(len(z)) if c != clip and real[c, frame] and others]
            scores = [math.exp(float(prediction[clip, frame] @ z[c, t])) for c, t in candidates]
            losses[clip, frame] = -math.log(scores[0] / sum(scores))
    return losses


@pytest.mark.parametrize(("others", "same"), [(True, True), (True, False), (False, True)])
def test_it_is_equation_4_with_its_negatives(rng, others, same, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    prediction, z = torch.randn(2, 4, 5, 3, generator=rng, dtype=torch.float64)
    real = torch.arange(5) < torch.tensor([5, 3, 2, 4])[:, None]
    value, hits = step_ahead(prediction, z, real, others=others, same=same)
    assert torch.allclose(value[real], by_loop(prediction, z, real, others, same)[real], atol=1e-12)
    assert 0 < hits[real].float().mean() < 1


def test_a_hand_case():
    """Two clips of two frames: of two equal candidates and one other, the loss is log(2 + e^-1) of equal ones."""
    z = torch.tensor([[[1.0], [0.0]], [[1.0], [1.0]]])
    prediction = torch.ones(2, 2, 1)
    value, _ = step_ahead(prediction, z, torch.ones(2, 2, dtype=torch.bool))
    assert value[0, 0].item() == pytest.approx(math.log(2 + math.exp(-1)))
    assert value[0, 1].item() == pytest.approx(math.log(1 + 2 * math.e))


def test_equal_frames_tell_nothing_and_padding_is_no_negative():
    real = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    value, _ = step_ahead(torch.ones(3, 6, 2), torch.ones(3, 6, 2), real)
    # Of the third frame: five others of its clip and one of another clip; of the first: five and two.
    assert value[0, [0, 2]].tolist() == pytest.approx([math.log(8), math.log(7)])
    z = torch.randn(3, 6, 2)
    other = torch.where(real[..., None], z, 100.0)
    first, second = (step_ahead(torch.ones(3, 6, 2), each, real)[0][real] for each in (z, other))
    assert torch.allclose(first, second)


def test_each_clip_has_the_same_weight():
    value = torch.tensor([[1.0, 2.0, 3.0], [8.0, 100.0, 100.0], [7.0, 7.0, 7.0]])
    counted = torch.tensor([[True, True, True], [True, False, False], [False] * 3])
    assert mean_of_clips(value, counted).item() == pytest.approx((2 + 8 + 0) / 3)
    halves = [mean_of_clips(value[rows], counted[rows]) for rows in ([0, 1], [2, 2])]
    assert sum(halves).item() / 2 == pytest.approx(mean_of_clips(value[[0, 1, 2, 2]], counted[[0, 1, 2, 2]]).item())
