"""Recordings: what is read of which tree or table, at any rate, cut and padded, told, refused and kept."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from runs import enter

from ssl_runner.contract import Samples
from ssl_runner.data.audio_files import plan
from ssl_runner.data.audio_files.decode import Header, cut_rows, read_wave, rows_of
from ssl_runner.data.check import check_data
from ssl_runner.dataset.audio_folder import AudioFolder
from ssl_runner.dataset.librispeech import LibriSpeech
from ssl_runner.dataset.manifest import Manifest
from ssl_runner.dataset.speech_commands import SpeechCommands
from ssl_runner.encoder.load import find_encoder
from ssl_runner.run_folder.atomic import read_json


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ssl_runner"


def tone(hertz=440.0, seconds=0.5, rate=8000):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path, wave=None, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(rate=rate) if wave is None else wave, rate)
    return path


def tree(root, names, **given):
    for number, name in enumerate(names):
        write(root / name, tone(200 + 10 * number))
    return AudioFolder(root=str(root), rate=8000, **given)


CLASSES = [f"{word}/{number}.wav" for word in ("yes", "no") for number in range(20)]


def test_class_folders_are_classes_and_shares_of_each_are_held_out(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    dataset = tree(tmp_path / "words", [*CLASSES, "README.txt"][:-1])
    (tmp_path / "words" / "notes.md").write_text("no recording")
    data = dataset.load()
    assert dataset.samples == Samples("audio", (1, 8000), rate=8000)
    assert not check_data(data, dataset.samples)
    assert data.classes == ("no", "yes")
    assert (len(data.train), len(data.validation.x), len(data.test.x)) == (dataset.rows, 4, 4)
    assert data.bank.x is data.train
    assert data.bank.y.bincount().tolist() == list(dataset.training_counts) == [16, 16]
    (said,) = [line.getMessage() for line in caplog.records if line.getMessage().startswith("recordings: ")]
    assert "train 32, test 4, validation 4" in said or "train 32, validation 4, test 4" in said
    assert "2 classes: no, yes; 40 files as clips of 1 s at 8,000 Hz" in said
    x = data.train[torch.arange(3)]
    assert (x.dtype, x.shape) == (torch.int16, (3, 1, 8000))
    assert x[:, :, :3900].any(2).all()
    assert not x[:, :, 4000:].any(), "what is short is padded with zeros"


def test_parts_by_name_keep_apart_what_they_hold(tmp_path):
    names = [f"{part}/{word}/{n}.wav" for part in ("train", "valid", "test") for word in ("a", "b") for n in range(3)]
    data = tree(tmp_path, [*names, "unlabeled/1.wav", "unlabeled/deep/2.wav"]).load()
    assert (len(data.train), len(data.bank.x), len(data.validation.x), len(data.test.x)) == (8, 6, 6, 6)
    with pytest.raises(ValueError, match="and no train/"):
        tree(tmp_path / "other", ["test/a/1.wav", "test/b/1.wav"])
    with pytest.raises(ValueError, match="labels c are of no training recording"):
        tree(tmp_path / "third", ["train/a/1.wav", "train/b/1.wav", "test/c/1.wav"])


def test_without_classes_shares_are_held_out_of_all(tmp_path):
    dataset = tree(tmp_path / "flat", [f"{n}.wav" for n in range(20)])
    data = dataset.load()
    assert (dataset.rows, len(data.train), len(data.validation.x), len(data.test.x)) == (16, 16, 2, 2)
    assert (data.bank, data.validation.y, data.test.y, data.classes) == (None, None, None, ())
    assert not check_data(data, dataset.samples)
    data = tree(tmp_path / "classes", CLASSES, labels=False, validation=0.0, test=0.0).load()
    assert (len(data.train), data.bank, data.validation, data.test) == (40, None, None, None)
    data = tree(tmp_path / "parts", [f"{part}/{n}.wav" for part in ("train", "valid") for n in range(9)]).load()
    assert (len(data.train), len(data.validation.x), len(data.test.x)) == (8, 9, 1)
    with pytest.raises(ValueError, match=r"beside the class folders .* dataset\.labels=false"):
        tree(tmp_path / "mixed", ["a/1.wav", "b/1.wav", "2.wav"])
    with pytest.raises(ValueError, match=r"beside the class folders \(valid/1.wav is one\); .* dataset\.labels=false"):
        tree(tmp_path / "bare", ["train/a/1.wav", "train/b/1.wav", "valid/1.wav", "unlabeled/1.wav"])


class Name(str):
    """Text that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)


def test_labels_and_speakers_are_not_looked_for_in_lists(monkeypatch):
    monkeypatch.setattr(plan, "read_header", lambda path: Header(8000, 8000, 1))
    n = 2000
    many = [plan.Recording(f"{each}.wav", "train", Name(each // 2), Name(each)) for each in range(n)]
    planned = plan.plan_clips(Path(), many, rate=8000, length=8000, shares={"test": 0.1, "validation": 0.1}, seed=0)
    assert planned.speaker.tolist() == [*range(n)]
    assert planned.y.tolist() == [each // 2 for each in range(n)]
    assert Name.compared < 20 * n


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_any_format_rate_and_number_of_channels_is_heard_alike(tmp_path, suffix):
    rate = 44100
    wave = np.stack([tone(440, 1.0, rate), np.zeros(rate, dtype=np.float32)], axis=1)
    read = read_wave(write(tmp_path / f"stereo.{suffix}", wave, rate), 8000)
    assert abs(len(read) - 8000) <= (0 if suffix in ("wav", "flac") else 400)
    middle = read[2000:6000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * 8000 / len(middle) == pytest.approx(440, abs=3)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.25 / 2**0.5, rel=0.05), "the mean of both channels"


def test_what_is_above_half_the_rate_is_not_folded_down(tmp_path):
    read = read_wave(write(tmp_path / "high.wav", tone(6000, 1.0, 16000), 16000), 8000)
    assert np.abs(read[1000:7000]).max() < 0.02


def test_long_recordings_are_rows_of_one_part(tmp_path):
    assert [rows_of(samples, 100) for samples in (1, 99, 100, 149, 150, 249, 250, 1000)] == [1, 1, 1, 1, 2, 2, 3, 10]
    wave = np.linspace(-1, 1, 250, dtype=np.float32)
    rows = cut_rows(wave, 100, 3)
    assert np.allclose(rows.flatten()[:250] / 32768, wave, atol=1e-4)
    assert not rows.flatten()[250:].any()
    for word in ("a", "b"):
        for number in range(10):
            write(tmp_path / word / f"{number}.wav", np.full(8000 * 3, 0.01 * (number + 1), dtype=np.float32))
    dataset = AudioFolder(root=str(tmp_path), rate=8000)
    data = dataset.load()
    assert (dataset.rows, len(data.validation.x), len(data.test.x)) == (48, 6, 6)
    level = {round(int(each) / 327.68) for each in data.test.x[torch.arange(6)][:, 0, 0]}
    assert len(level) <= 2, "three rows of each recording"


def test_empty_silent_and_broken_recordings_are_told_and_left_out(tmp_path, cache, caplog):
    caplog.set_level(logging.INFO)
    tree(tmp_path, CLASSES)
    write(tmp_path / "yes" / "empty.wav", np.zeros(0, dtype=np.float32))
    write(tmp_path / "no" / "silent.wav", np.zeros(4000, dtype=np.float32))
    write(tmp_path / "no" / "stereo.wav", np.zeros((4000, 2), dtype=np.float32) + 0.1, 16000)
    (tmp_path / "no" / "torn.wav").write_bytes(b"RIFF of nothing")
    data = AudioFolder(root=str(tmp_path), rate=8000).load()
    text = caplog.text
    assert sum(len(each) for each in (data.train, data.validation.x, data.test.x)) == 41
    for words in ("1 empty, and left out", "1 clip is silent", "1 of several channels", "1 of 16,000 Hz, resampled"):
        assert words in text
    assert "cannot read no/torn.wav" in text
    (note,) = map(read_json, cache.glob("*-8000hz-*.json"))
    assert len(note["silent"]) == 1, "no later run reads all rows to find them"
    assert AudioFolder(root=str(tmp_path), rate=8000).load().fingerprint == data.fingerprint
    with pytest.raises(ValueError, match=r"no/torn.wav .* type dataset\.max_broken=1"):
        AudioFolder(root=str(tmp_path), rate=8000, max_broken=0)


@pytest.mark.parametrize(("sample", "told"), [(30000, "values up to 3e+04"), (np.nan, "values up to nan")])
def test_floating_point_of_another_scale_is_broken(tmp_path, caplog, sample, told):
    tree(tmp_path, CLASSES)
    wave = tone()
    wave[100] = sample
    soundfile.write(tmp_path / "no" / "loud.wav", wave, 8000, subtype="FLOAT")
    AudioFolder(root=str(tmp_path), rate=8000).load()
    assert f"cannot read no/loud.wav (it has {told}; give [-1, 1], and no NaN): it is left out" in caplog.text


@pytest.mark.parametrize("cache", [True, False])
def test_recordings_whose_content_is_torn_are_broken_and_not_silent(tmp_path, caplog, cache):
    caplog.set_level(logging.INFO)
    names = [f"{number}.flac" for number in range(17)]
    for number, name in enumerate(names):
        file = write(tmp_path / "words" / name, tone(200 + 10 * number))
        if number < 14:  # the header is whole
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    told = "more than max_broken=10 recordings cannot be read: .* or type dataset.max_broken=14"
    for _ in range(2):  # decoded, and from the cache
        with pytest.raises(ValueError, match=told):
            AudioFolder(root=str(tmp_path / "words"), rate=8000, cache=cache).load()
    for _ in range(2):
        caplog.clear()
        more = {"max_broken": 14, "validation": 0.0, "test": 0.0}
        assert len(AudioFolder(root=str(tmp_path / "words"), rate=8000, cache=cache, **more).load().train) == 3
        assert caplog.text.count("it is left out") == 14
        assert "silent" not in caplog.text
    if cache:
        write(tmp_path / "words" / "0.flac", tone(200))
        data = AudioFolder(root=str(tmp_path / "words"), rate=8000, **more).load()
        assert len(data.train) == 4


def test_the_second_run_maps_what_the_first_one_decoded(tmp_path, cache, caplog):
    caplog.set_level(logging.INFO)
    first = tree(tmp_path / "words", CLASSES).load()
    assert "decoded 40 recordings" in caplog.text
    caplog.clear()
    second = AudioFolder(root=str(tmp_path / "words"), rate=8000).load()
    assert "mapped from" in caplog.text
    assert "decoded" not in caplog.text
    assert second.fingerprint == first.fingerprint
    (entry,) = cache.glob("words-8000hz-*.npy")
    entry.write_bytes(entry.read_bytes()[:1000])  # torn
    assert AudioFolder(root=str(tmp_path / "words"), rate=8000).load().fingerprint == first.fingerprint
    write(tmp_path / "words" / "no" / "3.wav", tone(999))
    changed = AudioFolder(root=str(tmp_path / "words"), rate=8000).load()
    assert changed.fingerprint != first.fingerprint
    assert len([*cache.glob("words-8000hz-*.npy")]) == 2
    memory = AudioFolder(root=str(tmp_path / "words"), rate=8000, cache=False).load()
    assert memory.fingerprint == changed.fingerprint


def test_a_table_of_fairseq_and_one_with_columns(tmp_path):
    for number in range(6):
        write(tmp_path / "sound" / f"{number}.wav", tone(200 + 50 * number))
    fairseq = tmp_path / "train.tsv"
    fairseq.write_text(f"{tmp_path / 'sound'}\n" + "".join(f"{n}.wav\t4000\n" for n in range(6)))
    data = Manifest(root=str(fairseq), rate=8000).load()
    assert (len(data.train), len(data.validation.x), len(data.test.x), data.bank) == (4, 1, 1, None)
    rows = [f"sound/{n}.wav\t{'ab'[n % 2]}\t{'xyz'[n // 2]}\t{'train' if n < 4 else 'test'}" for n in range(6)]
    table = tmp_path / "table.tsv"
    table.write_text("\n".join(["path\tword\twho\tsplit", *rows]))
    dataset = Manifest(root=str(table), rate=8000, label="word", speaker="who", validation=0.0)
    data = dataset.load()
    assert (data.classes, dataset.targets) == (("a", "b"), ("speaker",))
    assert (data.bank.y.tolist(), data.test.y.tolist()) == ([0, 1, 0, 1], [0, 1])
    assert (data.bank.targets["speaker"].tolist(), data.test.targets["speaker"].tolist()) == ([0, 0, 1, 1], [2, 2])
    with pytest.raises(ValueError, match=r"label: given wrod, and .* type dataset\.label="):
        Manifest(root=str(table), label="wrod")
    table.write_text("path\tsplit\nsound/0.wav\tlater\n")
    with pytest.raises(ValueError, match="line 2: the split is called 'later'"):
        Manifest(root=str(table))


def test_tables_as_others_write_them(tmp_path):
    """Excel's mark and line ends, a root with a comma, a line that a name breaks, empty labels; Latin-1 is refused."""
    names = ["a,b/1.wav", "a,b/c\u20282.wav", "a,b/3.wav", "a,b/4.wav", "a,b/5.wav", "a,b/6.wav"]
    for number, name in enumerate(names):
        write(tmp_path / name, tone(200 + 50 * number))
    whole = {"validation": 0.0, "test": 0.0, "rate": 8000}
    table = tmp_path / "table.csv"
    rows = "".join(f'"{name}",{label}\r\n' for name, label in zip(names, ["é", "é", "o", "o", "", " "], strict=True))
    table.write_bytes(f"path,label\r\n\r\n{rows}".encode("utf-8-sig"))
    data = Manifest(root=str(table), **whole).load()
    assert (data.classes, data.bank.y.tolist(), len(data.train)) == (("o", "é"), [1, 1, 0, 0], 6)
    table.write_text("path,label\n" + "".join(f'"{name}",\n' for name in names))
    data = Manifest(root=str(table), **whole).load()
    assert (data.classes, data.bank, len(data.train)) == ((), None, 6)
    table.write_text('path,label,split\n"a,b/1.wav",o,train\n\n"a,b/3.wav",,test\n')
    with pytest.raises(ValueError, match=r"line 4: the label is empty; fill it in, or call the split unlabelled"):
        Manifest(root=str(table), **whole)
    table.write_bytes("path,label\n1.wav,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"table\.csv is no UTF-8 .*; save it as UTF-8"):
        Manifest(root=str(table), **whole)
    table.write_text("a,b\n" + "".join(f"{Path(name).name}\t4000\n" for name in names))
    assert len(Manifest(root=str(table), **whole).load().train) == 6


def test_speech_commands_and_librispeech_are_read_as_they_are_unpacked(tmp_path):
    root = tmp_path / "commands"
    for word in ("yes", "no"):
        for speaker in range(4):
            write(root / word / f"{speaker:08x}_nohash_0.wav", rate=16000)
    write(root / "_background_noise_" / "hum.wav", rate=16000)
    with pytest.raises(FileNotFoundError, match=r"no validation_list\.txt"):
        SpeechCommands(root=str(root))
    (root / "validation_list.txt").write_text("yes/00000002_nohash_0.wav\nno/00000002_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("yes/00000003_nohash_0.wav\nno/00000003_nohash_0.wav\n")
    data = SpeechCommands(root=str(root)).load()
    assert (len(data.train), len(data.validation.x), len(data.test.x), data.classes) == (4, 2, 2, ("no", "yes"))
    assert data.validation.targets["speaker"].tolist() == [2, 2]
    root = tmp_path / "libri"
    for speaker in ("19", "103"):
        for number in range(10):
            write(root / "train-clean-100" / speaker / "198" / f"{speaker}-198-{number:04}.flac", rate=16000)
        (root / "train-clean-100" / speaker / "198" / f"{speaker}-198.trans.txt").write_text("WORDS")
    dataset = LibriSpeech(root=str(root), seconds=1.0)
    assert (dataset.load().classes, dataset.rows) == (("19", "103"), 16)
    with pytest.raises(FileNotFoundError, match=r"holds no dev-clean.*train-clean-100"):
        LibriSpeech(root=str(root), subsets=("dev-clean",))


def test_an_encoder_hears_other_recordings_at_its_own_rate(here, capsys):
    """`evaluate RUN dataset=audio_folder` and `init=RUN`: 8,000 samples are a second at 8 kHz and no half at 16 kHz."""
    for number, name in enumerate(CLASSES):
        write(here / "own" / name, tone(200 + 10 * number))
        write(here / "others" / name, tone(200 + 10 * number, rate=16000), 16000)
    small = "model.width=8 device=cpu batch_size=8 length=2st evaluator=none pretext=cpc dataset=audio_folder"
    enter(capsys, f"{small} dataset.root=own dataset.rate=8000 hydra.run.dir=run")
    source, others = find_encoder(Path("run")), AudioFolder(root="others", seconds=0.5)
    same = AudioFolder(root="own", rate=8000)
    assert others.samples.shape == same.samples.shape
    assert same.read_as(source.samples, {}) is same
    heard = others.read_as(source.samples, {})
    assert heard.samples == source.samples == Samples("audio", (1, 8000), rate=8000)
    assert heard.load().train[torch.arange(1)][0, 0, :4000].any()
    enter(capsys, "evaluate run knn dataset=audio_folder dataset.root=others evaluator.knn.k=3", "written to run")
    other = "and the encoder's 8,000 samples at 8,000 Hz; choose recordings"
    enter(capsys, "evaluate run knn dataset=utterances dataset.clips=40 dataset.seconds=0.5", other, status=2)
    told = "was trained at 8,000 Hz, and the dataset is at 16,000 Hz; type dataset.rate=8000"
    enter(capsys, f"{small} dataset.root=others init=run hydra.run.dir=new", told, status=2)
    enter(capsys, f"{small} dataset.root=others dataset.rate=8000 init=run hydra.run.dir=new")


def test_a_place_without_recordings_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset=utterances needs neither"):
        AudioFolder(root=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="no training recordings"):
        AudioFolder(root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="is no folder"):
        AudioFolder(root=str(write(tmp_path / "a.wav")))
