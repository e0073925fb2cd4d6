"""Killed with -9 at random moments, a run of any task ends in the weights, numbers and events of one that never was.

`SSL_RUNNER_FUZZ=100 pytest tests/promises/test_random_kills.py` kills at least as often; `SSL_RUNNER_FUZZ_SEED=7` at
other moments.
"""

import json
import random
import shutil

import pytest
from conftest import CHOICES, tiny
from forks import carry_out
from fuzzing import KILLS, SEED
from trees import tree

TASKS = {name: words for name, words in CHOICES.items() if name.startswith("pretext-")}
WORDS = ["length=6st", "log_every=2st", "save_every=2st", "show_every=3st", "hydra.run.dir=run"]
WORDS += ["evaluator=[knn]", "evaluator.knn.k=3", "evaluator.knn.every=3st"]


@pytest.mark.timeout(240 + 30 * KILLS)
@pytest.mark.slow(one_in=48)
def test_kills_at_random_moments(tmp_path, caplog):
    rng = random.Random(SEED)
    names = rng.sample(list(TASKS), min(len(TASKS), KILLS))
    words = {name: tiny(*TASKS[name], *WORDS) for name in names}
    for name in names:
        (tmp_path / name).mkdir()
    whole = carry_out([{"words": words[name], "folder": str(tmp_path / name)} for name in names], tmp_path)
    assert not any(each["status"] for each in whole), [each["printed"] for each in whole if each["status"]]
    seconds = {name: each["seconds"] for name, each in zip(names, whole, strict=True)}
    expected = {name: tree(tmp_path / name / "run") for name in names}
    killed = turn = 0
    while killed < KILLS:
        rounds = [(tmp_path / f"round{turn}-{name}", name) for name in names]
        cases = []
        for folder, name in rounds:
            folder.mkdir()
            moments = [{"after": rng.uniform(0, share * seconds[name])} for share in (1, 0.6)]
            for what, when in ((words[name], moments[0]), (["resume", "run"], moments[1]), (["resume", "run"], {})):
                cases.append({"words": what, "folder": str(folder), **when})
            cases.append({"words": words[name], "folder": str(folder)})  # if it was killed before there was a run
        done = carry_out(cases, tmp_path)
        killed += sum(each["status"] == -9 for each in done)
        turn += 1
        for place, (folder, name) in enumerate(rounds):
            steps = done[4 * place : 4 * place + 4]
            assert not any("Traceback" in each["printed"] for each in steps), steps
            found = tree(folder / "run") if (folder / "run").exists() else {}
            different = [key for key in {**expected[name], **found} if expected[name].get(key) != found.get(key)]
            values = {key: (expected[name].get(key), found.get(key)) for key in different}
            assert not different, f"{name}: {str(values)[:1500]}\n{json.dumps(steps, indent=1)}"
            shutil.rmtree(folder)
    assert "out of order" not in caplog.text
    print(f"{killed} kills over {len(names)} tasks in {turn} rounds")
