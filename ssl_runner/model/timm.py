"""Any image model of timm (Wightman, PyTorch Image Models, 2019, https://github.com/huggingface/pytorch-image-models)."""

import re
from difflib import get_close_matches

import timm
import torch
from jaxtyping import Bool, Float, Int
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ssl_runner.contract import Features
from ssl_runner.layers.token_encoder import TokenEncoder
from ssl_runner.layers.transformer import grid_of, masked_mean


class Timm(TokenEncoder):
    """A model of timm without its classifier. Tokens are its last map, or its tokens without class and register tokens.

    Pooled is what the model's own head pools, or the mean of the tokens if the head has another width.
    Parameters that neither reaches are frozen, since distributed training waits for every gradient.
    Plain vision transformers, DeiT's among them, are `in_two_steps` and so fit masked methods. Not those with a
    convolutional stem, whose tokens overlap, nor other classes of timm (Swin, EVA, BEiT).

    shape: (C, H, W) of a sample. It sets the number of channels, and the image size if the model has a fixed one.
    name: of `timm.list_models()`; a tag such as `resnet18.a1_in1k` chooses among its pretrained weights.
    pretrained: weights from the Hugging Face hub, which needs the network at the first use.
    Raises ValueError for an unknown name, for a place such as `hf_hub:` or `local-dir:`, and for a model that cannot
    read images of this size.
    """

    trunk = property(lambda self: self.net)

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
        if not re.fullmatch(r"[\w.-]+", name):  # timm would read a configuration and weights from the place it names
            raise ValueError(
                f"timm: given {name!r}, and only names of architectures are taken, as in model.name=resnet18; "
                "model.pretrained=true fetches their published weights"
            )
        if not timm.is_model(name):
            near = get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
            hint = f"nearest: {', '.join(near)}" if near else "timm.list_models() has them all"
            raise ValueError(f"timm has no model {name!r}; {hint}")
        self.name = name
        channels, *size = shape
        config = timm.get_pretrained_cfg(name)
        sizes = {"img_size": tuple(size)} if config is not None and config.fixed_input_size else {}
        self.aspect = size[0] / size[1]
        try:
            self.net = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=channels, **sizes)
            plain = getattr(type(self.net), "forward_features", None) is VisionTransformer.forward_features
            self.in_two_steps = plain and type(self.net.patch_embed) is PatchEmbed
            self.inspect_features(shape)
        except (RuntimeError, AssertionError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"timm's {name} cannot encode samples of shape {shape}: {error}") from error

    def inspect_features(self, shape: tuple[int, int, int]) -> None:
        """Encodes a blank image to learn the layout of the features, and freezes parameters they do not depend on."""
        self.eval()  # batch norm cannot learn from one image
        with torch.enable_grad():
            maps = self.net.forward_features(self.normalise(torch.zeros(1, *shape)))
            if not isinstance(maps, Tensor) or maps.ndim not in (3, 4):
                raise TypeError("its features are neither a map nor a sequence of tokens")
            width, output = self.net.num_features, str(getattr(self.net, "output_fmt", ""))
            self.channels_last = maps.ndim == 4 and (output == "NHWC" or maps.shape[1] != width == maps.shape[3])
            has_class = any(key.startswith("cls_token") for key, _ in self.net.named_parameters())
            self.prefix = getattr(self.net, "num_prefix_tokens", int(has_class))
            tokens, _ = self.tokens_of(maps, self.aspect)
            if tokens.shape[1] == 0:
                raise TypeError("its features have no tokens but the class token")
            self.dim = tokens.shape[2]
            pooled = self.net.forward_head(maps, pre_logits=True)
            self.has_head = isinstance(pooled, Tensor) and pooled.shape == (1, self.dim)
            reached = (pooled.sum() if self.has_head else 0) + tokens.sum()
            parameters = [p for p in self.net.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(reached, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.requires_grad_(gradient is not None)
        self.train()

    def forward(self, x: Float[Tensor, "b c h w"], keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Raises ValueError if `keep` is given and the model is not `in_two_steps`."""
        aspect = x.shape[2] / x.shape[3]
        if self.in_two_steps:
            z = self.embed(x)
            return self.encode(z, keep=keep, grid=grid_of(z.shape[1], aspect))
        if keep is not None:
            self.cannot_drop_tokens()
        maps = self.net.forward_features(self.normalise(x))
        tokens, grid = self.tokens_of(maps, aspect)
        pooled = self.net.forward_head(maps, pre_logits=True) if self.has_head else tokens.mean(1)
        return Features(pooled=pooled, tokens=tokens, grid=grid)

    def embed(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Linear projections of the patches. Raises ValueError if the model is not `in_two_steps`."""
        if not self.in_two_steps:
            self.cannot_drop_tokens()
        z = self.net.patch_embed(self.normalise(x))
        return z.flatten(1, 2) if z.ndim == 4 else z

    def add_positions(self, z: Float[Tensor, "b n d"], grid: tuple[int, ...]) -> Float[Tensor, "b t d"]:
        tokens = self.net._pos_embed(z.unflatten(1, grid) if self.net.dynamic_img_size else z)
        return self.net.norm_pre(self.net.patch_drop(tokens))

    def pool(self, tokens: Float[Tensor, "b t d"], mask: Bool[Tensor, "b k"] | None) -> Float[Tensor, "b d"]:
        if self.has_head and (mask is None or self.net.global_pool == "token"):
            return self.net.forward_head(tokens, pre_logits=True)
        mean = masked_mean(tokens[:, self.prefix :], mask)
        if self.has_head and self.net.global_pool != "avg":
            pools = f"timm's {self.name} pools by {self.net.global_pool}"
            raise ValueError(f"{pools} and cannot leave padding out; use model=vit_tiny")
        return self.net.fc_norm(mean) if self.has_head else mean

    def tokens_of(self, maps: Tensor, aspect: float) -> tuple[Float[Tensor, "b n d"], tuple[int, ...]]:
        """Tokens and their grid; `aspect`: height over width of the image, which tells the grid of a plain sequence."""
        if maps.ndim == 4:
            last = maps if self.channels_last else maps.permute(0, 2, 3, 1)
            return last.flatten(1, 2), tuple(last.shape[1:3])
        tokens = maps[:, self.prefix :]
        return tokens, grid_of(tokens.shape[1], aspect)
