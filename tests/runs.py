"""Runs by the command line: started in a process, read, compared, and changed by hand."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ssl_runner.__main__ import main
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows
from ssl_runner.sweep.choices import read_choice

CLEAN = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def start(*words, program=("-m", "ssl_runner")):
    """A process of the runner."""
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *program, *words], env={**os.environ, **CLEAN}, **piped)


def below(number):
    """The processes below one, each after the one that has started it."""
    numbers = [number]
    for parent in numbers:  # which grows
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                numbers += [int(number) for number in task.read_text().split()]
    return numbers[1:]


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


def put(name, content):
    """Writes a file, and makes the folders that it lies in; a mapping as YAML."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(content) if isinstance(content, dict) else content
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)


def saved_bytes(content):
    """As torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def merged(old, new):
    """A mapping with another's values in it, at any depth."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def change(folder, name, **values):
    """Changes keys of a file by hand; of a mapping, only the keys that are given."""
    content = merged(yaml.safe_load((folder / name).read_text()), values)
    (folder / name).write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content))


def kill(folder, last):
    """Makes of a run that is complete one that was killed before its last checkpoint, and returns its folder."""
    for name in (f"checkpoints/{last:07d}.pt", "encoder.safetensors", "encoder.yaml"):
        (folder / name).unlink()
    change(folder, "summary.json", status="running")
    return folder


def saved(folder):
    """The steps of the checkpoints."""
    return [int(path.stem) for path in checkpoint.steps(Path(folder) / "checkpoints")]


def measured(folder, name="knn/top1"):
    return [(row["step"], row[name]) for row in read_rows(Path(folder) / "metrics.jsonl") if name in row]


def same(a, b):
    """Whether two runs ended in the same tensors, bit for bit, and in the same numbers."""
    states = [next(checkpoint.newest_first(Path(each) / "checkpoints"))[1]["pretext"] for each in (a, b)]
    encoders = [load_file(Path(each) / "encoder.safetensors") for each in (a, b)]
    bits = [[{name: x.numpy().tobytes() for name, x in part.items()} for part in pair] for pair in (states, encoders)]
    return all(first == second for first, second in bits) and summary(a)["final"] == summary(b)["final"]


def said(capsys, *words):
    """All that was printed since the last look, in which these words are; never a traceback."""
    message = "".join(capsys.readouterr())
    assert "Traceback" not in message
    assert all(word in message for word in words), message
    return message


def enter(capsys, line, *words, status=0):
    """What a command line prints that ends in this status: these words are in it."""
    said(capsys)
    assert main(line.split() if isinstance(line, str) else line) == status, line
    return said(capsys, *words)


def refusal(capsys, line, *words):
    """The same of one that refuses in one line and makes nothing in the current folder."""
    before = set(Path().rglob("*"))
    message = enter(capsys, line, *words, status=2)
    assert len(message.splitlines()) == 2, message
    assert set(Path().rglob("*")) == before
    return message


def jobs_of(*keys, folder="sweep"):
    """Each job of a sweep's ledger, or what it has of one key or several."""
    jobs = json.loads(Path(folder, "sweep.json").read_text())["jobs"].values()
    return [tuple(each[key] for key in keys) if keys[1:] else each[keys[0]] if keys else each for each in jobs]


def sweep_part(tables, *words):
    """The launcher or the search of these words; the test is skipped if its library is not installed."""
    chosen, problems = read_choice(tables, words)
    if any("pip install" in line for line in problems):
        pytest.skip(problems[0])
    assert chosen is not None, problems
    return chosen
