"""dataset=shards: the images of shards as those of a folder, in parts, by URL, challenged, and trained on."""

import contextlib
import logging
import pickle
import shutil
import sys
import time
from collections import Counter
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from image_trees import everything, folder, paint_classes, red, require_disjoint
from safetensors.torch import load_file
from shard_sets import picture, samples, serve, shards, tar, three_shards

from ssl_runner.__main__ import main
from ssl_runner.command.pack import main as pack
from ssl_runner.data.check import check_data
from ssl_runner.data.order import epoch_order
from ssl_runner.data.rows import SAMPLED
from ssl_runner.data.shards.rows import AHEAD
from ssl_runner.duration import Duration
from ssl_runner.evaluator.geometry import Geometry

WHOLE = {"validation": 0.0, "test": 0.0}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def packed(tmp_path, *words):
    root = paint_classes(tmp_path / "images", ("ant", "bee", "cow"), each=20)
    assert pack([str(root), str(tmp_path / "set"), "--size", "0.01", *words]) == 0
    return root, tmp_path / "set"


def changes(folder):
    return sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*.*"))


def by_image(split):
    return sorted(zip(map(bytes, everything(split.x).flatten(1).numpy()), split.y.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_what_was_packed_is_what_the_folder_was(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet shards need the extra ssl-runner[shards]")
    root, at = packed(tmp_path, "--format", kind)
    dataset, of_folder = shards(at, tmp_path / "cache"), folder(root)
    data, expected = dataset.load(), of_folder.load()
    assert check_data(data, dataset.samples) == []
    assert (dataset.samples, dataset.training_counts) == (of_folder.samples, of_folder.training_counts)
    assert (dataset.rows, data.classes) == (len(data.train), expected.classes)
    assert data.train is data.bank.x
    for part in ("bank", "validation", "test"):
        assert by_image(getattr(data, part)) == by_image(getattr(expected, part))
    require_disjoint(data)
    few = shards(at, tmp_path / "cache", size=8).load()
    assert few.fingerprint != data.fingerprint == shards(at, tmp_path / "other").load().fingerprint
    rows = pickle.loads(pickle.dumps(data.train))
    index = epoch_order(rows, seeded(0))[:20]
    assert torch.equal(rows[index], data.train[index])


def test_parts_are_in_the_names_and_what_has_no_label_is_learnt_from_alone(tmp_path, caplog):
    tar(tmp_path / "set" / "train-0.tar", [*samples(range(6)), ("7.png", picture(7))])
    tar(tmp_path / "set" / "train-1.tar", samples(range(10, 40)))
    tar(tmp_path / "set" / "val" / "0.tar", [*samples(range(50, 53)), ("z.png", picture(90))])
    tar(tmp_path / "set" / "unlabelled.tar", [("8.png", picture(8))])
    caplog.set_level(logging.INFO, "ssl_runner")
    dataset = shards(tmp_path / "set", tmp_path / "cache", test=0.2)
    before = changes(tmp_path / "set")
    data = dataset.load()
    assert sorted(red(data.train)) == sorted([*red(data.bank.x), 7, 8])
    assert set(red(data.bank.x)) | set(red(data.test.x)) == {*range(6), *range(10, 40)}
    assert before == changes(tmp_path / "set"), "what is read stays as it is"
    assert (red(data.validation.x), data.validation.y.tolist()) == ([50, 51, 52], [2, 0, 1])
    assert len(data.test.x) == 6
    assert dataset.training_counts == [32]
    assert "uneven" in caplog.text
    assert "unlabelled 2 (1 shard), validation 3 (1 shard), test 6 (a share of train); 3 classes" in caplog.text
    alone = shards(tmp_path / "set", tmp_path / "cache", labels=False).load()
    assert (alone.bank, alone.validation, alone.classes, len(alone.train)) == (None, None, (), 38)
    tar(tmp_path / "measured" / "val-0.tar", samples(range(4)))
    with pytest.raises(FileNotFoundError, match="no training images"):
        shards(tmp_path / "measured", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no shards"):
        shards(tmp_path / "empty", tmp_path / "cache")


def test_other_images_have_another_fingerprint(tmp_path):
    three_shards(tmp_path / "set")
    before = shards(tmp_path / "set", tmp_path / "cache").load().fingerprint
    tar(tmp_path / "set" / "train-000001.tar", samples(range(50, 58)))
    assert shards(tmp_path / "set", tmp_path / "cache").load().fingerprint != before


def test_images_that_cannot_be_read_are_grey_and_named_by_their_shard(tmp_path, caplog):
    bad = [(f"{i}.png", b"no image" if i in (3, 5) else picture(i)) for i in range(8)]
    tar(tmp_path / "set" / "a.tar", bad)
    rows = shards(tmp_path / "set", tmp_path / "cache", size=16).load().train
    assert red(rows) == [0, 1, 2, 127, 4, 127, 6, 7]
    assert "a.tar, sample 3" in caplog.text
    with pytest.raises(ValueError, match=r"max_broken=1 .*sample 3.*sample 5"):
        shards(tmp_path / "set", tmp_path / "cache", size=16, max_broken=1).load()


@pytest.fixture
def server(tmp_path):
    for name in ("fsspec", "aiohttp", "braceexpand"):
        pytest.importorskip(name, reason=f"shards by URL need {name}, of the extra ssl-runner[shards]")
    three_shards(tmp_path / "set", (8,) * 12)
    with serve(tmp_path) as server:
        yield server


def test_shards_by_url_are_those_of_the_folder_and_are_downloaded_once(tmp_path, server, monkeypatch):
    here = shards(tmp_path / "set", tmp_path / "here", **WHOLE).load()
    for root in (f"{server.url}/set", server.url + "/set/train-{000000..000011}.tar"):
        cache = tmp_path / f"cache{len(root)}"
        server.asked.clear()
        server.forbidden = {"index.json"} if "{" in root else set()  # as of a store that may not be listed
        there = shards(root, cache, **WHOLE).load()
        assert torch.equal(everything(there.train), everything(here.train))
        assert {count for name, count in server.asked.items() if name.endswith(".tar")} == {1}
        assert len(list(cache.glob("*.shard"))) == 12
    assert there.fingerprint == here.fingerprint
    server.asked.clear()
    again = shards(root, cache, **WHOLE).load()
    assert torch.equal(everything(again.train), everything(here.train))
    assert not any(name.endswith(".tar") for name in server.asked), "a second run reads what the first one downloaded"


@pytest.fixture
def remote(tmp_path, server, monkeypatch):
    """60 images in 11 shards with an index, all of training, by URL; and the folder that is served."""
    monkeypatch.setattr("ssl_runner.data.shards.location.PAUSE", 0.0)
    root = paint_classes(tmp_path / "images", ("ant", "bee", "cow"), each=20)
    words = ["--size", "0.01", "--validation", "0", "--test", "0"]
    assert pack([str(root), str(tmp_path / "packed"), *words]) == 0
    server.shards = f"{server.url}/packed"
    server.asked.clear()
    return server


def downloaded(server):
    return {name for name in server.asked if name.endswith(".tar")}


def wait_for(condition):
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_parquet_by_url_is_downloaded_once_and_unpacked(tmp_path, server):
    pytest.importorskip("pyarrow", reason="parquet shards need the extra ssl-runner[shards]")
    packed(tmp_path / "other", "--format", "parquet", "--size", "0.001")
    here = shards(tmp_path / "other" / "set", tmp_path / "here").load()
    for indexed in (True, False):
        server.asked.clear()
        for _ in range(2):
            there = shards(f"{server.url}/other/set", tmp_path / f"cache{indexed}").load()
            assert torch.equal(everything(there.train), everything(here.train))
        wanted = {name: count for name, count in server.asked.items() if name.startswith("train")}
        assert wanted == {path.name: 1 for path in (tmp_path / "other" / "set").glob("train*")}
        assert len(list((tmp_path / f"cache{indexed}").glob("*.shard"))) >= len(wanted) > 1
        for name in ("index.json", "index.npy"):
            (tmp_path / "other" / "set" / name).unlink(missing_ok=True)


def test_braces_name_some_of_the_shards_of_an_index(tmp_path, remote):
    some = shards(remote.shards + "/train-{000002..000004}.tar", tmp_path / "cache", **WHOLE)
    (tmp_path / "some").mkdir()
    for i in (2, 3, 4):
        shutil.copy(tmp_path / "packed" / f"train-{i:06d}.tar", tmp_path / "some")
    same = shards(tmp_path / "some", tmp_path / "here", **WHOLE)
    assert torch.equal(everything(some.load().train), everything(same.load().train))
    assert len(downloaded(remote)) == 3


def test_the_next_shards_of_the_order_are_fetched_before_they_are_wanted(tmp_path, remote):
    dataset = shards(remote.shards, tmp_path / "cache", **WHOLE, shuffle=2)
    assert not downloaded(remote), "a config is checked by the index"
    train = dataset.load().train
    assert len(downloaded(remote)) == SAMPLED, "what is measured of all are images of a few shards"
    assert len(train.stretches.sizes) == 11
    for seed in range(99):
        order = epoch_order(train, seeded(seed))
        came = list(dict.fromkeys(train.stretches.of_rows(order).tolist()))
        names = [f"train-{number:06d}.tar" for number in came]
        if not downloaded(remote) & {*names[:3]}:
            break
    first = order[:1]
    train[first]
    assert wait_for(lambda: downloaded(remote) >= {*names[:3]})
    assert len(downloaded(remote)) <= SAMPLED + 3
    got = torch.cat([train[batch] for batch in order[len(first) :].split(7)])
    assert torch.equal(got, everything(train)[order[len(first) :]])
    assert {remote.asked[name] for name in downloaded(remote)} == {1}
    assert len(downloaded(remote)) == 11


def test_a_process_that_reads_knows_the_order_that_another_one_draws(tmp_path):
    _, at = packed(tmp_path)
    rows = shards(at, tmp_path / "cache", shuffle=2).load().train
    other = pickle.loads(ForkingPickler.dumps(rows))
    order = epoch_order(rows, seeded(0))
    came = list(dict.fromkeys(rows.stretches.of_rows(order).tolist()))
    assert other.rows.shelf.after(came[:1], in_order=False) == came[1 : 1 + AHEAD]
    assert other.rows.shelf.after(came, in_order=False) == []
    assert torch.equal(other[order[:9]], rows[order[:9]])


def test_a_download_that_is_cut_off_is_tried_again_and_never_taken_as_whole(tmp_path, remote):
    cache = tmp_path / "cache"
    rows = shards(remote.shards, cache, **WHOLE).load().train
    wanted = ({f"train-{i:06d}.tar" for i in range(11)} - downloaded(remote)).pop()
    remote.failures[wanted] = 2
    assert len(everything(rows)) == 60
    assert remote.asked[wanted] == 3
    rows = shards(remote.shards, tmp_path / "other", **WHOLE).load().train
    remote.failures[wanted] = 3
    with pytest.raises(ConnectionError, match=wanted):
        everything(rows)
    assert wait_for(lambda: not list((tmp_path / "other").glob("*.half")))
    assert len(everything(rows)) == 60, "a later request tries again"


def flipped(path):
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)


SPOILT = {  # what is done to a shard on the server, and what is raised
    "another checksum": (flipped, ValueError),
    "bytes arrived": (lambda path: path.write_bytes(path.read_bytes() + b"more"), ConnectionError),
    "is missing": (lambda path: path.unlink(), FileNotFoundError),
}


@pytest.mark.parametrize("problem", SPOILT)
def test_what_is_not_as_the_index_says_is_named(tmp_path, remote, problem):
    spoil, error = SPOILT[problem]
    rows = shards(remote.shards, tmp_path / "cache", **WHOLE).load().train
    wanted = min({f"train-{i:06d}.tar" for i in range(11)} - downloaded(remote))
    spoil(tmp_path / "packed" / wanted)
    with pytest.raises(error, match=f"{wanted}.*{problem}"):
        everything(rows)


def test_the_cache_is_bounded_and_shards_that_were_removed_are_fetched_again(tmp_path, remote):
    size = max(path.stat().st_size for path in (tmp_path / "packed").glob("*.tar"))
    few = {"cache_size": 6.5 * size / 1e9} | WHOLE
    with pytest.raises(ValueError, match=r"cache_size: .*smaller shuffle"):
        shards(remote.shards, tmp_path / "cache", **few)
    rows = shards(remote.shards, tmp_path / "cache", **few, shuffle=2).load().train
    expected = everything(shards(tmp_path / "packed", tmp_path / "x", **WHOLE).load().train)
    for epoch in range(3):
        order = epoch_order(rows, seeded(epoch))
        for batch in order.split(8):
            assert torch.equal(rows[batch], expected[batch])
            kept = 0
            for path in list((tmp_path / "cache").glob("*.shard")):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile, as shards are read ahead
                    kept += path.stat().st_size
            assert kept <= 6.5 * size
    assert 11 < sum(remote.asked[name] for name in downloaded(remote)) < 11 * 5


def test_rows_of_all_shards_at_once_are_read_from_each_once_and_geometry_looks_at_a_few(tmp_path, remote):
    size = max(path.stat().st_size for path in (tmp_path / "packed").glob("*.tar"))
    dataset = shards(remote.shards, tmp_path / "cache", cache_size=6.5 * size / 1e9, shuffle=2, **WHOLE)
    rows, before = dataset.load().train, Counter(remote.asked)
    order = torch.randperm(len(rows), generator=seeded(0))
    expected = everything(shards(tmp_path / "packed", tmp_path / "x", **WHOLE).load().train)
    assert torch.equal(rows[order], expected[order])
    asked = Counter(remote.asked) - before
    assert max(asked[name] for name in downloaded(remote)) == 1
    geometry = Geometry(every=Duration.parse("1ep"), augment=None, train=rows, sample=dataset.samples, samples=16)
    assert len(rows.stretches.of_rows(geometry.draw_rows()).unique()) <= SAMPLED


def test_what_a_missing_library_is_called_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ssl-runner\[shards\]'"):
        shards("https://host/set", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ssl-runner\[shards\]'"):
        shards(tmp_path / "set", tmp_path / "cache")


def test_views_are_cut_of_larger_rows_of_the_same_order(tmp_path):
    _, at = packed(tmp_path)
    dataset = shards(at, tmp_path / "cache", size=8, stored=12, shuffle=2)
    data = dataset.load()
    assert dataset.stored_samples.shape == (3, 12, 12)
    assert check_data(data, dataset.samples) == []
    assert data.stored[torch.arange(2)].shape == (2, 3, 12, 12)
    orders = [epoch_order(rows, seeded(0)) for rows in (data.train, data.stored)]
    assert torch.equal(*orders)
    assert not torch.equal(orders[0], torch.randperm(len(data.train), generator=seeded(0)))
    with pytest.raises(ValueError, match=r"dataset.stored=16"):
        shards(at, tmp_path / "cache", size=8, stored=6)


def test_challenges_change_shards_as_they_change_a_folder(tmp_path):
    root, at = packed(tmp_path)
    for settings in ({"subset": 0.5}, {"corrupt": "noise"}, {"imbalance": 5.0, "label_noise": 0.5}):
        dataset = shards(at, tmp_path / "cache", **settings)
        data = dataset.load()
        assert check_data(data, dataset.samples) == []
        assert dataset.rows == len(data.train) == folder(root, **settings).rows
        assert data.fingerprint != shards(at, tmp_path / "cache").load().fingerprint


def test_a_run_on_shards_resumes_to_the_bit(tmp_path, monkeypatch):
    """Interrupted in the midst of an epoch, with rows that are fetched batch by batch from a window of two shards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ssl_runner.engine.loader.RESIDENT_BYTES", 10)
    packed(tmp_path)
    words = ["dataset=shards", "dataset.root=set", "dataset.shuffle=2", "dataset.workers=1", "batch_size=7"]
    words += ["pretext=rotation", "device=cpu", "model=convnet_small", "model.widths=[8,8,8]", "evaluator=none"]
    words += ["save_every=4st", "keep=9", "log_every=2st"]
    assert main([*words, "length=10st", "hydra.run.dir=whole"]) == 0
    assert main([*words, "length=10st", "hydra.run.dir=cut"]) == 0
    for late in ("8", "10"):
        next((tmp_path / "cut" / "checkpoints").glob(f"*{late}.pt")).unlink()
    assert main(["resume", "cut"]) == 0
    weights = [load_file(tmp_path / run / "encoder.safetensors") for run in ("whole", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
