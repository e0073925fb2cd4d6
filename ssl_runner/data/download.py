"""Published datasets: places of their files, download, what to say if they are absent."""

import contextlib
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge

from ssl_runner.contract import Data, Split
from ssl_runner.data.challenges import Challenges
from ssl_runner.data.places import expand_home
from ssl_runner.data.rows import Share, fingerprint, held_out_count, statistics, stratified_split
from ssl_runner.errors import one_line
from ssl_runner.run_folder.atomic import remove_abandoned

ASIDE = ".ssl_runner-fetch-"  # begins the name of a folder in the root while a download lasts
SILENCE = 60  # seconds without a byte after which a download has failed


@dataclass(kw_only=True)
class Published(Challenges):
    """A dataset as its authors publish it. A subclass says what is known of the files, and how they are read.

    Raises FileNotFoundError if the files are absent and may not be downloaded.
    """

    root: str = "data"  # a folder above the files, or the one that holds them; it may be read-only if they are there
    download: bool = True  # into the root, if the files are absent
    validation: Share = 0.1  # of the labelled training images
    split_seed: Annotated[int, Ge(0)] = 0  # of that share, not of a run: runs of other seeds see the same split

    folder: ClassVar[str] = ""  # below the root, where torchvision unpacks the files; "" for the root itself
    files: ClassVar[tuple[str, ...]]
    url: ClassVar[str]  # what to fetch by hand
    archive: ClassVar[str | None] = None  # a copy of it in the root is unpacked rather than downloaded
    calls: ClassVar[tuple[dict[str, str], ...]] = ({},)  # of torchvision's dataset of the same name, to download all
    counts: ClassVar[tuple[int, ...]]  # labelled training rows a class
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.download and self.find() is None:
            raise FileNotFoundError(self.absent("is absent, and dataset.download=false"))

    @property
    def training_counts(self) -> Sequence[int]:
        return [count - held_out_count(count, self.validation) for count in self.counts]

    def load(self) -> Data:
        """Reads and checks the files. Raises ConnectionError if a download fails, ValueError if a file is torn."""
        folder = self.fetch()
        try:
            labelled, test, classes = self.read(folder)
        except (RuntimeError, ValueError) as problem:
            raise self.torn(folder, problem) from problem
        bank, validation = self.split(folder, labelled)
        held_out = () if validation is None else (validation.x, validation.y)
        digest = fingerprint(bank.x, bank.y, *held_out, test.x, test.y)
        return self.apply(Data(bank.x, bank, validation, test, *statistics(bank.x), classes, digest))

    def read(self, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        """Labelled training rows, test rows and names of the classes. Raises ValueError or RuntimeError if torn."""
        raise NotImplementedError(f"{type(self).__name__}.read")

    def places(self) -> list[Path]:
        """Folders to look in: the root may be any folder above the files, or the one that holds them."""
        steps = Path(self.folder).parts
        return [expand_home(self.root).joinpath(*steps[i:]) for i in range(len(steps) + 1)]

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
        base = expand_home(self.root)
        remove_abandoned(base, f"{ASIDE}*")
        if present := self.find():
            return present
        try:
            from torchvision import datasets  # may not fit torch

            base.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=ASIDE, dir=base) as aside, contextlib.ExitStack() as at_end:
                at_end.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
                socket.setdefaulttimeout(SILENCE)  # urllib waits for ever if nobody has set a limit
                if self.archive and (base / self.archive).is_file():
                    (Path(aside) / self.archive).symlink_to((base / self.archive).resolve())
                for arguments in self.calls:
                    getattr(datasets, type(self).__name__)(aside, download=True, **arguments)
                (base / self.folder).mkdir(parents=True, exist_ok=True)
                for file in self.files:
                    shutil.move(Path(aside) / self.folder / file, base / self.folder / file)
        except (OSError, RuntimeError, EOFError, tarfile.TarError) as problem:
            reason = one_line(problem)
            raise ConnectionError(self.absent(f"is absent, and its download failed ({reason})")) from problem
        return base / self.folder

    def split(self, folder: Path, labelled: Split) -> tuple[Split, Split | None]:
        """The labelled rows less the held-out share of every class, and that share, None if it is 0.

        Raises ValueError if the labels are not as many a class as published: the files are another dataset's.
        """
        x, y = labelled.x, labelled.y
        counts = tuple(y.bincount(minlength=len(self.counts)).tolist())
        if len(x) != len(y) or counts != self.counts:
            raise self.torn(folder, f"{len(x)} images, labels by class {counts}; published {self.counts}")
        rest, held = stratified_split(y, self.validation, self.split_seed)
        return Split(x[rest], y[rest]), Split(x[held], y[held]) if len(held) else None

    def absent(self, problem: str) -> str:
        looked = ", ".join(str(place.absolute()) for place in self.places())
        archive = f"or put {self.archive} into {self.root} and set dataset.download=true; " if self.archive else ""
        return (
            f"{type(self).__name__} {problem}. Looked in {looked} for {', '.join(self.files)}. "
            f"Fetch them from {self.url} and type dataset.root=FOLDER with the folder that holds them; {archive}"
            f"dataset=shapes and dataset=digits need no network, dataset=image_folder reads images of your own"
        )

    def torn(self, folder: Path, problem: object) -> ValueError:
        return ValueError(
            f"{type(self).__name__}: the files in {folder} are not those published ({problem}); "
            f"delete them and run again with dataset.download=true"
        )
