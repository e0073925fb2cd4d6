"""What of the jobs of a sweep was built when they were checked. It needs no torch."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_runner.run.job import Job


@dataclass
class Tried:
    """The jobs that could be built, by their configs without the seed, and the dataset of the last one."""

    jobs: set[str] = field(default_factory=set)
    dataset: tuple[str, Any] = ("", None)  # after its config: a large folder takes long to list

    def build_dataset(self, job: "Job") -> Any:
        if self.dataset[0] != (known := repr(job.dataset)):
            self.dataset = known, job.dataset.build()
        return self.dataset[1]
