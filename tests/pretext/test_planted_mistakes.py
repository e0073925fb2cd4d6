"""Mistakes that others have made in methods of this family, each planted: tests of the suite fail.

Others stand beside what they concern: a key in its queue before its own loss (test_contrast.py), a coding rate with its
sign turned and rows of MMCR without unit length (test_many_views.py), TiCo's covariance outside its state
(test_redundancy_reduction.py), a prediction of global views left out (test_many_views.py), a gather without gradient or
of one rank (tests/promises/test_ranks.py).
"""

import pytest
import test_deepcluster
import test_joint_embedding as joint
import test_swav
import torch

from ssl_runner.layers.heads import UnitPrototypes
from ssl_runner.layers.k_means import k_means
from ssl_runner.pretext.dino import DINO

after_step, forward = DINO.after_step, UnitPrototypes.forward


def of_one_micro_batch(self, ctx, kept):
    after_step(self, ctx, {name: rows[: len(rows) // 4] for name, rows in kept.items()})


def of_another_count(self, ctx, kept):
    after_step(self, ctx, {name: rows / 2 for name, rows in kept.items()})


def with_bias(self, x):
    return forward(self, x) + torch.linspace(-1, 1, len(self.weight))


def unassigned(*given):
    centroids, clusters = k_means(*given)
    return centroids, torch.full_like(clusters, -1)


def teacher_of(name):
    return lambda: joint.test_a_teacher_starts_as_its_student_follows_it_and_keeps_its_own_statistics(
        *next(each for each in joint.TEACHERS if each[0] == name)
    )


def centre(make):
    joint.test_all_micro_batches_enter_the_queue_in_order_and_the_centre_at_once(
        "dino", "teacher_head", "pretext.local_views=1", make
    )


PEERS = {  # where the mistake is planted, what stands there, and the test that sees it
    **{
        f"the teacher of {name} is its student": (
            f"ssl_runner.pretext.{name}.frozen_copy",
            lambda x: x,
            teacher_of(name),
        )
        for name in ("moco_v2", "byol", "dino")
    },
    "a centre is of one micro-batch": ("ssl_runner.pretext.dino.DINO.after_step", of_one_micro_batch, centre),
    "a centre is divided by another count": ("ssl_runner.pretext.dino.DINO.after_step", of_another_count, centre),
    "prototypes have a bias": (
        "ssl_runner.layers.heads.UnitPrototypes.forward",
        with_bias,
        test_swav.test_swavs_collapse_costs_the_log_of_the_prototypes,
    ),
    "no row is assigned in the first epoch": (
        "ssl_runner.pretext.deepcluster_v2.k_means",
        unassigned,
        test_deepcluster.test_deepcluster_clusters_all_rows_at_the_start_of_an_epoch_and_changes_nothing_else,
    ),
}


@pytest.mark.parametrize(("place", "planted", "test"), PEERS.values(), ids=PEERS)
def test_a_mistake_that_others_made_is_seen(place, planted, test, make, monkeypatch):
    given = [make] if test is centre else []
    test(*given)
    monkeypatch.setattr(place, planted)
    with pytest.raises(AssertionError):
        test(*given)
