"""Schedules of a method's own numbers over a run: a line during its beginning, a rate that is 0 until then."""

from ssl_runner.contract import Context, Rate
from ssl_runner.duration import Duration


def ramp(first: float, last: float, over: Duration, ctx: Context) -> float:
    """From `first` to `last` along a line during `over`, then constant; `last` from the first step if that is 0."""
    steps = over.steps(ctx.length.steps_per_epoch, ctx.length.steps)
    return first + (last - first) * (min(1.0, ctx.step / steps) if steps else 1.0)


def rate_after(freeze: Duration, ctx: Context) -> Rate:
    """The learning rate's factor for parameters that stay as they are during `freeze`."""
    return Rate(lr=float(ctx.step >= freeze.steps(ctx.length.steps_per_epoch, ctx.length.steps)))
