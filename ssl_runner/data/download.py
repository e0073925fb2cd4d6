"""Datasets as their authors publish them: where their files may lie, how they are fetched, what to say if not."""

import contextlib
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int, UInt8
from torch import Tensor

from ssl_runner.contract import Data, Split
from ssl_runner.data.split import held_out, stratified
from ssl_runner.data.statistics import fingerprint, statistics
from ssl_runner.run_folder.atomic import remove_abandoned

ASIDE = ".ssl_runner-fetch-"  # begins the name of a folder in the root while a download lasts
SILENCE = 60  # seconds without a byte after which a download has failed


@dataclass(frozen=True)
class Published:
    """The files of a dataset and what is known of them before they are read."""

    name: str  # as in dataset=NAME
    folder: str  # below the root, where torchvision unpacks the files; "" for the root itself
    files: tuple[str, ...]
    url: str  # what to fetch by hand
    counts: tuple[int, ...]  # labelled training rows a class
    archive: str | None = None  # a copy of it in the root is unpacked rather than downloaded

    def places(self, root: str) -> list[Path]:
        """Folders to look in: a root may be any folder above the files, or the one that holds them."""
        steps = Path(self.folder).parts
        return [Path(root).expanduser().joinpath(*steps[i:]) for i in range(len(steps) + 1)]

    def find(self, root: str) -> Path | None:
        """The folder that holds all the files, as they are or gzipped."""
        for place in self.places(root):
            if all((place / file).is_file() or (place / f"{file}.gz").is_file() for file in self.files):
                return place
        return None

    def require(self, root: str, download: bool) -> None:
        """Raises FileNotFoundError where the files are absent and may not be downloaded."""
        if not download and self.find(root) is None:
            raise FileNotFoundError(self.absent(root, "is absent, and dataset.download=false"))

    def fetch(self, root: str, download: Callable[[str], object]) -> Path:
        """The folder of the files, downloaded if they are not there.

        They are fetched and unpacked aside and then renamed, each at once, so that neither a kill nor a second run
        that downloads the same leaves a torn file.

        Args:
            download: torchvision's, into the folder that it is given.

        Raises:
            ConnectionError: they could not be had.
        """
        base = Path(root).expanduser()
        remove_abandoned(base, f"{ASIDE}*")
        found = self.find(root)
        if found is not None:
            return found
        try:
            base.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=ASIDE, dir=base) as aside, _patience():
                if self.archive and (base / self.archive).is_file():
                    (Path(aside) / self.archive).symlink_to((base / self.archive).resolve())
                download(aside)
                for file in self.files:
                    there = base / self.folder / file
                    there.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(Path(aside) / self.folder / file, there)
        except (OSError, RuntimeError, EOFError, tarfile.TarError) as problem:
            reason = " ".join(str(problem).split())
            raise ConnectionError(self.absent(root, f"is absent, and its download failed ({reason})")) from problem
        return base / self.folder

    def absent(self, root: str, what: str) -> str:
        looked = ", ".join(str(place.absolute()) for place in self.places(root))
        by_hand = f"or put {self.archive} into {root} and set dataset.download=true; " if self.archive else ""
        return (
            f"{self.name} {what}. Looked in {looked} for {', '.join(self.files)}. "
            f"Fetch them from {self.url} and type dataset.root=FOLDER with the folder that holds them; {by_hand}"
            f"dataset=shapes and dataset=digits need no network, dataset=image_folder reads images of your own"
        )

    def torn(self, folder: Path, why: object) -> ValueError:
        return ValueError(
            f"{self.name}: the files in {folder} are not those published ({why}); "
            f"delete them and run again with dataset.download=true"
        )

    def rows(self, validation: float) -> int:
        """Training rows that are left when validation is taken off."""
        return sum(count - held_out(count, validation) for count in self.counts)

    def labelled(
        self, folder: Path, x: UInt8[Tensor, "n c h w"], y: Int[Tensor, " n"], validation: float, seed: int
    ) -> tuple[Split, Split | None]:
        """The training rows in two, the second the held-out share of every class, or None for a share of 0.

        Raises:
            ValueError: the labels are not as many a class as were published: the files are another dataset's.
        """
        counts = tuple(y.bincount(minlength=len(self.counts)).tolist())
        if len(x) != len(y) or counts != self.counts:
            raise self.torn(folder, f"{len(x)} images, labels by class {counts}; published {self.counts}")
        rest, held = stratified(y, validation, seed)
        return Split(x[rest], y[rest]), Split(x[held], y[held]) if len(held) else None

    def supervised(
        self,
        folder: Path,
        train: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        *,
        classes: tuple[str, ...],
        validation: float,
        seed: int,
    ) -> Data:
        """Data of a dataset whose training rows are all labelled, from images (N, C, H, W) and labels (N,)."""
        bank, held = self.labelled(folder, *train, validation, seed)
        mean, std = statistics(bank.x)
        return Data(
            train=bank.x,
            bank=bank,
            validation=held,
            test=Split(*test),
            mean=mean,
            std=std,
            classes=classes,
            fingerprint=fingerprint(bank.x, bank.y, *((held.x, held.y) if held else ()), *test),
        )


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """urllib waits for ever where nobody has set a limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
