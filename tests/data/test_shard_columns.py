"""Parquet and arrow shards as the hub stores images: columns, labels by name or number, damage."""

import json

import pytest
from image_trees import everything, red
from shard_sets import picture, shards

pa = pytest.importorskip("pyarrow", reason="parquet and arrow shards need the extra ssl-runner[shards]")
pq = pytest.importorskip("pyarrow.parquet")

WHOLE = {"validation": 0.0, "test": 0.0}
NAMES = {"info": {"features": {"img": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": ["owl", "ant"]}}}}


def table(numbers, labels=None, image="image", label="label", features=None):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": picture(i), "path": "../../etc/passwd"} for i in numbers], kind)
    columns = {"id": pa.array(list(numbers)), image: images}
    columns |= {} if labels is None else {label: pa.array(labels)}
    metadata = features and {"huggingface": json.dumps(features)}
    return pa.table(columns).replace_schema_metadata(metadata)


def arrow(path, content, stream=True):
    with (
        pa.OSFile(str(path), "wb") as file,
        (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, content.schema) as to,
    ):
        to.write_table(content, max_chunksize=5)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    return tmp_path / "set"


def test_parquet_and_arrow_of_the_hub_are_read_with_the_names_of_their_classes(tmp_path, root):
    names = {"image": "img", "label": "kind", "features": NAMES}
    pq.write_table(
        table(range(12), [i % 2 for i in range(12)], **names),
        root / "data" / "train-00000-of-00001.parquet",
        row_group_size=5,
    )
    arrow(root / "data" / "test-00000.arrow", table(range(50, 57), [0, 1, -1, None, 1, 0, 1], **names))
    arrow(root / "data" / "validation.arrow", table(range(60, 64), [1] * 4, **names), stream=False)
    data = shards(root, tmp_path / "cache").load()
    assert data.classes == ("owl", "ant")
    assert (red(data.bank.x), data.bank.y.tolist()) == (list(range(12)), [i % 2 for i in range(12)])
    assert (red(data.test.x), data.test.y.tolist()) == ([50, 51, 54, 55, 56], [0, 1, 1, 0, 1])
    assert (red(data.validation.x), data.validation.y.tolist()) == ([60, 61, 62, 63], [1] * 4)


def test_labels_are_a_column_that_is_called_so_or_that_is_typed(tmp_path, root):
    content = table(range(6), ["b", "a", "a", "b", "a", "b"])
    pq.write_table(content.append_column("score", pa.array([5, 3, 5, 3, 5, 3])), root / "a.parquet")
    assert shards(root, tmp_path / "cache", **WHOLE).load().classes == ("a", "b")
    assert shards(root, tmp_path / "cache", label_key="score", **WHOLE).load().bank.y.tolist() == [1, 0, 1, 0, 1, 0]
    for key in ("label_key", "image_key"):
        with pytest.raises(ValueError, match=rf"a.parquet.*no column x.*among id, image, label, score.*dataset.{key}"):
            shards(root, tmp_path / "cache", **{key: "x"})
    pq.write_table(pa.table({"pixels": ["a"]}), root / "a.parquet")
    with pytest.raises(ValueError, match=r"no column of images among pixels"):
        shards(root, tmp_path / "cache")


def test_files_without_labels_images_without_bytes_and_bytes_without_a_record(tmp_path, root, caplog):
    pq.write_table(table(range(4)), root / "a.parquet")
    pq.write_table(pa.table({"image": pa.array([picture(8), None, picture(9)], pa.binary())}), root / "b.parquet")
    data = shards(root, tmp_path / "cache").load()
    assert (red(data.train), data.bank) == ([0, 1, 2, 3, 8, 127, 9], None)
    assert "b.parquet, sample 1" in caplog.text


def test_shards_that_name_other_classes_and_damaged_ones_are_named(tmp_path, root):
    other = {"info": {"features": {"kind": {"names": ["ant", "owl"]}}}}
    for name, features in (("a", NAMES), ("b", other)):
        pq.write_table(table(range(4), [0, 1, 0, 1], "img", "kind", features), root / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"a.parquet and b.parquet name other classes"):
        shards(root, tmp_path / "cache")
    whole = (root / "a.parquet").read_bytes()
    (root / "b.parquet").write_bytes(whole[:-20])
    (root / "c.arrow").write_bytes(b"no arrow")
    with pytest.raises(ValueError, match=r"2 shards .*b.parquet.*c.arrow"):
        shards(root, tmp_path / "cache")


def test_what_was_unpacked_is_made_again_if_the_file_changes(tmp_path, root):
    sizes = []
    for first in (8, 50):
        numbers = list(range(first, first + 4))
        pq.write_table(table(numbers), root / "a.parquet", compression="none", use_dictionary=False)
        sizes.append((root / "a.parquet").stat().st_size)
        assert red(shards(root, tmp_path / "cache").load().train) == numbers
    assert sizes[0] == sizes[1]
    (kept,) = [path for path in (tmp_path / "cache").glob("*.shard") if picture(50) in path.read_bytes()]
    kept.write_bytes(kept.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"a.parquet .*unpacked of it is damaged"):
        everything(shards(root, tmp_path / "cache").load().train)
