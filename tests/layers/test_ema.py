"""A teacher follows its student by the momentum asked for, exactly at 0 and 1."""

import pytest
import torch
from torch import nn
from toys import Conv, wander

from ssl_runner.layers.ema import follow, frozen_copy, momentum_at


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0, torch.tensor(0.9)])
def test_teacher_follows(momentum):
    torch.manual_seed(0)
    student = Conv()
    teacher = frozen_copy(student)
    before = [p.clone() for p in teacher.parameters()]
    wander(student)
    student.norm.running_mean.fill_(3)
    follow(teacher, student, momentum)
    m = float(momentum)
    for old, now, theirs in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(now, m * old + (1 - m) * theirs)
        assert m != 0 or torch.equal(now, theirs)
        assert m != 1 or torch.equal(now, old)
        assert not now.requires_grad
        assert theirs.requires_grad
    assert (teacher.norm.running_mean == 3).all()
    student.norm.running_mean.fill_(4)
    follow(teacher, student, momentum, copy_buffers=False)
    assert (teacher.norm.running_mean == 3).all()
    with pytest.raises(ValueError, match="frozen_copy"):
        follow(nn.Linear(2, 2), student, 0.9)


def test_momentum_rises_to_one_along_a_cosine():
    assert [momentum_at(0.9, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.95, 1.0])
    assert momentum_at(0.9, 0.25) == pytest.approx(1 - 0.1 * (2**-0.5 + 1) / 2)
