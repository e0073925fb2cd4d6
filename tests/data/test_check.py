"""What a dataset's load() returns, held against the contract before a folder is made."""

from dataclasses import replace

import pytest
import torch
from modality_toys import Sentences, Tones
from runs import enter, put

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.check import READ, SAMPLED, check_data, with_fingerprint
from ssl_runner.data.rows import Subset

IMAGES = Samples("image", (3, 4, 4))
BYTES = torch.arange(60 * 48).remainder(251).to(torch.uint8).view(60, 3, 4, 4)
Y = torch.arange(20) % 2


def labelled(first: int, **changes) -> Split:
    return spoilt(Split(BYTES[first : first + 20], Y), **changes)


def spoilt(split, **changes):
    """With values that annotations forbid, which are checked in tests alone."""
    for name, value in changes.items():
        object.__setattr__(split, name, value)
    return split


def data(**changes) -> Data:
    bank, third = labelled(0), (0.5,) * 3
    sound = Data(bank.x, bank, labelled(20), labelled(40), third, third, ("a", "b"), "x")
    return spoilt(sound, **changes)


class Drawn:
    """Rows that are drawn anew at each request."""

    def __len__(self):
        return 50

    def __getitem__(self, index):
        return torch.rand(len(index), 3, 4, 4)


class Counted(Subset):
    asked = 0

    def __getitem__(self, index):
        Counted.asked += len(index)
        return super().__getitem__(index)


nan, half = BYTES[:20].float() / 255, torch.full((20,), 0.5)
nan[7, 0, 0, 0] = float("nan")
PROBLEMS = {  # what is changed, and the line
    "no Data": (None, "load() returned NoneType; return a ssl_runner.contract.Data"),
    "rows as a list": ({"train": [1, 2]}, "train: reading rows by an index of int64 raised TypeError"),
    "rows as an array": ({"train": BYTES.numpy()}, "train: 32 rows are ndarray; return a tensor (32, 3, 4, 4)"),
    "no rows": ({"train": None}, "train: given NoneType; give a tensor of rows, or Rows"),
    "no row": ({"train": BYTES[:0]}, "train: given no row"),
    "another shape": ({"train": BYTES.flatten(2)}, "train: 32 rows are (32, 3, 16); return a tensor (32, 3, 4, 4), as"),
    "integers of images": ({"train": BYTES.long()}, "train: given torch.int64; give torch.uint8, or floating point in"),
    "NaN": ({"train": nan}, "train: values from nan to nan; give 0 to 1, and no NaN"),
    "floats of bytes": ({"train": BYTES.float()}, "train: values from 0 to 250; give 0 to 1"),
    "rows at random": (
        {"train": Drawn()},
        "train: the same rows read again differ; what is random belongs to the views",
    ),
    "a tuple": ({"bank": (BYTES, Y)}, "bank: given tuple; return a ssl_runner.contract.Split, or None"),
    "rows of a split": ({"test": labelled(0, x=BYTES.long())}, "test.x: given torch.int64"),
    "shared rows": ({"train": BYTES, "validation": labelled(0, x=BYTES)}, "validation.x: the very rows that are"),
    "regression": (
        {"bank": labelled(0, y=half)},
        "bank.y: given torch.float32, no classes; for regression give y=None",
    ),
    "its remedy": ({"bank": labelled(0, y=half)}, "targets={'NAME': y}, and measure with evaluator.probe.target=NAME"),
    "several labels": (
        {"test": labelled(0, y=torch.ones(20, 3).long())},
        "test.y: given (20, 3), several labels a row",
    ),
    "and theirs": ({"test": labelled(0, y=torch.ones(20, 3).long())}, "targets={'NAME': y.bool()}"),
    "labels as a list": ({"bank": labelled(0, y=[0] * 20)}, "bank.y: given list; give a tensor of int64 (n,), or None"),
    "int32": ({"bank": labelled(0, y=Y.int())}, "bank.y: given torch.int32 of shape (20,); give int64 of shape (20,)"),
    "too few": ({"bank": labelled(0, y=Y[:19])}, "bank.y: given torch.int64 of shape (19,); give int64 of shape (20,)"),
    "from 1": ({"bank": labelled(0, y=Y + 1)}, "bank.y: classes 1 to 2, and Data.classes has 2 names; count from 0"),
    "below 0": ({"bank": labelled(0, y=Y - 1)}, "bank.y: classes -1 to 0"),
    "no classes": ({"classes": ()}, "bank.y: given, and Data.classes is empty; name the classes there"),
    "classes as numbers": ({"classes": (0, 1)}, "classes: given (0, 1); give names"),
    "mean": ({"mean": (0.5,)}, "mean: given (0.5,); give 3 finite numbers, one a channel"),
    "std": (
        {"std": (0.5, 0.0, float("nan"))},
        "std: given (0.5, 0.0, nan); give 3 finite numbers, one a channel, above",
    ),
    "fingerprint": ({"fingerprint": 3}, "fingerprint: given int; give text"),
    "short target": (
        {"test": labelled(0, targets={"z": half[:3]})},
        "test.targets['z']: given (3,); give a tensor of 20",
    ),
    "target of NaN": ({"test": labelled(0, targets={"z": half / 0 * 0})}, "test.targets['z']: holds NaN or infinity"),
    "target below 0": ({"test": labelled(0, targets={"z": Y - 1})}, "test.targets['z']: given torch.int64 of shape"),
    "tokens of a row": ({"test": labelled(0, tokens={"t": Y})}, "test.tokens['t']: given torch.int64 of shape (20,)"),
    "few tokens": (
        {"bank": labelled(0, tokens={"t": Y[:9, None]})},
        "bank.tokens['t']: given torch.int64 of shape (9",
    ),
    "tokens as a list": ({"bank": labelled(0, tokens={"t": [[0]] * 20})}, "bank.tokens['t']: given no tensor; give"),
    "tokens below -1": (
        {"bank": labelled(0, tokens={"t": Y[:, None] - 2})},
        "give signed integers (20, t) from 0",
    ),
    "0/1 labels": ({"test": labelled(0, targets={"z": torch.ones(20, 3).long()})}, "or bool (n, k) for several labels"),
}


@pytest.mark.parametrize(("changes", "line"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_the_contract_forbids_is_named(changes, line):
    found = check_data(changes and data(**changes), IMAGES)
    assert any(each.startswith(line) or line in each for each in found), found


def test_what_the_contract_allows_passes():
    assert check_data(data(), IMAGES) == []
    none = data(bank=None, validation=None, test=None, classes=(), fingerprint="")
    assert check_data(none, IMAGES) == []
    targets = {"z": half, "w": torch.ones(20, 3) > 0, "k": Y, "place": torch.rand(20, 2)}
    parts = {"phoneme": torch.arange(-1, 99).view(20, 5).to(torch.int8)}
    rows = dict(zip(("bank", "validation", "test"), BYTES[:60].split(20), strict=True))
    splits = {name: Split(x, None, targets, parts) for name, x in rows.items()}
    assert check_data(data(**splits, classes=()), IMAGES) == []
    assert check_data(data(train=BYTES.float() / 255), IMAGES) == []
    for toy in (Sentences(), Tones()):
        assert check_data(toy.load(), toy.samples) == []


def test_text_and_audio_have_ranges_of_their_own():
    sentences, tones = Sentences(), Tones()
    words, fewer = sentences.load(), sentences.samples._replace(vocabulary=9)
    assert "give 0 to 8" in check_data(words, fewer)[0]
    (line,) = check_data(replace(words, train=words.train.float()), sentences.samples)
    assert line == "train: given torch.float32; give integers"
    sounds = tones.load()
    loud = replace(sounds, train=sounds.train.float())
    assert "give -1 to 1" in check_data(loud, tones.samples)[0]


def test_few_rows_of_a_set_that_is_decoded_on_demand_are_read():
    rows = Counted(BYTES.repeat(100, 1, 1, 1), torch.arange(6000))
    assert check_data(data(train=rows), IMAGES) == []
    assert Counted.asked <= READ + 4


OWN = """
import torch
from ssl_runner.contract import Data, Samples, Split
class Own:
    samples, rows = Samples("image", (1, 8, 8)), 40
    def __init__(self, *, wrong: bool = True):
        self.wrong = wrong
    def load(self):
        x = torch.arange(60 * 64).remainder(255).to(torch.uint8).view(60, 1, 8, 8)
        y = torch.arange(60) % 2 + self.wrong
        bank, query = Split(x[:40], y[:40]), Split(x[40:], y[40:])
        return Data(bank.x, bank, query, None, (0.5,), (0.5,), ("a", "b"))
"""


def test_every_verb_that_reads_data_checks_it(here, monkeypatch, capsys):
    put("own_data.py", OWN)
    put("pyproject.toml", '[tool.ssl_runner]\ntrust = ["own_data"]\n')
    put("conf/dataset/own.yaml", "_target_: own_data.Own\nwrong: true\n")
    monkeypatch.syspath_prepend(str(here))
    tiny = "model=convnet_small model.widths=[8,8,8] pretext=rotation length=2st batch_size=8 device=cpu"
    line = f"--config-dir conf dataset=own {tiny} evaluator=[knn] evaluator.knn.k=3 hydra.run.dir=run"
    message = enter(capsys, line, "bank.y: classes 1 to 2", status=2)
    assert "validation.y: classes 1 to 2" in message
    assert not (here / "run").exists()
    enter(capsys, f"{line} dataset.wrong=false")
    enter(capsys, "evaluate run knn dataset.wrong=true --to elsewhere", "bank.y: classes 1 to 2", status=2)
    assert not (here / "elsewhere").exists()


class Decoded:
    """Rows that are decoded on demand."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_data_without_a_fingerprint_get_that_of_rows_and_labels(caplog):
    known = with_fingerprint(data(fingerprint=""))
    assert known.fingerprint == with_fingerprint(data(fingerprint="")).fingerprint
    others = {"test": labelled(40, y=1 - Y), "validation": labelled(20, x=BYTES[21:41])}
    digests = {with_fingerprint(data(fingerprint="", **{name: split})).fingerprint for name, split in others.items()}
    assert len({known.fingerprint, *digests}) == 3
    assert with_fingerprint(data()).fingerprint == "x"
    assert not caplog.text


def test_of_rows_that_are_decoded_on_demand_some_are_read_and_it_is_said(caplog):
    rows = torch.arange(2 * SAMPLED).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    lazy, shorter = (data(train=Decoded(each), bank=None, fingerprint="") for each in (rows, rows[:-1]))
    digest = with_fingerprint(lazy).fingerprint
    assert "it gives no fingerprint, and that of 1024 rows" in caplog.text
    assert digest != with_fingerprint(shorter).fingerprint
    rows[0] = 9
    assert digest != with_fingerprint(lazy).fingerprint
