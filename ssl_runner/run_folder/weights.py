"""encoder.safetensors: an encoder's weights, with a digest of them that every reader checks."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

DIGEST = "blake2b"  # of names, types, shapes and bytes of all tensors, in the metadata of the file


def serialise_weights(weights: Mapping[str, Tensor]) -> bytes:
    """The content of the file."""
    contiguous = {name: each.detach().cpu().contiguous() for name, each in weights.items()}
    return save(contiguous, {DIGEST: digest_weights(contiguous)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Raises OSError, or ValueError if the file is torn or its weights are not those that were written.

    Files of version 0.1 have no digest, and are read without.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is absent, or no file")
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            digest = (file.metadata() or {}).get(DIGEST)
    except SafetensorError as error:
        raise ValueError(f"{path} is torn ({error}); resume the run to have it written again") from None
    if digest is not None and digest != digest_weights(weights):
        raise ValueError(f"{path} is damaged: its weights are not those that were written; copy or export it again")
    return weights


def digest_weights(weights: Mapping[str, Tensor]) -> str:
    """Hex digits that depend on every bit of the tensors, whatever their order."""
    digest = hashlib.blake2b(digest_size=16)
    for name, each in sorted(weights.items()):
        digest.update(f"{name} {each.dtype} {tuple(each.shape)};".encode())
        digest.update(each.flatten().view(uint8).numpy().data)
    return digest.hexdigest()
