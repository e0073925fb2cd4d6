"""Weights that another program has trained, in torchvision's or timm's key names, as those of an encoder (`init=`)."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.layout import WEIGHTS

HUB = ("model.safetensors", "config.json")  # of a model on the Hugging Face hub, as timm writes and reads them
RESNET, TIMM = (f"ssl_runner.model.{each}" for each in ("resnet.ResNet", "timm.Timm"))
PREFIX = {RESNET: "layers.", TIMM: "net."}  # of their keys in an encoder's, by its class
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
NESTED = ("state_dict", "model")  # keys below which programs keep weights
CLASSIFIER = re.compile(r"(fc|head|classifier|head\.fc|head_dist)\.(weight|bias)")
# What torchvision's and nearly all of timm's weights were learnt with, if no file says otherwise.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def is_foreign(path: Path) -> bool:
    """Whether a path holds weights, but no run, checkpoint or export of ours."""
    if path.is_dir():
        return all((path / name).is_file() for name in HUB)
    if path.suffix != ".pt":
        return path.is_file() and path.suffix in SUFFIXES and path.name != WEIGHTS
    return path.is_file() and not re.fullmatch(r"[0-9]+", path.stem)  # a checkpoint's name is its step


def foreign_weights(path: Path, target: str) -> dict[str, Tensor]:
    """Weights of a file, or of a folder of the Hugging Face hub, named as those of an encoder of a class.

    A classifier is left out. Mean and std are those that the file or the folder says, or else ImageNet's.
    Raises ValueError if the file holds no weights, or the class is no network of torchvision or timm.
    """
    if target not in PREFIX:
        raise ValueError(
            f"{path} has another program's weights; choose model=resnet50 or model=timm to begin from them"
        )
    file = path / HUB[0] if path.is_dir() else path
    state, known = read_state(file)
    described = read_json(path / HUB[1]).get("pretrained_cfg") if path.is_dir() else None
    known = {**IMAGENET, **(described if isinstance(described, dict) else {}), **known}
    named = {name.removeprefix("module."): each for name, each in state.items()}
    weights = {PREFIX[target] + name: each for name, each in named.items() if not CLASSIFIER.fullmatch(name)}
    return weights | {name: torch.tensor(known[name], dtype=torch.float32) for name in IMAGENET}


def read_state(file: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what the file says of their input. Raises ValueError."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                said = opened.metadata() or {}
                known = {name: json.loads(said[name]) for name in IMAGENET if name in said}
                return {name: opened.get_tensor(name) for name in opened.keys()}, known  # noqa: SIM118
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a torn file can raise anything
        raise ValueError(f"{file} cannot be read as weights ({' '.join(str(error).split())[:200]})") from None
    state = next((state[key] for key in NESTED if isinstance(state, dict) and isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not state or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError(f"{file} is no file of weights: a dictionary of tensors by name is wanted")
    return state, {}
