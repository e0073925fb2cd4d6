"""Shards: what of a tar becomes a sample, indexes, and the bounded cache. Nothing that is in them runs."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import tarfile
import threading

import numpy as np
import pytest
from shard_sets import picture, samples, tar, three_shards

from ssl_runner.data.shards.build import find_index
from ssl_runner.data.shards.cache import ShardCache
from ssl_runner.data.shards.fetch import Fetcher
from ssl_runner.data.shards.index import SAMPLE, parse_index, write_index
from ssl_runner.data.shards.location import Remote, locate
from ssl_runner.data.shards.parts import part_of
from ssl_runner.data.shards.tar import scan_tar


def fetcher(root, tmp_path, **keys) -> Fetcher:
    return Fetcher(locate(str(root)), ShardCache(tmp_path / "cache", 10**9), **keys)


def link(name: str, kind=tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


class Trap:
    def __reduce__(self):
        return os._exit, (1,)


def test_members_of_a_tar_are_grouped_and_what_is_no_file_is_left_out(tmp_path):
    trap = pickle.dumps(Trap())
    path = tar(
        tmp_path / "a.tar",
        [
            ("x/0.png", picture(3)),
            ("x/0.cls", b" 2\n"),
            ("x/0.pyd", trap),
            ("x/0.pth", trap),
            ("y/0.left.PNG", picture(4)),
            ("y/0.right.png", picture(5)),
            ("../../escape.png", picture(6)),
            ("/absolute.png", picture(7)),
            ("only.cls", b"1"),
            (link("link.png"), b""),
            (link("hard.png", tarfile.LNKTYPE), b""),
            (link("pipe.png", tarfile.FIFOTYPE), b""),
            (link("device.png", tarfile.CHRTYPE), b""),
            (link("folder", tarfile.DIRTYPE), b""),
            ("x/._0.png", b"of a Mac"),
            ("long.png", picture(8)),
            ("long.cls", b"9" * 5000),
        ],
    )
    scan = scan_tar(path, None, None)
    content = path.read_bytes()
    found = [content[place : place + size] for place, size in scan.places]
    assert found == [picture(number) for number in (3, 4, 6, 7, 8)]
    assert scan.labels == ["2", None, None, None, None]
    assert dict(scan.left_out) == {
        "further image of a sample": 1,
        "sample without image": 1,
        "hidden": 1,
        "link, device or sparse file": 4,
    }
    assert scan.pixels == (16, 16)
    assert not (tmp_path.parent / "escape.png").exists()
    chosen = scan_tar(path, "right.png", "pyd")
    assert [content[place : place + size] for place, size in chosen.places] == [picture(5)]


def test_damaged_tars_are_named_whatever_their_bytes(tmp_path):
    whole = tar(tmp_path / "whole.tar", samples(range(4))).read_bytes()
    path = tmp_path / "damaged.tar"
    rng = random.Random(0)
    path.write_bytes(whole[: whole.index(b"0002.png") + 600])
    with pytest.raises(ValueError, match="damaged"):
        scan_tar(path, None, None)
    member = tarfile.TarInfo("0.png")
    member.size = -512  # it would be followed by itself
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + whole)
    with pytest.raises(ValueError, match="damaged"):
        scan_tar(path, None, None)
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 3, 30))):
            content[rng.randrange(4096)] = rng.randrange(256)
        path.write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])
        with contextlib.suppress(ValueError):
            scan = scan_tar(path, None, None)
            assert all(0 <= place <= place + size <= path.stat().st_size for place, size in scan.places)


def test_the_part_of_a_shard_is_in_its_name():
    names = {
        "train-000000.tar": "train",
        "imagenet1k-validation-07.tar": "validation",
        "shard_3.tar": "train",
        "data/test-00000-of-00002.parquet": "test",
        "val/0001.tar": "validation",
        "unsup/train-0.tar": "train",
        "unlabeled-000001.tar": "unlabelled",
        "Training/A.arrow": "train",
        "test/x.tar": "test",
    }
    assert {name: part_of(name) for name in names} == names


def test_shards_without_an_index_get_one_that_is_kept_until_they_change(tmp_path, monkeypatch):
    root = three_shards(tmp_path / "set")
    index = find_index(fetcher(root, tmp_path))
    assert [shard.samples for shard in index.shards] == [8, 8, 8]
    assert index.classes == ("0", "1", "2")
    assert index.table["label"].tolist() == [i % 3 for i in range(24)]
    assert not (root / "index.json").exists(), "the folder of a data set may be read-only"
    with monkeypatch.context() as patch:
        patch.setattr("ssl_runner.data.shards.fetch.scan_tar", None)
        assert find_index(fetcher(root, tmp_path)).digest() == index.digest()
    tar(root / "train-000001.tar", samples(range(50, 58)))
    assert find_index(fetcher(root, tmp_path)).digest() != index.digest()


def test_labels_may_be_names_and_indexes_of_other_tools_are_passed_over(tmp_path):
    root = tmp_path / "set"
    tar(root / "a.tar", [("0.png", picture(1)), ("0.cls", b"owl"), ("1.png", picture(2)), ("1.cls", b"ant 10")])
    tar(root / "b.tar", [("2.png", picture(1)), ("2.cls", b"ant 9\x1b[2J"), ("3.png", picture(3))])
    (root / "index.json").write_text('{"chunks": [], "config": {}}')
    index = find_index(fetcher(root, tmp_path))
    assert index.classes == ("ant 9\\x1b[2J", "ant 10", "owl")
    assert index.table["label"].tolist() == [2, 1, 0, -1]


def test_damaged_and_missing_shards_are_named_together(tmp_path):
    root = three_shards(tmp_path / "set")
    index = find_index(fetcher(root, tmp_path))
    (root / "train-000000.tar").write_bytes(b"no tar at all" * 100)
    cut = (root / "train-000002.tar").read_bytes()[:9000]
    (root / "train-000002.tar").write_bytes(cut)
    with pytest.raises(ValueError, match=r"2 shards of .*train-000000.tar.*train-000002.tar"):
        find_index(fetcher(root, tmp_path))
    write_index(root, index)
    (root / "train-000001.tar").unlink()
    with pytest.raises(ValueError, match=r"3 shards .*000000.tar has 1,300 bytes of .*000001.tar is missing"):
        find_index(fetcher(root, tmp_path))


def parts(root):
    return [(root / name).read_bytes() for name in ("index.json", "index.npy")]


def test_an_index_says_no_more_than_it_may(tmp_path):
    """Whatever is changed in it, it is read as before, read as another one that is possible, or refused."""
    root = three_shards(tmp_path / "set")
    index = find_index(fetcher(root, tmp_path))
    write_index(root, index)
    described, table = parts(root)
    assert parse_index(described, table).digest() == index.digest()
    with pytest.raises(ValueError, match="damaged"):
        parse_index(described, table[:-1] + b"\1")

    def changed(change, rows=None):
        known = json.loads(described)
        content = table
        if rows is not None:
            file = io.BytesIO()
            np.save(file, rows, allow_pickle=True)
            content = file.getvalue()
            known["table"] = hashlib.sha256(content).hexdigest()
        change(known)
        return json.dumps(known).encode(), content

    for name in ("../up.tar", "/etc/x.tar", "a//b.tar", "http://x/y.tar", "c:\\x.tar", ".tar/..", "x", 3, "a\0.tar"):
        with pytest.raises(ValueError, match="name"):
            parse_index(*changed(lambda known, name=name: known["shards"][0].update(name=name)))
    for update in ({"samples": -1}, {"bytes": "x"}, {"part": "all"}, {"sha256": 3}, {"more": 1}, {"samples": 9}):
        with pytest.raises(ValueError, match=r"\w"):
            parse_index(*changed(lambda known, update=update: known["shards"][0].update(update)))
    for key in ("format", "classes", "pixels", "left_out", "table", "shards", "source"):
        with pytest.raises(ValueError, match=r"\w"):
            parse_index(*changed(lambda known, key=key: known.pop(key)))
    for field, value in (("place", -1), ("place", 10**9), ("bytes", 10**9), ("bytes", -5), ("label", 3), ("label", -2)):
        rows = index.table.copy()
        rows[field][5] = value
        with pytest.raises(ValueError, match=r"beyond|no classes"):
            parse_index(*changed(lambda known: None, rows))
    for rows in (np.array([Trap()] * 24, dtype=object), np.zeros(24), np.zeros((24, 1), SAMPLE)):
        with pytest.raises(ValueError, match=r"\w"):
            parse_index(*changed(lambda known: None, rows))
    with pytest.raises(ValueError, match="format"):
        parse_index(*changed(lambda known: known.update(format=99)))


def test_the_cache_stays_below_its_limit_and_keeps_what_was_used_last(tmp_path):
    cache, made = ShardCache(tmp_path, 350), []

    def get(key):
        file = cache.open(key, 100, lambda to: (made.append(key), to.write(key.encode() * 100)))
        content = os.pread(file, 1000, 0)
        os.close(file)
        assert content == key.encode() * 100
        os.utime(tmp_path / f"{key}.shard", ns=(len(made) * 1000, (clock := clock_of[0]) * 1000))
        clock_of[0] = clock + 1

    clock_of = [0]
    for key in "abcabcda":
        get(key)
    assert made == list("abcda"), "a was used least recently when d came"
    assert sorted(path.stem for path in tmp_path.glob("*.shard")) == ["a", "c", "d"]
    with pytest.raises(ConnectionError):
        cache.open("e", 100, lambda to: (to.write(b"half"), (_ for _ in ()).throw(ConnectionError())))
    assert not list(tmp_path.glob("*.half"))
    assert not (tmp_path / "e.shard").exists()


def test_a_shard_is_made_once_however_many_want_it(tmp_path):
    cache, made, gate = ShardCache(tmp_path, 10**6), [], threading.Barrier(4)

    def want():
        gate.wait()
        file = cache.open("k", 10, lambda to: (made.append(1), to.write(b"x")))
        os.close(file)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_urls_are_read_with_what_is_known_alone():
    for root in ("file:///etc", "zip://x::http://y", "reference://a", "ftp://a/b", "memory://x"):
        with pytest.raises(ValueError, match="possible are http"):
            locate(root)
    assert isinstance(locate("https://host/folder/"), Remote)
    with pytest.raises(FileNotFoundError, match="no folder"):
        locate("nowhere/at/all")
