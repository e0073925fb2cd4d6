"""Validation of what a dataset's `load()` returns: types, shapes, ranges, labels and lengths, by the contract."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ssl_runner.config.trust import read_project
from ssl_runner.contract import Data, Dataset, Rows, Samples, Split
from ssl_runner.data.rows import evenly_spaced, fingerprint
from ssl_runner.errors import Refused, last_line

SAMPLED = 1024  # rows of a part that its digest is of, if each must be decoded
READ = 32  # evenly spaced rows that are read of each part; labels are read whole
STORED = {"image": (torch.uint8,), "audio": (torch.int16,)}  # beside floating point
LIMITS = {"image": (0.0, 1.0), "audio": (-1.0, 1.0)}  # of floating point
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

log = logging.getLogger("ssl_runner")


def read_data(dataset: Dataset) -> Data:
    """What a dataset loads, with a fingerprint. Raises Refused if it cannot be had, or is not as the contract says."""
    try:
        data = dataset.load()
    except (OSError, ValueError, RuntimeError) as error:
        raise Refused(f"dataset: {error}") from None
    except Exception as error:  # a bug
        raise Refused(f"dataset: {last_line(error, read_project().source)}") from None
    if wrong := check_data(data, dataset.samples):
        raise Refused(*(f"dataset: {line}" for line in wrong))
    return with_fingerprint(data)


def check_data(data: object, samples: Samples) -> list[str]:
    """A line for each thing that is not as the contract says: what was given, and what to return.

    Of rows that are decoded on demand some are read; what is kept as a tensor is read whole if it is no bytes.
    """
    if not isinstance(data, Data):
        return [f"load() returned {type(data).__name__}; return a ssl_runner.contract.Data"]
    problems = [f"train: {line}" for line in check_rows(data.train, samples)]
    splits = {name: getattr(data, name) for name in ("bank", "validation", "test")}
    for name, split in splits.items():
        if split is not None and not isinstance(split, Split):
            problems.append(f"{name}: given {type(split).__name__}; return a ssl_runner.contract.Split, or None")
        elif split is not None:
            wrong = [] if split.x is data.train else [f"x: {line}" for line in check_rows(split.x, samples)]
            wrong += [] if wrong else check_labels(split, len(data.classes))
            problems += [f"{name}.{line}" for line in wrong]
    sound = [(name, split) for name, split in splits.items() if isinstance(split, Split)]
    for name, split in sound:
        if name != "bank" and any(split.x is rows for rows in (data.train, *(b.x for n, b in sound if n == "bank"))):
            problems.append(f"{name}.x: the very rows that are learnt from; hold rows out, or return None")
    return [*problems, *check_statistics(data, samples)]


def with_fingerprint(data: Data) -> Data:
    """The data, with the digest of their rows and labels if they come without one.

    Of rows that are decoded on demand SAMPLED are read: a change of others cannot be seen, and that is said.
    """
    if data.fingerprint:
        return data
    splits = [each for each in (data.bank, data.validation, data.test) if each is not None]
    rows = [data.train, *(each.x for each in splits if each.x is not data.train)]
    if any(not isinstance(each, Tensor) and len(each) > SAMPLED for each in rows):
        log.warning("dataset: it gives no fingerprint, and that of %d rows of each part stands in for it", SAMPLED)
    read = [each if isinstance(each, Tensor) else each[evenly_spaced(each, SAMPLED)] for each in rows]
    read += [torch.tensor([len(each) for each in rows]), *(each.y for each in splits if each.y is not None)]
    read += [torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in data.assets.values() if each]
    return replace(data, fingerprint=fingerprint(*read))


def check_statistics(data: Data, samples: Samples) -> Iterator[str]:
    channels = 0 if samples.kind == "text" else samples.shape[0]
    for name, values in (("mean", data.mean), ("std", data.std)):
        least = 0.0 if name == "std" else -math.inf
        if len(values) != channels or not all(math.isfinite(each) and each > least for each in values):
            wanted = f"{channels} finite numbers, one a channel{', above 0' * (name == 'std')}" if channels else "()"
            yield f"{name}: given {values}; give {wanted}"
    if not all(isinstance(each, str) for each in data.classes):
        yield f"classes: given {data.classes[:5]}; give names"
    for name, content in data.assets.items():
        if Path(name).name != name or not isinstance(content, bytes):
            yield f"assets: given {name!r} of {type(content).__name__}; give bytes by the name of a file"
    if not isinstance(data.fingerprint, str):
        yield f"fingerprint: given {type(data.fingerprint).__name__}; give text, as of ssl_runner.data.rows.fingerprint"


def check_rows(rows: object, samples: Samples) -> list[str]:
    """What is wrong with rows of samples."""
    if not isinstance(rows, Rows) or not len(rows):
        return [f"given {'no row' if isinstance(rows, Rows) else type(rows).__name__}; give a tensor of rows, or Rows"]
    index = evenly_spaced(rows, READ)
    try:
        x, again = rows[index], rows[index[:4].flip(0)]
    except Exception as error:
        return [f"reading rows by an index of int64 raised {type(error).__name__}: {error}"]
    if not isinstance(x, Tensor) or x.shape != (len(index), *samples.shape):
        given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        return [f"{len(index)} rows are {given}; return a tensor {(len(index), *samples.shape)}, as samples.shape says"]
    wrong = check_values(rows if isinstance(rows, Tensor) and rows.dtype != torch.uint8 else x, samples)
    if not wrong and not torch.equal(x[:4].flip(0), again):
        return ["the same rows read again differ; what is random belongs to the views of a task"]
    return wrong


def check_values(x: Tensor, samples: Samples) -> list[str]:
    kinds = INTEGERS if samples.kind == "text" else STORED[samples.kind]
    if x.dtype not in kinds and not (x.is_floating_point() and samples.kind != "text"):
        wanted = "integers" if samples.kind == "text" else f"{kinds[0]}, or floating point in {LIMITS[samples.kind]}"
        return [f"given {x.dtype}; give {wanted}"]
    if x.dtype in STORED.get(samples.kind, ()):
        return []
    low, high = (0, samples.vocabulary - 1) if samples.kind == "text" else LIMITS[samples.kind]
    least, most = (each.item() for each in x.aminmax())  # NaN if there is one
    if not (low <= least and most <= high):
        return [f"values from {least:g} to {most:g}; give {low:g} to {high:g}, and no NaN"]
    return []


def check_labels(split: Split, classes: int) -> Iterator[str]:
    """What is wrong with the labels, further targets and classes of tokens of a split."""
    y, n = split.y, len(split.x)
    if y is not None:
        yield from (f"y: {line}" for line in check_classes(y, n, classes))
    for name, target in split.targets.items():
        at = f"targets[{name!r}]"
        if not isinstance(target, Tensor) or target.ndim not in (1, 2) or len(target) != n:
            given = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
            yield f"{at}: given {given}; give a tensor of {n} rows"
        elif target.is_floating_point():
            if not target.isfinite().all():
                yield f"{at}: holds NaN or infinity; leave these rows out"
        elif target.dtype != torch.bool and (target.dtype != torch.int64 or target.ndim > 1 or (target < 0).any()):
            given = f"{target.dtype} of shape {tuple(target.shape)}"
            yield f"{at}: given {given}; give int64 (n,) from 0, floats, or bool (n, k) for several labels at once"
    for name, tokens in split.tokens.items():
        signed = isinstance(tokens, Tensor) and tokens.dtype in INTEGERS[1:]
        if not signed or tokens.ndim != 2 or len(tokens) != n or (tokens < -1).any():
            given = f"{tokens.dtype} of shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else "no tensor"
            yield f"tokens[{name!r}]: given {given}; give signed integers ({n}, t) from 0, and -1 where there is none"


def check_classes(y: object, n: int, classes: int) -> Iterator[str]:
    """What is wrong with the class of each row; other things to predict have another place."""
    instead = "give y=None and targets={'NAME': %s}, and measure with evaluator.probe.target=NAME"
    if not isinstance(y, Tensor):
        yield f"given {type(y).__name__}; give a tensor of int64 (n,), or None"
    elif y.is_floating_point():
        yield f"given {y.dtype}, no classes; for regression {instead % 'y'}"
    elif y.ndim == 2:
        yield f"given {tuple(y.shape)}, several labels a row; {instead % 'y.bool()'}"
    elif y.dtype != torch.int64 or y.shape != (n,):
        yield f"given {y.dtype} of shape {tuple(y.shape)}; give int64 of shape {(n,)}, as of y.long()"
    elif not classes:
        yield "given, and Data.classes is empty; name the classes there"
    elif len(y) and not (int(y.min()) >= 0 and int(y.max()) < classes):
        yield f"classes {int(y.min())} to {int(y.max())}, and Data.classes has {classes} names; count from 0"
