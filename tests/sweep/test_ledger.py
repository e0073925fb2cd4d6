"""The ledger of a sweep, its settings as typed, and the names of its jobs."""

from pathlib import Path

import pytest

from ssl_runner.run_folder.atomic import write_json
from ssl_runner.sweep.ledger import Ledger, key_of
from ssl_runner.sweep.naming import slug
from ssl_runner.sweep.settings import Settings, check_recorded, merge_words, read_settings, split_words


def test_a_job_is_known_by_its_overrides_in_any_order() -> None:
    assert key_of(["a=1", "b=2"]) == key_of(["b=2", "a=1"])
    assert len({key_of(words) for words in (["a=1", "b=2"], ["a=1"], ["a=1b=2"], ["a=1", "b=3"], [])}) == 5


def test_the_ledger_believes_the_runs(tmp_path: Path) -> None:
    """After kill -9 sweep.json is behind: what a run says of itself counts, and `running` means cut off."""
    ledger = Ledger(tmp_path, ["seed=0,1,2,3"])
    for seed in range(4):
        ledger.add([f"seed={seed}"], f"seed-{seed}").status = "running"
    ledger.write()
    for name, status in (("000-seed-0", "completed"), ("001-seed-1", "running"), ("002-seed-2", "failed")):
        (tmp_path / name).mkdir()
        summary = {"status": status, "step": 5, "steps": 9, "final": {"knn/top1": 0.5}, "error": "because"}
        write_json(tmp_path / name / "summary.json", summary)
    again = Ledger.open(tmp_path)
    assert [e.status for e in again.jobs.values()] == ["completed", "interrupted", "failed", "interrupted"]
    assert next(e.final for e in again.jobs.values()) == {"knn/top1": 0.5}
    assert again.add(["seed=1"], "other").folder == "001-seed-1", "the same job keeps its folder"
    assert again.add(["seed=9"], "seed-9").folder == "004-seed-9"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "jobs": 3}'])
def test_a_folder_that_is_no_sweep_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        Ledger.open(tmp_path)


def test_settings_are_checked_as_every_config_is() -> None:
    words = ["seed=0,1", "sweep.resume=a=b c", "sweep.on_eror=stop", "sweep.jobs_per_device=0", "hydra.sweep.dir=x"]
    of_launcher = ["hydra/launcher=ray", "hydra.launcher.n=2", "+hydra.launcher.a.b=1"]
    found = split_words([*words, *of_launcher, "hydra/sweeper/sampler=tpe", "hydra.launchers=1"])
    assert (found.resume, found.folder) == ("a=b c", ["hydra.sweep.dir=x"])
    assert found.jobs == ["seed=0,1", "hydra.launchers=1"]
    assert (found.launcher, found.sweeper) == (of_launcher, ["hydra/sweeper/sampler=tpe"])
    settings, problems = read_settings(found.own)
    assert settings is None
    assert any("on_eror" in line and "did you mean on_error?" in line for line in problems)
    assert any(line.startswith("sweep.jobs_per_device: given 0") for line in problems)
    assert read_settings(["sweep.halving=1"])[1]
    assert read_settings(["sweep.threads=["])[1][0].startswith("sweep.threads=[: cannot be read")
    words = ["sweep.halving=3", "sweep.metric=probe/top1", "sweep.first_rung=1e-1"]
    assert read_settings(words)[0] == Settings(halving=3, metric="probe/top1", first_rung=0.1)


def test_what_is_typed_now_counts_more_than_what_a_sweep_was_begun_with() -> None:
    before = ["--config-dir", "my", "seed=0,1", "sweep.halving=3", "hydra/launcher=ray", "hydra.launcher.n_jobs=2"]
    now = ["-m", "sweep.resume=F", "hydra.sweep.dir=x", "sweep.threads=1", "sweep.halving=0"]
    kept = ["--config-dir", "my", "seed=0,1"]
    assert merge_words(before, now) == [*kept, *before[4:], "sweep.threads=1", "sweep.halving=0"]
    assert merge_words(before, ["hydra.launcher.n_jobs=3"]) == [*kept, *before[3:5], "hydra.launcher.n_jobs=3"]
    assert merge_words(before, ["hydra/launcher=local"]) == [*kept, "sweep.halving=3", "hydra/launcher=local"]


def test_a_folders_name_ends_somewhere() -> None:
    """Also of a hundred settings, whose words do not fit in."""
    assert len(slug([f"a{number}.lr=0.1" for number in range(100)], ())) <= 60
    assert slug(["pretext=simclr", "optimizer.lr=0.003", "seed=1"], ["seed=1"]) == "simclr-lr-0.003"


def test_what_a_strangers_sweep_would_run_is_typed_again() -> None:
    harmless = [
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.partition=gpu",
        "hydra.launcher.gres=gpu:2",
        "seed=0,1",
    ]
    harmless += ["hydra.launcher.ray.remote.num_gpus=0.5", "hydra/sweeper=optuna"]
    wrong = [
        "hydra.launcher.setup=[touch x]",
        "hydra.launcher.setup@x=[touch x]",
        "+hydra.launcher.additional_parameters.prolog=x",
        "hydra.launcher.comment='a\ntouch x'",
        "hydra.launcher.ray.init.address=evil:1",
        "+hydra.launcher.ray.remote.runtime_env={pip:[x]}",
        "hydra.launcher.ray={init:{address:evil}}",
    ]
    lines = check_recorded([*harmless, *wrong], ["seed=0,1"])
    assert [line.partition(": may run")[0] for line in lines] == wrong
    assert check_recorded([*harmless, wrong[0]], [wrong[0]]) == []
