"""Rows fitted to another shape."""

import pytest
import torch

from ssl_runner.data.resize import ResizedRows


def test_fitted_rows_by_hand() -> None:
    grey = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).expand(3, 1, 2, 2)
    colour = ResizedRows(grey, (3, 2, 2))[torch.tensor([2, 0])]
    assert colour.shape == (2, 3, 2, 2)
    assert torch.equal(colour[0], grey[0].expand(3, 2, 2))
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert torch.equal(ResizedRows(red, (1, 4, 4))[torch.tensor([0])], torch.full((1, 1, 4, 4), 76, dtype=torch.uint8))
    # Antialiased: a chessboard becomes its mean, and not one of its two colours.
    board = (torch.arange(64).view(1, 1, 8, 8) // 8 + torch.arange(8)) % 2 * 255
    small = ResizedRows(board.to(torch.uint8), (1, 2, 2))[torch.tensor([0])]
    assert ((small.float() - 127.5).abs() < 20).all()
    with pytest.raises(ValueError, match="2 channels"):
        ResizedRows(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), (3, 4, 4))
