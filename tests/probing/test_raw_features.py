"""What a cynic would use in the place of an encoder, on samples that can be solved by hand."""

import pytest
import torch
from modality_toys import Sentences, Tones
from torch.nn.functional import one_hot

from ssl_runner.contract import Samples
from ssl_runner.probing.knn_vote import Neighbours
from ssl_runner.probing.raw_features import BANDS, COUNTS, band_statistics, raw_features, word_counts


def test_pictures_are_means_of_their_parts():
    x = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    parts = x.view(2, 3, 8, 4, 8, 2).mean((3, 5))
    torch.testing.assert_close(raw_features(Samples("image", (3, 32, 16)))(x), parts.flatten(1))
    assert torch.equal(raw_features(Samples("image", (1, 4, 6)))(x[:, :1, :4, :6]), x[:, :1, :4, :6].flatten(1))


def test_words_are_counted_whatever_their_order_and_padding_is_not():
    x = torch.tensor([[3, 1, 3, 2, 0, 0], [2, 3, 1, 3, 0, 0], [1, 0, 0, 0, 0, 0]])
    counts = raw_features(Samples("text", (6,), vocabulary=5))(x)
    assert counts.tolist() == [[0, 1, 1, 2, 0], [0, 1, 1, 2, 0], [0, 1, 0, 0, 0]]


def test_a_large_vocabulary_is_hashed_to_products_of_about_the_same_size():
    rng, vocabulary = torch.Generator().manual_seed(0), 30_000
    x = torch.randint(1, vocabulary, (40, 50), generator=rng)
    x[1, :25] = x[0, :25]  # half of the words in common
    hashed = word_counts(x, vocabulary=vocabulary)
    assert hashed.shape == (40, COUNTS)
    whole = one_hot(x[:2], vocabulary).sum(1).float()
    wanted, found = whole @ whole.T, hashed[:2] @ hashed[:2].T
    assert ((wanted - found).abs() < 5).all()  # three deviations are 50 * 3 / 2048 ** 0.5
    products = hashed @ hashed.T
    assert abs(products.triu(1)[2:].sum() / 703) < 0.5, "signs make products of others vanish on average"
    used = word_counts(torch.arange(1, vocabulary)[:, None], vocabulary=vocabulary)
    assert used.abs().sum(1).unique().tolist() == [1]
    load = used.abs().sum(0)
    assert load.min() > 0
    assert load.max() < 40, "ids are spread over all places"
    assert 0.45 < (used.sum(1) > 0).float().mean() < 0.55


def test_bands_do_not_change_with_loudness_or_with_zeros_behind():
    x = Samples("audio", (1, 800), rate=8000).example(3, torch.Generator().manual_seed(0))
    plain = band_statistics(x, rate=8000)
    assert plain.shape == (3, 2 * BANDS)
    torch.testing.assert_close(band_statistics(0.01 * x, rate=8000), plain, rtol=1e-4, atol=1e-4)
    longer = torch.nn.functional.pad(x, (0, 700))
    torch.testing.assert_close(band_statistics(longer, rate=8000), plain, rtol=1e-5, atol=1e-5)
    for odd in (torch.zeros(1, 1, 800), x[:1, :, :7], torch.eye(1, 800)[None]):
        assert band_statistics(odd, rate=8000).isfinite().all()


def test_a_tone_is_loud_in_the_band_of_its_pitch():
    time = torch.arange(1600) / 8000
    for pitch in (300, 900, 2500):
        mean, deviation = band_statistics((2 * torch.pi * pitch * time).sin()[None, None], rate=8000).view(2, BANDS)
        edges = torch.linspace(0, 2595 * torch.tensor(1 + 4000 / 700).log10(), BANDS + 2)
        low, high = (
            700 * (10 ** (each / 2595) - 1) for each in (edges[int(mean.argmax())], edges[int(mean.argmax()) + 2])
        )
        assert low < pitch < high
        assert deviation[mean.argmax()] < 0.1, "it is as loud at each time"


@pytest.mark.parametrize("toy", [Sentences, Tones])
def test_they_tell_classes_that_words_or_pitch_tell(toy):
    data, samples = toy().load(), toy.samples
    features = [raw_features(samples)(samples.from_rows(part.x)) for part in (data.bank, data.test)]
    ranked, _ = Neighbours(features[0], data.bank.y, 4, 20, 0.07).rank_classes(features[1])
    assert (ranked[:, 0] == data.test.y).float().mean() > 0.6
