"""Challenges of data: fewer rows, a long tail, corrupted images, missing parts, wrong labels; and what stays clean."""

import pickle
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import pytest
import torch
from conftest import in_turn
from image_trees import everything, folder, keys, paint, paint_classes

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data import changed_rows
from ssl_runner.data.challenges import Challenges, long_tail
from ssl_runner.data.download import Published
from ssl_runner.data.rows import Subset, fingerprint, statistics
from ssl_runner.dataset.digits import Digits
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.run.preflight import read_job
from ssl_runner.testing.promises import fit

CHALLENGES = {
    "subset": {"subset": 0.3},
    "any rows": {"subset": 0.3, "stratified": False},
    "imbalance": {"imbalance": 7.0},
    "imbalance and any rows": {"imbalance": 7.0, "subset": 0.5, "stratified": False},
    "corrupt": {"corrupt": "mixed"},
    "missing": {"missing": 0.5},
    "label noise": {"label_noise": 0.4},
    "everything": {"subset": 0.5, "imbalance": 2.0, "corrupt": "jpeg", "missing": 0.2, "label_noise": 0.1},
}


@dataclass(kw_only=True)
class Letters(Published):
    """What CIFAR, MNIST and SVHN have in common: files, counts and a split."""

    samples = Samples("image", (1, 8, 8))
    files = ()
    counts = (30, 50, 20)
    classes = ("a", "b", "c")

    def read(self, _):
        y = torch.arange(3).repeat_interleave(torch.tensor(self.counts))
        x = torch.randint(256, (len(y), 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        return Split(x, y), Split(x[:9].flip(0), y[:9]), self.classes


@dataclass(kw_only=True)
class Unlabelled(Challenges):
    """Images without labels, and a labelled bank beside them, as of STL-10."""

    n: int = 40
    samples = Samples("image", (3, 16, 16))
    has_labels: ClassVar = True

    @property
    def training_counts(self):
        return (self.n,)

    def load(self):
        x = torch.full((self.n + 200, 3, 16, 16), 100, dtype=torch.uint8)
        x[:, 0, 0, 0] = torch.arange(len(x))
        bank, part = Split(x[self.n :], torch.arange(200) % 5), Split(x[:5], torch.arange(5))
        return self.apply(Data(x[: self.n], bank, part, part, *statistics(x[: self.n]), tuple("abcde"), "unlabelled"))


@dataclass(kw_only=True)
class Sentences(Challenges):
    samples = Samples("text", (8,), vocabulary=99)
    training_counts = (10,) * 4


@dataclass(kw_only=True)
class Words(Unlabelled):
    samples = Samples("text", (12,), vocabulary=9)


@pytest.fixture
def of(tmp_path):
    """Any dataset with settings."""
    paint_classes(tmp_path / "set", ("ant", "bee", "cow"), each=20)
    for k in range(20):
        paint(tmp_path / "bare" / f"{k}.png", (k, 0, 0))
    small = {"images": 200, "test": 20, "size": 16}
    kinds = {"shapes": lambda **given: Shapes(**small, **given), "digits": Digits, "published": Letters}
    kinds |= {"unlabelled": Unlabelled, "bare": lambda **given: folder(tmp_path / "bare", **given)}
    kinds |= {"folder": lambda **given: folder(tmp_path / "set", **given)}
    kinds["stream"] = lambda **given: folder(tmp_path / "set", stream=True, **given)
    return lambda kind, **given: kinds[kind](**given)


CASES = [(kind, name) for kind in ("shapes", "digits", "published", "folder", "stream") for name in CHALLENGES]
CASES += [(kind, name) for kind in ("bare", "unlabelled") for name in ("subset", "any rows", "corrupt", "missing")]


@pytest.mark.parametrize(("kind", "challenge"), [*CASES, ("unlabelled", "label noise")])
def test_training_rows_are_as_many_as_promised_and_what_is_measured_on_stays_clean(of, kind, challenge):
    clean, dataset = of(kind).load(), of(kind, **CHALLENGES[challenge])
    promised = dataset.rows
    torch.manual_seed(7)  # nothing is drawn from the global generator
    data = dataset.load()
    assert promised == dataset.rows == len(data.train)
    for mine, theirs in ((data.validation, clean.validation), (data.test, clean.test)):
        if mine is not None:
            assert torch.equal(everything(mine.x), everything(theirs.x))
            assert torch.equal(mine.y, theirs.y)
    if challenge == "label noise":
        assert data.train is clean.train or torch.equal(everything(data.train), everything(clean.train))
        assert (data.mean, data.std) == (clean.mean, clean.std)
    elif kind != "bare":
        assert data.mean != clean.mean
    assert (data.mean, data.std) == statistics(everything(data.train))
    if kind not in ("bare", "unlabelled"):
        assert data.bank.x is data.train
        assert {len(data.train)} == {len(data.bank.y), *(len(each) for each in data.bank.targets.values())}
    again, other = of(kind, **CHALLENGES[challenge]).load(), of(kind, **CHALLENGES[challenge], challenge_seed=2).load()
    assert torch.equal(everything(again.train), everything(data.train))
    assert again.fingerprint == data.fingerprint
    assert len({clean.fingerprint, data.fingerprint, other.fingerprint}) == 3
    if challenge != "label noise":
        assert keys(other.train) != keys(data.train)


@pytest.mark.parametrize("kind", ["shapes", "digits", "published"])
def test_without_a_challenge_nothing_changes(of, kind):
    """The fingerprint is that of the rows themselves, as it was before there were challenges."""
    data = of(kind, challenge_seed=9, strength=3, missing_part="patches", label_noise_kind="pairwise").load()
    parts = [data.bank.x, data.validation.x, data.test.x]
    if kind == "published":
        parts = [part for split in (data.bank, data.validation, data.test) for part in (split.x, split.y)]
    assert data.fingerprint == fingerprint(*parts)


def test_every_challenge_has_a_fingerprint_of_its_own(of):
    changes = [{}, *CHALLENGES.values(), {"missing": 0.01}, {"strength": 1, "corrupt": "mixed"}, {"label_noise": 0.41}]
    changes += [{"label_noise": 0.4, "label_noise_kind": "pairwise"}, {"missing": 0.5, "missing_part": "channels"}]
    assert len({of("shapes", **each).load().fingerprint for each in changes}) == len(changes)


def test_classes_have_the_rows_of_the_published_long_tail_and_a_subset_keeps_their_shares(of):
    assert long_tail([5000] * 10, 100.0) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert sum(long_tail([500] * 100, 100.0)) == 10_847
    assert long_tail([10, 0, 10, 10], 1000.0) == [10, 0, 1, 1]
    y = of("shapes", imbalance=6.0).load().bank.y
    assert y.bincount().tolist() == long_tail([18] * 10, 6.0)
    assert of("shapes", subset=0.5).load().bank.y.bincount().tolist() == [9] * 10
    assert of("shapes", subset=0.001).load().bank.y.bincount().tolist() == [1] * 10
    both = Digits(imbalance=10.0, subset=0.2, stratified=False).load().bank.y.bincount(minlength=10).double()
    tail = torch.tensor(long_tail(Digits().training_counts, 10.0)).double()
    assert ((both / both.sum() - tail / tail.sum()).abs() < 0.12).all()  # three deviations of the first class


def test_what_is_known_of_tokens_goes_with_its_row():
    """In each row as in each of its tokens stands the row's own number."""
    x = torch.cat([torch.arange(40)[:, None], torch.ones(40, 7, dtype=torch.int64)], 1)
    bank = Split(x, torch.arange(40) % 4, {"row": torch.arange(40)}, {"row": torch.arange(40)[:, None].repeat(1, 8)})
    for settings in ({"subset": 0.3}, {"imbalance": 3.0}, {"label_noise": 0.5}):
        kept = Sentences(**settings).apply(Data(x, bank, None, None, classes=tuple("abcd"), fingerprint="x")).bank
        rows = kept.x[:, 0]
        assert len(rows) == (40 if "label_noise" in settings else Sentences(**settings).rows)
        assert torch.equal(kept.targets["row"], rows)
        assert torch.equal(kept.tokens["row"], rows[:, None].expand(-1, 8))


def test_a_smaller_share_is_part_of_a_larger_one(of):
    for more in ({}, {"stratified": False}, {"imbalance": 3.0}):
        parts = [keys(of("shapes", subset=share, **more).load().train) for share in (0.1, 0.4, 1.0)]
        assert parts[0] < parts[1] < parts[2]
    clean = Digits().load().bank.y
    wrong = [Digits(label_noise=share).load().bank.y != clean for share in (0.2, 0.5)]
    assert 0 < (wrong[0] & wrong[1]).sum() == wrong[0].sum() < wrong[1].sum()


def test_a_row_is_changed_alike_whether_or_not_others_are_left_out(of):
    whole, few = of("shapes", corrupt="mixed", missing=0.2), of("shapes", corrupt="mixed", missing=0.2, subset=0.3)
    assert keys(few.load().train) < keys(whole.load().train)
    noisy = of("shapes", label_noise=0.4).load()
    label = dict(zip((x.numpy().tobytes() for x in noisy.train), noisy.bank.y.tolist(), strict=True))
    part = of("shapes", label_noise=0.4, imbalance=4.0).load()
    assert [label[x.numpy().tobytes()] for x in part.train] == part.bank.y.tolist()
    assert torch.equal(of("shapes", imbalance=4.0).load().train, part.train)  # by their own classes, not by wrong ones


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_labels_are_wrong_as_often_as_asked_and_of_any_other_class_or_the_next(share):
    clean, symmetric = Digits().load().bank, Digits(label_noise=share).load().bank
    n, shift = len(clean.y), (symmetric.y - clean.y) % 10
    wrong = (shift > 0).sum()
    assert abs(wrong - share * n) < 4 * (share * (1 - share) * n) ** 0.5
    each = shift.bincount(minlength=10)[1:]
    assert ((each - wrong / 9).abs() < 4.5 * (wrong / 9) ** 0.5).all()
    for label in range(10):  # of every class
        own = shift[clean.y == label]
        assert abs((own > 0).sum() - share * len(own)) < 4 * (share * (1 - share) * len(own)) ** 0.5
    pairwise = Digits(label_noise=share, label_noise_kind="pairwise").load().bank
    assert ((pairwise.y - clean.y) % 10).unique().tolist() == [0, 1]
    assert ((pairwise.y - clean.y) % 10 == 1).sum() == wrong
    other = Digits(label_noise=share, challenge_seed=2).load().bank
    assert not torch.equal(other.y, symmetric.y)


def test_wrong_labels_reach_evaluators_and_never_the_pretext_task(make):
    """Weights are equal bit for bit; kNN is measured against other labels."""
    runs = []
    for noise in (0.0, 0.9):
        trainer = make("pretext=simclr", f"dataset.label_noise={noise}", folder=f"noise{noise}")
        runs.append(fit(trainer))
    states = [run.learner.pretext.state_dict() for run in runs]
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())
    seen = [[row["knn/top1"] for row in run.logbook.rows if "knn/top1" in row] for run in runs]
    assert seen[0] != seen[1]


@pytest.mark.parametrize("kind", in_turn(["salt_and_pepper", "noise", "blur", "jpeg", "occlusion"]))
@pytest.mark.parametrize("dataset", [Shapes(images=200, test=0), Digits(size=32)])
def test_a_corruption_is_stronger_at_a_higher_strength(kind, dataset):
    clean = dataset.load().train.float()

    def changed(strength):
        return (replace(dataset, corrupt=kind, strength=strength).load().train.float() - clean).abs().mean()

    distance, drawn = [changed(strength) for strength in (1, 3, 5)], changed(None)
    assert 0 < distance[0] < distance[1] < distance[2]
    assert distance[0] < drawn < distance[2]


def test_salt_and_pepper_is_of_whole_pixels_and_mixed_is_of_every_kind(of):
    grey = torch.full((400, 3, 16, 16), 100, dtype=torch.uint8)
    seeds = torch.arange(400)
    x = changed_rows.ChangedRows(grey, seeds, "salt_and_pepper", 5, 0.0, "pixels")[seeds]
    share = [(x == value).all(1).float().mean() for value in (0, 255)]
    assert all(abs(each - 0.035) < 0.003 for each in share)
    assert ((x == 100) | (x == 0) | (x == 255)).all()
    assert (x == x[:, :1]).all()
    rows, seeds = seeds, seeds + 1000
    single = {
        kind: changed_rows.ChangedRows(x, seeds, kind, 5, 0.0, "pixels")[rows] for kind in (*changed_rows.MIXED, "none")
    }
    mixed = changed_rows.ChangedRows(x, seeds, "mixed", 5, 0.0, "pixels")[rows]
    same = {kind: (each == mixed).flatten(1).all(1) for kind, each in single.items()}
    counts = [int(same[kind].sum()) for kind in ("blur", "jpeg")]  # nothing is drawn for these two
    assert all(50 < each < 110 for each in counts)
    assert same["none"].sum() == 0


@pytest.mark.parametrize(("part", "grid"), [("pixels", (1, 32, 32)), ("patches", (1, 8, 8)), ("channels", (3, 1, 1))])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_parts_are_missing_as_often_as_asked(part, grid, share):
    data = Shapes(images=300, missing=share, missing_part=part).load()
    clean = Shapes(images=300).load().train
    absent = (data.train == 0) & (clean > 0)
    assert torch.equal(data.train[~absent], clean[~absent])
    n = len(clean) * torch.Size(grid).numel()
    gone = torch.nn.functional.adaptive_max_pool3d((data.train > 0).float()[:, None], grid) == 0
    bound = 4 * (share * (1 - share) / n) ** 0.5 + 0.002  # some parts are black by themselves
    assert abs(gone.float().mean() - share) < bound
    assert gone.flatten(1).float().mean(1).std() > 0 or part == "channels"
    whole = torch.nn.functional.interpolate(gone[:, 0].float(), size=(32, 32)).bool()  # nothing but whole parts
    assert (whole.expand_as(absent) >= absent).all()
    corrupted = Shapes(images=300, missing=share, missing_part=part, corrupt="noise", strength=1).load().train
    assert (corrupted[whole.expand_as(absent)] == 0).all()


def test_what_does_not_fit_into_memory_is_changed_when_it_is_read(of, monkeypatch):
    settings = {"corrupt": "mixed", "missing": 0.3, "subset": 0.5}
    held, streamed = of("shapes", **settings).load(), of("stream", **settings).load()
    monkeypatch.setattr(changed_rows, "COPIED", 0)
    monkeypatch.setattr(Shapes, "load", Shapes.load.__wrapped__)  # not what was drawn before
    read = of("shapes", **settings).load()
    assert isinstance(held.train, torch.Tensor)
    assert isinstance(read.train, changed_rows.ChangedRows)
    assert (read.fingerprint, read.mean) == (held.fingerprint, held.mean)
    copy = pickle.loads(pickle.dumps(read.train))
    for index in (torch.tensor([5, 0, 5]), torch.tensor([], dtype=torch.int64)):
        assert torch.equal(copy[index], held.train[index])
    later = of("stream", **settings).load()
    assert torch.equal(everything(later.train), everything(streamed.train))
    assert later.bank.x is later.train
    assert isinstance(of("stream", label_noise=0.3).load().train, Subset)  # is not read because of its labels


def test_a_bank_of_other_rows_keeps_them_all_and_is_challenged_beside_them():
    clean, data = Unlabelled().load(), Unlabelled(subset=0.5, missing=0.3, label_noise=0.4).load()
    assert (len(data.train), len(data.bank.x), len(data.bank.y)) == (20, 200, 200)
    assert 0.25 < (data.bank.x[:, :, 1:] == 0).float().mean() < 0.35
    assert 50 < (data.bank.y != clean.bank.y).sum() < 110
    assert torch.equal(Unlabelled(subset=0.5).load().bank.x, clean.bank.x)
    assert not torch.equal(data.bank.x[:20] == 0, data.train == 0)  # not by the same draws
    seen = [Unlabelled(**each).load().fingerprint for each in ({"label_noise": 0.4}, {"missing": 0.3}, {})]
    assert len(set(seen)) == 3


def test_a_folder_with_unlabelled_images_is_challenged_as_such_a_set(tmp_path):
    paint_classes(tmp_path / "train", each=10)
    for k in range(20):
        paint(tmp_path / "unlabelled" / f"{k}.png", (30, k, 0))
    dataset = folder(tmp_path, subset=0.5, label_noise=0.4)
    data, clean = dataset.load(), folder(tmp_path).load()
    assert (dataset.rows, len(data.train), len(data.bank.x), len(clean.train)) == (18, 18, 16, 36)
    assert 0 < (data.bank.y != clean.bank.y).sum() < 16
    with pytest.raises(ValueError, match="imbalance"):
        folder(tmp_path, imbalance=2.0)


REFUSED = {
    "text, corrupt": (Words, {"corrupt": "blur"}, r"corrupt.*samples are text; leave dataset\.corrupt out"),
    "text, missing": (Words, {"missing": 0.1}, r"missing.*samples are text; leave dataset\.missing out"),
    "imbalance": (Unlabelled, {"imbalance": 2.0}, r"imbalance: given 2, .*no labels; leave dataset\.imbalance out"),
    "one channel": (Letters, {"missing": 0.1, "missing_part": "channels"}, r"have one.*missing_part=pixels or patches"),
}


@pytest.mark.parametrize(("kind", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_before_data_is_read(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_labels_that_are_not_there_cannot_be_wrong_and_few_channels_are_said(of):
    with pytest.raises(
        ValueError, match=r"label_noise: given 0\.1, .*no labelled rows.*leave dataset\.label_noise out"
    ):
        of("bare", label_noise=0.1)
    five = replace(Unlabelled(), corrupt="none")
    five.samples = Samples("image", (5, 16, 16))
    five.corrupt = "blur"
    with pytest.raises(ValueError, match=r"of 1 or 3 channels, and the images have 5"):
        five.load()
    five.corrupt, five.imbalance = "none", 3.0
    with pytest.raises(ValueError, match=r"imbalance: given 3"):
        five.load()


def test_a_class_that_a_subset_leaves_out_is_named(caplog):
    data = Letters(subset=0.02, stratified=False).load()
    lost = sorted({"a", "b", "c"} - {"abc"[label] for label in data.bank.y})
    assert len(data.train) == 2
    assert lost
    assert f"no training row is left of {', '.join(lost)}; type dataset.stratified=true" in caplog.text
    caplog.clear()
    assert len(Letters(subset=0.02).load().train) == 3
    assert not caplog.text


def test_challenges_are_typed_as_any_setting_and_refused_as_any(composer):
    def problems(*words):
        composed = composer.compose(["dataset=digits", *words])
        return composed.problems or read_job(composed.content)[1]

    assert not problems("dataset.corrupt=mixed", "dataset.strength=5", "dataset.imbalance=20", "dataset.subset=0.5")
    assert "batch_size: given 64, and the dataset has 10 training rows" in problems("dataset.subset=0.01")
    (line,) = problems("dataset.corrupt=blurr")
    assert line.endswith("did you mean blur?")
    (line,) = problems("dataset.missing=0.5", "dataset.missing_part=channels")
    assert line.startswith("dataset: missing_part: given channels")
    bounds = {"subset": (0, 1.1), "imbalance": (0.5,), "strength": (0, 6), "missing": (-0.1, 1), "label_noise": (1,)}
    for key, values in bounds.items():
        for value in values:
            (line,) = problems(f"dataset.{key}={value}")
            assert line.startswith(f"dataset.{key}: given {value}")
    for one, other in combinations(("subset=0.5", "imbalance=9", "label_noise=0.3"), 2):
        assert not problems(f"dataset.{one}", f"dataset.{other}")
