"""Evaluators meet the frozen encoder, and leave it as they found it; averages of what is logged."""

import pytest
import torch
from torch import nn

from ssl_runner.contract import Encoder, Features, Metric, Samples
from ssl_runner.engine.frozen import frozen
from ssl_runner.engine.measurements import measure
from ssl_runner.engine.window import Window

CPU = torch.device("cpu")


class Mean(Encoder):
    """Mean colour, counting how many samples it has seen."""

    dim = 3

    def __init__(self):
        super().__init__()
        self.seen, self.norm, self.still = 0, nn.BatchNorm2d(3), nn.Dropout().eval()

    def forward(self, x, keep=None):
        self.seen += len(x)
        x = self.norm(x)
        return Features(x.mean((2, 3)), x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]))


def test_evaluators_share_features_and_leave_the_encoder_as_it_was():
    encoder, data = Mean(), torch.randint(0, 256, (23, 3, 2, 2), dtype=torch.uint8)
    encoder.train()
    encoder.still.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}

    def evaluator(given, encode):
        assert not given.training
        assert not torch.is_grad_enabled()
        assert len(encode(data)) == len(data)
        return {"top1": Metric(0.5)}

    values = measure(encoder, {"a": evaluator, "b": evaluator}, Samples("image", (3, 2, 2)), CPU)
    assert values == {"a/top1": Metric(0.5), "b/top1": Metric(0.5)}
    assert encoder.seen == len(data), "rows are encoded once"
    assert encoder.training
    assert not encoder.still.training, "what was in eval mode stays so"
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    with pytest.raises(RuntimeError), frozen(encoder):
        raise RuntimeError
    assert encoder.training


def test_a_window_averages_over_the_steps_that_have_a_number():
    window = Window()
    for step, value in enumerate((1.0, 2.0, 3.0, 6.0)):
        window.add({"train/loss": torch.tensor(value)} | ({"train/rare": torch.tensor(value)} if step % 3 == 0 else {}))
    assert window.steps == 4
    assert list(window.close().items()) == [("train/loss", 3.0), ("train/rare", 3.5)]
    assert Window().close() == {}


def test_a_window_leaves_pauses_out_of_its_seconds(monkeypatch):
    clock = iter((100.0, 110.0, 150.0, 200.0))
    monkeypatch.setattr("ssl_runner.engine.window.time.perf_counter", lambda: next(clock))
    window = Window()  # opened at 100
    with window.pause():  # from 110 to 150
        pass
    assert window.seconds == 200 - 100 - 40
