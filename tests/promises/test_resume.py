"""Resuming from any step ends in bit-identical tensors; what would break that is planted here and must be seen."""

import random
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from conftest import names
from torch import Tensor, nn

from ssl_runner.contract import Batch, Context, Loss, Pretext
from ssl_runner.engine import learner as learner_module
from ssl_runner.engine import measure as measure_module
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.trainer import Trainer


class After:
    """An interrupt that comes once the loop has turned n times."""

    def __init__(self, turns: int):
        self.turns = turns

    @property
    def signal(self) -> int | None:
        self.turns -= 1
        return signal.SIGINT if self.turns < 0 else None


NEVER = 10**9


def fit(trainer: Trainer, turns: int = NEVER) -> dict[str, Any]:
    """Trains from the folder's newest checkpoint for so many turns, and returns the state it ends in."""
    start = trainer.restore()
    logbook = Logbook(trainer.folder, start)
    trainer.fit(start, logbook, After(turns))  # type: ignore[arg-type]
    logbook.close()
    trainer.learner.loader.close()
    return trainer.learner.state()


def differing(a: Any, b: Any, at: str = "") -> list[str]:
    """Where two states differ by a bit."""
    if isinstance(a, Tensor):
        return [] if isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b) else [at]
    if isinstance(a, Mapping):
        return [x for k in {*a, *b} for x in differing(a.get(k), b.get(k), f"{at}/{k}")]
    if isinstance(a, list | tuple):
        return [x for i, (u, v) in enumerate(zip(a, b, strict=True)) for x in differing(u, v, f"{at}/{i}")]
    return [] if a == b else [at]


def resumed_differs(
    make: Callable[..., Trainer], *overrides: str, stop: int, change: Callable | None = None
) -> list[str]:
    """One run to its end with no evaluation; the same with evaluations, stopped and gone on with. Where they differ."""
    whole = fit(make(*overrides, "evaluator=none", folder="whole", change=change))
    fit(make(*overrides, folder="parts", change=change), turns=stop)
    return differing(whole, fit(make(*overrides, folder="parts", change=change)))


@pytest.mark.parametrize("pretext", names("pretext"))
def test_every_pretext_resumes_bit_exactly(make: Callable[..., Trainer], pretext: str) -> None:
    stop = random.SystemRandom().randrange(1, 12)
    assert not resumed_differs(make, f"pretext={pretext}", stop=stop), f"stopped at step {stop}"


@pytest.mark.parametrize("optimizer", names("optimizer"))
def test_every_optimizer_resumes_bit_exactly(make: Callable[..., Trainer], optimizer: str) -> None:
    assert not resumed_differs(make, "pretext=rotation", f"optimizer={optimizer}", stop=7)


@pytest.mark.parametrize("stop", [1, 4, 5, 6, 11])
def test_resume_at_the_edges_of_an_epoch_with_micro_batches(make: Callable[..., Trainer], stop: int) -> None:
    assert not resumed_differs(make, "pretext=simclr", "accumulate=2", "optimizer.clip=0.5", stop=stop)


def test_resume_twice(make: Callable[..., Trainer]) -> None:
    whole = fit(make("pretext=byol", "evaluator=none", folder="whole"))
    for turns in (3, 4):
        fit(make("pretext=byol"), turns=turns)
    assert not differing(whole, fit(make("pretext=byol")))


def test_two_seeds_differ(make: Callable[..., Trainer]) -> None:
    """The comparison itself can tell runs apart."""
    one, two = (fit(make("pretext=rotation", f"seed={seed}", folder=str(seed))) for seed in (0, 1))
    assert differing(one["pretext"], two["pretext"])


# Six planted bugs, each of which the comparison above must see


class Toy(Pretext):
    """Pulls dropped-out features towards those of earlier batches, kept in a queue."""

    def __init__(self, encoder: nn.Module, *, buffer: bool):
        super().__init__()
        self.encoder = encoder  # type: ignore[assignment]
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(encoder.dim)  # type: ignore[arg-type]
        queue = torch.zeros(encoder.dim)  # type: ignore[arg-type]
        if buffer:
            self.register_buffer("queue", queue)
        else:
            self.queue = queue

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return (batch.x + 0.1 * torch.randn(batch.x.shape, generator=ctx.rng),)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        pooled = self.norm(self.encoder(views[0]).pooled)
        return Loss((self.dropout(pooled) - self.queue - 1).square().mean(), {}, pooled, {"seen": pooled.detach()})

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.queue.mul_(0.5).add_(kept["seen"].mean(0), alpha=0.5)


class ToyNode:
    def __init__(self, buffer: bool):
        self.buffer = buffer

    def build(self, encoder: nn.Module, **_: Any) -> Toy:
        return Toy(encoder, buffer=self.buffer)


def toy_differs(make: Callable[..., Trainer], *, buffer: bool = True) -> list[str]:
    return resumed_differs(make, "pretext=rotation", stop=7, change=lambda _: ToyNode(buffer))


def test_the_toy_without_a_bug_resumes(make: Callable[..., Trainer]) -> None:
    assert not toy_differs(make)


def test_a_queue_as_a_plain_attribute_is_seen(make: Callable[..., Trainer]) -> None:
    assert toy_differs(make, buffer=False)


def test_missing_reseeding_is_seen(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "seed_everything", lambda *_: None)
    assert toy_differs(make)


def test_unsaved_optimizer_state_is_seen(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Learner, state: dict[str, Any]) -> None:
        self.pretext.load_state_dict(state["pretext"])

    monkeypatch.setattr(Learner, "load", load)
    assert toy_differs(make)


def test_a_restarted_shuffle_is_seen(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    index = Loader.index

    def from_zero(self: Loader, step: int) -> Tensor:
        self.first = getattr(self, "first", step)
        return index(self, step - self.first)

    monkeypatch.setattr(Loader, "index", from_zero)
    assert toy_differs(make)


def test_eval_mode_left_on_is_seen(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    class Leave:
        def __init__(self, module: nn.Module):
            module.eval()

        def __enter__(self) -> None:
            self.grad = torch.no_grad()
            self.grad.__enter__()

        def __exit__(self, *error: Any) -> None:
            self.grad.__exit__(*error)

    monkeypatch.setattr(measure_module, "frozen", Leave)
    assert resumed_differs(make, "pretext=rotation", stop=7)  # convnet_small has batch norm


def test_gradients_left_between_groups_are_seen(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretext, "zero_grad", lambda self, set_to_none=True: None)
    assert resumed_differs(make, "pretext=bigan", stop=7)
