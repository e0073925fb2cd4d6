"""`ssl-runner cache [FOLDER]`: what is kept of decoded images and recordings and of shards, and how to be rid of it.

FOLDER is one that dataset.cache=FOLDER named; by default it is the user's, $XDG_CACHE_HOME/ssl_runner or
~/.cache/ssl_runner. What is removed is decoded or downloaded again once a run needs it. A run that has it open goes on.
"""

import contextlib
import shutil
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from ssl_runner.engine.console import Terminal
from ssl_runner.errors import DONE, nearest, printable, refuse
from ssl_runner.run_folder.atomic import read_json

SHARD, NOTE, DAY = ".shard", ".json", 86400
EXAMPLES = """\
  ssl-runner cache                              list the entries
  ssl-runner cache --remove flowers-64px-1f3a   this one; the beginning of its name is enough
  ssl-runner cache --older 30                   remove what was not used for 30 days
  ssl-runner cache --remove all
"""


class Entry(NamedTuple):
    name: str
    content: str
    files: list[Path]

    @property
    def size(self) -> int:
        return sum(each.stat().st_size for file in self.files for each in (file, *file.rglob("*")) if each.is_file())

    @property
    def used(self) -> float:
        """When it was last read or written, in seconds since 1970."""
        stats = [each.stat() for each in self.files if each.suffix != NOTE]  # a note is read by this command as well
        return max(max(each.st_atime, each.st_mtime) for each in stats)


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(
        prog="ssl-runner cache", description=__doc__, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="of a cache (default: the user's)")
    parser.add_argument("--remove", nargs="+", default=[], metavar="NAME", help="remove these entries; all is each")
    parser.add_argument("--older", type=float, metavar="DAYS", help="remove what was not used for so many days")
    arguments = parser.parse_args(words)
    from ssl_runner.data.places import cache_folder, expand_home

    try:
        folder = arguments.folder or expand_home(cache_folder())
    except FileNotFoundError as error:
        return refuse([f"FOLDER: {error}, or type ssl-runner cache FOLDER"])
    if arguments.folder is not None and not folder.is_dir():
        return refuse([f"FOLDER: there is no folder {printable(folder)}"])
    entries, console = read_entries(folder), Terminal()
    chosen = [
        each for each in entries if arguments.older is not None and time.time() - each.used > DAY * arguments.older
    ]
    problems = []
    for name in arguments.remove:
        meant = [each for each in entries if name == "all" or each.name.startswith(name)]
        chosen += [each for each in meant if each not in chosen]
        if not meant and name != "all":
            problems.append(f"--remove: there is no entry {printable(name)}{nearest(name, [e.name for e in entries])}")
    if problems:
        return refuse(problems)
    if arguments.remove or arguments.older is not None:
        return remove(chosen, console)
    wide = max((len(each.name) for each in entries), default=0)
    for each in sorted(entries, key=lambda each: -each.size):
        used = time.strftime("%Y-%m-%d", time.localtime(each.used))
        console.print(f"{decimal(each.size):>12}  {used}  {each.name:{wide}}  {each.content}", soft_wrap=True)
    total = sum(each.size for each in entries)
    console.print(f"{printable(folder)}: {decimal(total) if entries else 'nothing is kept there'}", soft_wrap=True)
    return DONE


def read_entries(folder: Path) -> list[Entry]:
    """Decoded images and recordings, an entry each; indexes of shards; and all downloaded shards as one."""
    entries = []
    for path in sorted(folder.glob("*.npy")):
        beside = path.with_suffix(NOTE)
        with contextlib.suppress(KeyError, TypeError):  # none of ours
            note = read_json(beside)
            content = f"{note.get('kind', 'images')} of {printable(note['root'])}, decoded"
            entries.append(Entry(path.stem, content, [path, beside]))
    for place in (folder, folder / "shards"):
        entries += [Entry(path.name, "index of shards", [path]) for path in sorted(place.glob("index-*"))]
        if shards := [*place.glob(f"*{SHARD}")]:
            entries.append(Entry("shards", f"{len(shards):,} downloaded shards", shards))
    return entries


def remove(entries: list[Entry], console: Terminal) -> int:
    freed = sum(each.size for each in entries)
    try:
        for file in (file for each in entries for file in each.files):
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
    except OSError as error:
        return refuse([str(error)])
    for each in entries:
        console.print(f"removed: {each.name} ({each.content})", soft_wrap=True)
    console.print(f"{decimal(freed)} are free again" if entries else "there was nothing to remove")
    return DONE
