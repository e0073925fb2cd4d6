"""`ssl-runner evaluate`: the numbers of a run again, from any form of its encoder, and what each number rests on."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from conftest import in_turn, names, tiny
from evaluator_toys import quick
from image_trees import paint, paint_classes
from matplotlib.image import imread
from runs import change, enter, put

from ssl_runner.__main__ import main
from ssl_runner.comparison.confusions import read_confusions
from ssl_runner.comparison.record import load_runs, read_run
from ssl_runner.comparison.run import name_metrics
from ssl_runner.comparison.table import compare
from ssl_runner.contract import Metric
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.encoder.load import find_encoder, load_encoder
from ssl_runner.evaluator.knn import KNN
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.results import IDENTITY, record_result
from ssl_runner.run_folder.summary import read_summary

K = "evaluator.knn.k=3"
ALIKE = (K, "evaluator.probe.l2=[0.01]")  # as the tiny run measures


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What `run` is a copy of here."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*tiny("pretext=simclr", "seed=5", "save_every=6st"), f"hydra.run.dir={folder}"]) == 0
    return folder


def evaluate(run, *words):
    return main(["evaluate", str(run), *words])


def results(folder, protocol):
    return read_json(folder / f"{protocol}.json")["results"]


def by_split(run, protocol):
    """Each split once."""
    every = results(run / "evaluation", protocol)
    splits = {each["split"]: each for each in every}
    assert len(splits) == len(every)
    return splits


def of_protocol(numbers, protocol):
    return {name.rpartition("/")[2]: value for name, value in numbers.items() if name.startswith(f"{protocol}/")}


def test_the_numbers_are_those_of_the_run_and_random_is_where_it_began(run):
    confusions = read_confusions(read_run(run, "run", []))
    assert sorted(confusions) == ["knn/top1", "probe/top1", "test/knn/top1", "test/probe/top1"], "of the last step"
    for folder in (run / "evaluation").glob("*/*-training"):
        (folder / "confusion.json").unlink()
    assert evaluate(run, *ALIKE) == 0
    assert read_confusions(read_run(run, "run", [])) == confusions
    summary = read_json(run / "summary.json")
    for protocol in ("knn", "probe"):
        rows = torch.tensor(confusions[f"test/{protocol}/top1"]["rows"])
        assert float(rows.diag().sum() / rows.sum()) == pytest.approx(summary["final"][f"test/{protocol}/top1"])
        measured = by_split(run, protocol)
        assert measured["validation"]["values"] == pytest.approx(of_protocol(summary["final"], protocol))
        assert measured["test"]["values"] == pytest.approx(of_protocol(summary["final"], f"test/{protocol}"))
        meanings = {name: summary["metrics"][f"test/{protocol}/{name}"] for name in measured["test"]["values"]}
        assert measured["test"]["metrics"] == meanings
        assert measured["test"]["version"] == summary["protocols"][protocol]["version"]
    knn = by_split(run, "knn")["test"]
    known = {"version": 1, "seed": 5, "step": 12, "dataset": "shapes", "encoder": "encoder.safetensors"}
    known |= {"settings": {"_target_": "ssl_runner.evaluator.knn.KNN", "target": None, "k": 3, "temperature": 0.07}}
    known |= {"value": knn["values"]["top1"], "fingerprint": read_json(run / "environment.json")["dataset"]}
    assert {name: knn[name] for name in known} == known
    assert knn["settings_hash"] != measured["test"]["settings_hash"]
    (compared,), _, _ = load_runs([run])
    (known,), _, _ = name_metrics([compared])
    assert not any("#" in name for name in known), "measured alike in training and by evaluate"
    assert known["test/knn/top1"] == knn["value"]
    shutil.rmtree(run / "evaluation")
    assert evaluate(run, "knn", "probe", *ALIKE, "init=random") == 0
    for protocol in ("knn", "probe"):
        measured = by_split(run, protocol)["validation"]
        assert measured["values"] == pytest.approx(of_protocol(summary["baseline"], protocol))
        assert (measured["encoder"], measured["step"], measured["seed"]) == ("random", 0, 5)


@pytest.mark.slow
def test_scores_of_classes_are_kept_by_name_and_the_confusion_matrix_is_a_picture(run, capsys, monkeypatch):
    """Also of another data set, whose classes have other names. Of too many classes there is a line instead."""
    words = f"evaluate {run} knn probe finetune {K} evaluator.finetune.epochs=1"
    told = enter(capsys, words, "; majority class 0.1  (")
    assert told.count("majority") == 6
    for protocol in ("knn", "probe", "finetune"):
        for split, each in by_split(run, protocol).items():
            recalls = each["classes"]["top1"]
            assert [*recalls] == list(Shapes(images=10, test=10).load().classes)
            assert each["values"]["balanced_accuracy"] == pytest.approx(sum(recalls.values()) / 10)
            assert each["metrics"]["top1"] == {"better": "larger", "unit": "share", "majority": 0.1}
            assert each["metrics"]["ece"] == {"better": "smaller", "unit": "share"}
            (picture,) = (run / "evaluation" / protocol).glob(f"{split}-*/confusion.png")
            assert imread(picture).ndim == 3
    log = (run / "run.log").read_text()
    assert ("knn/top5" in log, "balanced_accuracy" in log) == (True, False), "a line that one can read"
    (compared,), _, _ = load_runs([run])
    comparison = compare([compared], "test/probe/balanced_accuracy")
    assert comparison.metric == "test/probe/balanced_accuracy"
    assert comparison.larger is comparison.is_share(comparison.metric) is True
    assert compare([compared], "test/knn/ece").larger is False
    assert compare([compared]).metric == "probe/top1"
    monkeypatch.setattr("ssl_runner.probing.class_scores.MOST", 9)
    enter(
        capsys,
        f"evaluate {run} knn {K} split=test dataset=digits",
        "knn on test: 10 classes are too many for a picture",
    )
    classes = results(run / "evaluation", "knn")[-1]["classes"]["top1"]
    assert [*classes] == [str(digit) for digit in range(10)]
    assert len([*run.glob("evaluation/knn/*/confusion.png")]) == 2


OTHERS = {
    "tokens": "target: given null, and the dataset tells no classes of tokens; leave tokens out"
}  # of other data than images
OTHERS["loss"] = "loss takes the network of the task, and there is an encoder alone; measure it in training"


@pytest.mark.parametrize("protocol", OTHERS)
def test_what_these_samples_cannot_be_measured_by_is_refused(run, protocol, capsys):
    enter(capsys, f"evaluate {run} {protocol}", OTHERS[protocol], status=2)


@pytest.mark.parametrize("protocol", in_turn(name for name in names("evaluator") if name not in ("none", *OTHERS)))
def test_every_protocol_is_carried_out(run, protocol):
    """A new YAML in conf/evaluator/ is a new case: finite numbers, its headline among them, and the same ones again."""
    measured, words = [], quick(protocol)
    if protocol == "abx":  # the run's validation has one row of each class, and it takes two
        words = ["dataset=shapes", "dataset.images=300", "dataset.test=30"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        assert evaluate(run, protocol, *words) == 0
        splits = by_split(run, protocol)
        assert all(each["values"] and isinstance(each["value"], float) for each in splits.values())
        measured.append({split: each["values"] for split, each in splits.items()})
    assert measured[0] == measured[1]
    assert {*measured[0]} in ({"validation", "test"}, {"train"})


def test_every_form_of_an_encoder_gives_the_same(run, here):
    alone, last, words = here / "alone", run / "checkpoints" / "0000012.pt", ("knn", K, "split=test")
    for name in ("encoder.safetensors", "encoder.yaml"):
        put(alone / name, (run / name).read_bytes())
    assert evaluate(run, *words) == evaluate(last, *words, "--to", "to") == 0
    data = ("dataset=shapes", "dataset.images=100", "dataset.test=20")
    assert evaluate(alone / "encoder.safetensors", *words, *data) == 0
    a, b, c = (results(folder, "knn")[0] for folder in (run / "evaluation", here / "to", alone / "evaluation"))
    assert a["values"] == b["values"] == c["values"]
    assert (b["encoder"], b["step"], b["seed"]) == ("checkpoints/0000012.pt", 12, 5)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        a, b, c = (load_encoder(path)(x).pooled.tolist() for path in (run, last, alone))
    assert a == b == c


def test_the_encoder_is_the_one_asked_for_or_the_newest_that_can_be_read(run):
    middle = find_encoder(run / "checkpoints" / "0000006.pt")
    assert (middle.step, middle.folder, middle.name) == (6, run.resolve(), "checkpoints/0000006.pt")
    assert find_encoder(shutil.copy(run / "checkpoints" / "0000006.pt", run / "checkpoints" / "middle.pt")).step == 6
    assert not torch.equal(next(middle.encoder.parameters()), next(load_encoder(run).parameters()))
    assert find_encoder(run).name == "encoder.safetensors"
    # Killed after a resume: the exported file is older than the newest checkpoint.
    change(run, "summary.json", status="running")
    assert find_encoder(run).name == "checkpoints/0000012.pt"
    (run / "encoder.safetensors").unlink()
    (run / "checkpoints" / "0000012.pt").write_bytes(b"torn")
    assert find_encoder(run).step == 6


@pytest.mark.slow
def test_each_way_of_measuring_has_its_own_place_in_results_and_in_tensorboard(run):
    """The same again takes the place of the one before; a torn file is put aside; no file of the run is touched."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def files():
        own = [file for file in run.rglob("*") if file.is_file() and "evaluation" not in str(file)]
        return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in own}

    before, file = files(), run / "evaluation" / "knn.json"
    put(file, '{"results": [{"value": 0.5')
    for words in ([K], [K], ["evaluator.knn.k=4"], [K, "dataset=digits"], [K, "init=random"]):
        assert evaluate(run, "knn", "split=test", *words) == 0
    assert files() == before
    assert file.with_suffix(".json.torn").read_text().endswith("0.5")
    kept = results(file.parent, "knn")
    settings = [(each["settings"]["k"], each["dataset"], each["step"]) for each in kept]
    assert settings == [(3, "shapes", 12), (4, "shapes", 12), (3, "digits", 12), (3, "shapes", 0)]
    assert len({each["fingerprint"] for each in kept}) == 2
    (events,) = run.glob("*.evaluation")
    board = EventAccumulator(str(events)).Reload()
    drawn = {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    points = {(at, round(value, 6)) for tag, each in drawn.items() if "knn/top1" in tag for at, value in each}
    assert points >= {(each["step"], round(each["value"], 6)) for each in kept if each["settings"]["k"] == 4}
    assert drawn["test/knn/top1@digits"] == [(12, pytest.approx(kept[2]["value"]))]
    assert drawn["baseline/test/knn/top1"] == [(0, pytest.approx(kept[3]["value"]))]
    assert len([tag for tag in drawn if tag.startswith("test/knn/top1#")]) == 1


def test_results_written_at_once_are_all_there(tmp_path):
    def write(number):
        known = {"protocol": "knn", "split": "test", "seed": number, "values": {}}
        record_result(tmp_path, {**dict.fromkeys(IDENTITY), **known})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert {each["seed"] for each in results(tmp_path, "knn")} == {*range(40)}


def test_every_run_of_a_folder_is_measured_and_one_without_an_encoder_left_out(whole, here, capsys):
    _, failed = runs = [shutil.copytree(whole, here / "sweep" / name) for name in ("000-a", "001-b")]
    enter(capsys, f"evaluate sweep knn {K} split=test", "2 of 2")
    assert all(by_split(run, "knn") for run in runs)
    shutil.rmtree(failed / "checkpoints")
    (failed / "encoder.safetensors").unlink()
    (failed / "summary.json").write_text('{"status": "failed"}')
    enter(capsys, f"evaluate sweep knn {K} split=test", "left out", status=1)
    assert evaluate(failed, "knn") == 2


def test_a_protocol_that_fails_costs_no_other_and_a_number_that_is_none_is_left_out(run, monkeypatch, capsys):
    monkeypatch.setattr(KNN, "__call__", Mock(side_effect=RuntimeError("out of memory")))
    told = "knn on test: RuntimeError: out of memory"
    enter(capsys, f"evaluate {run} knn probe {K} split=test", told, status=1)
    assert by_split(run, "probe")
    monkeypatch.setattr(KNN, "__call__", lambda *_: {"top1": Metric(float("nan")), "top5": Metric(0.5)})
    assert evaluate(run, "knn", K, "split=test") == 0
    text = (run / "evaluation" / "knn.json").read_text()
    (result,) = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["results"]
    assert (result["values"], result["value"]) == ({"top5": 0.5}, None)


def test_without_labels_what_needs_none_is_measured(run, here, capsys):
    for number in range(30):
        paint(here / "images" / f"{number}.png", (8 * number, number**2 % 256, 7), (32, 32))
    data = "dataset=image_folder dataset.root=images dataset.cache=false"
    enter(capsys, f"evaluate {run} knn geometry {data}", "possible without labels: geometry", status=2)
    enter(capsys, f"evaluate {run} geometry evaluator.geometry.samples=20 {data}")
    assert {*by_split(run, "geometry")} == {"train"}


@pytest.mark.slow
def test_rows_that_are_not_the_runs_are_said_to_be_others_and_filed_so(here, capsys):
    """A row is lost, and the split drawn anew. A dataset that is named is another, of which nothing need be said."""
    root = paint_classes(here / "images", each=30)
    data = ["dataset=image_folder", "dataset.root=images", "dataset.cache=false"]
    words = [each for each in tiny("evaluator=[knn]", K) if not each.startswith("dataset")]
    enter(capsys, [*words, *data, "save_every=6st", "hydra.run.dir=run"])
    own = read_json(here / "run/environment.json")["dataset"]
    for place in ("run", "run/checkpoints/0000006.pt"):
        assert "other data" not in enter(capsys, f"evaluate {place} knn {K}")
    (root / "ant/3.png").unlink()
    assert "other data" not in enter(capsys, ["evaluate", "run", "knn", K, *data])
    for place in ("run", "run/checkpoints/0000006.pt"):
        told = ("warning: other data: the fingerprint is ", f"that of the run's was {own}", "knn on test of other data")
        enter(capsys, f"evaluate {place} knn {K}", *told)
    every = results(here / "run/evaluation", "knn")
    assert all(each["fingerprint"] == own for each in every if "other_data" not in each)
    others = [each for each in every if "other_data" in each]
    assert len(others) == 4
    assert all(each["other_data"] == each["fingerprint"] != own for each in others)
    (compared,), _, _ = load_runs([here / "run"])
    (numbers,), _, _ = name_metrics([compared])
    last = next(each for each in others if each["split"] == "test" and each["step"] == 12)
    assert numbers["test/knn/top1@image_folder"] == last["value"]
    assert numbers["test/knn/top1"] == read_summary(here / "run")["final"]["test/knn/top1"]


REFUSED = {
    "probe evaluator.knn.k=3 split=tset evaluator.probe.held_out=2 devic=cpu": (
        *("evaluator.knn.k: knn is not chosen", "did you mean test?", "held_out: given 2", "did you mean device?"),
    ),
    "prob": ("did you mean probe?",),
    "knn evaluator.knn.k=91": ("k is 91 and the bank holds 90",),
    "knn device.precision=bf16": ("float32",),
    "knn --to {run}/run.log": ("type --to FOLDER",),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_measured(run, words, monkeypatch, capsys):
    monkeypatch.setattr(KNN, "__call__", lambda *_: pytest.fail("for nothing"))
    before = sorted((run / "evaluation").rglob("*"))
    enter(capsys, f"evaluate {run} {words.format(run=run)}", *REFUSED[words], status=2)
    assert sorted((run / "evaluation").rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("encoder.yaml", "- 8", "- 9", "does not fit its config"),
        ("encoder.yaml", "ssl_runner.model", "os", "not trusted"),
        ("config.yaml", None, None, "type dataset=NAME"),
    ],
)
def test_what_is_no_encoder_of_a_run_is_refused(run, file, old, new, said, capsys):
    text = (run / file).read_text()
    (run / file).write_text(text.replace(old, new, 1)) if old else (run / file).unlink()
    enter(capsys, f"evaluate {run} knn", said, status=2)
    enter(capsys, "evaluate knn", "RUN: is missing", status=2)
    enter(capsys, f"evaluate {run}/metrics.jsonl knn", "is no encoder", status=2)


@pytest.mark.slow
def test_a_run_is_measured_on_numbers_and_on_labels(tmp_path, monkeypatch, capsys):
    """On a data set of a trusted package, without classes."""
    monkeypatch.setenv("SSL_RUNNER_TRUST", "evaluator_toys")

    run, data = tmp_path / "run", ["--config-dir", str(Path(__file__).parents[1] / "evaluator" / "conf")]
    words = [each for each in tiny("evaluator=[numbers,labels]") if not each.startswith("dataset.")]
    line = [*data, "dataset=tagged", *words, f"hydra.run.dir={run}"]
    told = "the rows have no class; possible are shape, colour"
    enter(capsys, [*line, "evaluator=[knn]", "evaluator.knn.k=3"], told, status=2)  # what needs classes
    enter(capsys, line, "probe_numbers")
    summary = read_summary(run)
    headlines = ["probe_numbers/r2", "knn_numbers/r2", "probe_labels/map", "knn_labels/map"]
    assert sorted(summary["headlines"]) == sorted(headlines)
    for name in headlines:
        meaning = {"better": "larger", "unit": "number" if name.endswith("r2") else "share"}
        assert summary["metrics"][name] == summary["metrics"][f"test/{name}"] == meaning
        assert summary["final"][name] == pytest.approx(summary["final"][f"test/{name}"], abs=0.5)
    assert summary["final"]["probe_numbers/r2"] > 0.3, "the colour of the background is most of an image"
    assert summary["final"]["probe_labels/map"] > 0.7
    enter(capsys, f"evaluate {run} probe split=test evaluator.probe.target=tags evaluator.probe.l2=[1e-1,1e-3,1e-5]")
    assert results(run / "evaluation", "probe")[0]["value"] == summary["final"]["test/probe_labels/map"]
    comparison = compare(load_runs([run])[0])
    assert comparison.metric in headlines
    assert not comparison.warnings
