"""What a run does once its features have collapsed: on_collapse is warn or stop."""

from conftest import tiny
from runs import saved, summary
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_runner.__main__ import main
from ssl_runner.run_folder.metrics import read_rows

COLLAPSE = tiny(
    *("pretext=byol", "pretext.predictor=false", "pretext.momentum=0", "pretext.hidden=32", "pretext.out=16"),
    *("evaluator=[geometry]", "evaluator.geometry.views=2", "evaluator.geometry.samples=64", "show_every=100%"),
    *("length=40st", "evaluator.geometry.every=8st", "optimizer.warm_up=0st", "optimizer.lr=0.01", "hydra.run.dir=run"),
)


def test_warn_goes_on_and_tensorboard_has_the_verdict(here, capsys):
    assert main(COLLAPSE) == 0
    done = summary(here / "run")
    assert (done["status"], done["step"]) == ("completed", 40)
    health = done["health"]
    assert (health["verdict"], health["kind"], health["remedy"]) == ("collapsed", "complete", "pretext.predictor=true")
    assert (done["baseline"]["geometry/health"], done["final"]["geometry/health"]) == (2, 0)
    assert "collapsed (complete) at step" in capsys.readouterr().out
    assert "WARNING collapsed (complete)" in (here / "run/run.log").read_text()
    events = EventAccumulator(str(here / "run"), size_guidance={"tensors": 0, "scalars": 0}).Reload()
    texts = [each.tensor_proto.string_val[0].decode() for each in events.Tensors("health/text_summary")]
    assert any(text.startswith("collapsed (complete) at step") for text in texts)
    assert [each.value for each in events.Scalars("geometry/health")][-1] == 0


def test_stop_stops_and_so_does_its_resumption(here, capsys):
    folder = here / "run"
    assert main([*COLLAPSE, "on_collapse=stop"]) == 3
    done, said = summary(folder), capsys.readouterr().out
    assert done["status"] == "stopped"
    assert 0 < done["step"] < 40
    assert saved(folder)[-1] == done["step"]
    assert done["health"]["verdict"] == "collapsed"
    for words in ("type pretext.predictor=true", "ssl-runner resume run on_collapse=warn"):
        assert words in said
    assert "on_collapse" not in (done["error"] or "")
    rows = read_rows(folder / "metrics.jsonl")

    assert main(["resume", "run"]) == 3
    again = summary(folder)
    assert (again["health"], again["step"]) == (done["health"], done["step"])
    assert read_rows(folder / "metrics.jsonl") == rows, "nothing was learnt or measured again"
    assert "type pretext.predictor=true" in capsys.readouterr().out

    assert main(["resume", "run", "on_collapse=warn"]) == 0
    assert summary(folder)["status"] == "completed"


def test_no_geometry_no_verdict(here, capsys):
    assert main(tiny("evaluator=none", "length=2st", "hydra.run.dir=run")) == 0
    capsys.readouterr()
    assert summary(here / "run")["health"] is None
    assert main(tiny("evaluator=none", "length=2st", "on_collapse=stop", "hydra.run.dir=other")) == 2
    assert "type evaluator=[geometry]" in capsys.readouterr().err
