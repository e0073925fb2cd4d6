"""A config-driven experiment runner for self-supervised learning: `from ssl_runner import train, load, runs, features`.

Each of these is imported once it is asked for, so that `import ssl_runner` takes no time. Their types are in
__init__.pyi.
"""

import importlib

__version__ = "0.2.0"
PLACES = {"train": "command.train", "TrainedRun": "python.run", "runs": "python.table", "curves": "python.table"}
PLACES |= {"load": "python.features", "features": "python.features"}  # by name: the module that has it


def __getattr__(name: str) -> object:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; possible are {', '.join(PLACES)}")
    return getattr(importlib.import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PLACES])
