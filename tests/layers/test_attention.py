"""Attention masks, kept tokens and masked means by hand."""

import torch

from ssl_runner.layers.attention import attention_mask, masked_mean, take_tokens


def table(*rows: str) -> torch.Tensor:
    return torch.tensor([[mark == "x" for mark in row] for row in rows])


def test_no_mask_is_built_where_all_attend():
    assert attention_mask(None, None, torch.tensor([[0]]), 1) is None


def test_every_token_attends_to_the_class_token_and_to_what_is_real():
    pairs = attention_mask(table("xx.", "..."), None, None, 1)
    assert torch.equal(pairs, table("xxx.", "x...")[:, None, None])
    assert torch.equal(attention_mask(table("x.", ".."), None, None, 0), table("x.", "xx")[:, None, None])


def test_visible_pairs_of_the_kept_behind_two_tokens_that_see_all_and_are_not_seen():
    causal = table("x..", "xx.", "xxx")
    keep = torch.tensor([[2, 0], [0, 1]])
    first, second = attention_mask(None, causal, keep, 2)[:, 0]
    assert torch.equal(first, table("xxxx", "xxxx", "..xx", "...x"))
    assert torch.equal(second, table("xxxx", "xxxx", "..x.", "..xx"))


def test_of_visible_ones_the_real_and_itself_where_there_is_none():
    pairs = attention_mask(table("xx.", ".xx"), table("...", "x..", "xx."), None, 1)[:, 0]
    assert torch.equal(pairs[0], table("xxx.", ".x..", ".x..", ".xx."))
    assert torch.equal(pairs[1], table("x.xx", ".x..", "..x.", "..x."))


def test_tokens_are_taken_as_take_along_dim_does(rng):
    tokens = torch.rand(5, 7, 3, generator=rng)
    keep = torch.rand(5, 7, generator=rng).argsort(1)[:, :4]
    assert torch.equal(take_tokens(tokens, keep), torch.take_along_dim(tokens, keep[..., None], dim=1))


def test_mean_of_the_real():
    tokens = torch.tensor([[[1.0], [3.0], [9.0]], [[5.0], [6.0], [7.0]]])
    assert masked_mean(tokens, table("xx.", "...")).flatten().tolist() == [2, 0]
    assert torch.equal(masked_mean(tokens, None), tokens.mean(1))
