"""Sentences from a small probabilistic grammar with known causes, drawn by rendering/sentences.py."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval

from ssl_runner.contract import Data, Split
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.rows import Share, fingerprint
from ssl_runner.data.text_files.texts import Texts, assets_of, digest_of
from ssl_runner.data.text_files.tokenizer import Tokenizer, Words
from ssl_runner.rendering.sentences import FACTORS, MOODS, TAGS, draw_sentence

FRAMED = 0.5  # probability of a place phrase and of a tag question in a training sentence

Drawn = list[tuple[list[tuple[str, str]], tuple[int, ...]]]  # sentences as words with their parts of speech, and causes


@dataclass(kw_only=True)
class Grammar(Texts, Challenges):
    """Four moods of the main clause (negated or not, active or passive), with topic, tense, polarity, number and voice.

    Sentences are drawn on the spot; nothing is downloaded. All that is told of a sentence is told of its main clause,
    and a second clause has causes of its own. So a bag of words reaches 67 % of moods, and pairs of words 75 %;
    what tells the main clause is which of the two no conjunction opens. Topics are told by words, as far as the other
    clause lets them. Training sentences have place phrases and tag questions as well, which those that are measured on,
    with labels, have not. Parts of speech are classes of tokens if a token is a word.
    """

    sentences: Annotated[int, Ge(20)] = 20_000  # to learn from
    bank: Annotated[float, Interval(gt=0, le=1)] = 0.2  # as many more with labels to fit on, as a share of these
    validation: Share = 0.1  # the same to choose on
    test: Annotated[int, Ge(0)] = 2_000
    seed: Annotated[int, Ge(0)] = 0  # of the sentences, not of a run: runs of other seeds see the same data
    tokenizer: str = "words"
    length: Annotated[int, Interval(ge=1, le=65_536)] = 40

    fitted: ClassVar[int] = 275  # all words that there are
    targets: ClassVar = FACTORS
    tokens: ClassVar = ("part_of_speech",)

    def __post_init__(self) -> None:
        self.check_tokenizer()
        super().__post_init__()

    @property
    def training_counts(self) -> Sequence[int]:
        return [self.sentences]

    @property
    def labelled(self) -> bool:
        return True

    def load(self) -> Data:
        """Draws all sentences: a second for 20,000."""
        sizes = {"bank": self.bank, "validation": self.validation}
        train = draw(self.sentences, FRAMED, f"train {self.seed}")
        texts = [" ".join(word for word, _ in words) for words, _ in train]
        tokenizer = self.fitted_tokenizer(texts)
        rows = self.rows_of(tokenizer, texts, "training rows")
        counts = {name: max(1, round(share * self.sentences)) if share else 0 for name, share in sizes.items()}
        splits = {
            name: self.split(draw(count, 0.0, f"{name} {self.seed}"), tokenizer)
            for name, count in {**counts, "test": self.test}.items()
        }
        digest = fingerprint(rows, *(each.x for each in splits.values()), digest_of(tokenizer))
        measured = (splits[name] if len(splits[name].x) else None for name in ("validation", "test"))
        assets = assets_of(tokenizer)
        return self.apply(Data(rows, splits["bank"], *measured, classes=MOODS, fingerprint=digest, assets=assets))

    def split(self, drawn: Drawn, tokenizer: Tokenizer) -> Split:
        """Ids, moods, factors; parts of speech if each word is a token."""
        texts = [" ".join(word for word, _ in words) for words, _ in drawn]
        causes = torch.tensor([each for _, each in drawn], dtype=torch.int64).view(-1, len(FACTORS))
        known = dict(zip(FACTORS, causes.unbind(1), strict=True))
        tags = torch.full((len(drawn), self.length), -1, dtype=torch.int8)
        for row, (words, _) in zip(tags, drawn, strict=True):
            found = torch.tensor([TAGS.index(tag) for _, tag in words[: self.length]], dtype=torch.int8)
            row[: len(found)] = found
        tokens = {"part_of_speech": tags} if isinstance(tokenizer, Words) else {}
        mood = 2 * known["passive"] + known["negated"]
        return Split(self.rows_of(tokenizer, texts, "labelled rows"), mood, known, tokens)


def draw(count: int, framed: float, seed: str) -> Drawn:
    rng = random.Random(seed)
    return [draw_sentence(rng, framed) for _ in range(count)]
