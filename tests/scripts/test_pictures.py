"""Pictures of runs: which kinds are shown, of which weights, and how large the file is."""

import pictures
import pytest
import torch
from conftest import tiny
from matplotlib.pyplot import imread

from ssl_runner.__main__ import main
from ssl_runner.run_folder import checkpoint


@pytest.fixture
def run(tmp_path):
    assert main(tiny("pretext=autoencoder", "evaluator=none", "length=3st", f"hydra.run.dir={tmp_path / 'run'}")) == 0
    return tmp_path / "run"


@pytest.mark.slow
def test_pictures_are_made_with_the_newest_weights_and_drawn_a_row_each(run, tmp_path, capsys):
    title, rows = pictures.load_pictures(run)
    assert (title, [*rows]) == ("autoencoder, step 3", ["input", "reconstruction", "target"])
    assert not torch.equal(rows["input"], rows["target"])
    path = checkpoint.steps(run / "checkpoints")[-1]
    state = checkpoint.load(path)
    state["pretext"]["decoder.image.bias"].fill_(100.0)  # of a sigmoid: white
    state["pretext"]["decoder.image.weight"].zero_()
    checkpoint.save(path.parent, 3, state, 1)
    assert (pictures.load_pictures(run)[1]["reconstruction"] == 1).all()
    assert pictures.main([str(run), str(run), "--to", str(tmp_path / "two.png")]) == 0
    assert pictures.main([str(run), "--to", str(tmp_path / "one.png")]) == 0
    (height, *other), (once, *same) = (imread(tmp_path / f"{name}.png").shape for name in ("two", "one"))
    assert height == pytest.approx(2 * once, abs=2)
    assert other == same
    path.unlink()
    assert pictures.main([str(run), "--to", str(tmp_path / "none.png")]) == 2
    assert f"type ssl-runner resume {run}" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_a_view_is_shown_beside_pictures_if_it_is_as_large_and_none_of_them():
    x, sample, tile = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(8, 3, 4, 4)
    views = {"views/0": tile, "views/1": x, "views/2": sample}
    assert pictures.choose(views) == views
    named = views | {"pictures/target": sample.clone()}
    assert [*pictures.choose(named)] == ["views/1", "target"]


def test_noise_in_many_rows_is_packed_by_fewer_colours():
    rows = {f"row {number}": torch.rand(8, 3, 32, 32) for number in range(6)}
    noise, flat = (pictures.draw([("noise", each)]) for each in (rows, {"flat": torch.rand(8, 1, 1, 1)}))
    assert len(flat) < len(noise) <= pictures.LIMIT
