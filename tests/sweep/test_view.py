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


def test_the_best_so_far_is_that_of_the_table():
    """By kNN, which running jobs have as well, until a job has what the table ranks by."""
    finals = {"000-a": {"knn/top1": 0.9, "probe/top1": 0.5}, "001-b": {"knn/top1": 0.5, "probe/top1": 0.75}}
    jobs = [Entry(number=0, overrides=[], folder=name, status="completed", final=each) for name, each in finals.items()]
    running = Entry(number=2, overrides=[], folder="002-c", status="running", final={"knn/top1": 0.8})
    bare = Entry(number=1, overrides=[], folder="001-b", status="completed", final={"knn/top1": 0.5})
    for ranked, entries, best in (
        (("probe/top1", "knn/top1"), [*jobs, running], "probe/top1 0.75 (001-b)"),
        (("probe/top1", "knn/top1"), [running], "knn/top1 0.8 (002-c)"),
        (("probe/top1", "knn/top1"), [*jobs, bare, bare, running], "knn/top1 0.9 (000-a)"),
        ((), [*jobs, running], "knn/top1 0.9 (000-a)"),
    ):
        view = View(Console(file=io.StringIO()), "knn/top1", False, ranked)
        view.show(entries)
        assert f"the best so far has {best}" in str(view.live.status), "what is typed counts for more"


def test_a_metric_that_nobody_asked_for_is_not_missed():
    probed = {"probe/top1": 0.75, "probe/top5": 0.9}
    assert shown(probed, ranked=("probe/top1",))[2:] == [], "the table ranks by what there is"
    assert shown(probed)[2:] == ["no job has knn/top1; possible are probe/top1, probe/top5"], "it was typed"
