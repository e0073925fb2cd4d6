"""What a sweep shows of its jobs: the number that its table ranks by, once there is one."""

import io

from rich.console import Console

from ssl_runner.sweep.ledger import Entry
from ssl_runner.sweep.view import View


def shown(final, status="completed", **more):
    out = io.StringIO()
    job = Entry(number=0, overrides=[], folder="000-a", status=status, seconds=3.0, final=final)
    view = View(Console(file=out, width=200), "knn/top1", False, **more)
    view.show([job], job)
    view.conclude([job])
    return out.getvalue().splitlines()


def test_a_job_that_has_ended_shows_what_the_table_ranks_by():
    both = {"knn/top1": 0.5, "probe/top1": 0.75}
    assert shown(both, ranked=("probe/top1",))[0] == "[1/1] 000-a: completed, 3 s, probe/top1 0.75"
    assert shown(both, ranked=("probe/top1",))[1] == "000-a  completed  3 s  probe/top1 0.75"
    assert shown({"knn/top1": 0.5}, ranked=("probe/top1",))[0].endswith("knn/top1 0.5")
    assert shown(both)[1].endswith("knn/top1 0.5"), "of a search, what it goes by"
    assert shown(both, status="failed", ranked=("probe/top1",))[1].endswith("knn/top1 0.5")


def test_a_metric_that_nobody_asked_for_is_not_missed():
    probed = {"probe/top1": 0.75, "probe/top5": 0.9}
    assert shown(probed, ranked=("probe/top1",))[2:] == [], "the table ranks by what there is"
    assert shown(probed)[2:] == ["no job has knn/top1; possible are probe/top1, probe/top5"], "it was typed"
