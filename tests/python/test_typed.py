"""The public API as a user's own type checker sees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
ROOT = Path(__file__).parents[2]
SCRIPT = """
from pathlib import Path
import numpy as np
import torch
from ssl_runner import TrainedRun, features, load, train

run: TrainedRun = train("pretext=simclr", {"length": "1ep", "optimizer": {"lr": 0.01}}, folder=Path("outputs/mine"))
numbers: dict[str, float] = dict(run.numbers)
encoder = load(run)
x: torch.Tensor = features(encoder, torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
y = features(run.load(), [Path("a.png"), b"content"])
texts = features(encoder, ["a text", "another"])
sounds = features(encoder, ["a.wav", (np.zeros(8000), 8000)])
print(numbers["knn/top1"] + 1, x.mean() + y.mean(), run.folder / "run.log", run.summary["status"])
"""
WRONG = {"train(3)": "arg-type", "load(None)": "arg-type", "train('a').nothing": "attr-defined"}


@pytest.mark.slow
def test_a_script_passes_mypy_strict_and_what_is_wrong_in_it_is_found(tmp_path):
    """As of an installed package, what is imported is read and not judged."""
    wrong = "".join(f"{line}\n" for line in WRONG)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(f"from ssl_runner import load, train\n{wrong}")
    words = ["--strict", "--follow-imports=silent", "--disable-error-code=syntax", "script.py", "wrong.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [line.split(": ")[0] for line in lines] == ["wrong.py:2", "wrong.py:3", "wrong.py:4"], done.stdout
    assert all(f"[{code}]" in line for line, code in zip(lines, WRONG.values(), strict=True))
