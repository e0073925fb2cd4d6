"""`ssl-runner evaluate`: the numbers of a run again, from any form of its encoder, and what each number rests on."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import names, tiny
from PIL import Image

from ssl_runner.__main__ import main
from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.run import name_metrics
from ssl_runner.contract import Metric
from ssl_runner.encoder.load import find_encoder, load_encoder
from ssl_runner.evaluator.knn import KNN
from ssl_runner.run_folder.atomic import read_json, write_json
from ssl_runner.run_folder.results import IDENTITY, record_result

K = "evaluator.knn.k=3"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main([*tiny("pretext=simclr", "seed=5", "save_every=6st"), f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def results(folder: Path, protocol: str) -> dict[str, dict]:
    """By split; each split once."""
    every = read_json(folder / "evaluation" / f"{protocol}.json")["results"]
    assert len({each["split"] for each in every}) == len(every)
    return {each["split"]: each for each in every}


def of_protocol(numbers: dict, protocol: str) -> dict:
    return {name.rpartition("/")[2]: value for name, value in numbers.items() if name.startswith(f"{protocol}/")}


def test_the_numbers_are_those_of_the_run(run: Path) -> None:
    assert main(["evaluate", str(run), K]) == 0
    summary = read_json(run / "summary.json")
    for protocol in ("knn", "probe"):
        measured = results(run, protocol)
        assert measured["validation"]["values"] == of_protocol(summary["final"], protocol)
        assert measured["test"]["values"] == of_protocol(summary["final"], f"test/{protocol}")
        meanings = {name: summary["metrics"][f"test/{protocol}/{name}"] for name in measured["test"]["values"]}
        assert measured["test"]["metrics"] == meanings
        assert measured["test"]["version"] == summary["protocols"][protocol]["version"]
    knn = results(run, "knn")["test"]
    settings = {"_target_": "ssl_runner.evaluator.knn.KNN", "target": None, "k": 3, "temperature": 0.07}
    assert knn["settings"] == settings
    assert knn["value"] == knn["values"]["top1"]
    assert (knn["version"], knn["seed"], knn["step"], knn["dataset"]) == (1, 5, 12, "shapes")
    assert knn["fingerprint"] == read_json(run / "environment.json")["dataset"]
    assert knn["encoder"] == "encoder.safetensors"
    assert knn["settings_hash"] != results(run, "probe")["test"]["settings_hash"]
    (compared,), _, _ = load_runs([run])
    (names,), _, _ = name_metrics([compared])
    assert not any("#" in name for name in names), "measured alike in training and by evaluate"
    assert names["test/knn/top1"] == knn["value"]


SMALL = {  # settings with which a protocol takes a second
    "few_label": ["labels=[1,2]", "draws=2", "steps=2"],
    "finetune": ["epochs=1"],
    "robustness": ["k=3"],
    "leakage": ["k=3"],
    "knn": ["k=3"],
    "geometry": ["samples=20"],
}


@pytest.mark.parametrize("protocol", [name for name in names("evaluator") if name != "none"])
def test_every_protocol_is_carried_out(run: Path, protocol: str) -> None:
    """A new YAML in conf/evaluator/ is a new case: finite numbers, its headline among them, and the same ones again."""
    words = [f"evaluator.{protocol}.{each}" for each in SMALL.get(protocol, [])]
    assert main(["evaluate", str(run), protocol, *words]) == 0
    first = results(run, protocol)
    assert all(each["values"] and isinstance(each["value"], float) for each in first.values())
    assert {*first} in ({"validation", "test"}, {"train"})
    torch.manual_seed(1)
    assert main(["evaluate", str(run), protocol, *words]) == 0
    again = results(run, protocol)
    assert {k: v["values"] for k, v in again.items()} == {k: v["values"] for k, v in first.items()}


def test_every_form_of_an_encoder_gives_the_same(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("encoder.safetensors", "encoder.yaml"):
        shutil.copy(run / name, alone)
    last = run / "checkpoints" / "0000012.pt"
    to = str(tmp_path / "to")
    assert main(["evaluate", str(run), "knn", K, "split=test"]) == 0
    assert main(["evaluate", str(last), "knn", K, "split=test", "--to", to]) == 0
    data = ("dataset=shapes", "dataset.images=100", "dataset.test=20")
    assert main(["evaluate", str(alone / "encoder.safetensors"), "knn", K, "split=test", *data]) == 0
    a, b, c = (
        read_json(folder / "knn.json")["results"][0]
        for folder in (run / "evaluation", tmp_path / "to", alone / "evaluation")
    )
    assert a["values"] == b["values"] == c["values"]
    assert (b["encoder"], b["step"], b["seed"]) == ("checkpoints/0000012.pt", 12, 5)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = [load_encoder(path)(x).pooled for path in (run, last, alone)]
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])


def test_the_middle_of_a_run_is_another_encoder(run: Path) -> None:
    middle = find_encoder(run / "checkpoints" / "0000006.pt")
    assert (middle.step, middle.folder, middle.name) == (6, run.resolve(), "checkpoints/0000006.pt")
    assert not torch.equal(next(middle.encoder.parameters()), next(load_encoder(run).parameters()))


def test_a_run_that_went_on_is_not_measured_by_what_it_exported_before(run: Path) -> None:
    """Killed after a resume: the exported file is older than the newest checkpoint."""
    assert find_encoder(run).name == "encoder.safetensors"
    write_json(run / "summary.json", {**read_json(run / "summary.json"), "status": "running"})
    assert find_encoder(run).name == "checkpoints/0000012.pt"


def test_a_torn_checkpoint_gives_way_to_the_one_before(run: Path) -> None:
    (run / "encoder.safetensors").unlink()
    (run / "checkpoints" / "0000012.pt").write_bytes(b"torn")
    assert find_encoder(run).step == 6


def test_random_is_where_the_run_began(run: Path) -> None:
    assert main(["evaluate", str(run), "knn", "probe", K, "init=random"]) == 0
    baseline = read_json(run / "summary.json")["baseline"]
    for protocol in ("knn", "probe"):
        measured = results(run, protocol)["validation"]
        assert measured["values"] == of_protocol(baseline, protocol)
        assert (measured["encoder"], measured["step"], measured["seed"]) == ("random", 0, 5)


def test_the_same_again_takes_its_own_place_and_anything_else_is_kept(run: Path) -> None:
    for words in ([K], [K], ["evaluator.knn.k=4"], [K, "dataset=digits"]):
        assert main(["evaluate", str(run), "knn", "split=test", *words]) == 0
    kept = read_json(run / "evaluation" / "knn.json")["results"]
    assert [(each["settings"]["k"], each["dataset"]) for each in kept] == [(3, "shapes"), (4, "shapes"), (3, "digits")]
    assert len({each["fingerprint"] for each in kept}) == 2


def test_a_torn_file_of_results_is_put_aside(run: Path) -> None:
    file = run / "evaluation" / "knn.json"
    file.parent.mkdir()
    file.write_text('{"results": [{"value": 0.5')
    assert main(["evaluate", str(run), "knn", "split=test", K]) == 0
    assert len(read_json(file)["results"]) == 1
    assert file.with_suffix(".json.torn").read_text().endswith("0.5")


def test_results_written_at_once_are_all_there(tmp_path: Path) -> None:
    def write(number: int) -> None:
        record_result(
            tmp_path, {**dict.fromkeys(IDENTITY), "protocol": "knn", "split": "test", "seed": number, "values": {}}
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert {each["seed"] for each in read_json(tmp_path / "knn.json")["results"]} == {*range(40)}


def test_nothing_of_the_run_is_touched(run: Path) -> None:
    def files() -> dict:
        return {
            p: (p.read_bytes(), p.stat().st_mtime_ns)
            for p in run.rglob("*")
            if p.is_file() and "evaluation" not in p.parts
        }

    before = files()
    assert main(["evaluate", str(run), "knn", K]) == 0
    assert files() == before


def test_tensorboard_shows_each_way_of_measuring_as_a_run_of_its_own(run: Path) -> None:
    """Other data or settings under one name and step would be one curve; the same again is the same point."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for words in ([K], [K], ["evaluator.knn.k=1"], [K, "dataset=digits"], [K, "init=random"]):
        assert main(["evaluate", str(run), "knn", "split=test", *words]) == 0
    shown = []
    for folder in (run / "evaluation" / "knn").iterdir():
        events = EventAccumulator(str(folder))
        events.Reload()
        shown += [(event.step, pytest.approx(event.value)) for event in events.Scalars("test/knn/top1")]
    kept = read_json(run / "evaluation" / "knn.json")["results"]
    assert len(shown) == len(kept) == 4
    assert sorted((each["step"], each["value"]) for each in kept) == sorted(shown, key=lambda e: (e[0], e[1].expected))


def test_a_sweep_with_a_job_that_has_no_encoder_is_measured_without_it(
    run: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(run, run.parent / "sweep" / "000-a")
    failed = run.parent / "sweep" / "001-b"
    failed.mkdir()
    shutil.copy(run / "config.yaml", failed)
    (failed / "summary.json").write_text('{"status": "failed"}')
    assert main(["evaluate", str(run.parent / "sweep"), "knn", K, "split=test"]) == 1
    assert "left out" in capsys.readouterr().out
    assert results(run.parent / "sweep" / "000-a", "knn")
    assert main(["evaluate", str(failed), "knn"]) == 2


def test_where_nothing_can_be_kept_nothing_is_measured(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "blocked").write_text("")
    monkeypatch.setattr(KNN, "__call__", lambda *_: pytest.fail("for nothing"))
    assert main(["evaluate", str(run), "knn", K, "--to", str(tmp_path / "blocked")]) == 2
    assert "type --to FOLDER" in capsys.readouterr().err


def test_a_protocol_that_fails_costs_no_other(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def out_of_memory(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(KNN, "__call__", out_of_memory)
    assert main(["evaluate", str(run), "knn", "probe", K, "split=test"]) == 1
    assert "knn on test: RuntimeError: out of memory" in capsys.readouterr().out
    assert results(run, "probe")


def test_a_number_that_is_none_is_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KNN, "__call__", lambda *_: {"top1": Metric(float("nan")), "top5": Metric(0.5)})
    assert main(["evaluate", str(run), "knn", K, "split=test"]) == 0
    text = (run / "evaluation" / "knn.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert results(run, "knn")["test"]["values"] == {"top5": 0.5}
    assert results(run, "knn")["test"]["value"] is None


def test_without_labels_what_needs_none_is_measured(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(30):
        file = tmp_path / "images" / f"{number}.png"
        Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(file)
    data = ["dataset=image_folder", f"dataset.root={tmp_path / 'images'}", "dataset.cache=false"]
    assert main(["evaluate", str(run), "knn", "geometry", *data]) == 2
    assert "possible without labels: geometry" in capsys.readouterr().err
    assert main(["evaluate", str(run), "geometry", "evaluator.geometry.samples=20", *data]) == 0
    assert {*results(run, "geometry")} == {"train"}


def test_precision_is_not_silently_ignored(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", str(run), "knn", K, "device.precision=bf16"]) == 2
    assert "float32" in capsys.readouterr().err


def test_all_that_is_wrong_is_said_at_once(run: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["probe", "evaluator.knn.k=3", "split=tset", "evaluator.probe.held_out=2", "devic=cpu"]
    assert main(["evaluate", str(run), *words]) == 2
    said = capsys.readouterr().err
    for part in ("evaluator.knn.k: is no setting", "did you mean test?", "held_out: given 2", "did you mean device?"):
        assert part in said
    assert main(["evaluate", str(run), "prob"]) == 2
    assert "did you mean probe?" in capsys.readouterr().err
    assert main(["evaluate", str(run), "knn", "evaluator.knn.k=91"]) == 2
    assert "k is 91 and the bank holds 90" in capsys.readouterr().err
    assert main(["evaluate", "knn"]) == 2
    assert "RUN: is missing" in capsys.readouterr().err
    assert not (run / "evaluation").exists()


def test_an_encoder_without_its_run_needs_a_dataset(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "config.yaml").unlink()
    assert main(["evaluate", str(run), "knn"]) == 2
    assert "type dataset=NAME" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run" / "metrics.jsonl"), "knn"]) == 2
    assert "is no encoder" in capsys.readouterr().err


def test_every_run_of_a_folder_is_measured(run: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(run, run.parent / "sweep" / "000-a")
    shutil.copytree(run, run.parent / "sweep" / "001-b")
    assert main(["evaluate", str(run.parent / "sweep"), "knn", K, "split=test"]) == 0
    for name in ("000-a", "001-b"):
        assert results(run.parent / "sweep" / name, "knn")
    assert "2 of 2" in capsys.readouterr().out


def test_weights_that_do_not_fit_are_named(run: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = (run / "encoder.yaml").read_text()
    (run / "encoder.yaml").write_text(recipe.replace("- 8", "- 9", 1))
    assert main(["evaluate", str(run), "knn"]) == 2
    assert "does not fit its config" in capsys.readouterr().err
    (run / "encoder.yaml").write_text(recipe.replace("ssl_runner.model", "os"))
    assert main(["evaluate", str(run), "knn"]) == 2
    assert "not trusted" in capsys.readouterr().err
