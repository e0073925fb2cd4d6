"""Two processes of B rows have the gradient of one of 2B, as distributed training averages it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from ssl_runner.contract import Loss, Pretext
from ssl_runner.layers.gather import first_row, gather
from ssl_runner.loss.info_nce import info_nce, nt_xent
from ssl_runner.regulariser.covariance import Covariance
from ssl_runner.regulariser.koleo import KoLeo
from ssl_runner.regulariser.uniformity import Uniformity
from ssl_runner.regulariser.variance import Variance

RANKS, ROWS, DIM = 2, 6, 4
LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nt_xent": lambda z: nt_xent(z, 0.3)[0],
    "info_nce": lambda z: info_nce(*z.chunk(2), torch.eye(DIM), 0.3)[0],
    **{
        kind.name: lambda z, kind=kind: kind()(Loss(z.sum(), {}, z, samples=len(z) // 2), Pretext())[kind.name]
        for kind in (Variance, Covariance, KoLeo, Uniformity)
    },
}


def gradients(rows: slice) -> dict[str, Tensor]:
    """Of a linear map, by each loss of two views of some samples."""
    rng = torch.Generator().manual_seed(0)
    views, start = torch.randn(2, RANKS * ROWS, 5, generator=rng), torch.randn(5, DIM, generator=rng)
    weights = {name: start.clone().requires_grad_() for name in LOSSES}
    sum(loss((views[:, rows] @ weights[name]).flatten(0, 1)) for name, loss in LOSSES.items()).backward()
    return {name: weight.grad for name, weight in weights.items()}


def work(rank: int, folder: Path) -> None:
    """A rank's own rows; its gradients are averaged with the other's."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=RANKS)
    assert gather(torch.full((2, 1), float(rank))).flatten().tolist() == [0, 0, 1, 1]
    assert first_row(torch.zeros(2, 1)) == 2 * rank
    averaged = gradients(slice(rank * ROWS, (rank + 1) * ROWS))
    for gradient in averaged.values():
        dist.all_reduce(gradient.div_(RANKS))
    torch.save(averaged, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(work, (folder,), RANKS)
    return torch.load(folder / "0.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_ranks_together_have_the_gradient_of_one_process(averaged: dict[str, Tensor], name: str) -> None:
    alone = gradients(slice(None))[name]
    assert alone.abs().max() > 1e-3
    torch.testing.assert_close(averaged[name], alone, rtol=1e-4, atol=1e-6)
    own = gradients(slice(ROWS))[name]  # what a rank would have that saw its own rows alone
    assert not torch.allclose(own, alone, rtol=1e-2)
    x = torch.zeros(3, 2)  # one process has its rows as they are
    assert (gather(x) is x, first_row(x)) == (True, 0)
