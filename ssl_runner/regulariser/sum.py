"""Several regularisers at once."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.contract import Loss, Pretext, Regulariser


class Sum(Regulariser):
    """All terms of several regularisers, each with its own weight and under its own name.

    terms: by names that are for overrides only (`regulariser.terms.variance.weight=2`); what is logged has the same
        name as if the term stood alone.
    Raises ValueError if there is no term, or two have one name.
    """

    def __init__(self, *, terms: dict[str, Regulariser]):
        super().__init__()
        if not terms:
            raise ValueError("regulariser sum has no terms; name some under terms, or use regulariser=none")
        self.terms = nn.ModuleDict(terms)

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Float[Tensor, ""]]:
        merged: dict[str, Tensor] = {}
        for key, term in self.terms.items():
            for name, value in term(loss, pretext).items():
                if name in merged:
                    raise ValueError(f"terms.{key} yields {name!r}, as another term does; keep one of them")
                merged[name] = value
        return merged
