"""Settings of a benchmark of a second."""

from benchmarking.settings import Settings
from benchmarking.work import Work

TINY = ("device.threads=1", "model.widths=[8,8,8]", "dataset.size=32")
WORK = Work("convnet_small", "simclr", 16, 400, "cpu", TINY)
CONTEST = {"works": (WORK,), "contestants": ("limit", "runner"), "rounds": 3, "seconds": 0.01, "device": "cpu"}
SIZES = {"rows": 400, "features": 400, "batches": (16, 32), "sizes": (100,), "marks": (4, 12)}
SETTINGS = Settings(**CONTEST, **SIZES, quick=True, overrides=TINY)
