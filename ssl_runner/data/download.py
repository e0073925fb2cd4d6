"""Published datasets: where their files may lie, how they are downloaded, what to say if they are absent."""

import contextlib
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Data, Rows, Samples, Split
from ssl_runner.data.split import Share, held_out_count, stratified_split
from ssl_runner.data.statistics import fingerprint, statistics
from ssl_runner.run_folder.atomic import remove_abandoned

ASIDE = ".ssl_runner-fetch-"  # begins the name of a folder in the root while a download lasts
SILENCE = 60  # seconds without a byte after which a download has failed


@dataclass(frozen=True, kw_only=True)
class Published:
    """A dataset as its authors publish it. A subclass says what is known of the files, and how they are read.

    Raises FileNotFoundError if the files are absent and may not be downloaded.
    """

    root: str = "data"  # a folder above the files, or the one that holds them; it may be read-only if they are there
    download: bool = True  # into the root, if the files are absent
    validation: Share = 0.1  # of the labelled training images
    split_seed: Annotated[int, Ge(0)] = 0  # of that share, not of a run: runs of other seeds see the same split

    name: ClassVar[str]  # as in dataset=NAME
    samples: ClassVar[Samples]
    folder: ClassVar[str] = ""  # below the root, where torchvision unpacks the files; "" for the root itself
    files: ClassVar[tuple[str, ...]]
    url: ClassVar[str]  # what to fetch by hand
    archive: ClassVar[str | None] = None  # a copy of it in the root is unpacked rather than downloaded
    counts: ClassVar[tuple[int, ...]]  # labelled training rows a class
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def __post_init__(self) -> None:
        if not self.download and self.find() is None:
            raise FileNotFoundError(self.absent("is absent, and dataset.download=false"))

    @property
    def rows(self) -> int:
        return sum(count - held_out_count(count, self.validation) for count in self.counts)

    def load(self) -> Data:
        """Reads and checks the files. Raises ConnectionError if a download fails, ValueError if a file is torn."""
        folder = self.fetch()
        try:
            labelled, test, classes = self.read(folder)
        except (RuntimeError, ValueError) as problem:
            raise self.torn(folder, problem) from problem
        bank, validation = self.split(folder, labelled.x, labelled.y)
        mean, std = statistics(bank.x)
        held_out = () if validation is None else (validation.x, validation.y)
        return Data(
            train=bank.x,
            bank=bank,
            validation=validation,
            test=test,
            mean=mean,
            std=std,
            classes=classes,
            fingerprint=fingerprint(bank.x, bank.y, *held_out, test.x, test.y),
        )

    def read(self, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        """Labelled training rows, test rows and names of the classes. Raises ValueError or RuntimeError if torn."""
        raise NotImplementedError(f"{type(self).__name__}.read")

    def retrieve(self, folder: str) -> None:
        """Has torchvision's dataset of the same name download into a folder."""
        from torchvision import datasets

        getattr(datasets, type(self).__name__)(folder, download=True)

    def places(self) -> list[Path]:
        """Folders to look in: the root may be any folder above the files, or the one that holds them."""
        steps = Path(self.folder).parts
        return [Path(self.root).expanduser().joinpath(*steps[i:]) for i in range(len(steps) + 1)]

    def find(self) -> Path | None:
        """The folder that holds all the files, as they are or gzipped."""
        for place in self.places():
            if all((place / file).is_file() or (place / f"{file}.gz").is_file() for file in self.files):
                return place
        return None

    def fetch(self) -> Path:
        """The folder of the files, downloaded if they are absent. Raises ConnectionError.

        They are fetched and unpacked aside and then renamed, each at once, so that neither a kill nor a second run
        that downloads the same leaves a torn file.
        """
        base = Path(self.root).expanduser()
        remove_abandoned(base, f"{ASIDE}*")
        present = self.find()
        if present is not None:
            return present
        try:
            base.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=ASIDE, dir=base) as aside, socket_timeout(SILENCE):
                if self.archive and (base / self.archive).is_file():
                    (Path(aside) / self.archive).symlink_to((base / self.archive).resolve())
                self.retrieve(aside)
                (base / self.folder).mkdir(parents=True, exist_ok=True)
                for file in self.files:
                    shutil.move(Path(aside) / self.folder / file, base / self.folder / file)
        except (OSError, RuntimeError, EOFError, tarfile.TarError) as problem:
            reason = " ".join(str(problem).split())
            raise ConnectionError(self.absent(f"is absent, and its download failed ({reason})")) from problem
        return base / self.folder

    def split(self, folder: Path, x: Rows, y: Int[Tensor, " n"] | None) -> tuple[Split, Split | None]:
        """The labelled rows less the held-out share of every class, and that share, None if it is 0.

        Raises ValueError if the labels are not as many a class as published: the files are another dataset's.
        """
        counts = () if y is None else tuple(y.bincount(minlength=len(self.counts)).tolist())
        if y is None or len(x) != len(y) or counts != self.counts:
            raise self.torn(folder, f"{len(x)} images, labels by class {counts}; published {self.counts}")
        rest, held = stratified_split(y, self.validation, self.split_seed)
        return Split(x[rest], y[rest]), Split(x[held], y[held]) if len(held) else None

    def absent(self, problem: str) -> str:
        looked = ", ".join(str(place.absolute()) for place in self.places())
        archive = f"or put {self.archive} into {self.root} and set dataset.download=true; " if self.archive else ""
        return (
            f"{self.name} {problem}. Looked in {looked} for {', '.join(self.files)}. "
            f"Fetch them from {self.url} and type dataset.root=FOLDER with the folder that holds them; {archive}"
            f"dataset=shapes and dataset=digits need no network, dataset=image_folder reads images of your own"
        )

    def torn(self, folder: Path, problem: object) -> ValueError:
        return ValueError(
            f"{self.name}: the files in {folder} are not those published ({problem}); "
            f"delete them and run again with dataset.download=true"
        )


@contextlib.contextmanager
def socket_timeout(seconds: int) -> Iterator[None]:
    """urllib waits for ever if nobody has set a limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
