"""Nearest class mean on frozen features: a protocol without a setting."""

from dataclasses import dataclass

import torch.nn.functional as F
from ssl_runner.contract import Encoder, Metric
from ssl_runner.probing.protocol import Encode, Fitted


@dataclass(frozen=True, kw_only=True)
class Centroid(Fitted):
    """Share of query rows that are nearest, by cosine similarity, to the mean of their own class in the bank: `top1`."""

    version = 1  # raised when the same settings give another number

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        bank, query = (F.normalize(each, dim=1) for each in self.encode_both(encode))
        members = F.one_hot(self.bank.y.to(bank.device), self.classes).to(bank.dtype)  # (n, classes)
        means = F.normalize(members.T @ bank, dim=1)  # (classes, d)
        nearest = (query @ means.T).argmax(dim=1)
        return {"top1": Metric((nearest == self.query.y.to(nearest.device)).float().mean().item())}
