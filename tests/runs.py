"""Runs by the command line: started in a process, read, compared, and changed by hand."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

CLEAN = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"}


def start(*words):
    """A process of the runner."""
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", "ssl_runner", *words], env={**os.environ, **CLEAN}, **told)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def summary(folder):
    return json.loads((Path(folder) / "summary.json").read_text())


def config(folder):
    return yaml.safe_load((Path(folder) / "config.yaml").read_text())


def change(folder, name, **values):
    """Changes top-level keys of a file by hand."""
    content = yaml.safe_load((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content))


def saved(folder):
    """The steps of the checkpoints."""
    return [int(path.stem) for path in checkpoint.steps(Path(folder) / "checkpoints")]


def tensors(folder):
    """What a run ended in: its last checkpoint's tensors and its encoder."""
    _, state = next(checkpoint.newest_first(Path(folder) / "checkpoints"))
    encoder = load_file(Path(folder) / "encoder.safetensors")
    return {**state["pretext"], **{f"exported.{name}": each for name, each in encoder.items()}}


def measured(folder, name="knn/top1"):
    return [(row["step"], row[name]) for row in read_rows(Path(folder) / "metrics.jsonl") if name in row]


def same(a, b):
    """Whether two runs ended in the same tensors, bit for bit, and in the same numbers."""
    one, other = tensors(a), tensors(b)
    equal = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    return equal and summary(a)["final"] == summary(b)["final"]


def said(capsys):
    """All that was printed since the last look; never a traceback."""
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return out + err
