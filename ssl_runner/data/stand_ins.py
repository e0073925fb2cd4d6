"""Stand-ins for data that is not read yet, and for the numbers of rows that a training set does not have."""

from typing import Any

import torch

from ssl_runner.contract import Dataset, Split


class NoNumbers:
    """In the place of row numbers: whatever a task would do with them fails."""


def stand_ins(dataset: Dataset) -> dict[str, Any]:
    """As many rows as there will be: an evaluator's refusal need not wait for the data."""
    rows = torch.zeros(1, dtype=torch.int64).expand(dataset.rows)
    of_tokens = dict.fromkeys(getattr(dataset, "tokens", ()), rows[:, None])
    split = Split(rows, rows, dict.fromkeys(getattr(dataset, "targets", ()), rows), of_tokens)
    tokenise = (lambda texts: rows[: len(texts)]) if dataset.samples.kind == "text" else None
    splits = dict.fromkeys(("bank", "query", "validation"), split)
    return {
        **splits,
        "classes": 1,
        "class_names": (),
        "train": rows,
        "sample": dataset.samples,
        "tokenise": tokenise,
        "decode": None,
    }
