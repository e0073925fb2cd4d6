"""What can be asked of the benchmark: contestants and works. Nothing here imports torch."""

from collections.abc import Iterable
from importlib.util import find_spec

OURS = "+ours"  # a peer that is given all that the runner gives itself: see place.py

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
