"""Images as patches, and masks over them."""

import torch

from ssl_runner.augment.image.mask import patchify, random_masks, unpatchify


def test_masks_are_uniform_partitions_of_each_sample(rng):
    keep, masked = random_masks(3000, 10, 3, rng)
    assert keep.shape == (3000, 3)
    assert torch.equal(torch.cat([keep, masked], 1).sort(1).values, torch.arange(10).expand(3000, 10))
    share = torch.bincount(keep.flatten(), minlength=10) / 3000
    assert (share - 0.3).abs().max() < 0.045  # five standard deviations
    assert len({tuple(sorted(row)) for row in keep.tolist()}) > 100  # of the 120 subsets


def test_patchify_and_back():
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    patches = patchify(x, (2, 3))
    assert patches.shape == (2, 4, 18)
    # the second patch is the right half of the first two rows, channels last
    assert torch.equal(patches[1, 1], x[1, :, :2, 3:].permute(1, 2, 0).flatten())
    assert torch.equal(unpatchify(patches, (2, 3), (2, 2)), x)
