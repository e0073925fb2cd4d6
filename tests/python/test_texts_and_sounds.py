"""`features` and `ssl-runner embed` of texts and sounds: to the bit what the data sets and evaluators make of them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from runs import enter, put, refusal

from ssl_runner import features, load
from ssl_runner.__main__ import main
from ssl_runner.dataset.audio_folder import AudioFolder
from ssl_runner.dataset.text_folder import TextFolder
from ssl_runner.engine.encoding import CACHED_BATCH, Encoding

pytestmark = pytest.mark.usefixtures("here")
TEXTS = [f"{'The cow, ' * (number % 7)}is {number}: 牛!" for number in range(40)]
ONCE = ("length=1st", "batch_size=4", "evaluator=none")
RECORDINGS = {
    "a.wav": (0.6, 8000, 1),
    "b.wav": (1.0, 16000, 2),
    "c.flac": (2.7, 44100, 1),
    "deep/d.wav": (1.2, 8000, 2),
}


def trained(folder, *words):
    assert main([*ONCE, *words, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module", params=["words", "bytes"])
def texts(request, tmp_path_factory):
    """A run on texts, of which some are longer than its rows."""
    folder = tmp_path_factory.mktemp("texts")
    put(folder / "notes.txt", "\n".join(TEXTS))
    given = {"root": str(folder / "notes.txt"), "tokenizer": request.param, "length": 16}
    given |= {"validation": 0.0, "test": 0.0}
    words = (f"dataset.{key}={each}" for key, each in given.items())
    return trained(folder / "run", "pretext=mlm", "dataset=text_folder", *words), TextFolder(**given)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A run on recordings of several rates, lengths and numbers of channels."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for name, (seconds, rate, channels) in RECORDINGS.items():
        (folder / "recordings" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "recordings" / name, 0.1 * rng.normal(size=(int(seconds * rate), channels)), rate)
    given = {"root": str(folder / "recordings"), "rate": 8000, "labels": False, "cache": False}
    given |= {"validation": 0.0, "test": 0.0}
    words = (f"dataset.{key}={each}" for key, each in given.items())
    return trained(folder / "run", "pretext=cpc", "dataset=audio_folder", *words), AudioFolder(**given)


def encoded(encoder, rows):
    """As evaluators have the features of rows."""
    with torch.no_grad():
        return Encoding(encoder, encoder.samples, torch.device("cpu"))(rows)


def test_texts_have_the_features_of_the_data_sets_rows(texts):
    run, dataset = texts
    encoder, rows = load(run), dataset.load().train
    assert (rows[:, -1] != 0).any()
    assert (rows[:, -1] == 0).any(), "some are cut off and some are padded"
    wanted = encoded(encoder, rows)
    for given in (TEXTS, np.array(TEXTS), rows):
        assert torch.equal(features(encoder, given, batch_size=CACHED_BATCH), wanted)
    assert torch.equal(features(run, TEXTS), features(run, rows))
    assert features(run, []).shape == (0, encoder.dim)


def test_sounds_have_the_features_of_the_data_sets_clips(sounds):
    run, dataset = sounds
    encoder, files = load(run), [Path(dataset.root, name) for name in RECORDINGS]
    wanted = encoded(encoder, dataset.load().train)
    assert len(wanted) == 6, "the longest recording is three clips"
    wanted = torch.stack([wanted[0], wanted[1], wanted[2:5].mean(0), wanted[5]])
    waves = [soundfile.read(each) for each in files]
    for given in (files, [str(each) for each in files], [each.read_bytes() for each in files], waves):
        assert torch.equal(features(encoder, given), wanted)
    wave, rate = soundfile.read(files[0], dtype="int16")
    assert torch.equal(features(encoder, [(wave, rate)]), features(encoder, files[:1]))
    for size in (1, 2):  # a recording's clips are of one batch or of several
        assert torch.allclose(features(encoder, files, batch_size=size), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a text", r"give a list of them, as \['a text'\]"),
        ([Path("a.txt")], "PosixPath.*give strings; for files type ssl-runner embed"),
        (["a", None], "given None"),
        (["a", ""], "'' has no token"),
        (torch.zeros(16, dtype=torch.int64), r"texts: given shape \(16,\).*\(any number, 16\)"),
    ],
)
def test_texts_that_cannot_be_are_named(texts, given, words):
    with pytest.raises(ValueError, match=words):
        features(texts[0], given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([np.zeros(9)], r"given ndarray; give paths, contents of files, or pairs \(array, rate\)"),
        ([(np.zeros((1, 9)), 8000)], r"float64 of the shape \(1, 9\); .*\(n, channels\)"),
        ([(np.zeros(9, dtype=np.int64), 8000)], "int64"),
        ([(np.full(9, 99.0), 8000)], r"up to 99; give \[-1, 1\]"),
        ([(np.zeros(9), 8000)], "silent"),
        (torch.zeros(8000), r"sounds: given shape \(8000,\)"),
    ],
)
def test_sounds_that_cannot_be_are_named(sounds, given, words):
    with pytest.raises(ValueError, match=words):
        features(sounds[0], given)


def test_embed_writes_a_row_a_text_with_its_file_and_number(texts, capsys):
    run = texts[0]
    put("notes/a/lines.txt", "the cow\n\n  \nis not")
    put("notes/b.csv", 'text,other\n"one,\ntwo",plough\nthree,cow\n')
    put("notes/c.jsonl", '{"text": "four"}\nno json\n')
    message = enter(capsys, ["embed", str(run), "notes", "--to", "x.npz"], "4 texts of notes, 64 features each")
    assert "cannot be read: notes/c.jsonl, line 2" in message
    written = np.load("x.npz")
    assert [*zip(written["paths"].tolist(), written["numbers"].tolist(), strict=True)] == [
        ("a/lines.txt", 1), ("a/lines.txt", 4), ("b.csv", 1), ("b.csv", 2)
    ]  # fmt: skip
    assert np.array_equal(written["features"], features(run, ["the cow", "is not", "one,\ntwo", "three"]).numpy())
    parquet = pytest.importorskip("pyarrow.parquet")
    enter(capsys, ["embed", str(run), "notes/b.csv", "--text", "other", "--to", "x.parquet"], "2 texts")
    table = parquet.read_table("x.parquet").to_pydict()
    assert (table["path"], table["number"]) == (["b.csv", "b.csv"], [1, 2])
    assert np.array_equal(np.array(table["features"], dtype=np.float32), features(run, ["plough", "cow"]).numpy())
    put("book.txt", "\n".join(TEXTS))
    enter(capsys, ["embed", str(run), "book.txt", "--unit", "file", "--to", "x.npz"], "1 text of book.txt")
    enter(capsys, ["embed", str(run), "book.txt", "--unit", "chunk", "--to", "x.npz"])
    book = {"root": "book.txt", "unit": "chunk", "tokenizer": texts[1].tokenizer, "length": 16}
    pieces = TextFolder(**book, validation=0.0, test=0.0).load().train
    assert np.array_equal(np.load("x.npz")["features"], features(run, pieces).numpy())


def test_embed_writes_a_row_a_recording(sounds, capsys):
    run, dataset = sounds
    wanted = features(run, [Path(dataset.root, name) for name in RECORDINGS]).numpy()
    Path("out").symlink_to(dataset.root)
    enter(capsys, ["embed", str(run), "out", "--to", "x.npz"], "4 sounds of out, 64 features each")
    assert np.load("x.npz")["paths"].tolist() == [*RECORDINGS]
    assert np.array_equal(np.load("x.npz")["features"], wanted)
    for name in ("a.wav", "c.wav"):
        put(f"some/{name}", Path(dataset.root, "a.wav").read_bytes())
    put("some/broken.wav", "no sound")
    soundfile.write("some/silent.wav", np.zeros(100), 8000)
    message = enter(capsys, ["embed", str(run), "some", "--to", "x.npz"], "2 sounds", "2 cannot be read")
    assert all(words in message for words in ("broken.wav", "silent.wav (it is empty, or silent)"))
    assert np.load("x.npz")["paths"].tolist() == ["a.wav", "c.wav"]
    enter(capsys, ["embed", str(run), "some/c.wav", "--to", "x.npz"], "1 sound of some/c.wav")
    assert np.allclose(np.load("x.npz")["features"], wanted[:1], atol=1e-5)


def test_embed_refuses_what_is_of_another_kind(texts, sounds, capsys):
    put("empty/notes.md", "none")
    refusal(capsys, ["embed", str(texts[0]), "empty", "--to", "x.npz"], "PLACE: empty has no file of .txt")
    refusal(capsys, ["embed", str(sounds[0]), "empty", "--to", "x.npz"], "PLACE: empty holds no sounds")
    put("some/broken.wav", "no sound")
    refusal(capsys, ["embed", str(sounds[0]), "some", "--to", "x.npz"], "broken.wav", "not recognised")
    refusal(capsys, ["embed", str(sounds[0]), "some", "--unit", "file"], "--unit: is for texts")
    put("x.csv", "a,b\n1,2\n")
    refusal(capsys, ["embed", str(texts[0]), "x.csv", "--to", "x.npz"], "columns a, b", "--text COLUMN")
