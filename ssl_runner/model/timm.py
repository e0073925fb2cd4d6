"""Any image model of timm (Wightman, PyTorch Image Models, 2019, https://github.com/huggingface/pytorch-image-models)."""

import re
from difflib import get_close_matches

import timm
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssl_runner.contract import Features
from ssl_runner.layers.image_encoder import ImageEncoder


class Timm(ImageEncoder):
    """A model of timm without its classifier. Tokens are its last map, or its tokens without class and register tokens.

    Pooled is what the model's own head pools, or the mean of the tokens where the head has another width.
    Parameters that neither reaches are frozen, since distributed training waits for every gradient.

    shape: (C, H, W) of a sample. It sets the number of channels, and the image size where the model asks for one.
    name: of `timm.list_models()`; a tag such as `resnet18.a1_in1k` chooses among its pretrained weights.
    pretrained: weights from the Hugging Face hub, which needs the network at the first use.
    Raises ValueError for an unknown name, for a place such as `hf_hub:` or `local-dir:`, and for a model that cannot
    read images of this size.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        name: str = "resnet18",
        pretrained: bool = False,
    ):
        super().__init__(mean, std)
        if not re.fullmatch(r"[\w.-]+", name):  # timm would read a configuration and weights from wherever it says
            raise ValueError(
                f"timm: given {name!r}, and only names of architectures are taken, as in model.name=resnet18; "
                "model.pretrained=true fetches their published weights"
            )
        if not timm.is_model(name):
            near = get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
            hint = f"nearest: {', '.join(near)}" if near else "timm.list_models() has them all"
            raise ValueError(f"timm has no model {name!r}; {hint}")
        channels, *size = shape
        form = timm.get_pretrained_cfg(name)
        wanted = {"img_size": tuple(size)} if form is not None and form.fixed_input_size else {}
        try:
            self.net = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=channels, **wanted)
            self.settle(shape)
        except (RuntimeError, AssertionError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"timm's {name} cannot encode samples of shape {shape}: {error}") from error

    def settle(self, shape: tuple[int, int, int]) -> None:
        """Learns the form of the features from one blank image, and freezes the parameters they do not depend on."""
        self.eval()  # batch norm cannot learn from one image
        with torch.enable_grad():
            maps = self.net.forward_features(self.normalise(torch.zeros(1, *shape)))
            if not isinstance(maps, Tensor) or maps.ndim not in (3, 4):
                raise TypeError("its features are neither a map nor a sequence of tokens")
            width = self.net.num_features
            self.channels_last = maps.ndim == 4 and (
                str(getattr(self.net, "output_fmt", "")) == "NHWC" or maps.shape[1] != width == maps.shape[3]
            )
            has_class = any(key.startswith("cls_token") for key, _ in self.net.named_parameters())
            self.prefix = getattr(self.net, "num_prefix_tokens", int(has_class))
            tokens, _ = self.tokens_of(maps, shape[1] / shape[2])
            if tokens.shape[1] == 0:
                raise TypeError("its features have no tokens but the class token")
            self.dim = tokens.shape[2]
            pooled = self.net.forward_head(maps, pre_logits=True)
            self.has_head = isinstance(pooled, Tensor) and pooled.shape == (1, self.dim)
            reached = (pooled.sum() if self.has_head else 0) + tokens.sum()
            parameters = [p for p in self.net.parameters() if p.requires_grad]
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(reached, parameters, allow_unused=True), strict=True
            ):
                parameter.requires_grad_(gradient is not None)
        self.train()

    def forward(self, x: Float[Tensor, "b c h w"], keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Raises ValueError where `keep` is given."""
        if keep is not None:
            raise ValueError("Timm cannot drop tokens; use model=vit_tiny for masked methods")
        maps = self.net.forward_features(self.normalise(x))
        tokens, grid = self.tokens_of(maps, x.shape[2] / x.shape[3])
        pooled = self.net.forward_head(maps, pre_logits=True) if self.has_head else tokens.mean(1)
        return Features(pooled=pooled, tokens=tokens, grid=grid)

    def tokens_of(self, maps: Tensor, aspect: float) -> tuple[Float[Tensor, "b n d"], tuple[int, ...]]:
        """Tokens and their grid; `aspect`: height over width of the image, which tells the grid of a plain sequence."""
        if maps.ndim == 4 and self.channels_last:
            return maps.flatten(1, 2), tuple(maps.shape[1:3])
        if maps.ndim == 4:
            return maps.flatten(2).transpose(1, 2), tuple(maps.shape[2:])
        tokens = maps[:, self.prefix :]
        number = tokens.shape[1]
        rows = max(1, round((number * aspect) ** 0.5))
        return tokens, (rows, number // rows) if number % rows == 0 else (number,)
