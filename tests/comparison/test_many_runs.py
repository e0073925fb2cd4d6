"""Run folders made from one: groups of five seeds, of which a page is small and soon written."""

import time

from comparison_toys import compared, logged, make_run
from many_runs import spread
from test_confusions import matrix

from ssl_runner.comparison.export import page_content, to_html


def test_groups_of_five_seeds_are_a_page_that_says_nothing_twice(tmp_path):
    run = make_run(tmp_path / "run", 0.6, pretext={"augment": {"blur": 0.0}})
    logged(run, 60)
    (run / "metrics.jsonl").write_text(run.joinpath("metrics.jsonl").read_text().rpartition("\n")[0] + "\n")
    matrix(run / "evaluation/probe/test-training", [6, 4, 0], [0, 9, 1], [0, 0, 5])
    spread(run, tmp_path / "many", 100)
    comparison = compared(tmp_path / "many")
    assert [len(group.runs) for group in comparison.groups].count(5) == 18, "of the other two a run did not complete"
    assert {run.status for run in comparison.unfinished} <= {"failed", "stopped", "interrupted"}
    assert 5 < len(page_content(comparison)["confusions"]) < 20
    began = time.process_time()
    html = to_html(comparison)
    assert time.process_time() - began < 5  # 0.3 s
    content = page_content(comparison)
    assert "dataset.images" in content["shared"]
    assert "optimizer.lr" in content["runs"][0]["configuration"]
    assert not any(content["shared"].keys() & run["configuration"].keys() for run in content["runs"])
    assert {len(run["metrics"]) for run in content["runs"]} == {len(content["names"])}
    assert len(html) < 100 * 3_500 + 70_000
