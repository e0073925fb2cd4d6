"""Product quantiser whose codes are chosen by a Gumbel softmax.

Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017, arXiv 1611.01144; products of codes as
in vq-wav2vec, Baevski, Schneider, Auli, ICLR 2020, arXiv 1910.05453, section 3.2.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ssl_runner.layers.gather import gather


class GumbelQuantiser(nn.Module):
    """A code of each of `groups` codebooks of `codes` entries, side by side, mapped to `out` numbers.

    In float32 also under autocast. Forward the choice is hard, and backward soft.
    """

    def __init__(self, width: int, groups: int, codes: int, out: int):
        super().__init__()
        self.groups, self.codes = groups, codes
        self.logits = nn.Linear(width, groups * codes)
        self.entries = nn.Parameter(torch.rand(groups, codes, out // groups))
        self.project = nn.Linear(out // groups * groups, out)

    def forward(
        self, z: Float[Tensor, "b n w"], u: Float[Tensor, "b n g v"], temperature: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "b n d"], Int[Tensor, "b n g"], Float[Tensor, "b n g v"]]:
        """Quantised frames, their codes, and the probabilities of all codes without noise.

        u: uniform in [0, 1), of which the noise -log(-log(u)) is made.
        """
        with torch.autocast(z.device.type, enabled=False):
            logits = self.logits(z.float()).unflatten(2, (self.groups, self.codes))  # (B, n, G, V)
            noise = -(-(u.clamp(1e-7, 1 - 1e-7)).log()).log()
            soft = ((logits + noise) / temperature).softmax(dim=3)  # equation 1 of wav2vec 2.0
            ids = soft.argmax(dim=3)
            hard = (ids[..., None] == torch.arange(self.codes, device=z.device)).to(soft.dtype)
            chosen = hard + soft - soft.detach()
            entries = torch.einsum("bngv,gvd->bngd", chosen, self.entries)
            return self.project(entries.flatten(2)), ids, logits.softmax(dim=3)


def mean_use(chosen: Float[Tensor, "b n g v"], counted: Bool[Tensor, "b n"]) -> Float[Tensor, "g v"]:
    """The mean over the frames that count, of all ranks."""
    weight = counted.to(chosen.dtype)
    sums = torch.einsum("bngv,bn->bgv", chosen, weight)  # by clip: ranks have as many of them
    return gather(sums).sum(0) / gather(weight.sum(1)).sum().clamp(min=1)


def perplexities(use: Float[Tensor, "g v"]) -> Float[Tensor, " g"]:
    """How many codes of each group are in even use, in [1, V]."""
    return torch.special.entr(use).sum(dim=1).exp()


def diversity(use: Float[Tensor, "g v"]) -> Float[Tensor, ""]:
    """Equation 4 of wav2vec 2.0 in the form of its footnote, (GV - sum of perplexities) / GV: 0 if use is even."""
    return 1 - perplexities(use).sum() / use.numel()


def ids_use(ids: Int[Tensor, "b n g"], codes: int, counted: Bool[Tensor, "b n"]) -> Float[Tensor, "g v"]:
    """The share of the frames that count that have each code."""
    each = torch.arange(codes, device=ids.device)  # F.one_hot waits for the device
    return mean_use((ids[..., None] == each).to(torch.get_default_dtype()), counted)
