"""Hundreds of runs, a tenth of them damaged: `compare` takes seconds, shows the others and names each damaged one.

`SSL_RUNNER_FUZZ=500 pytest tests/promises/test_many_damaged_runs.py` compares as many.
"""

import itertools
import json
import random
import re
import time

from comparison_toys import evaluated, make_run
from fuzzing import RUNS, SEED, damage

from ssl_runner.command.compare import main

FILES = ("config.yaml", "summary.json", "environment.json", "evaluation/probe.json")
KINDS = ("half", "empty", "zeros", "deep", "bomb", "code", "folder", "pipe", "sparse")


def test_compare(tmp_path, capsys):
    rng, names = random.Random(SEED), {}
    damages = itertools.cycle(rng.sample([*itertools.product(FILES, KINDS)], len(FILES) * len(KINDS)))
    for number in range(RUNS):
        folder = make_run(tmp_path / f"run{number:03d}", rng.random(), seed=number % 5, optimizer={"lr": number // 5})
        evaluated(folder, rng.random())
        rows = [{"step": step, "epoch": 1, "time": step / 10, "knn/top1": rng.random()} for step in range(0, 1400, 50)]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        if number % 10 == 3:
            file, kind = next(damages)
            path = folder / file
            if kind == "half":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            else:
                damage(path, kind, rng)
            names[str(folder)] = f"{kind} {file}"
    began = time.monotonic()
    assert main([str(tmp_path), "--html", str(tmp_path / "page.html")]) == 1
    seconds = time.monotonic() - began
    printed = capsys.readouterr()
    print(f"{RUNS} runs, {len(names)} of them damaged, compared in {seconds:.1f} s")
    assert {folder: what for folder, what in names.items() if not re.search(rf"{folder}[/ ]", printed.err)} == {}
    left_out = sum("config" in what or "summary" in what for what in names.values())
    assert f"{RUNS - left_out} completed runs" in printed.out
    assert seconds < 5 + RUNS / 10
