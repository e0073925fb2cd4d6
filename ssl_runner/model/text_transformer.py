"""Attention Is All You Need, Vaswani et al., NeurIPS 2017, arXiv:1706.03762, as an encoder of ids.

Differs: norms come first (Xiong et al., ICML 2020, arXiv:2002.04745), positions are rotary (Su et al.,
arXiv:2104.09864) or learned, and attention weights are not dropped out.
"""

from typing import Annotated

from annotated_types import Gt, Interval

from ssl_runner.contract import Samples
from ssl_runner.layers.sequence import Pool, Positions
from ssl_runner.layers.word_encoder import WordEncoder


class TextTransformer(WordEncoder):
    """A transformer over ids. Tokens are its outputs after the last norm; padding, id 0, is left out of everything.

    width: of a token, a multiple of twice the heads. positions: rotary ones have no longest text.
    dropout: of embeddings, and of what each half of a block adds; SimCSE's two views differ by it.
    causal: whether a token sees those before it alone, which GPT needs. pool: what `pooled` is of the tokens.
    embedding: standard deviation of an embedding's numbers at the start; None: 1, see WordEncoder.
    Raises ValueError for a width that heads do not divide into pairs, and for pool=first in a causal model.
    """

    def __init__(
        self,
        *,
        samples: Samples,
        width: Annotated[int, Gt(0)] = 64,
        depth: Annotated[int, Gt(0)] = 3,
        heads: Annotated[int, Gt(0)] = 4,
        positions: Positions = "rotary",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        causal: bool = False,
        pool: Pool = "mean",
        embedding: Annotated[float, Gt(0)] | None = None,
    ):
        given = {"length": samples.shape[0], "positions": positions, "dropout": dropout, "causal": causal, "pool": pool}
        given["embedding"] = embedding
        super().__init__(samples.vocabulary, width, depth, heads, **given)  # type: ignore[arg-type]
