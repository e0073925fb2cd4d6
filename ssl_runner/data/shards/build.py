"""Index of shards that have none: made once by reading all of them, and kept in the cache."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ssl_runner.data.shards.fetch import Fetcher
from ssl_runner.data.shards.index import MOST, Index, collect, parse_index, write_index
from ssl_runner.data.shards.location import Folder, Remote
from ssl_runner.data.shards.parts import part_of
from ssl_runner.data.shards.scan import INDEXES, SUFFIXES, Scan, Shard
from ssl_runner.duration import Phase
from ssl_runner.errors import are, plural, printable
from ssl_runner.run_folder.atomic import digest, read_file

THREADS = 4  # that download
FIRST = 5  # damaged shards that are named, of many

logger = logging.getLogger("ssl_runner")


def find_index(fetcher: Fetcher) -> Index:
    """The index that lies beside the shards, or the one in the cache, or a new one.

    Raises FileNotFoundError if there are no shards, ValueError if some are damaged or not those of the index, OSError
    if they cannot be read.
    """
    location = fetcher.location
    described = location.read(INDEXES[0], MOST[INDEXES[0]])
    if described is not None and is_ours(described):
        try:
            index = parse_index(described, location.read(INDEXES[1], MOST[INDEXES[1]]) or b"")
        except ValueError as error:
            remedy = f"pack the shards again, or remove {' and '.join(INDEXES)}: then a new index is made"
            raise ValueError(f"the index of {location.shown}: {error}; {remedy}") from error
        require_whole(fetcher, index)
        return index.only(location.sizes()) if isinstance(location, Remote) and location.pattern else index
    sizes = location.sizes()
    if not sizes:
        wanted = ", ".join(SUFFIXES)
        raise FileNotFoundError(f"dataset.root={location.shown} has no shards ({wanted}); type dataset.root=FOLDER")
    known = {"sizes": sizes, "place": location.place, "versions": location.versions(sizes)}
    known |= {"keys": [fetcher.image_key, fetcher.label_key]}
    folder = fetcher.cache.folder / f"index-{digest(known, 16)}"
    try:
        return parse_index(*(read_file(folder / name, MOST[name]) for name in INDEXES))
    except (OSError, ValueError):
        index = make_index(fetcher, [Shard(name, part_of(name), 0, size) for name, size in sizes.items()])
        write_index(folder, index)
        return index


def is_ours(described: bytes) -> bool:
    """Whether an index.json is one of these; other tools write other ones under this name."""
    try:
        known = json.loads(described)
    except (ValueError, RecursionError):
        return False
    return isinstance(known, dict) and {"format", "table"} <= known.keys()


def require_whole(fetcher: Fetcher, index: Index) -> None:
    """Raises ValueError that names the shards of a folder that are missing or have other bytes than the index says."""
    location = fetcher.location
    if not isinstance(location, Folder):
        return  # each is looked at when it arrives
    sizes = location.sizes()
    wrong = [
        f"{printable(shard.name)} has {sizes[shard.name]:,} bytes of {shard.bytes:,}"
        if shard.name in sizes
        else f"{printable(shard.name)} is missing"
        for shard in index.shards
        if sizes.get(shard.name) != shard.bytes
    ]
    refuse_damaged(location.shown, wrong)
    if further := sizes.keys() - {shard.name for shard in index.shards}:
        shards, verb = plural(len(further), "shard"), are(len(further))
        logger.warning("%s of %s %s not in its index and %s left out", shards, location.shown, verb, verb)


def refuse_damaged(shown: str, wrong: list[str]) -> None:
    if wrong:
        first = "; ".join(wrong[:FIRST]) + ("; ..." if len(wrong) > FIRST else "")
        shards, them = f"{plural(len(wrong), 'shard')} of {shown}", "it" if len(wrong) == 1 else "them"
        raise ValueError(f"{shards} {are(len(wrong))} damaged or missing: {first}; pack or download {them} again")


def make_index(fetcher: Fetcher, shards: list[Shard]) -> Index:
    """Reads all shards. Raises ValueError with the names of damaged ones."""
    how = "downloading" if fetcher.location.remote else "reading"
    logger.info("%s has no index: %s %s for one", fetcher.location.shown, how, plural(len(shards), "shard"))
    scans: list[Scan] = []
    wrong = []
    with ThreadPoolExecutor(THREADS) as pool, Phase(how, len(shards), "shards") as phase:
        for scan in pool.map(lambda shard: scan_or_problem(fetcher, shard), shards):
            if isinstance(scan, str):
                wrong.append(scan)
                scan = Scan([], [])
            scans.append(scan)
            phase.advance()
    refuse_damaged(fetcher.location.shown, wrong)
    pairs = zip(shards, scans, strict=True)
    known = [replace(a, samples=len(b.labels), bytes=b.bytes, sha256=b.sha256) for a, b in pairs]
    return collect(known, scans)


def scan_or_problem(fetcher: Fetcher, shard: Shard) -> Scan | str:
    try:
        return fetcher.scan(shard)
    except ValueError as error:
        return str(error)
