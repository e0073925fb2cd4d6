"""Where JPEG's blocks begin in windows of images: seen if it is there, and not where nothing is."""

import jpeg_blocks
import pytest
import torch
from image_trees import paint_classes

from ssl_runner.layers.counter_rng import CounterRng


def test_a_window_is_of_its_own_image_and_its_row_is_that_of_a_block():
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    x = torch.stack([torch.stack([rows, columns, torch.full_like(rows, image)]) for image in range(20)]).to(torch.uint8)
    seen, row = jpeg_blocks.windows(x, 16, 0.0, CounterRng(0, torch.device("cpu")))
    seen = (255 * seen).round().long()
    assert seen.shape == (20, 3, 16, 16)
    assert torch.equal(seen[:, 0, 0, 0] % 8, row)
    assert torch.equal(seen[:, 0, :, 0] - seen[:, 0, :1, 0], torch.arange(16).expand(20, -1))
    assert torch.equal(seen[:, 1, 0] - seen[:, 1, 0, :1], torch.arange(16).expand(20, -1))
    assert torch.equal(seen[:, 2, 5, 5], torch.arange(20))
    assert len(row.unique()) > 4


@pytest.mark.parametrize("seam", [80, 0])
def test_a_seam_is_found_where_there_is_one(monkeypatch, seam):
    monkeypatch.setattr(jpeg_blocks, "BATCH", 32)
    x = torch.randint(60, 120, (500, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    x[:, :, ::8] += seam
    right = jpeg_blocks.accuracy(x.to(torch.uint8), 0.0, steps=80)
    assert right > 0.8 if seam else right < 0.4


def test_a_folder_is_read_and_its_images_are_blurred(tmp_path, capsys):
    root = paint_classes(tmp_path / "images", ("ant", "bee"), each=30)
    jpeg_blocks.main([str(root), "--blur", "0", "2", "--steps", "1"])
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["blur of 0 px", "blur of 2 px"]
