"""Random damage to files, and how many cases the fuzzers try: `SSL_RUNNER_FUZZ` and `SSL_RUNNER_FUZZ_SEED`."""

import itertools
import os
import random
import re
from pathlib import Path

CASES = int(os.environ.get("SSL_RUNNER_FUZZ", "10"))
KILLS = int(os.environ.get("SSL_RUNNER_FUZZ", "3"))
RUNS = int(os.environ.get("SSL_RUNNER_FUZZ", "40"))
SEED = int(os.environ.get("SSL_RUNNER_FUZZ_SEED", "0"))

LETTERS = "abcdefghij"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise(LETTERS)
)
CODE = "!!python/object/apply:os.system ['touch touched']\n"
NUMBERS = ["1" + "0" * 400, "-1", "1e400", "-1e308", "NaN", "Infinity", "18446744073709551616", "1" * 5000, "-0", "0.5"]
VALUES = [*NUMBERS, "null", "true", '"x"', "[]", "{}", "[[1]]", '{"a": [{}]}', '"os.system"', '"' + "y" * 10_000 + '"']
NUMBER = re.compile(r"(?<![\w.])-?\d+(\.\d+)?")
VALUE = re.compile(r"(?<=: )[^\n,{\[]+")
NAMES = re.compile(r'(?m)(?<=")[\w/]+(?=": )|^\s*\w+(?=:)')
GIGABYTES = 40 << 30  # of a sparse file


def replaced(pattern: re.Pattern, text: str, values: list[str], rng: random.Random) -> str:
    """With one match of a pattern replaced."""
    places = list(pattern.finditer(text))
    if not places:
        return rng.choice(values)
    place = rng.choice(places)
    return text[: place.start()] + rng.choice(values) + text[place.end() :]


def damaged(content: bytes, kind: str, rng: random.Random) -> bytes:
    text, at = content.decode("latin1"), rng.randrange(len(content) + 1)
    if kind == "flip":
        at = min(at, len(content) - 1)
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == "splice":
        return content[:at] + content[rng.randrange(at, len(content) + 1) :]
    if kind == "lines":
        lines = content.splitlines(keepends=True)
        return b"".join(rng.sample(lines, rng.randrange(len(lines) + 1)))
    if kind == "deep":
        depth = rng.choice([60, 400, 3000, 100_000])
        return rng.choice(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "- " * depth]).encode()
    return {
        "truncate": lambda: text[:at],
        "empty": lambda: "",
        "zeros": lambda: "\0" * len(text),
        "twice": lambda: text * 2,
        "bomb": lambda: rng.choice([BOMB, text + BOMB]),
        "code": lambda: rng.choice([CODE, f"{text}code: {CODE}"]),
        "number": lambda: replaced(NUMBER, text, NUMBERS, rng),
        "type": lambda: replaced(VALUE, text, VALUES, rng),
        "name": lambda: replaced(NAMES, text, ["x", "a/b", "", "\u202e", "é"], rng),
    }[kind]().encode("latin1", "replace")


CONTENTS = [
    "flip",
    "flip",
    "splice",
    "lines",
    "deep",
    "truncate",
    "truncate",
    "empty",
    "zeros",
    "twice",
    "bomb",
    "code",
]
CONTENTS += ["number", "number", "type", "type", "type", "name"]
PLACES = ["folder", "full folder", "pipe", "loop", "dangling", "sparse", "absent"]


def damage(path: Path, kind: str, rng: random.Random) -> None:
    """Damages a file, or puts another thing in its place."""
    content = path.read_bytes()
    path.unlink()
    if kind in ("folder", "full folder"):
        path.mkdir()
        (path / "content").write_bytes(content) if kind == "full folder" else None
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in ("loop", "dangling"):
        path.symlink_to(path.name if kind == "loop" else "absent")
    elif kind == "sparse":
        path.write_bytes(rng.choice([b"", content]))
        os.truncate(path, GIGABYTES)
    elif kind != "absent":
        path.write_bytes(damaged(content, kind, rng))
