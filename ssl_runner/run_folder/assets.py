"""Assets of a data set, kept beside an encoder: files without which its samples cannot be made, such as a tokenizer."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_runner.run_folder.atomic import write

ASSETS = "assets"  # the key of encoder.yaml: their digests by name


def describe_assets(assets: Mapping[str, bytes]) -> dict[str, Any]:
    """What encoder.yaml says of them; nothing if there are none."""
    return {ASSETS: {name: digest_of(content) for name, content in assets.items()}} if assets else {}


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_assets(assets: Mapping[str, bytes], folder: Path) -> None:
    """Raises OSError."""
    for name, content in assets.items():
        write(folder / name, content)


def read_assets(recipe: Mapping[str, Any], folder: Path) -> dict[str, bytes]:
    """Those that an encoder's recipe names, from the folder that it lies in.

    Raises ValueError if one is absent, or is not the one with which the encoder was trained.
    """
    known, assets = recipe.get(ASSETS) or {}, {}
    if not isinstance(known, dict):
        raise ValueError(f"{folder}: {ASSETS} of its encoder.yaml are digests by name, and not {known!r:.40}")
    for name, digest in known.items():
        path = folder / Path(str(name)).name
        if not path.is_file():
            raise ValueError(f"{path} is absent, without which no sample can be made; copy it beside the encoder")
        content = path.read_bytes()
        if digest_of(content) != digest:
            raise ValueError(f"{path} is not the one with which the encoder was trained; copy that one beside it")
        assets[str(name)] = content
    return assets
