"""DeepCluster-v2: the loss by its formula, what a sweep assigns and leaves alone, and labels of other rows."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toys import SHAPE, Conv, batch, colours, context, number, sweep_of

from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch
from ssl_runner.pretext.deepcluster_v2 import DeepClusterV2


def task(**settings) -> DeepClusterV2:
    torch.manual_seed(0)
    small = {"hidden": 16, "out": 8, "prototypes": 6, "rows": 40, "local_views": 3}
    views = {"augment": Views(scale=(0.5, 1.0)), "augment_local": Views(scale=(0.2, 0.5))}
    return DeepClusterV2(**{"encoder": Conv(), "shape": SHAPE, **views, **small, **settings}).train()


def test_deepclusters_loss_is_the_cross_entropy_of_a_samples_cluster_in_each_clustering():
    pretext = task()
    pretext.assignments.random_(6)
    views = pretext.views(Batch(batch().x, torch.arange(39, 31, -1)), context())
    assert torch.equal(views[2], pretext.assignments[32:].flip(0))
    loss = pretext(views)
    z = F.normalize(pretext.projector(torch.cat([pretext.encoder(view).pooled for view in views[:2]])), dim=1)
    terms = [
        -(z[v * 8 + i] @ pretext.centroids[h].T / 0.1).log_softmax(0)[views[2][i, h]]
        for h in range(3)
        for v in range(5)
        for i in range(8)
    ]
    torch.testing.assert_close(loss.value, torch.stack(terms).mean())
    order = torch.randperm(6)
    pretext.centroids.copy_(pretext.centroids[:, order])  # clusters by other names
    torch.testing.assert_close(pretext((*views[:2], order.argsort()[views[2]])).value, loss.value)
    pretext.centroids.copy_(pretext.centroids[:, :1].expand_as(pretext.centroids).clone())
    assert number(pretext(views).value) == pytest.approx(math.log(6), rel=1e-5)


@torch.no_grad()
def test_deepcluster_clusters_all_rows_at_the_start_of_an_epoch_and_changes_nothing_else():
    pretext = task(augment=Views(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0))
    before = {name: each.clone() for name, each in pretext.state_dict().items()}
    ctx = replace(context(step=10), sweep=sweep_of(40, 20))
    pretext.before_step(replace(ctx, step=ctx.step + 3))  # in the midst of an epoch
    assert all(torch.equal(each, before[name]) for name, each in pretext.state_dict().items())
    pretext.before_step(ctx)
    changed = {name for name, each in pretext.state_dict().items() if not torch.equal(each, before[name])}
    statistics = {name for name in before if "running" in name or name.endswith("num_batches_tracked")}
    assert changed - statistics == {"centroids", "assignments"}  # a learner's own sweep keeps the statistics as well
    z = torch.cat([pretext.projector(pretext.encoder(part.x).pooled) for part in ctx.sweep()])
    nearest = torch.einsum("nd,hkd->nhk", F.normalize(z, dim=1), pretext.centroids).argmax(2)
    assert torch.equal(pretext.assignments, nearest)
    assert not torch.equal(pretext.assignments[:, 0], pretext.assignments[:, 1])  # from other first centroids
    saved = copy.deepcopy(pretext.state_dict())
    pretext.before_step(replace(context(step=10), sweep=ctx.sweep))
    assert all(torch.equal(each, saved[name]) for name, each in pretext.state_dict().items() if name not in statistics)


@torch.no_grad()
def test_deepcluster_takes_a_row_left_over_and_goes_on_with_fewer_rows():
    pretext = task()
    pretext.before_step(replace(context(), sweep=sweep_of(40)))  # 13 + 13 + 13 + 1
    fewer = task(rows=30)
    fewer.load_state_dict(pretext.state_dict())
    assert torch.equal(fewer.centroids, pretext.centroids)
    assert fewer.assignments.shape == (30, 3)


@pytest.mark.parametrize("mistake", [False, True])
def test_deepcluster_finds_what_views_share_unless_labels_are_of_other_rows(mistake):
    crops = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
    pretext = task(augment=crops, augment_local=crops, hidden=32, rows=64)
    optimizer = torch.optim.Adam(pretext.parameters(), 1e-2)
    for number_of in range(60):
        ctx = replace(context(step=number_of), sweep=sweep_of(64, 32))
        with torch.no_grad():
            pretext.before_step(ctx)
        index = torch.arange(64)[number_of % 2 :: 2]
        views = pretext.views(Batch(colours(0, 64)[index.roll(int(mistake))], index), ctx)
        optimizer.zero_grad()
        loss = pretext(views)
        loss.value.backward()
        optimizer.step()
    assert (number(loss.metrics["accuracy"]) > 0.6) != mistake, loss.metrics
