"""The memory that a model is held against before anything is allocated."""

from types import SimpleNamespace

import pytest
import torch

from ssl_runner.run.estimate import available_memory


@pytest.mark.parametrize(("strategy", "gigabytes"), [("ddp", 80), ("fsdp", 640)])
def test_a_sharded_model_has_the_memory_of_all_gpus(strategy, gigabytes, monkeypatch):
    properties = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    placement = SimpleNamespace(device=torch.device("cuda"), strategy=strategy, processes=8)
    job = SimpleNamespace(device=SimpleNamespace(build=lambda: placement))
    assert available_memory(job) == gigabytes * 10**9
