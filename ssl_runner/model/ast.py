"""AST: Audio Spectrogram Transformer, Gong, Chung, Glass, Interspeech 2021, arXiv:2104.01778.

Patches of a log-mel spectrogram, in order of time, through a transformer with norms first.

Differs: patches do not overlap. By default a patch has all bands of its frames, as in SSAST (AAAI 2022,
arXiv:2110.09784, section 2.1), and rotary positions; patches of fewer bands have fixed sines and cosines of time and
band beside these. There is no class token: pooled is the mean over real patches. Weights start from torch's own draw.
"""

from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patchify
from ssl_runner.contract import Features, Rows, Samples
from ssl_runner.layers.ranges import Count, Positive, Share
from ssl_runner.layers.sequence import SequenceEncoder, Turn
from ssl_runner.layers.sound import LogMel
from ssl_runner.layers.transformer import sine_cosine


class AST(SequenceEncoder):
    """Tokens are patches of `patch` (frames, bands), the bands of a frame one after another; padding comes last.

    width, depth, heads: of the transformer; dropout: see `SequenceEncoder`. mels: bands of the spectrogram. hop:
    seconds from one frame to the next.
    Raises ValueError for a patch that does not divide the bands, and for a width that heads do not divide into pairs.
    """

    kinds = ("audio",)

    def __init__(
        self, *, samples: Samples, train: Rows | None = None,
        width: Count = 64, depth: Count = 3, heads: Count = 4, dropout: Share = 0.0,
        mels: Count = 40, patch: tuple[Count, Count] = (3, 40), hop: Positive = 0.01
    ):  # fmt: skip
        frames, bands = patch
        if mels % bands:
            raise ValueError(f"model.patch: {bands} bands do not divide model.mels={mels}; type model.patch=[3,{mels}]")
        length = -(-samples.shape[1] // (round(hop * samples.rate) * frames)) * (mels // bands)
        super().__init__(width, depth, heads, length=length, dropout=dropout)
        self.patch, self.across = (frames, bands), mels // bands
        self.spectrogram = LogMel(rate=samples.rate, mels=mels, hop=hop, stack=frames)
        self.spectrogram.fit(train, samples)
        self.hop = self.spectrogram.hop * frames if self.across == 1 else None  # samples a token
        self.patches = nn.Linear(frames * bands, width)

    def embed(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b n d"]:
        return self.patches(patchify(self.normalise(x), self.patch))

    def normalise(self, x: Float[Tensor, "b 1 t"]) -> Float[Tensor, "b 1 f m"]:
        """The spectrogram that patches are cut of: an image of time by bands, zero in padding."""
        return self.spectrogram(x)[:, None]

    def real(self, x: Float[Tensor, "b 1 t"]) -> Bool[Tensor, "b n"]:
        return self.spectrogram.real(x, self.patch[0]).repeat_interleave(self.across, dim=1)

    def grid_of(self, tokens: int) -> tuple[int, ...]:
        return (tokens,) if self.across == 1 else (tokens // self.across, self.across)

    def add_positions(
        self, z: Float[Tensor, "b n d"], keep: Int[Tensor, "b k"] | None
    ) -> tuple[Float[Tensor, "b k d"], Turn | None]:
        if self.across > 1:
            z = z + sine_cosine(self.grid_of(z.shape[1]), self.dim).to(z)
        return super().add_positions(z, keep)

    def encode(
        self, z: Float[Tensor, "b n d"], *, keep: Int[Tensor, "b k"] | None = None, layers: Sequence[int] = (),
        mask: Bool[Tensor, "b n"] | None = None, visible: Bool[Tensor, "*b n n"] | None = None
    ) -> Features:  # fmt: skip
        """As a sequence; the grid of features is (time,), or (time, bands) if a patch has a part of the bands."""
        read = super().encode(z, keep=keep, layers=layers, mask=mask, visible=visible)
        return Features(read.pooled, read.tokens, self.grid_of(z.shape[1]), read.mask, read.layers)
