"""Synchronised batch norm: with one process it is the plain one; several are tried in promises/test_ranks.py."""

import copy
import subprocess
import sys

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from ssl_runner.device.batch_norm import SyncBatchNorm, synchronise


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
def test_of_one_process_it_is_the_plain_one(norm, rng):
    plain = norm(3, momentum=0.3)
    nn.init.uniform_(plain.weight, 0.5, 2, generator=rng)
    ours = copy.deepcopy(plain)
    synchronise(nn.Sequential(ours), torch.device("cpu"))
    assert isinstance(ours, SyncBatchNorm)
    for training in (True, True, False):
        x = torch.randn(8, 3, 4, 4, generator=rng) + 2
        with torch.no_grad():
            torch.testing.assert_close(ours.train(training)(x), plain.train(training)(x))
    assert (plain(x) < 0).any() == (norm is nn.BatchNorm2d), "timm's is followed by a ReLU"
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


def test_a_run_without_timm_does_not_import_it():
    """It takes a second of each start."""
    code = "import sys, ssl_runner.run.session; print(*{'timm', 'torch', 'torchvision'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch"]
