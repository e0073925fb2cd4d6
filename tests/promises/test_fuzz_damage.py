"""Random damage to any file of a run or a sweep: whatever verb reads it, a line and a status, or the same as before.

`SSL_RUNNER_FUZZ=1000 pytest tests/promises/test_fuzz_damage.py` tries as many; `SSL_RUNNER_FUZZ_SEED=7` others.
"""

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import MEASURED_ONCE
from forks import carry_out, require_no_faults
from fuzzing import CASES, CONTENTS, PLACES, SEED, damage, damaged

from ssl_runner.run_folder import checkpoint

COMMANDS = {
    "resume": [["resume", "run"]],
    "evaluate": [
        ["evaluate", each, "knn", "evaluator.knn.k=3"]
        for each in ("run", "run/checkpoints/0000008.pt", "run/encoder.safetensors")
    ],
    "compare": [["compare", ".", "--html", "page.html"], ["compare", "run", "--json"], ["compare", ".", "--csv"]],
    "export": [["export", "run", "--format", "safetensors", "--to", "new"]],
    "rerun": [["rerun", "run", "evaluator=none", "length=1st", "log_every=1st"]],
    "save": [["save", "run", "mine", "--to", "conf"]],
    "sweep": [["-m", "sweep.resume=sweep"]],
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder with a run that was measured, exported and killed at the end, and a sweep of two jobs, one killed."""
    folder, scratch = tmp_path_factory.mktemp("begun"), tmp_path_factory.mktemp("scratch")
    tiny = [*MEASURED_ONCE, "length=8st"]
    commands = [
        [*tiny, "hydra.run.dir=run"],
        ["evaluate", "run", "knn", "evaluator.knn.k=3"],
        ["-m", *tiny, "seed=0,1", "length=4st", "hydra.sweep.dir=sweep", "sweep.jobs_per_device=1"],
    ]
    done = carry_out([{"words": words, "folder": str(folder)} for words in commands], scratch)
    assert not any(each["status"] for each in done), done
    (job,) = folder.glob("sweep/001*")
    for path in (folder / "sweep/sweep.json", job / "summary.json"):
        path.write_text(path.read_text().replace('"completed"', '"running"'))
    return folder


def make_cases(begun: Path, tmp_path: Path, number: int, rng: random.Random) -> list[dict]:
    """Copies of the folder, each with a damage of its own, and a command that reads it."""
    left_out = (".lock", "source.diff", "console.log")
    cases = []
    for turn in range(number):
        folder = tmp_path / f"case{turn}"
        shutil.copytree(begun, folder)
        verb = rng.choice(list(COMMANDS))
        parts = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in left_out]
        of_sweep = verb == "sweep" or (verb == "compare" and rng.random() < 0.3)
        parts = [path for path in parts if ("sweep" in path.relative_to(folder).parts) == of_sweep]
        text = [path for path in parts if path.suffix in (".yaml", ".json", ".jsonl")]
        path = rng.choice(text if rng.random() < 0.7 else parts)
        kind = rng.choice(CONTENTS if rng.random() < 0.8 else PLACES)
        if verb == "resume":  # killed before the last checkpoint
            (folder / "run/checkpoints/0000008.pt").unlink() if rng.random() < 0.5 and "8.pt" not in path.name else None
            summary = folder / "run/summary.json"
            summary.write_text(summary.read_text().replace('"completed"', '"running"'))
        damage(path, kind, rng)
        words = rng.choice(COMMANDS[verb])
        cases.append({"words": words, "folder": str(folder), "what": f"{kind} {path.relative_to(folder)}"})
    return cases


@pytest.mark.slow(one_in=48)
def test_damaged_files(begun, tmp_path):
    require_no_faults(make_cases(begun, tmp_path, CASES, random.Random(SEED)), tmp_path)


@pytest.mark.slow(one_in=48)
def test_no_flipped_bit_of_weights_goes_unnoticed(begun, tmp_path):
    rng = random.Random(SEED)
    cases, damages = [], []
    for turn in range(CASES // 3):
        folder = tmp_path / f"case{turn}"
        shutil.copytree(begun / "run", folder / "run")
        path = folder / rng.choice(["run/encoder.safetensors", "run/checkpoints/0000008.pt"])
        sound = path.read_bytes()
        path.write_bytes(damaged(sound, "flip", rng))
        words = rng.choice([["evaluate", path, "knn", "evaluator.knn.k=3"], ["export", path, "--to", "new"]])
        cases.append({"words": [str(word) for word in words], "folder": str(folder)})
        damages.append((path, sound))
    done = carry_out(cases, tmp_path)
    for (path, sound), case, outcome in zip(damages, cases, done, strict=True):
        if outcome["status"] == 2:
            continue
        assert outcome["status"] == 0, outcome["printed"]
        with suppress(checkpoint.Unreadable):  # what is loaded in spite of it is what was written
            assert path.suffix == ".pt", (case["words"], "went unnoticed")
            flipped = checkpoint.load(path)["pretext"]
            path.write_bytes(sound)
            assert all((flipped[name] == value).all() for name, value in checkpoint.load(path)["pretext"].items())
