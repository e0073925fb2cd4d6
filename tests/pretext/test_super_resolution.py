"""Super-resolution: what the encoder sees, the loss by hand, detail that the small image tells."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, context, number, still, train

from ssl_runner.contract import Batch
from ssl_runner.pretext.super_resolution import SuperResolution


def super_resolution(**settings) -> SuperResolution:
    torch.manual_seed(0)
    return SuperResolution(**{"encoder": Conv(), "shape": SHAPE, "augment": still(), **settings}).train()


@pytest.mark.parametrize("factor", [2, 4])
def test_the_encoder_sees_the_means_of_squares_enlarged_and_nothing_finer(factor):
    pretext = super_resolution(factor=factor)
    blurred, sharp = pretext.views(batch(), context())
    assert torch.equal(sharp, batch().x)
    small = sharp.unfold(2, factor, factor).unfold(3, factor, factor).mean((4, 5))
    expected = F.interpolate(small, scale_factor=factor, mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(blurred, expected)
    turned = sharp.unflatten(2, (-1, factor)).flip(3).flatten(2, 3)  # rows of each square in another order
    other, _ = pretext.views(Batch(turned, torch.arange(8)), context())
    torch.testing.assert_close(other, blurred)
    embedding = pretext((blurred, sharp)).embedding
    assert torch.equal(pretext((blurred, turned)).embedding, embedding)


def test_the_loss_is_of_the_detail_in_the_encoders_units():
    encoder = Conv()
    encoder.std.copy_(torch.tensor([0.2, 0.4, 0.5]))
    pretext = super_resolution(encoder=encoder, factor=2).eval()
    blurred, sharp = views = pretext.views(batch(), context())
    restored = blurred + pretext.restore(encoder(blurred).tokens)
    error = ((restored - sharp).double() / encoder.std.view(3, 1, 1)).square().mean()
    loss = pretext(views)
    torch.testing.assert_close(loss.value.double(), error, rtol=1e-5, atol=1e-7)
    gain = (sharp - blurred).square().mean() / (sharp - restored).square().mean()
    assert number(loss.metrics["psnr_gain"]) == pytest.approx(10 * math.log10(number(gain)), abs=1e-4)
    loss.value.backward()
    assert all(p.grad.abs().sum() > 0 for p in pretext.parameters())
    torch.nn.init.zeros_(pretext.decoder.map.weight)
    torch.nn.init.zeros_(pretext.decoder.map.bias)
    assert number(pretext(views).metrics["psnr_gain"]) == pytest.approx(0, abs=1e-5), "nothing added: bicubic's own"
    assert torch.equal(pretext.pictures(views)["restored"], blurred)


@pytest.mark.parametrize("regular", [True, False])
def test_detail_that_follows_from_the_small_image_is_restored_and_noise_is_not(regular):
    fine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)

    def samples(step: int) -> torch.Tensor:
        noise = batch(16, seed=step).x
        dark = F.interpolate(noise[:, :, :2, :2], scale_factor=4.0)  # a chequerboard on dark squares, and not on others
        pattern = fine if regular else (noise > 0.5).float() * 2 - 1
        return (0.2 + 0.6 * dark + 0.15 * (dark < 0.5) * pattern).clamp(0, 1)

    pretext = super_resolution(factor=4, width=64)
    train(pretext, 120, samples)
    with torch.no_grad():
        views = pretext.eval().views(Batch(samples(5000), torch.arange(16)), context(7))
        gain, pictures = pretext(views).metrics["psnr_gain"], pretext.pictures(views)
    assert (gain > 1.5) if regular else (gain < 0.8), gain
    better = (pictures["restored"] - views[1]).square().mean() / (views[0] - views[1]).square().mean()
    assert (better < 0.75) == regular


def test_a_factor_that_divides_no_side_is_refused_with_what_to_type():
    with pytest.raises(ValueError, match=r"pretext\.factor=3 does not divide 8x8 px; type pretext\.augment\.size=6"):
        super_resolution(factor=3)
    assert super_resolution(factor=3, augment=still(size=6)).views(batch(), context())[0].shape == (8, 3, 6, 6)
