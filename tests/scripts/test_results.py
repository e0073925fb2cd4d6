"""Rows of results: what is run, when a row holds, how a length comes of a budget, and the tables."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import result_jobs
import result_pages
import results
from conftest import in_turn, names, names_of
from result_pages import FAMILY, catalogue, paper_of, write_pages, write_recipes
from runs import put

from ssl_runner.device.placement import Placement
from ssl_runner.run_folder.atomic import digest, write_json

SHARES = {"random": 0.25, "trained": 0.5, "test": 0.45}


CANNOT_TIME = result_jobs.cannot_time


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Pages and rows in a folder; runs are not carried out but noted, at 0.02 CPU seconds a step and 5 beside."""
    ran = []

    def run(self, typed):
        ran.append([*typed])
        if typed[0] == "evaluate":
            for name, number in (("knn", "top1"), ("probe", "top1"), ("abx", "pooled_across")):
                found = {"encoder": "random", "split": "test", "values": {number: 0.2}}
                put(Path(typed[1]) / f"evaluation/{name}.json", json.dumps({"results": [found]}))
            return 1.0
        folder = Path(next(word for word in typed if word.startswith("hydra.run.dir="))[14:])
        steps = int(next(word for word in typed if word.startswith("length="))[7:-2])
        numbers = {f"{each}/top1": 0.5 for each in ("knn", "probe")}
        kept = {} if "device.precision=bf16" in typed else {**numbers}
        numbers |= {"abx/pooled_across": 0.5} if "evaluator.abx.by=speaker" in typed else {}
        final = numbers | {f"test/{key}": 0.45 for key in numbers}
        folder.mkdir(parents=True, exist_ok=True)  # of runs of one second
        summary = {
            "raw": dict.fromkeys(kept, 0.3),
            "initial" if any(word.startswith("init=") for word in typed) else "baseline": dict.fromkeys(numbers, 0.25),
            "final": final,
            "steps": steps,
            "samples_per_second": 99.0,
        }
        write_json(folder / "summary.json", summary)
        return 5 + 0.02 * steps

    pages = {"results": tmp_path / "results.md", "catalogue": tmp_path / "README.md"}
    for name, page in pages.items():
        page.write_text(f"Before.\n<!-- {name}: begin -->\nold\n<!-- {name}: end -->\nAfter.\n")
    monkeypatch.setattr(results.Runs, "run", run)
    monkeypatch.setattr(results, "ROWS", tmp_path / "results.json")
    monkeypatch.setattr(result_pages, "PAGES", pages)
    for module in (results, result_jobs):
        monkeypatch.setattr(module, "git", lambda *words: "abc\n" if words[0] == "rev-parse" else "")
    monkeypatch.setattr(result_jobs, "cannot_time", lambda datasets, more: "")
    return SimpleNamespace(ran=ran, folder=tmp_path, rows=lambda: json.loads((tmp_path / "results.json").read_text()))


def carry_out(desk, *words):
    desk.ran.clear()
    assert results.main(["--only", "simclr", "--datasets", "shapes", "--out", str(desk.folder / "runs"), *words]) == 0
    return len(desk.ran)


def test_minutes_of_a_cpu_without_bf16_give_no_row_of_images(desk, monkeypatch, capsys):
    told = "device.precision=bf16: this CPU multiplies matrices 40 times as slowly in it as in float32; type float32"
    monkeypatch.setattr(result_jobs, "cannot_time", CANNOT_TIME)
    monkeypatch.setattr(Placement, "slower", lambda self: told * (self.precision == "bf16"))
    with pytest.raises(SystemExit):
        results.main(["--only", "simclr", "--datasets", "grammar", "shapes"])
    said = capsys.readouterr().err
    assert "of minutes in bf16. device.precision=bf16: this CPU multiplies matrices 40 times as slowly" in said
    assert not result_jobs.cannot_time(["grammar", "utterances"])
    assert not result_jobs.cannot_time(["shapes"], ["device.precision=float32"])


def test_further_seeds_are_as_long_as_the_first_also_in_float32(desk, capsys):
    float32 = ("--set", "device.precision=float32")
    assert results.main(["--only", "simclr", "--datasets", "shapes", *float32]) == 1
    assert "no row of seed 0 says how many steps its minutes in bf16 are" in capsys.readouterr().err
    assert carry_out(desk) == 4
    assert carry_out(desk, "--seeds", "2", *float32) == 1, "nothing is timed, and what is there in bf16 stays"
    assert [row["steps"] for row in desk.rows()] == [9000, 9000]
    assert [("float32" in row["command"]) for row in desk.rows()] == [False, True]
    assert carry_out(desk, "--seeds", "2") == 1, "in bf16, as the protocol says, where that is possible"
    assert carry_out(desk, "--seeds", "3", "--scale", "0.5") == 4, "of other minutes it is measured"
    assert [(row["steps"], row.get("minutes")) for row in desk.rows()] == [(9000, None), (9000, None), (4500, 1.5)]
    assert carry_out(desk, "--again", *float32, "length=70st") == 1
    assert shlex.split(desk.rows()[0]["command"])[-3:] == ["seed=0", "device.precision=float32", "length=70st"]
    assert carry_out(desk, *float32, "length=70st") == 0


def test_a_budget_becomes_a_length_and_a_row_with_the_command(desk):
    assert carry_out(desk) == 4, "a run to warm up, two that a step's cost is of, and the one that counts"
    (row,) = desk.rows()
    assert row["steps"] == 3 * 60 / 0.02
    assert (row["knn"], row["probe"], row["seconds"], row["commit"]) == (SHARES, SHARES, 185, "abc")
    fields = "method dataset family paper seed knn probe steps samples_per_second seconds commit command config"
    assert " ".join(row) == fields
    words = shlex.split(row["command"])
    assert words[:4] == ["ssl-runner", "pretext=simclr", "dataset=shapes", "model=convnet_small"]
    assert words[-2:] == ["seed=0", "length=9000st"]
    text = (desk.folder / "results.md").read_text()
    assert re.fullmatch(r"Before\.\n<!--.*-->\nAfter\.\n", text, re.DOTALL)
    assert "old" not in text
    assert "| `simclr` | contrastive | 25.0 → 50.0 | 45.0 | 25.0 → 50.0 | 45.0 | 9000 | 99 | 185 | 1 |" in text
    assert "| 50.0 (+25) / 50.0 (+25) |" in (desk.folder / "README.md").read_text()


def test_a_row_that_holds_is_not_run_again_and_one_that_does_not_is(desk, monkeypatch):
    carry_out(desk)
    assert carry_out(desk) == 0
    assert carry_out(desk, "--again") == 4
    assert carry_out(desk, "--seeds", "2", "--jobs", "2") == 1, "only the second seed, as long as the first"
    assert [row["seed"] for row in desk.rows()] == [0, 1]
    assert carry_out(desk, "--set", "optimizer.lr=0.01", "log_every=9st") == 4, "the protocol asks for another command"
    monkeypatch.setattr(result_jobs, "resolved", lambda typed: {"another": "meaning"})
    assert carry_out(desk, "--set", "optimizer.lr=0.01", "log_every=9st") == 4


@pytest.mark.parametrize(
    ("changed", "kept"),
    {
        "tests/golden/traces/pretext-byol.json": False,
        "tests/golden/traces/optimizer-muon.json": False,
        "ssl_runner/evaluator/knn.py": False,
        "tests/golden/traces/pretext-dino.json": True,
        "ssl_runner/pretext/byol.py": True,  # as its trace says, to the same numbers
    }.items(),
)
def test_a_row_holds_while_traces_and_versions_are_what_they_were(monkeypatch, changed, kept):
    targets = {"pretext": "pretext.byol.BYOL", "optimizer": "optimizer.muon.Muon"}
    config = {group: {"_target_": f"ssl_runner.{target}"} for group, target in targets.items()}
    config["evaluator"] = {"knn": {"_target_": "ssl_runner.evaluator.knn.KNN"}}
    monkeypatch.setattr(result_jobs, "resolved", lambda given: config)
    monkeypatch.setattr(result_jobs, "git", lambda *words: changed if changed in words else "")
    row = {"command": "ssl-runner a length=3st", "commit": "abc", "config": digest(config)}
    assert result_jobs.holds(row, ["a"]) == kept


@pytest.mark.parametrize("name", names("pretext"))
def test_every_method_has_a_family_and_a_paper(name):
    assert name in FAMILY, "add it to FAMILIES of scripts/result_pages.py"
    assert len(paper_of(name)) > 20


@pytest.mark.parametrize("name", in_turn(names_of("image", "pretext")))
@pytest.mark.parametrize("dataset", ["shapes", "cifar10"])
def test_every_method_of_images_has_a_job(name, dataset):
    config = result_jobs.resolved([*result_jobs.words(name, dataset, 3), "length=40st"])
    assert (config["seed"], config["device"]["precision"], config["device"]["threads"]) == (3, "bf16", 1)
    assert config["dataset"]["_target_"].endswith("Shapes" if dataset == "shapes" else "ImageFolder")
    assert [config["evaluator"][each]["every"] for each in ("knn", "probe")] == ["100%", "100%"]


@pytest.mark.slow
@pytest.mark.parametrize("dataset", [name for name, stage in result_jobs.STAGES.items() if stage.kind != "image"])
def test_every_method_of_text_and_sound_has_a_job(dataset):
    kind = result_jobs.STAGES[dataset].kind
    suiting = [name for name in names("pretext") if result_jobs.suits(name, dataset)]
    assert set(names_of(kind, "pretext")) <= set(suiting)
    for name in suiting:
        config = result_jobs.resolved([*result_jobs.words(name, dataset, 3), "length=40st"])
        assert (config["seed"], config["device"]["threads"], config["evaluator"]["probe"]["every"]) == (3, 1, "100%")
        assert ("abx" in config["evaluator"]) == (kind == "audio")
        assert result_jobs.minutes(name, dataset) == (10 if "FOLDER" in str(config["dataset"]) else 3)
    assert not result_jobs.suits("rotation", dataset)


@pytest.mark.slow
def test_rows_of_text_and_sound_have_raw_features_errors_and_the_run_that_they_begin_from(desk, capsys):
    def carry_out_on(dataset, *words):
        return results.main(["--datasets", dataset, "--out", str(desk.folder / "runs"), *words])

    assert carry_out_on("grammar", "--only", "simcse", "--after", "mlm") == 1
    assert "--after mlm: no run is below" in capsys.readouterr().err
    assert not desk.ran
    assert carry_out_on("grammar", "--only", "mlm", "simcse", "cpc") == 0
    assert carry_out_on("grammar", "--only", "simcse", "--after", "mlm") == 0
    (begun,) = (desk.folder / "runs" / "grammar").glob("mlm-0-*")
    assert f"init={begun}" in desk.ran[-1]
    assert carry_out_on("utterances", "--only", "cpc", "byol", "mlm") == 0
    rows = desk.rows()
    assert [(row["dataset"], row["method"], row.get("after")) for row in rows] == [
        *(("grammar", each, after) for each, after in (("mlm", None), ("simcse", None), ("simcse", "mlm"))),
        *(("utterances", each, None) for each in ("byol", "cpc")),
    ]
    assert "init=RUN" in shlex.split(rows[2]["command"])
    assert all(row["knn"] == SHARES | {"raw": 0.3} for row in rows)
    assert [row.get("abx") for row in rows] == [None] * 3 + [SHARES] * 2
    text = (desk.folder / "results.md").read_text()
    assert "| `simcse` after `mlm` | text | 25.0 → 50.0 | 30.0 | 45.0 |" in text
    assert "| probe, test | ABX error | ABX error, test |" in text
    page = (desk.folder / "README.md").read_text()
    assert "| grammar, utterances: kNN / probe (gain) |" in page
    assert carry_out_on("utterances", "--only", "cpc", "--scale", "0.5", "--again") == 0
    assert (desk.rows()[-1]["minutes"], desk.rows()[-1]["steps"]) == (1.5, 4500)
    assert "| 4500 in 1.5 min |" in (desk.folder / "results.md").read_text()
    with pytest.raises(SystemExit):
        carry_out_on("digits", "--only", "cpc")
    assert "--digits: given None" in capsys.readouterr().err
    place = desk.folder / "spoken"
    place.mkdir()
    assert carry_out_on("digits", "--only", "cpc", "--digits", str(place)) == 0
    assert f"dataset.root={place}/manifest.tsv" in desk.ran[-2]
    assert {"split=test", "init=random", "evaluator.abx.by=speaker"} <= {*desk.ran[-1]}
    assert desk.rows()[0]["abx"] == SHARES | {"random_test": 0.2}
    assert "| 25.0 → 50.0 | 30.0 | 20.0 → 45.0 |" in (desk.folder / "results.md").read_text()
    assert "| 45.0 (+25) / 45.0 (+25) |" in (desk.folder / "README.md").read_text()
    assert "dataset.root=FOLDER/manifest.tsv" in shlex.split(desk.rows()[0]["command"])


def test_a_cold_start_makes_no_endless_run(desk, monkeypatch, capsys):
    cold, run = [60.0], results.Runs.run
    monkeypatch.setattr(results.Runs, "run", lambda *words: run(*words) + (cold.pop() if cold else 0))
    carry_out(desk)
    assert desk.rows()[0]["steps"] == 3 * 60 / 0.02
    monkeypatch.setattr(results.Runs, "run", lambda *words: 7.0)
    assert results.main(["--only", "dcl", "--datasets", "shapes", "--out", str(desk.folder / "runs")]) == 1
    assert (
        "dcl on shapes, seed 0: 70 steps took 7.0 s of CPU and 10 took 7.0 s; type it again" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_run_is_the_ordinary_command_and_its_failure_is_said(tmp_path):
    runs = results.Runs(SimpleNamespace(scale=1, again=False, after="", set=(), out=tmp_path))
    small = ("dataset.images=60", "dataset.test=10", "batch_size=16", "device=cpu")
    assert 0.1 < runs.run(["evaluator=none", *small, "length=1st", f"hydra.run.dir={tmp_path / 'run'}"]) < 60
    assert (tmp_path / "run" / "summary.json").exists()
    with pytest.raises(RuntimeError, match=r"optimizer\.rate: is no setting"):
        runs.run(["optimizer.rate=1", f"hydra.run.dir={tmp_path / 'other'}"])


def test_without_rows_the_catalogue_lists_the_methods_and_a_page_without_markers_is_left(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    page.write_text("Nothing.\n")
    monkeypatch.setattr(result_pages, "PAGES", {"results": page, "catalogue": page})
    write_pages([])
    assert page.read_text() == "Nothing.\n"
    assert "write <!-- catalogue: begin -->" in capsys.readouterr().err
    lines = catalogue([])
    assert any(line.startswith("| contrastive | `simclr` | A Simple Framework") for line in lines)
    assert len(lines) == 2 + len(names("pretext"))


def test_a_recipe_gets_the_length_and_the_numbers_of_its_row(tmp_path):
    file, row = tmp_path / "byol_cifar10.yaml", {"method": "byol", "dataset": "cifar10", "seed": 0, "steps": 70}
    file.write_text("# @package _global_\n# a word of its own\ndefaults:\n  - override /pretext: byol\nlength: 9ep\n")
    for share in (0.5, 0.6):  # numbers take the place of older ones
        numbers = SHARES | {"trained": share}
        write_recipes([row | {"knn": numbers, "probe": SHARES}, row | {"seed": 1, "steps": 90}], tmp_path)
    assert file.read_text() == (
        "# @package _global_\n# a word of its own\n"
        "# 4 minutes of one CPU core, seed 0: kNN 25.0 -> 60.0, probe 25.0 -> 50.0 %; test 45.0 and 45.0 %.\n"
        "defaults:\n  - override /pretext: byol\nlength: 70st\n"
    )
    own = tmp_path / "mlm_grammar.yaml"
    own.write_text("defaults:\n  - override /pretext: mlm\nlength: 1000st\n")
    write_recipes([row | {"method": "mlm", "dataset": "grammar", "knn": SHARES, "probe": SHARES}], tmp_path)
    assert own.read_text().endswith("length: 1000st\n")
