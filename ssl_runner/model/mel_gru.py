"""Log-mel frames, a local network, and a recurrent one over time: the encoder of contrastive predictive coding.

After Representation Learning with Contrastive Predictive Coding, van den Oord, Li, Vinyals, arXiv:1807.03748, section
3.1: z of a few milliseconds each, c = GRU(z). GRU: Cho et al., EMNLP 2014, arXiv:1406.1078.

Differs: z are of log-mel frames and not of strided convolutions of the waveform, so that it learns in minutes on a CPU;
c has as many numbers as z.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.contract import Encoder, Features, Rows, Samples
from ssl_runner.layers.ranges import Count, Positive
from ssl_runner.layers.sound import LogMel
from ssl_runner.layers.transformer import masked_mean, take_tokens


class MelGRU(Encoder):
    """Tokens are the contexts c, each of which has heard what came before it; pooled is their mean.

    `embed` gives the local z. What comes after a token, its last window aside, changes it by one number alone: the
    loudness of the whole clip, which is brought to unit power first.

    width: of z and c. depth: layers of the GRU. mels: bands of the spectrogram. stack: frames of 10 ms a token.
    pretext tasks that hide tokens replace z. Raises ValueError for more bands than the window tells apart.
    """

    kinds = ("audio",)
    in_two_steps, causal = True, True

    def __init__(
        self, *, samples: Samples, train: Rows | None = None,
        width: Count = 64, depth: Count = 1, mels: Count = 40, stack: Count = 3, hop: Positive = 0.01
    ):  # fmt: skip
        super().__init__()
        self.dim, self.stack = width, stack
        self.spectrogram = LogMel(rate=samples.rate, mels=mels, hop=hop, stack=stack)
        self.spectrogram.fit(train, samples)
        self.hop = self.spectrogram.hop * stack  # samples a token
        self.local = nn.Sequential(
            nn.Linear(mels * stack, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, width)
        )
        self.context = nn.ModuleList(Recurrence(width) for _ in range(depth))

    def forward(self, x: Float[Tensor, "b 1 t"], keep: Int[Tensor, "b k"] | None = None) -> Features:
        return self.encode(self.embed(x), keep=keep, mask=self.real(x))

    def embed(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b n d"]:
        return self.local(self.spectrogram(x).unflatten(1, (-1, self.stack)).flatten(2))

    def real(self, x: Float[Tensor, "b 1 t"]) -> Bool[Tensor, "b n"]:
        return self.spectrogram.real(x, self.stack)

    def encode(
        self, z: Float[Tensor, "b n d"], *, keep: Int[Tensor, "b k"] | None = None, layers: Sequence[int] = (),
        mask: Bool[Tensor, "b n"] | None = None, visible: Bool[Tensor, "*b n n"] | None = None
    ) -> Features:  # fmt: skip
        """Runs over the tokens that are kept, in order. Raises ValueError for `visible`: time has one direction."""
        if visible is not None:
            raise ValueError("MelGRU hears what came before, and no choice of it; use model=ast_tiny")
        tokens, outputs = z if keep is None else take_tokens(z, keep), []
        mask = mask if keep is None or mask is None else mask.gather(1, keep)
        for each in self.context:
            tokens = each(tokens)
            outputs.append(tokens)
        if not all(-len(outputs) <= layer < len(outputs) for layer in layers):
            raise ValueError(
                f"layers={list(layers)}: the encoder has {len(outputs)} layers; type model.depth=N for more"
            )
        return Features(masked_mean(tokens, mask), tokens, (z.shape[1],), mask, tuple(outputs[each] for each in layers))


class Recurrence(nn.Module):
    """A gated recurrent unit from the first token to the last, in float32 also under autocast.

    The weights are those of torch's nn.GRU, which cannot be exported without a warning: it keeps them twice.
    """

    def __init__(self, width: int):
        super().__init__()
        bound = width**-0.5
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
            for shape in ((3 * width, width), (3 * width, width), (3 * width,), (3 * width,))
        )

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            start = x.new_zeros(1, x.shape[0], x.shape[2])
            return torch.gru(x, start, list(self.weights), True, 1, 0.0, self.training, False, True)[0]
