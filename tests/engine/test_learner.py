"""One step, and the loop around it, against what a hand computes: toys whose gradient is the mean of their rows."""

import copy
import io
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import names
from rich.console import Console
from torch import Tensor, nn

from ssl_runner.config.compose import Composer
from ssl_runner.contract import (
    Batch,
    Context,
    Encoder,
    Features,
    Loss,
    Metric,
    Optimizer,
    Pretext,
    Regulariser,
    Samples,
)
from ssl_runner.device.placement import Placement
from ssl_runner.duration import Duration, Length
from ssl_runner.engine.learner import Learner, main_group
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.measurements import Measurements
from ssl_runner.engine.progress import Progress
from ssl_runner.engine.trainer import Schedule, Trainer
from ssl_runner.engine.window import Window
from ssl_runner.optimizer.adamw import AdamW
from ssl_runner.optimizer.sgd import SGD
from ssl_runner.regulariser.none import Nothing
from ssl_runner.run.preflight import read_job
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

ROWS = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 4.0], [2.0, 4.0], [0.0, 8.0], [4.0, 8.0], [2.0, 4.0], [2.0, 4.0]])
MEAN = torch.tensor([2.0, 4.0])  # of ROWS: the gradient of a linear loss


class Line(Encoder):
    """Two weights, each times its coordinate."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.weight = 2, nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        pooled = x * self.weight
        return Features(pooled, pooled[:, None], (1,))


class Slope(Pretext):
    """loss = mean of x.w: its gradient is the mean of the batch, whatever the weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Line()

    def views(self, batch: Batch, ctx: Context) -> tuple:
        return (batch.x,)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        pooled = self.encoder(views[0]).pooled
        return Loss(pooled.sum(1).mean(), {"largest": views[0].max()}, pooled)


class Rivals(Slope):
    """f = mean of x.w.u; the encoder's group goes down f, its rival goes up 3f. Each loss reaches both weights."""

    def __init__(self, order: tuple[str, ...] = ("rival", "own")) -> None:
        super().__init__()
        self.rival, self.order = nn.Parameter(torch.tensor([5.0, -1.0])), order

    def forward(self, views: tuple, group: str = "main") -> Loss:
        f = (self.encoder(views[0]).pooled * self.rival).sum(1).mean()
        value = {"own": f, "rival": -3 * f}[group]
        return Loss(value, {"twice": (2 * value).detach()})

    def groups(self) -> Mapping[str, list[tuple[str, nn.Parameter]]]:
        found = {"own": [("encoder.weight", self.encoder.weight)], "rival": [("rival", self.rival)]}
        return {group: found[group] for group in self.order}  # type: ignore[dict-item]


class Pull(Regulariser):
    """Ten times the sum of every weight: a gradient of 10 for each that it reaches."""

    def forward(self, loss: Loss, pretext: Pretext) -> Mapping[str, Tensor]:
        return {"pull": 10 * torch.stack([p.sum() for p in pretext.parameters()]).sum()}


def learner(
    pretext: Pretext,
    *,
    rows: Tensor = ROWS,
    batch_size: int = 8,
    accumulate: int = 1,
    optimizer: Optimizer | None = None,
    regulariser: Regulariser | None = None,
    precision: Any = "float32",
    device: Any = "cpu",
    seed: int = 0,
    steps: int = 4,
    **recipe: Any,
) -> Learner:
    given = {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warm_up": Duration(0.0, "st")}
    placement = Placement(name=device, precision=precision)
    length = Length(steps, len(rows) // batch_size, batch_size)
    samples = Samples("audio", tuple(rows.shape[1:]))
    return Learner(
        pretext,
        Loader(rows, samples, length=length, seed=seed, device=placement.device, accumulate=accumulate),
        optimizer or SGD(batch_size=batch_size, **{**given, **recipe}),
        regulariser or Nothing(),
        placement,
        seed=seed,
    )


def steps(learner: Learner, n: int = 1, measure_gradient: bool = False) -> dict[str, float]:
    window = Window()
    for step in range(n):
        window.add(learner.step(step, measure_gradient=measure_gradient))
    return window.close()


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.detach(), b, rtol=1e-6, atol=1e-6)


# The step


@pytest.mark.parametrize("order", [("rival", "own"), ("own", "rival")])
def test_each_group_follows_its_own_loss_alone(order: tuple[str, ...]) -> None:
    pretext = Rivals(order)
    w, u = torch.tensor([1.0, 2.0]), torch.tensor([5.0, -1.0])
    steps(learner(pretext, lr=0.01), 3)
    for _, group in itertools.product(range(3), order):  # the second group sees what the first has done
        if group == "own":
            w = w - 0.01 * MEAN * u
        else:
            u = u + 0.01 * 3 * MEAN * w
    assert close(pretext.encoder.weight, w)  # type: ignore[arg-type]
    assert close(pretext.rival, u)


def test_numbers_of_two_groups_are_logged_apart() -> None:
    values = steps(learner(Rivals(("own", "rival")), lr=1e-30), measure_gradient=True)
    f = 2 * 5 * 1 + 4 * -1 * 2  # the mean row times both weights
    assert values == pytest.approx(
        {
            "train/own_loss": f,
            "train/own_twice": 2 * f,
            "optimizer/own_gradient_norm": (10**2 + 4**2) ** 0.5,
            "train/rival_loss": -3 * f,
            "train/rival_twice": -6 * f,
            "optimizer/rival_gradient_norm": 3 * (2**2 + 8**2) ** 0.5,
        }
    )
    assert steps(learner(Slope())).keys() == {"train/loss", "train/largest"}, "no prefix where there is one group"


@pytest.mark.parametrize("accumulate", [1, 2, 4, 8])
def test_micro_batches_are_one_step(accumulate: int) -> None:
    pretext = Slope()
    values = steps(learner(pretext, accumulate=accumulate), 2, measure_gradient=True)
    assert close(pretext.encoder.weight, torch.tensor([1.0, 2.0]) - 2 * 0.5 * MEAN)  # type: ignore[arg-type]
    losses = (2 * 1 + 4 * 2, 2 * 0 + 4 * 0)  # after the first step the weights are 0
    assert values["train/loss"] == pytest.approx(sum(losses) / 2)
    assert values["optimizer/gradient_norm"] == pytest.approx(20**0.5)


def test_a_micro_batch_weighs_the_regulariser_by_its_share() -> None:
    pretext = Slope()
    values = steps(learner(pretext, accumulate=4, regulariser=Pull()))
    assert close(pretext.encoder.weight, torch.tensor([1.0, 2.0]) - 0.5 * (MEAN + 10))  # type: ignore[arg-type]
    assert values["regulariser/pull"] == pytest.approx(30)
    assert values["train/loss"] == pytest.approx(10), "the loss is logged without its regulariser"


def test_the_rate_of_each_step_is_the_one_that_is_used() -> None:
    """A warm-up of two steps to 0.9 and then half a cosine over two: 0.3, 0.6, 0.9, 0.45."""
    pretext = Slope()
    taught = learner(pretext, lr=0.9, warm_up=Duration(2.0, "st"), schedule="cosine")
    weight = torch.tensor([1.0, 2.0])
    for step, rate in enumerate((0.3, 0.6, 0.9, 0.45)):
        taught.step(step)
        weight = weight - rate * MEAN
        assert close(pretext.encoder.weight, weight), f"step {step}"  # type: ignore[arg-type]
        assert taught.settings(step).lr == pytest.approx(rate)


def test_every_parameter_group_of_torch_gets_the_rate() -> None:
    class Biased(Slope):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 1)  # its bias does not decay, so it is in a group of its own

        def forward(self, views: tuple, group: str = "main") -> Loss:
            return Loss(self.head(views[0]).mean() + self.encoder(views[0]).pooled.mean())

    pretext = Biased()
    before = pretext.head.bias.detach().clone()
    taught = learner(pretext, lr=0.9, warm_up=Duration(2.0, "st"), weight_decay=0.1)
    assert len(taught.rated["main"].optimizer.param_groups) == 2
    steps(taught)
    assert close(pretext.head.bias, before - 0.3)


@pytest.mark.parametrize("order", [("rival", "own"), ("own", "rival")])
def test_the_regulariser_is_the_main_groups_alone(order: tuple[str, ...]) -> None:
    plain, pulled = Rivals(order), Rivals(order)
    steps(learner(plain, lr=0.01))
    values = steps(learner(pulled, lr=0.01, regulariser=Pull()))
    assert main_group(pulled) == "own"
    moved = pulled.encoder.weight - plain.encoder.weight  # type: ignore[operator]
    assert close(moved, torch.full((2,), -0.01 * 10))
    if order == ("rival", "own"):
        assert close(pulled.rival, plain.rival.detach())
    else:  # the rival steps after the encoder, by the gradient at the encoder's new place and no more
        assert close(pulled.rival, torch.tensor([5.0, -1.0]) + 0.03 * MEAN * pulled.encoder.weight.detach())  # type: ignore[operator]
    assert "regulariser/pull" in values


@pytest.mark.parametrize(("clip", "step"), [(1.0, 1.0), (100.0, 20**0.5), (None, 20**0.5)])
def test_clip_bounds_the_step_and_the_log_has_the_norm_before(clip: float | None, step: float) -> None:
    pretext = Slope()
    values = steps(learner(pretext, clip=clip), measure_gradient=True)
    moved = pretext.encoder.weight.detach() - torch.tensor([1.0, 2.0])  # type: ignore[operator]
    assert float(moved.norm()) == pytest.approx(0.5 * step, rel=1e-5)
    assert values["optimizer/gradient_norm"] == pytest.approx(20**0.5)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_fp16_unscales_before_it_clips(clip: float | None) -> None:
    pretext = Slope()
    taught = learner(pretext, precision="fp16", clip=clip)
    assert taught.scalers["main"].get_scale() > 1000
    values = steps(taught, measure_gradient=True)
    moved = pretext.encoder.weight - torch.tensor([1.0, 2.0])  # type: ignore[operator]
    assert close(moved, -0.5 * MEAN / (20**0.5 if clip else 1))
    assert values["optimizer/gradient_norm"] == pytest.approx(20**0.5)
    assert values["train/loss"] == pytest.approx(10), "the loss is logged unscaled"


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_state_of_other_kernels_goes_on_by_its_own(precision: str) -> None:
    """A checkpoint of a machine, or a version, whose optimizer was not fused."""
    recipe = AdamW(batch_size=8, lr=0.1, schedule="constant", warm_up=Duration(0.0, "st"))
    taught = learner(Slope(), optimizer=recipe, precision=precision)
    steps(taught)
    state = copy.deepcopy(taught.state())
    for group in state["optimizers"]["main"]["param_groups"]:
        group["fused"] = None
    resumed = learner(Slope(), optimizer=recipe, precision=precision)
    resumed.load(state)
    for each in (taught, resumed):
        steps(each)
    weights = [each.pretext.encoder.weight.detach() for each in (taught, resumed)]  # type: ignore[operator]
    assert torch.equal(*weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", names("optimizer"))
def test_a_gradient_may_come_late(composer: Composer, name: str) -> None:
    """A method may hold a head still for its first epoch: its parameters have no gradient then."""
    content = composer.compose([f"optimizer={name}"]).content
    job, problems = read_job(content)
    assert job is not None, problems
    early, late = (nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    optimizer = job.optimizer.build(batch_size=8).build([("early", early), ("late", late)])
    for step in range(3):
        early.grad, late.grad = torch.full((4, 4), 0.5), torch.full((4, 4), 0.5) if step else None
        optimizer.step()
        assert torch.equal(late, torch.ones(4, 4)) == (step == 0)


def test_fp16_skips_a_step_that_overflows_and_halves_its_scale() -> None:
    class Steep(Slope):
        def forward(self, views: tuple, group: str = "main") -> Loss:
            return Loss(1e36 * super().forward(views).value)  # times 65536 it is beyond float32

    pretext = Steep()
    taught = learner(pretext, precision="fp16")
    scale = taught.scalers["main"].get_scale()
    steps(taught)
    assert torch.equal(pretext.encoder.weight.detach(), torch.tensor([1.0, 2.0]))  # type: ignore[operator]
    assert taught.scalers["main"].get_scale() == scale / 2
    assert taught.is_finite()


# What is drawn, and when


class Witness(Rivals):
    """Writes down each call, whether gradients were on, and a number drawn from the generator it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []
        self.drawn: list[float] = []

    def note(self, what: str, ctx: Context | None, *more: Any) -> None:
        self.calls.append((what, torch.is_grad_enabled(), *more))
        if ctx is not None:
            self.drawn.append(float(torch.rand((), generator=ctx.rng)))

    def views(self, batch: Batch, ctx: Context) -> tuple:
        self.note("views", ctx, ctx.step)
        return (batch.x,)

    def forward(self, views: tuple, group: str = "main") -> Loss:
        self.note("forward", None, group)
        return super().forward(views, group)

    def before_step(self, ctx: Context) -> None:
        self.note("before_step", ctx, ctx.step)

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        self.note("after_step", ctx, ctx.step)


def test_a_step_calls_in_the_order_of_the_contract() -> None:
    pretext = Witness()
    steps(learner(pretext, accumulate=2, lr=1e-3), 2)
    expected: list[tuple] = []
    for step in range(2):
        expected.append(("before_step", False, step))
        for group in ("rival", "own"):
            expected += [("views", False, step), ("forward", True, group)] * 2
        expected.append(("after_step", False, step))
    assert pretext.calls == expected


def test_every_place_draws_its_own_numbers_and_the_same_place_the_same() -> None:
    first, second, other = Witness(), Witness(), Witness()
    for pretext, seed in ((first, 0), (second, 0), (other, 1)):
        steps(learner(pretext, accumulate=2, lr=1e-3, seed=seed), 3)
    assert len(first.drawn) == 3 * (1 + 2 * 2 + 1)
    assert len(set(first.drawn)) == len(first.drawn), "hooks, groups, micro-batches and steps"
    assert first.drawn == second.drawn
    assert not set(first.drawn) & set(other.drawn), "another seed"
    again = Witness()
    taught = learner(again, accumulate=2, lr=1e-3)
    batches = taught.loader.batches(2)
    taught.views(batches[1], 2, "own", 1)
    assert again.drawn == first.drawn[16:17], "the last view of step 2, drawn out of turn"


def test_the_global_generators_are_seeded_by_the_step() -> None:
    class Dropped(Slope):
        def forward(self, views: tuple, group: str = "main") -> Loss:
            self.seen = torch.rand(3)
            return super().forward(views, group)

    pretext = Dropped()
    taught, seen = learner(pretext), []
    for step in (0, 1, 0):
        torch.rand(7)
        taught.step(step)
        seen.append(pretext.seen)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


class NoSync:
    """Makes whatever waits for the device raise."""

    NAMES = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "cpu", "nonzero")

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        def waits(self: Tensor, *_: Any, **__: Any) -> None:
            raise AssertionError("a step waited for the device")

        for name in self.NAMES:
            monkeypatch.setattr(Tensor, name, waits)


@pytest.mark.parametrize("kind", [{}, {"accumulate": 2}, {"clip": 1.0}, {"regulariser": Pull()}])
def test_a_step_waits_for_nothing(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    taught, window = learner(Rivals(), lr=1e-3, momentum=0.9, **kind), Window()
    window.add(taught.step(0))
    with monkeypatch.context() as patch:
        NoSync(patch)
        window.add(taught.step(1))
        window.add(taught.step(2, measure_gradient=True))
        with pytest.raises(AssertionError, match="waited"):
            taught.is_finite()
    assert window.close()["train/own_loss"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_on_cuda_waits_for_nothing(precision: str) -> None:
    taught, window = learner(Rivals(), device="cuda", precision=precision, lr=1e-3, batch_size=2), Window()
    window.add(taught.step(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in (1, 2, 3):
            window.add(taught.step(step))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert window.close()["train/own_loss"]


# Averages


def test_a_number_of_some_steps_alone_is_averaged_over_these() -> None:
    window = Window()
    for step, value in enumerate((1.0, 2.0, 3.0, 6.0)):
        window.add({"train/loss": torch.tensor(value)} | ({"train/rare": torch.tensor(value)} if step % 3 == 0 else {}))
    assert window.close() == {"train/loss": 3.0, "train/rare": 3.5}


def test_numbers_leave_a_step_in_float32_and_without_a_graph() -> None:
    """In bf16, 256 + 1 is 256, and a window sums over many steps."""

    class Half(Slope):
        def forward(self, views: tuple, group: str = "main") -> Loss:
            value = super().forward(views).value
            return Loss(value, {"half": value.bfloat16()})

    numbers = learner(Half(), accumulate=2, regulariser=Pull()).step(0, measure_gradient=True)
    assert numbers.keys() == {"train/loss", "train/half", "regulariser/pull", "optimizer/gradient_norm"}
    assert not any(value.requires_grad or value.dtype != torch.float32 for value in numbers.values())


def test_a_window_leaves_pauses_out_of_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 110.0, 150.0, 200.0))
    monkeypatch.setattr("ssl_runner.engine.window.time.perf_counter", lambda: next(clock))
    window = Window()  # opened at 100
    with window.pause():  # from 110 to 150
        pass
    assert window.seconds == 200 - 100 - 40


# The loop


class Counted:
    """An evaluator that notes the first weight whenever it is asked."""

    every, version, headline = Duration(1.0, "st"), 1, "top1"  # Measurements decides how often

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, encoder: Encoder, encode: Callable) -> Mapping[str, Metric]:
        self.asked.append(float(encoder.weight[0]))  # type: ignore[index,arg-type]
        return {"top1": Metric(0.5)}


class Stop:
    """An interrupt that comes during a step, or never."""

    signal: int | None = None


class Cut(Slope):
    """Slope, interrupted or killed during a step."""

    def __init__(self, stop: Stop, at: int | None, death: type[Exception] | None):
        super().__init__()
        self.stop, self.at, self.death = stop, at, death

    def after_step(self, ctx: Context, kept: Mapping[str, Tensor]) -> None:
        if ctx.step == self.at:
            if self.death is not None:
                raise self.death
            self.stop.signal = 2


STEPS = 12


@dataclass
class Told:
    """What a run left: where it ended, its rows, what was asked of the evaluators."""

    end: int | None
    trainer: Trainer
    rows: list[dict[str, Any]]
    asked: list[float]
    tested: list[float]

    def measured(self, name: str = "often/top1") -> list[int]:
        return [row["step"] for row in self.rows if name in row]

    @property
    def saved(self) -> list[int]:
        return [int(path.stem) for path in checkpoint.steps(self.trainer.folder / "checkpoints")]


def go(
    folder: Path,
    *,
    at: int | None = None,
    death: type[BaseException] | None = None,
    terminal: bool = False,
    **plan: int,
) -> Told:
    stop = Stop()
    taught = learner(Cut(stop, at, death), steps=STEPS, lr=0.01)
    often, rarely, test = Counted(), Counted(), Counted()
    progress = Progress(Console(file=io.StringIO(), force_terminal=terminal, width=200), taught.length)
    schedule = Schedule(**{"log_every": 4, "save_every": 6, "show_every": 5, "keep": 2, **plan})
    measurements = Measurements(
        *(taught, progress),
        validation={"often": often, "rarely": rarely},
        test={"often": test},
        every={"often": 3, "rarely": 5},
    )
    trainer = Trainer(taught, schedule, folder, progress, measurements, provenance={})
    start, end = trainer.restore(), None
    logbook = Logbook(folder, start)
    try:
        end = trainer.fit(start, logbook, stop)  # type: ignore[arg-type]
    except RuntimeError:
        assert death is RuntimeError
    logbook.close()
    return Told(end, trainer, read_rows(folder / "metrics.jsonl"), often.asked, test.asked)


def test_evaluations_are_at_the_start_on_schedule_and_at_the_end(tmp_path: Path) -> None:
    told = go(tmp_path)
    assert told.end == STEPS
    assert told.measured() == [0, 3, 6, 9, 12], "once at the end, though it is on schedule too"
    assert told.measured("rarely/top1") == [0, 5, 10, 12], "at the end, though it is off schedule"
    assert told.measured("test/often/top1") == [12]
    assert told.measured("train/loss") == [4, 8, 12]
    assert told.saved == [6, 12]
    assert told.asked == pytest.approx([1 - 0.02 * step for step in (0, 3, 6, 9, 12)]), "of the weights of that step"


def test_the_log_is_of_the_steps_since_the_last_one(tmp_path: Path) -> None:
    rows = {row["step"]: row for row in go(tmp_path).rows if "train/loss" in row}
    loss = [10 - 0.01 * 20 * step for step in range(STEPS)]  # a step lowers it by lr * |gradient|^2
    for end in (4, 8, 12):
        assert rows[end]["train/loss"] == pytest.approx(sum(loss[end - 4 : end]) / 4, rel=1e-5)
        assert rows[end]["optimizer/lr"] == 0.01
        assert rows[end]["epoch"] == end


def test_an_interrupt_during_the_last_step_ends_the_run_whole(tmp_path: Path) -> None:
    told = go(tmp_path, at=STEPS - 1)
    assert told.end == STEPS
    assert told.measured()[-1] == told.measured("test/often/top1")[-1] == STEPS
    assert told.saved[-1] == STEPS


@pytest.mark.parametrize("at", [0, 2, 4, 5, 7, 10])
def test_nothing_is_measured_twice_after_an_interrupt(tmp_path: Path, at: int) -> None:
    first = go(tmp_path, at=at)
    assert first.end == at + 1
    assert first.saved[-1] == at + 1
    assert not first.tested
    second = go(tmp_path)
    assert second.end == STEPS
    assert second.measured() == [0, 3, 6, 9, 12]
    assert second.measured("rarely/top1") == [0, 5, 10, 12]
    assert second.measured("train/loss") == [4, 8, 12]
    assert len(first.asked) + len(second.asked) == 5
    assert second.asked[-1] == pytest.approx(1 - 0.02 * STEPS)


@pytest.mark.parametrize(("at", "again"), [(1, 0), (4, 1), (6, 0), (9, 1)])
def test_a_kill_measures_again_only_what_came_after_the_checkpoint(tmp_path: Path, at: int, again: int) -> None:
    first = go(tmp_path, at=at, death=RuntimeError)
    second = go(tmp_path)
    assert second.trainer.progress.start == 6 * ((at) // 6)
    assert second.measured() == [0, 3, 6, 9, 12]
    assert second.measured("rarely/top1") == [0, 5, 10, 12]
    assert len(first.asked) + len(second.asked) == 5 + again


def test_a_run_that_had_reached_its_end_is_not_measured_again(tmp_path: Path) -> None:
    go(tmp_path)
    told = go(tmp_path)
    assert told.end == STEPS
    assert not told.asked
    assert not told.tested
    assert told.measured("test/often/top1") == [STEPS]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_so_many_checkpoints_stay(tmp_path: Path, keep: int) -> None:
    assert go(tmp_path, save_every=2, keep=keep).saved == [8, 10, 12][-keep:]


def test_the_rate_after_a_resume_is_of_the_steps_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ssl_runner.engine.progress.REFRESH", -1)
    monkeypatch.setattr(logging.getLogger("ssl_runner"), "propagate", True)
    caplog.set_level(logging.INFO)
    go(tmp_path, at=6)
    seen: list[tuple[int, int, float]] = []
    line = Progress.line

    def noting(self: Progress, step: int, done: int, seconds: float, doing: str = "") -> str:
        seen.append((step, done, seconds))
        return line(self, step, done, seconds, doing)

    monkeypatch.setattr(Progress, "line", noting)
    told = go(tmp_path, terminal=True)
    assert len(seen) > 5
    assert all(done == step - 7 for step, done, _ in seen)
    assert all(a[2] <= b[2] for a, b in itertools.pairwise(seen)), "the seconds go on over a log line"
    assert told.trainer.progress.samples_per_second == pytest.approx(5 * 8 / told.trainer.progress.seconds)
    progress = Progress(Console(file=io.StringIO()), Length(1000, 100, 16))
    progress.start = 900
    progress.report(910, 10, 1.0)
    said = re.sub(r"\s+", " ", caplog.messages[-1])
    assert "91 % epoch 9.1/10 step 910/1000 160 samples/s 0:09 left" in said
