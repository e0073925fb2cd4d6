"""`ssl-runner cache`: entries have readable names, are listed, and are removed by name or by age."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from image_trees import paint
from runs import enter, refusal

from ssl_runner.dataset.audio_folder import AudioFolder
from ssl_runner.dataset.image_folder import ImageFolder

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def cached(monkeypatch):
    """The names of the entries of two folders of images, in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", "user")
    for folder in ("my flowers", "birds"):
        for number in range(4):
            paint(Path(folder, f"{number}.png"), (number, 0, len(folder)))
        ImageFolder(root=folder, labels=False).load()
    return sorted(path.stem for path in Path("user/ssl_runner").glob("*.npy"))


def test_entries_are_named_by_their_folder_and_listed_with_it(cached, capsys):
    assert [name.rpartition("-")[0] for name in cached] == ["birds-16px", "my_flowers-16px"]
    enter(capsys, "cache", *cached, f"images of {Path('birds').absolute()}, decoded", time.strftime("%Y-%m-%d"))
    Path("birds").rename("other")
    ImageFolder(root="other", labels=False).load()
    assert len(list(Path("user/ssl_runner").glob("*.npy"))) == 2, "the same images under another name are the same"


def test_what_is_named_is_removed_and_nothing_else(cached, capsys):
    Path("user/ssl_runner/mine.npy").write_bytes(b"mine")
    enter(capsys, "cache --remove birds", f"removed: {cached[0]}", "B are free again")
    assert {path.stem for path in Path("user/ssl_runner").iterdir()} == {cached[1], "mine"}
    enter(capsys, "cache user/ssl_runner --remove all")
    assert [path.name for path in Path("user/ssl_runner").iterdir()] == ["mine.npy"]
    enter(capsys, "cache", "nothing is kept there")
    enter(capsys, "cache --remove all", "nothing to remove")


def test_recordings_are_listed_and_removed_as_images_are(cached, capsys):
    for number in range(4):
        Path("talks").mkdir(exist_ok=True)
        soundfile.write(f"talks/{number}.wav", np.full(8000, 0.1 * (number + 1)), 8000)
    AudioFolder(root="talks", rate=8000).load()
    (entry,) = Path("user/ssl_runner").glob("talks-8000hz-*.npy")
    enter(capsys, "cache", *cached, entry.stem, f"recordings of {Path('talks').absolute()}, decoded")
    for path in Path("user/ssl_runner").glob("talks-*"):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    enter(capsys, "cache --older 30", f"removed: {entry.stem} (recordings of")
    assert not [*Path("user/ssl_runner").glob("talks-*")]
    AudioFolder(root="talks", rate=8000).load()
    enter(capsys, "cache --remove all", f"removed: {entry.stem}")
    assert not [*Path("user/ssl_runner").iterdir()]


def test_what_was_not_used_for_long_is_removed(cached, capsys):
    for path in Path("user/ssl_runner").glob(f"{cached[0]}.*"):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    enter(capsys, "cache --older 30", f"removed: {cached[0]}")
    assert {path.stem for path in Path("user/ssl_runner").iterdir()} == {cached[1]}


def test_mistakes_are_refused(cached, capsys):
    refusal(capsys, "cache --remove bird5-16px", "there is no entry bird5-16px")
    refusal(capsys, "cache nowhere", "no folder nowhere")
