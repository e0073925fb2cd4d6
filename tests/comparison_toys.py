"""Run folders as a run leaves them, with whatever numbers and settings a test of comparisons needs."""

import json
from pathlib import Path

from runs import merged

from ssl_runner.comparison.record import load_runs
from ssl_runner.comparison.run import Run
from ssl_runner.comparison.settings import choices_of, flat
from ssl_runner.comparison.table import compare
from ssl_runner.run_folder.atomic import read_json, write_json

PROBE = {"_target_": "ssl_runner.evaluator.probe.Probe", "l2": [0.1, 0.01]}
SETTINGS = {
    "choices": {"pretext": "rotation", "dataset": "shapes", "model": "convnet", "optimizer": "adamw", "device": "auto"},
    "pretext": {"_target_": "ssl_runner.pretext.rotation.Rotation", "copies": "all"},
    "dataset": {"_target_": "ssl_runner.dataset.shapes.Shapes", "images": 1000, "seed": 0},
    "model": {"_target_": "ssl_runner.model.convnet.ConvNet", "widths": [32, 64]},
    "optimizer": {"_target_": "ssl_runner.optimizer.adamw.AdamW", "lr": 0.001},
    "regulariser": {"_target_": "ssl_runner.regulariser.none.Nothing"},
    "device": {"name": "auto", "precision": "float32", "threads": None},
    "evaluator": {
        "knn": {"_target_": "ssl_runner.evaluator.knn.KNN", "every": "50%", "target": None, "k": 20},
        "probe": {"every": "50%", **PROBE},
    },
}
SETTINGS |= {"length": "20ep", "batch_size": 64, "log_every": "50st", "seed": 0}
ACCURACY, DESCRIPTION = {"better": "larger", "unit": "share"}, {"better": None, "unit": "number"}
SUMMARY = {
    "baseline": {"knn/top1": 0.3, "probe/top1": 0.4, "probe/l2": 0.001},
    "final": {"knn/top1": 0.7, "probe/top1": 0.8, "probe/l2": 1e-4, "test/knn/top1": 0.69, "test/probe/top1": 0.79},
    "best": {"knn/top1": 0.72, "probe/top1": 0.81},
    "headlines": ["knn/top1", "probe/top1"],
    "metrics": {
        **dict.fromkeys(("knn/top1", "probe/top1", "test/knn/top1", "test/probe/top1"), ACCURACY),
        **dict.fromkeys(("probe/l2", "geometry/rankme", "geometry/alignment"), DESCRIPTION),
        "held/loss": {"better": "smaller", "unit": "number"},
    },
    "protocols": {"knn": {"version": 1}, "probe": {"version": 2}},
}
SUMMARY |= {"status": "completed", "error": None, "step": 1400, "steps": 1400}
SUMMARY |= {"seconds": 100.0, "samples_per_second": 4321.0}
ENVIRONMENT = {"versions": {"python": "3.11.7", "torch": "2.14.0"}, "commit": "a" * 40, "dirty": False, "host": "one"}
ENVIRONMENT |= {"device": "cpu, float32, 2 threads", "dataset": "feed"}


def make_run(folder, top1=None, *, summary=None, environment=None, **config):
    """A run folder with a probe's accuracy; keys of the config as keywords, a mapping adds to the one that is there."""
    folder.mkdir(parents=True)
    final = {} if top1 is None else {"final": {"probe/top1": top1, "test/probe/top1": 0.79}}
    (folder / "summary.json").write_text(json.dumps(SUMMARY | final | (summary or {})))
    (folder / "config.yaml").write_text(json.dumps(merged(SETTINGS, config)) + "\n")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT | (environment or {})))
    return folder


def seeds(folder, name, values, **more):
    for seed, value in values.items():
        make_run(folder / f"{name}-{seed}", value, seed=seed, **more)


def several(folder):
    """Two groups of three seeds, one better than the other, and a run that was stopped."""
    seeds(folder / "runs", "a", {0: 0.80, 1: 0.82, 2: 0.81})
    seeds(folder / "runs", "b|c", {0: 0.60, 1: 0.61, 2: 0.615}, **pretext("flip"))
    make_run(folder / "runs/stopped", summary={"status": "stopped", "error": "collapsed | at step 4"})
    return folder / "runs"


def pretext(name, **more):
    return {"choices": {"pretext": name}, "pretext": {"_target_": f"ssl_runner.pretext.{name}.X", **more}}


def plain_run(**config):
    """A run of these settings that lies nowhere."""
    whole = merged(SETTINGS, config)
    known = {"choices": choices_of(whole), "settings": flat(whole), "seed": whole["seed"]}
    return Run(folder=Path(), name="", status="completed", **known)


def compared(folder, *words):
    runs, problems, broken = load_runs([folder])
    assert not problems + broken
    return compare(runs, *words)


def evaluated(run, value, **more):
    """A result of `ssl-runner evaluate`, in the way in which training measures as well."""
    row = {"protocol": "probe", "version": 2, "settings": PROBE, "dataset": "shapes", "fingerprint": "feed"}
    row |= {"split": "test", "seed": 0, "encoder": "encoder.safetensors", "step": 1400, "value": value}
    row |= {"values": {"top1": value, "note": None}, "metrics": {"top1": ACCURACY}, "time": "2026-01-31T12:00:00"}
    file = run / "evaluation" / "probe.json"
    before = read_json(file).get("results", [])
    write_json(file, {"protocol": "probe", "results": [*before, row | more]})


def logged(run, rows):
    """A log of a loss and a few accuracies, with a torn line at its end."""
    lines = [{"step": 10 * k, "epoch": 0.1, "time": 0.5 * k, "train/loss": 2.0 / (1 + k)} for k in range(rows)]
    lines += [{"step": 10 * k, "time": 0.5 * k, "probe/top1": 0.01 * k} for k in range(0, rows, max(1, rows // 4))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "tr')
