"""The loader, the checkpoints, the logbook and the run folder, each by itself."""

import itertools
import json
import logging
import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ssl_runner.contract import Encoder, Features, Metric, Samples
from ssl_runner.duration import Duration, Length
from ssl_runner.engine import seed
from ssl_runner.engine.frozen import frozen
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.measure import measure
from ssl_runner.engine.rows import fetch
from ssl_runner.engine.window import Window
from ssl_runner.errors import Refused
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.claim import claim, claim_new
from ssl_runner.run_folder.lock import locked

CPU = torch.device("cpu")


class Streamed:
    """Rows that are fetched on demand, as from a disk."""

    def __init__(self, x: torch.Tensor):
        self.x, self.threads = x, set()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        self.threads.add(threading.current_thread().name)
        return self.x[index]


SAMPLES = Samples("image", (3, 2, 2))


def rows(n: int = 23) -> torch.Tensor:
    return torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2).contiguous()


def loader(source: object = None, *, batch_size: int = 4, seed: int = 0, accumulate: int = 1) -> Loader:
    source = rows() if source is None else source
    length = Length.of(Duration(1.0, "ep"), len(source), batch_size)  # type: ignore[arg-type]
    return Loader(source, SAMPLES, length=length, seed=seed, device=CPU, accumulate=accumulate)  # type: ignore[arg-type]


def test_an_epoch_is_a_permutation_and_each_epoch_another() -> None:
    plain = loader()
    assert plain.length.steps_per_epoch == 5
    first, second = (torch.cat([plain.index(step) for step in range(e * 5, e * 5 + 5)]) for e in (0, 1))
    assert len(set(first.tolist())) == 20
    assert first.tolist() != second.tolist()
    assert torch.equal(loader().index(7), second[8:12]), "the place in training alone decides"
    assert not torch.equal(loader(seed=1).index(0), first[:4])


def test_batches_carry_the_rows_that_their_index_names() -> None:
    batches = loader(batch_size=6, accumulate=3).batches(2)
    assert [len(b.x) for b in batches] == [2, 2, 2]
    for batch in batches:
        assert batch.x.dtype == torch.float32
        assert torch.equal((batch.x[:, 0, 0, 0] * 255).round().long(), batch.index)


def test_streamed_and_resident_rows_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = loader()
    monkeypatch.setattr("ssl_runner.engine.rows.RESIDENT_BYTES", 10)
    source = Streamed(rows())
    streamed = loader(source)
    assert streamed.resident is None
    for step in (0, 1, 2, 7, 8, 3):
        for a, b in zip(resident.batches(step), streamed.batches(step), strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.index, b.index)
    assert any(name.startswith("fetch") for name in source.threads), "the next batch is fetched ahead"
    assert torch.equal(torch.cat([b.x for b in resident.sweep()]), torch.cat([b.x for b in streamed.sweep()]))
    streamed.close()


def test_the_sweep_is_every_row_in_order() -> None:
    batches = list(loader(batch_size=5).sweep())
    assert torch.cat([b.index for b in batches]).tolist() == list(range(23))
    assert torch.equal(torch.cat([b.x for b in batches]), rows().float() / 255)


def test_every_global_generator_is_seeded() -> None:
    """torch draws as after torch.manual_seed, also where the other devices are left out."""
    drawn = []
    for _ in range(2):
        seed.seed_everything(3, "step", 7)
        drawn.append((torch.rand(2).tolist(), float(np.random.rand()), random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    torch.manual_seed(seed.derive(3, "step", 7))
    assert drawn[0][0] == torch.rand(2).tolist()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_fetch_is_indexing(dtype: torch.dtype) -> None:
    rows, index = torch.arange(60).view(5, 3, 4).to(dtype), torch.tensor([4, 0, 0, 2])
    assert torch.equal(fetch(rows, index), rows[index])

    class Listed:
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
            return torch.stack([rows[i] for i in index.tolist()])

    assert torch.equal(fetch(Listed(), index), rows[index])


def test_seeds_differ_by_purpose_and_place() -> None:
    places = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 1, 1), (0, "a", 11), (0, "a", "1", "")]
    assert len({seed.derive(s, p, *rest) for s, p, *rest in places}) == len(places)
    assert all(0 <= seed.derive(s, p, *rest) < 2**63 for s, p, *rest in places)
    assert seed.derive(0, "shuffle", 0) == seed.derive(0, "shuffle", 0)


def test_checkpoints_are_kept_by_number_and_found_newest_first(tmp_path: Path) -> None:
    for step in (5, 10, 10_000_000, 15):
        checkpoint.save(tmp_path, step, {"w": torch.full((3,), float(step))}, keep=3)
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["0000010.pt", "0000015.pt", "10000000.pt"]
    _, state = next(checkpoint.newest_first(tmp_path))
    assert state["step"] == 10_000_000


@pytest.mark.parametrize("damage", ["torn", "empty", "foreign", "format", "pickle"])
def test_a_checkpoint_that_cannot_be_read_is_named_and_the_one_before_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "propagate", True)
    checkpoint.save(tmp_path, 1, {"w": torch.ones(100)}, keep=9)
    bad = checkpoint.save(tmp_path, 2, {"w": torch.ones(100)}, keep=9)
    if damage == "torn":
        bad.write_bytes(bad.read_bytes()[:700])
    elif damage == "empty":
        bad.write_bytes(b"")
    elif damage == "foreign":
        torch.save({"model": torch.ones(1)}, bad)
    elif damage == "format":
        torch.save({"format": 99, "step": 2}, bad)
    else:
        torch.save({"format": 1, "step": 2, "w": nn.Linear(1, 1)}, bad)  # an object, which is code: never loaded
    _, state = next(checkpoint.newest_first(tmp_path))
    assert state["step"] == 1
    assert str(bad) in caplog.text


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert not list(checkpoint.newest_first(tmp_path / "absent"))


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    checkpoint.write(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "nothing half-written stays"


def test_a_torn_temporary_file_is_cleared_by_the_next_save(tmp_path: Path) -> None:
    (tmp_path / ".0000001.pt.abc.tmp").write_bytes(b"half")
    checkpoint.save(tmp_path, 2, {}, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["0000002.pt"]


def test_a_logbook_drops_what_will_be_written_again(tmp_path: Path) -> None:
    book = Logbook(tmp_path)
    for step in (0, 5, 10):
        book.scalars(step, step / 10, {"knn/top1": step / 100})
    book.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "kn')  # torn by a crash
    again = Logbook(tmp_path, start=5)
    assert again.has(5, "knn")
    assert not again.has(10, "knn")
    again.scalars(10, 1.0, {"knn/top1": 0.9})
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["knn/top1"]) for row in lines] == [(0, 0.0), (5, 0.05), (10, 0.9)]
    assert all(a["time"] <= b["time"] for a, b in itertools.pairwise(lines))


def test_tensorboard_sees_one_curve_over_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps in ((0, (0, 5, 10)), (5, (10, 15))):
        book = Logbook(tmp_path, start)
        for step in steps:
            book.scalars(step, 0.0, {"train/loss": step + start})
        book.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(e.step, e.value) for e in events] == [(0, 0.0), (5, 5.0), (10, 15.0), (15, 20.0)]


def test_folders_are_never_shared(tmp_path: Path) -> None:
    threads_found: list[Path] = []

    def take() -> None:
        threads_found.extend(claim_new(tmp_path) for _ in range(20))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(threads_found)) == 80


def test_a_folder_with_a_run_is_refused(tmp_path: Path) -> None:
    taken = claim(tmp_path / "a" / "b")
    assert claim(taken) == taken, "an empty folder may be given"
    (taken / "config.yaml").write_text("")
    with pytest.raises(Refused, match="ssl-runner resume"):
        claim(taken)


def test_a_locked_folder_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(Refused, match="running process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


class Mean(Encoder):
    """Mean colour, counting how many samples it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.seen = 3, 0
        self.norm = nn.BatchNorm2d(3)
        self.still = nn.Dropout().eval()

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> Features:
        self.seen += len(x)
        x = self.norm(x)
        return Features(x.mean((2, 3)), x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]))


def test_evaluators_share_features_and_leave_the_encoder_as_it_was() -> None:
    encoder, data = Mean(), rows()
    encoder.train()
    encoder.still.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}

    def evaluator(given: Encoder, encode: object) -> dict[str, Metric]:
        assert not given.training
        assert not torch.is_grad_enabled()
        assert len(encode(data)) == len(data)  # type: ignore[operator]
        return {"top1": Metric(0.5)}

    values = measure(encoder, {"a": evaluator, "b": evaluator}, SAMPLES, CPU)  # type: ignore[dict-item]
    assert values == {"a/top1": Metric(0.5), "b/top1": Metric(0.5)}
    assert encoder.seen == len(data), "rows are encoded once"
    assert encoder.training
    assert not encoder.still.training, "what was in eval mode stays so"
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    with pytest.raises(RuntimeError), frozen(encoder):
        raise RuntimeError
    assert encoder.training


def test_a_window_averages_over_its_steps() -> None:
    window = Window()
    for value in (1.0, 2.0, 6.0):
        window.add({"train/loss": torch.tensor(value)})
    window.add({"optimizer/gradient_norm": torch.tensor(7.0)})
    assert window.steps == 4
    assert window.close() == {"train/loss": 3.0, "optimizer/gradient_norm": 7.0}
    assert Window().close() == {}
