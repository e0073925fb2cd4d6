"""What was asked of the benchmark, and what can be asked of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarking.work import Work

OURS = "+ours"  # a peer that is given the runner's allocator, memory format and optimizer options

CONTESTANTS = {
    "limit": "benchmarking.limit",
    "runner": "benchmarking.runner",
    "peer-lightly": "benchmarking.peer_lightly",
    "peer-solo-learn-style": "benchmarking.peer_solo_learn",
    "peer-kornia": "benchmarking.peer_kornia",
}
NEEDS = {"peer-lightly": "lightly", "peer-solo-learn-style": "lightning", "peer-kornia": "kornia"}
ALL = (*CONTESTANTS, *(peer + OURS for peer in NEEDS))

# The batch shrinks where a step would take many seconds on two cores; rotation shows the encoder four times as many.
WORKS = (
    ("convnet_small", "simclr", 256),
    ("convnet_small", "rotation", 128),
    ("convnet_small", "byol", 256),
    ("convnet", "simclr", 128),
    ("convnet", "rotation", 64),
    ("convnet", "byol", 128),
    ("resnet18", "simclr", 32),
    ("resnet18", "rotation", 16),
    ("resnet18", "byol", 32),
    ("vit_tiny", "simclr", 32),
    ("vit_tiny", "mae", 64),
)
QUICK_WORKS = WORKS[:1]
QUICK_CONTESTANTS = tuple(CONTESTANTS)


@dataclass(frozen=True)
class Settings:
    """Of a whole run of the benchmark."""

    works: tuple[Work, ...]
    contestants: tuple[str, ...]
    rounds: int
    seconds: float  # of a contestant's turn
    device: str
    quick: bool
    overrides: tuple[str, ...] = ()
    rows: int = 50_000  # images of a data set
    features: int = 50_000  # rows that are evaluated
    batches: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096)
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    marks: tuple[int, ...] = (50, 200, 350, 500)  # steps after which memory is looked at

    def work(self, model: str, pretext: str, batch: int, rows: int | None = None) -> Work:
        return Work(model, pretext, batch, rows or self.rows, self.device, self.overrides)


def present(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of the names that can run here, and a line for each that cannot."""
    can, skipped = [], []
    for name in names:
        package = NEEDS.get(name.removesuffix(OURS))
        if package is None or installed(package):
            can.append(name)
        else:
            skipped.append(f"{name}: skipped, {package} is not installed; pip install 'ssl-runner[bench]'")
    return can, skipped


def installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it stands in sys.modules as None
        return False
