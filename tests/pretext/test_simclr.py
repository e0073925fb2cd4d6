"""SimCLR: both views in one pass, and what views share is found."""

import pytest
import torch
from toys import Conv, batch, colours, context, gradients, train

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.loss.info_nce import nt_xent
from ssl_runner.pretext.simclr import SimCLR


def test_both_views_are_encoded_at_once_and_drawn_each():
    torch.manual_seed(0)
    pretext = SimCLR(encoder=Conv(), augment=Views(scale=(0.5, 1.0)), hidden=16, out=8)
    first, second = pretext.views(batch(), context())
    assert not torch.equal(first, second)
    passes = []
    pretext.encoder.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    loss = pretext((first, second))
    assert passes == [16]
    torch.testing.assert_close(loss.value, nt_xent(loss.embedding, pretext.temperature)[0])
    loss.value.backward()
    assert all(gradients(pretext).values())


@pytest.mark.parametrize("paired", [True, False])
def test_what_views_share_is_found(paired):
    """Brightness and contrast change from view to view, the hue stays: it is found, but not from pairs without one."""
    torch.manual_seed(0)
    light = Views(scale=(0.3, 1.0), jitter=1.0, brightness=0.6, contrast=0.6, saturation=0.0, hue=0.0, grey=0.0)
    pretext = SimCLR(encoder=Conv(), augment=light, temperature=0.1, hidden=32, out=16)
    train(pretext, 80, colours, spoil=lambda v: v if paired else (v[0], v[1].roll(1, 0)))
    pretext.eval()
    with torch.no_grad():
        unseen = Batch(colours(-1, 64), torch.arange(64))
        found = [pretext(pretext.views(unseen, context(seed))).metrics["accuracy"] for seed in range(20)]
    accuracy = torch.stack(found).mean()  # one draw alone may fall short
    assert (accuracy > 0.2) if paired else (accuracy < 0.15), accuracy  # 0.11 before training
