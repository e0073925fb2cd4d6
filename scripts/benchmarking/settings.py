"""What was asked of the benchmark."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from benchmarking.work import Work

SMALL = ("convnet_small", "simclr")  # what the sections batch, memory and rows train


@dataclass(frozen=True)
class Settings:
    """Of a whole run of the benchmark."""

    works: tuple[Work, ...]
    contestants: tuple[str, ...]
    rounds: int
    seconds: float  # of a contestant's turn
    device: str
    quick: bool
    overrides: tuple[str, ...] = ()
    rows: int = 50_000  # images of a data set
    features: int = 50_000  # rows that are evaluated
    batches: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096)
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    marks: tuple[int, ...] = (200, 350, 500)  # steps after which memory is looked at

    def work(self, model: str, pretext: str, batch: int, rows: int | None = None) -> Work:
        trials = 1 if self.quick else 2
        return Work(model, pretext, batch, rows or self.rows, self.device, self.overrides, trials)

    def small(self, batch: int, rows: int | None = None) -> Work:
        return self.work(*SMALL, batch, rows)

    def check(self, sections: Collection[str]) -> Iterator[str]:
        """What is wrong with what these sections train, a line each."""
        works = list(self.works) if "speed" in sections else []
        works += [self.small(min(self.batches))] * any(name in sections for name in ("batch", "memory", "size"))
        works += [self.work("convnet_small", "rotation", 64)] * ("startup" in sections)  # the default job
        for work in dict.fromkeys(works):
            try:
                work.job()
            except ValueError as error:
                yield from (f"{work.name}: {line}" for line in str(error).splitlines())
