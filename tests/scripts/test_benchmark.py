"""The benchmark measures what it says, the same work for all; nothing is lost by a failure.

The peers' tests are skipped where the peers are not installed: pip install -e '.[test,bench]', and then
pytest tests/scripts.
"""

import json
import multiprocessing
import os
import shlex
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.dummy import Process as Thread
from types import SimpleNamespace

import benchmark
import pytest
import torch
from benchmark_toys import SETTINGS, WORK
from benchmarking import augmentation, evaluation, kinds, limit, memory, runner, size, speed
from benchmarking.bars import bars
from benchmarking.choices import present
from benchmarking.startup import ended, started, to_end


@pytest.fixture
def here(monkeypatch):
    """Contestants work in threads of this process."""

    def begin(target, args):
        pipe = Connection(os.dup(args[0].fileno()))  # the caller closes its own
        return Thread(target=target, args=(pipe, *args[1:]))

    monkeypatch.setattr("benchmarking.process.SPAWN", SimpleNamespace(Pipe=multiprocessing.Pipe, Process=begin))


def measured(tmp_path, *words):
    """The exit status and the file of one command for the small settings."""
    typed = benchmark.arguments().parse_args([*words, "--device=cpu", f"--json={tmp_path / 'found.json'}"])
    status = benchmark.carry_out(typed, SETTINGS, {"machine": "tiny", "rows": []})
    return status, json.loads((tmp_path / "found.json").read_text())


def fail(*_):
    raise ValueError("of its own")


def test_one_command_writes_the_table_as_json(here, tmp_path, capsys):
    status, found = measured(tmp_path, "--section=speed")
    assert (status, found["machine"]) == (0, "tiny")
    contestants = [("convnet_small simclr", "limit"), ("convnet_small simclr", "runner")]
    assert [(row["work"], row["contestant"]) for row in found["rows"]] == contestants
    assert all(row.keys() == {"work", "contestant", "images_per_second", "ratio"} for row in found["rows"])
    (rounds,) = found["speed"]["rounds"].values()
    assert {name: len(times) for name, times in rounds.items()} == {"limit": 3, "runner": 3}
    _, quotient, _ = sorted(a / b for a, b in zip(rounds["limit"], rounds["runner"], strict=True))
    numbers = [found["rows"][1][name] for name in ("images_per_second", "ratio")]
    assert numbers == pytest.approx([16 / sorted(rounds["runner"])[1], quotient])
    assert [bar["bar"] for bar in found["bars"]] == ["runner/limit, convnet_small simclr"]
    assert "runner to it" in capsys.readouterr().out


def test_a_contestant_that_fails_costs_a_line_and_no_works(here, monkeypatch):
    two, kept = replace(SETTINGS, works=(WORK, replace(WORK, pretext="rotation")), rounds=1), []
    with monkeypatch.context() as patch:
        patch.setattr(runner.Contestant, "run", fail)
        found = speed.measure(two, lambda _: None, lambda found: kept.append(len(found["rows"])))
    assert [(row["work"], row["contestant"]) for row in found["rows"]] == [(w.name, "limit") for w in two.works]
    assert found["skipped"] == [f"{work.name}, runner: ValueError: of its own" for work in two.works]
    assert kept == [1, 2]  # written after each work
    monkeypatch.setattr(limit.Contestant, "__init__", fail)
    (row,) = speed.measure(replace(SETTINGS, rounds=1), lambda _: None)["rows"]
    assert (row["contestant"], row["ratio"]) == ("runner", None)


def test_a_section_that_fails_is_told_and_the_next_goes_on(here, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("benchmarking.size.measure", fail)
    status, found = measured(tmp_path, "--section=size", "--section=batch")
    assert (status, found["failed"]) == (1, {"size": "ValueError: of its own"})
    assert [row["batch"] for row in found["batch"]] == [16, 32]
    speeds = [row["batch"] * row["steps_per_second"] for row in found["batch"]]
    assert [row["images_per_second"] for row in found["batch"]] == pytest.approx(speeds)
    assert "size failed: ValueError" in capsys.readouterr().out
    # `rows` are the images a second, whatever else was measured: sections have keys of their own.
    assert not {"machine", "rows", "bars", "failed"} & set(benchmark.SECTIONS)


def test_a_peer_that_is_not_installed_costs_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly", None)
    missing = "skipped, lightly is not installed; pip install 'ssl-runner[bench]'"
    peers = ["peer-lightly", "peer-lightly+ours"]
    assert present(["limit", *peers]) == (["limit"], [f"{name}: {missing}" for name in peers])


def test_bars_say_what_is_met_by_the_works_as_they_are():
    work = "convnet_small simclr"
    rounds = {"limit": [1.0, 1.0, 1.0], "runner": [1.1, 1.1, 1.1], "peer-lightly": [1.1, 2.2, 3.3]}
    rows = [{"work": work, "contestant": "runner", "images_per_second": 1.0, "ratio": 1 / 1.1}]
    rows.append({"work": "convnet byol", "contestant": "runner", "images_per_second": 1.0, "ratio": None})
    speed = {"rows": rows, "rounds": {work: rounds}, "notes": {work: {"batch": 256}}}
    found = bars({"speed": speed, "startup": [{"command": "--help", "seconds": 0.4}], "memory": {"growth": 1.2}})
    assert {bar["bar"]: bar["met"] for bar in found} == {
        "runner/limit, convnet_small simclr": False,
        "runner/lightly, convnet_small simclr, batch 256": True,
        "--help": True,
        "memory after 500 steps to after 200": False,
    }
    assert found[1]["measured"] == pytest.approx(2)
    assert [bar["met"] for bar in bars({"memory": {"growth": 1.05}})] == [True]
    for words, as_they_are in (([], True), (["--batch=16"], False), (["device.threads=1"], False)):
        assert benchmark.has_bars(benchmark.arguments().parse_args(["--device=cpu", *words])) == as_they_are


def test_start_up_is_timed_to_the_end_of_the_command():
    wall, cpu = to_end(["--help"])  # it starts an interpreter
    assert min(wall, cpu) > 0.05
    assert cpu < 60
    idle = started([sys.executable, "-c", "import time; time.sleep(0.5)"], ".")
    assert ended(idle) < 0.5  # processor time, and not the clock's
    assert idle.returncode == 0


NO_TORCH = {"--rounds=0": "--rounds: given 0", "--seconds=0": "--seconds: given 0"}
NO_TORCH |= {"--contestants=limit,peer-lightning": "possible are limit, runner, peer-lightly"}
NO_TORCH |= {"--work=resnet18": "possible are convnet_small simclr", "--json=no/x.json": "there is no folder no"}
REFUSED = {
    "--batch=60000": "possible are 1 to 50000",
    "--section=batch optimizer.rate=1": "optimizer.rate",
    "--section=memory device.precision=fp16": "type bf16 or float32",
    "--work='convnet simclr' --work='resnet18 simclr' model.widths=[8,8]": "resnet18 simclr: model",
    "--work='resnet18 simclr' model.stem=small": "convnet_small simclr: model",  # of the other sections
}


@pytest.mark.parametrize(("words", "said"), (NO_TORCH | REFUSED).items())
def test_what_cannot_be_is_said_before_anything_starts(monkeypatch, capsys, words, said):
    if words in NO_TORCH:
        monkeypatch.setitem(sys.modules, "benchmarking.settings", None)  # which is what imports it
    assert benchmark.main([*shlex.split(words), "--device=cpu"]) == 2
    assert said in capsys.readouterr().err


def test_only_what_is_asked_for_is_checked():
    words = {"overrides": ("model.widths=[8,8]",)}
    own = replace(SETTINGS, **words, works=(replace(WORK, model="resnet18", **words),))
    assert list(own.check(["startup", "batch"])) == []
    assert any("model.widths" in line for line in own.check(["speed"]))


@pytest.mark.slow
def test_augmentation_is_measured_for_all_who_augment(here, monkeypatch):
    for name, value in {"BATCH": 8, "ROWS": 40, "usable_cores": lambda: 2}.items():  # fewer rows than a turn takes
        monkeypatch.setattr(augmentation, name, value)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    found = augmentation.measure(replace(SETTINGS, quick=False, seconds=0.02), lambda _: None)
    names = [name for name in augmentation.NAMES if name != "kornia" or augmentation.installed("kornia")]
    assert [(row["contestant"], row["threads"]) for row in found["rows"]] == [(n, t) for t in (1, 2) for n in names]
    assert {row["fused_to_it"] for row in found["rows"] if row["contestant"] == "fused"} == {1}
    assert min(row["images_per_second"] for row in found["rows"]) > 0
    assert sum(table.row_count for table in augmentation.tables(found)) == len(found["rows"])


@pytest.mark.slow
def test_sections_measure():
    """In this process, where they would take one of their own."""
    evaluated = evaluation.evaluate(SETTINGS)
    assert [row["what"] for row in evaluated] == ["kNN", "probe", "encoding 400 images"]
    assert torch.get_num_threads() == 1  # the job's
    held, remembered = size.train(SETTINGS, 100), memory.hold(SETTINGS)
    assert (held["rows"], remembered["steps"]) == (100, [4, 12])
    assert min(held["steps_per_second"], *(row["seconds"] for row in evaluated)) > 0
    assert remembered["growth"] == remembered["resident_mb"][1] / remembered["resident_mb"][0]
    assert 0 <= remembered["data_wait_share"] < 1
    assert remembered["peak_mb"] >= max(remembered["resident_mb"]) * 0.9
    for section, found in ((evaluation, evaluated), (size, [held]), (memory, remembered)):
        assert all(table.row_count for table in section.tables(found))


@pytest.mark.slow
def test_text_and_speech_are_counted_in_tokens_and_seconds(here, monkeypatch):
    monkeypatch.setattr(kinds, "TASKS", ("mlm", "cpc"))
    monkeypatch.setattr(kinds, "BATCH", 8)
    found = kinds.measure(replace(SETTINGS, overrides=("device.threads=1",)), lambda _: None)
    assert [(row["work"], row["contestant"], row["unit"]) for row in found["rows"]] == [
        *(("mlm", name, "tokens") for name in kinds.NAMES),
        *(("cpc", name, "seconds of audio") for name in kinds.NAMES),
    ]
    for row in found["rows"]:
        times = sorted(found["rounds"][row["work"]][row["contestant"]])
        samples = row["per_second"] * times[len(times) // 2] / 8
        assert (15 < samples < 30) if row["work"] == "mlm" else samples == pytest.approx(1.0), "of a row, of a clip"
    assert [row["ratio"] for row in found["rows"]][::2] == [1.0, 1.0]
    assert all(table.row_count == 4 for table in kinds.tables(found))
