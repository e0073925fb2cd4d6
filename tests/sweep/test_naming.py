"""Names of a sweep's folders: what its jobs differ in, to be read."""

import pytest

from ssl_runner.sweep.naming import slug


@pytest.mark.parametrize(
    ("job", "other", "name"),
    [
        (["pretext=simclr", "optimizer.lr=0.003", "seed=1"], ["pretext=byol", "optimizer.lr=1", "seed=2"], None),
        (["evaluator.knn.k=3", "a.k=4"], ["evaluator.knn.k=4", "a.k=5"], "knn.k-3-a.k-4"),
        (["seed=0", "dataset.seed=3"], ["seed=1", "dataset.seed=4"], "seed-0-dataset.seed-3"),
        (["model.widths=[8, 16]", "shift=-1"], ["model.widths=[8]", "shift=1"], "widths-8-16-shift--1"),
        (["dataset.root=/a b/../c"], ["dataset.root='d'"], "root--a-b-..-c"),
        (["regulariser=none"], ["regulariser=l2"], "regulariser-none"),
        (["augment@pretext.augment=crop"], ["augment@pretext.augment=simclr"], "crop"),
        (["+x=ü"], ["+x=ö"], "x"),
        (["~optimizer.clip"], ["seed=1"], "clip"),
        (["a=1"], ["a=1"], "job"),
    ],
)
def test_folders_of_a_sweep_have_names_to_read(job, other, name):
    assert slug(job, {*job} & {*other}) == (name or "simclr-lr-0.003-seed-1")


def test_a_long_name_keeps_something_of_every_setting():
    job = ["dataset.root=" + "long/" * 40, "model=convnet", "optimizer.weight_decay=0.0001", "seed=12"]
    name = slug(job, {"a=1"})
    assert len(name) <= 60
    assert name.startswith("root-long-long")
    assert name.endswith("-convnet-weight_decay-0.0001-seed-12")
