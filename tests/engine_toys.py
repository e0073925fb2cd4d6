"""A toy encoder, tasks and a learner whose gradients a hand can compute, and how a trainer is run in a test."""

import torch
from torch import nn

from ssl_runner.contract import Encoder, Features, Loss, Pretext, Regulariser, Samples
from ssl_runner.device.placement import Placement
from ssl_runner.duration import Duration, Length
from ssl_runner.engine.learner import Learner
from ssl_runner.engine.loader import Loader
from ssl_runner.engine.logbook import Window
from ssl_runner.optimizer.sgd import SGD
from ssl_runner.regulariser.none import Nothing

ROWS = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 4.0], [2.0, 4.0], [0.0, 8.0], [4.0, 8.0], [2.0, 4.0], [2.0, 4.0]])
MEAN = torch.tensor([2.0, 4.0])  # of ROWS: the gradient of a linear loss
START = torch.tensor([1.0, 2.0])  # the weights of Line


class Line(Encoder):
    """Two weights, each times its coordinate."""

    kinds = ("audio",)
    dim = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(START.clone())

    def forward(self, x, keep=None):
        pooled = x * self.weight
        return Features(pooled, pooled[:, None], (1,))


class Slope(Pretext):
    """loss = mean of x.w: its gradient is the mean of the batch, whatever the weights are; `change` makes another."""

    def __init__(self, change=lambda loss: loss):
        super().__init__()
        self.encoder, self.change = Line(), change

    def views(self, batch, ctx):
        return (batch.x,)

    def forward(self, views, group="main"):
        pooled = self.encoder(views[0]).pooled
        return self.change(Loss(pooled.sum(1).mean(), {"largest": views[0].max()}, pooled))


class Rivals(Slope):
    """f = mean of x.w.u; the encoder's group goes down f, its rival goes up 3f. Each loss reaches both weights."""

    def __init__(self, order=("rival", "own")):
        super().__init__()
        self.rival, self.order = nn.Parameter(torch.tensor([5.0, -1.0])), order

    def forward(self, views, group="main"):
        f = (self.encoder(views[0]).pooled * self.rival).sum(1).mean()
        value = {"own": f, "rival": -3 * f}[group]
        return Loss(value, {"twice": (2 * value).detach()})

    def groups(self):
        named = {"own": [("encoder.weight", self.encoder.weight)], "rival": [("rival", self.rival)]}
        return {group: named[group] for group in self.order}


class Pull(Regulariser):
    """Ten times the sum of every weight: a gradient of 10 for each that it reaches."""

    def forward(self, loss, pretext):
        return {"pull": 10 * torch.stack([p.sum() for p in pretext.parameters()]).sum()}


def learner(pretext, *, accumulate=1, optimizer=None, regulariser=None, precision="float32", seed=0, steps=4, **recipe):
    """Learns from ROWS by SGD at a constant rate of 0.5, without momentum or decay, unless told otherwise."""
    given = {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warm_up": Duration(0.0, "st")}
    placement, samples, length = Placement(name="cpu", precision=precision), Samples("audio", (2,)), Length(steps, 1, 8)
    loader = Loader(ROWS, samples, length=length, seed=seed, device=placement.device, accumulate=accumulate)
    optimizer = optimizer or SGD(batch_size=8, **{**given, **recipe})
    return Learner(pretext, loader, optimizer, regulariser or Nothing(), placement, seed=seed)


def learn(learner, n=1, measure_gradient=False):
    """Takes n steps and returns the averages of their numbers."""
    window = Window()
    for step in range(n):
        window.add(learner.step(step, measure_gradient=measure_gradient))
    return window.close()


def weights(learner):
    return learner.pretext.encoder.weight.detach().clone()
