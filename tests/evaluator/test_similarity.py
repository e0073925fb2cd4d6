"""Rank correlation of cosines and shared factors, by hand and against scipy."""

import pytest
import torch
from evaluator_toys import EVERY, numbers
from scipy.stats import spearmanr

from ssl_runner.contract import Split
from ssl_runner.evaluator.similarity import Similarity
from ssl_runner.probing.rank_correlation import spearman
from ssl_runner.probing.scored_pairs import read_pairs


def measured(x, y=None, targets=None, **settings):
    evaluator = Similarity(every=EVERY, query=Split(x, y, targets or {}), tokenise=None, **settings)
    return numbers(evaluator)["spearman"]


def test_ranks_correlate_as_scipy_says():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, generator=rng), torch.randint(4, (200,), generator=rng).float()
    for a, b in ((x, y), (x, x**3), (x, -x), (y, y + (x > 0))):
        assert spearman(a, b) == pytest.approx(spearmanr(a.numpy(), b.numpy()).statistic)
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, torch.ones(200)) == 0


def test_features_that_are_the_factors_are_as_alike_as_these():
    """One-hot vectors of three factors: the cosine is the share that is equal."""
    rng = torch.Generator().manual_seed(0)
    factors = {name: torch.randint(n, (60,), generator=rng) for name, n in (("a", 2), ("b", 3), ("c", 4))}
    vectors = torch.cat([torch.eye(4)[each] for each in factors.values()], 1)
    factors["where"] = torch.rand(60)  # no whole number: it cannot be equal
    assert measured(vectors, None, factors) == pytest.approx(1, abs=1e-3)
    one = measured(torch.eye(4)[factors["c"]], None, factors)
    assert 0.3 < one < 0.9
    assert abs(measured(torch.randn(60, 8, generator=rng), None, factors)) < 0.1
    assert measured(-vectors + 2 * vectors.mean(0) * 0 + 1, None, factors) > 0.9, "a common part changes no order"


def test_without_factors_the_class_counts_and_labels_may_be_several():
    y = torch.arange(40) % 4
    assert measured(torch.eye(4)[y], y) == pytest.approx(1)
    tags = {"tags": torch.rand(40, 5, generator=torch.Generator().manual_seed(0)) > 0.5}
    signs = tags["tags"].float() * 2 - 1  # the cosine is twice the share of equal ones, less one
    assert measured(signs, None, tags) == pytest.approx(1, abs=1e-3)
    assert measured(torch.ones(40, 3), y) == 0, "features that are all alike say nothing"


def test_no_row_is_paired_with_itself_and_the_draw_is_the_same_again():
    y = torch.arange(3)
    with pytest.raises(ValueError, match="all pairs have the same score"):
        measured(torch.eye(3), y)  # no two rows are of a class, and a row beside itself would be
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(50) % 3
    values = [measured(x, classes, pairs=100, seed=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_rows_of_which_nothing_is_known_are_refused():
    for split in (Split(torch.ones(4, 2)), Split(torch.ones(4, 2), None, {"size": torch.rand(4)})):
        with pytest.raises(ValueError, match="the rows have no class"):
            Similarity(every=EVERY, query=split, tokenise=None)
    with pytest.raises(ValueError, match="fewer than two samples"):
        Similarity(every=EVERY, query=Split(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)), tokenise=None)


PAIRS = "one\tother\tscore\na b c\tc b a\t5\na b\ta c\t2.5\n\na\td\t0.0\n"


def counted(texts):
    """How often each of four letters occurs."""
    return torch.tensor([[float(text.split().count(letter)) for letter in "abcd"] for text in texts])


def test_a_file_of_scored_pairs_is_measured_by_its_own_texts(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS)
    assert read_pairs(path) == [("a b c", "c b a", 5.0), ("a b", "a c", 2.5), ("a", "d", 0.0)]
    query = Split(torch.ones(4, 4))
    found = numbers(Similarity(every=EVERY, query=query, file=str(path), tokenise=counted))
    assert found["spearman"] == pytest.approx(1), "cosines of 1, 1/2 and 0"
    path.write_text(PAIRS.replace("5\n", "-5\n", 1).replace("2.5", "-2.5"))
    assert numbers(Similarity(every=EVERY, query=query, file=str(path), tokenise=counted))["spearman"] < 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\tb\t1\na\tb\n", "line 2: given 2 columns; give text, tab, text, tab, number"),
        ("a\tb\t1\na\tb\tmuch\n", "line 2: given 'much' for a number"),
        ("a\tb\t1\na\tb\tnan\n", "line 2: given 'nan' for a number"),
        ("a\tb\t1\n", "holds 1 scored pairs; give two"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_of_pairs_is_refused_with_its_line(content, said, tmp_path):
    path = tmp_path / "pairs.tsv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=said):
        Similarity(every=EVERY, query=Split(torch.ones(4, 4)), file=str(path), tokenise=counted)


def test_a_dataset_without_texts_takes_no_file(tmp_path):
    with pytest.raises(ValueError, match="this dataset makes no samples of texts; type null"):
        Similarity(every=EVERY, query=Split(torch.ones(4, 4)), file=str(tmp_path / "x"), tokenise=None)
