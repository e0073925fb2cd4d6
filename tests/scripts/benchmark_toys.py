"""A small benchmark: settings of a second, and contestants that take their turns in this process."""

import importlib

from benchmarking.process import Failed
from benchmarking.settings import Settings
from benchmarking.work import Work

TINY = ("device.threads=1", "model.widths=[8,8,8]", "dataset.size=32")
SETTINGS = Settings(
    works=(Work("convnet_small", "simclr", 16, 400, "cpu", TINY),),
    contestants=("limit", "runner"),
    overrides=TINY,
    rounds=3,
    seconds=0.01,
    device="cpu",
    quick=True,
    rows=400,
    features=400,
    batches=(16, 32),
    sizes=(100,),
    marks=(4, 12),
)


class Here:
    """Stands for `Hired`, in this process: a contestant, whose turns are written down."""

    fails = {}  # by module, the verb at which it does
    turns = []

    def __init__(self, module, ours=False):
        self.module, self.ours = module, ours
        self.contestant = None

    def prepare(self, setting):
        self._may("prepare")
        self.contestant = importlib.import_module(self.module).Contestant(setting, self.ours)
        self.took = self.contestant.took
        return self.contestant.note

    def turn(self, steps):
        return self.contestant.turn(steps)

    def run(self, steps):
        self._may("run")
        self.turns.append((self.module, steps))
        return self.contestant.run(steps)

    def release(self):
        if self.contestant is not None:
            self.contestant.close()
        self.contestant = None

    def close(self):
        pass

    def _may(self, verb):
        if self.fails.get(self.module) == verb:
            raise Failed(f"{self.module} failed:\nTraceback\nValueError: of its own")


def hire_here(monkeypatch):
    """Has contestants work in this process."""
    monkeypatch.setattr(Here, "fails", {})
    monkeypatch.setattr(Here, "turns", [])
    for section in ("speed", "augmentation", "batch"):
        monkeypatch.setattr(importlib.import_module(f"benchmarking.{section}"), "Hired", Here)
    return Here
