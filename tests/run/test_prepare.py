"""What of a sweep's jobs is built when they are checked."""

from conftest import tiny

from ssl_runner.run.prepare import prepare_job
from ssl_runner.run.tried import Tried


def test_jobs_that_differ_in_other_settings_have_one_dataset(composer):
    """Listing a folder of a million images takes seconds."""
    tried, datasets = Tried(), []
    for words in (
        "optimizer.lr=0.1",
        "optimizer.lr=0.2",
        "optimizer.lr=0.2 dataset.seed=1",
        "seed=1 optimizer.lr=0.2 dataset.seed=1",
    ):
        job, problems = prepare_job(composer.compose(tiny(*words.split())), [], tried)
        assert job is not None, problems
        datasets.append(tried.dataset[1])
    first, second, third, fourth = datasets
    assert first is second is not third is fourth
    assert len(tried.jobs) == 3, "a job that differs in its seed alone is not built at all"
