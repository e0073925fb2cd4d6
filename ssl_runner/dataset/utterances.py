"""Synthetic words spoken by forty voices, with known factors of variation, rendered by rendering/utterance.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Samples, Split
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.rows import Share, fingerprint, held_out_count, statistics, stratified_split
from ssl_runner.rendering import utterance

VOICES = 2**40  # added to the seed for those who speak; the seeds of clips are smaller


@dataclass(kw_only=True)
class Utterances(Challenges):
    """Ten words, anagrams of five phonemes, at 8 kHz, one a clip, in noise.

    The word is the class. Nuisance factors are further `targets`: speaker, pitch, length of the vocal tract, tempo,
    loudness, noise, onset. `tokens` has the phoneme of each 10 ms, -1 in silence. Nothing is downloaded.
    """

    clips: Annotated[int, Ge(20)] = 6000  # for training, validation among them
    test: Annotated[int, Ge(0)] = 1500  # they depend on `seed` and not on `clips`
    validation: Share = 0.1  # of `clips`
    seconds: Annotated[float, Interval(ge=0.2, le=10)] = 1.0  # of a clip; words are spoken faster where they must
    seed: Annotated[int, Ge(0)] = 0  # of clips and split, not of a run: runs of other seeds hear the same data

    targets: ClassVar = utterance.FACTORS
    tokens: ClassVar = ("phoneme",)

    @property
    def samples(self) -> Samples:
        return Samples("audio", (1, int(self.seconds * utterance.RATE)), rate=utterance.RATE)

    @property
    def training_counts(self) -> Sequence[int]:
        words = len(utterance.WORDS)
        counts = [len(range(label, self.clips, words)) for label in range(words)]
        return [count - held_out_count(count, self.validation) for count in counts]

    def load(self) -> Data:
        """Renders all clips: about a millisecond for each second."""
        learnt, unseen = self.render(self.clips, 0), self.render(self.test, 1)
        bank, validation = (part_of(learnt, rows) for rows in stratified_split(learnt.y, self.validation, self.seed))
        digest = fingerprint(bank.x, validation.x, unseen.x)
        measured = (split if len(split.x) else None for split in (validation, unseen))
        return self.apply(Data(bank.x, bank, *measured, *statistics(bank.x), utterance.WORDS, digest))

    def render(self, clips: int, part: int) -> Split:
        rng, voices = (torch.Generator().manual_seed(each) for each in (2 * self.seed + part, VOICES + self.seed))
        spoken = utterance.SpokenWords(clips, self.seconds, rng, voices)
        return Split(spoken.render(), spoken.word, spoken.targets(), {"phoneme": spoken.phonemes()})


def part_of(split: Split, rows: Int[Tensor, " k"]) -> Split:
    """Some rows of a split, with their labels."""
    further = ({name: each[rows] for name, each in known.items()} for known in (split.targets, split.tokens))
    return Split(split.x[rows], split.y[rows], *further)
