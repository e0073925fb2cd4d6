"""Deep Residual Learning for Image Recognition, He et al., CVPR 2016, arXiv:1512.03385; torchvision's blocks.

Differs: images of 64 px or less meet a 3x3 convolution of stride 1 and no max-pool, as in section B.9 of SimCLR,
Chen et al., ICML 2020, arXiv:2002.05709, since the 7x7 stem would leave a 1x1 map of a 32 px image.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn
from torchvision.models import resnet

from ssl_runner.layers.image_encoder import MapEncoder

BLOCKS = {
    18: (resnet.BasicBlock, [2, 2, 2, 2]),
    34: (resnet.BasicBlock, [3, 4, 6, 3]),
    50: (resnet.Bottleneck, [3, 4, 6, 3]),
}
LARGEST_SMALL_IMAGE = 64  # px


class ResNet(MapEncoder):
    """A residual network without its classifier. Tokens are the positions of the last map; pooled is their mean.

    The modules under `layers` have torchvision's names.

    shape: (C, H, W) of a sample; any size and number of channels.
    depth: layers; the features are 512 wide for 18 and 34, 2048 for 50.
    stem: `small` is 3x3 at stride 1, `large` is 7x7 at stride 2 and a max-pool; `auto` goes by the longer side.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        depth: Literal[18, 34, 50] = 18,
        stem: Literal["auto", "small", "large"] = "auto",
    ):
        super().__init__(mean, std)
        channels, height, width = shape
        small = stem == "small" or (stem == "auto" and max(height, width) <= LARGEST_SMALL_IMAGE)
        block, counts = BLOCKS[depth]
        self.dim = 512 * block.expansion
        layers = dict(resnet.ResNet(block, counts, num_classes=1).named_children())
        del layers["avgpool"], layers["fc"]
        side, stride = (3, 1) if small else (7, 2)
        layers["conv1"] = nn.Conv2d(channels, 64, side, stride, padding=side // 2, bias=False)
        nn.init.kaiming_normal_(layers["conv1"].weight, mode="fan_out", nonlinearity="relu")
        if small:
            del layers["maxpool"]
        self.layers = nn.Sequential(OrderedDict(layers))
