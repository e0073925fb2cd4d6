import pytest
import torch

from ssl_runner.device.placement import Placement
from ssl_runner.layers.bf16 import multiplies_bf16


@pytest.mark.parametrize("units", [True, False])
def test_automatic_precision_is_bf16_where_the_device_has_units_for_it(units, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units)
    placement = Placement(name="cpu", precision="auto")
    assert placement.precision == ("bf16" if units else "float32")
    with placement.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if units else torch.float32)
    assert not multiplies_bf16(torch.device("mps"))
