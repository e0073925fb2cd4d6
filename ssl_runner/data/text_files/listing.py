"""Walk through folders of texts: which files are read, and which part and class their names say."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

PLAIN, TABLES = (".txt",), (".jsonl", ".csv", ".tsv", ".parquet", ".arrow")
PARTS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"}
PARTS |= {"dev": "validation", "test": "test", "testing": "test"}
# A file's name, without its suffix, that is a part: train, train2, train-00000-of-00002, test_labels, test-clean,
# test (1). Several words between dashes are a title, as in test-driven-development.
STEM = re.compile(rf"({'|'.join(PARTS)})( ?\(?\d+\)?)?([_.].*|-\d.*|-[^- ]*(-\d.*)?)?")


def text_files(root: Path) -> tuple[list[Path], Counter[str]]:
    """The files of a folder that can be read, in order, or the one file that the root is; and how many others there
    are, by suffix. Hidden ones are neither. Raises FileNotFoundError if none can be read.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist; type dataset.root=FOLDER")
    files = [root] if root.is_file() else sorted(each for each in root.rglob("*") if each.is_file())
    files = [each for each in files if not any(part.startswith(".") for part in each.relative_to(root).parts)]
    own = [each for each in files if each.suffix.lower() in PLAIN + TABLES]
    if not own:
        raise FileNotFoundError(f"{root} has no file of {', '.join(PLAIN + TABLES)}; type dataset.root=FOLDER")
    others = [each for each in files if each.suffix.lower() not in PLAIN + TABLES]
    return own, Counter(each.suffix.lower() or "without a suffix" for each in others)


def folders_of(root: Path, file: Path) -> Sequence[str]:
    return file.relative_to(root).parts[:-1]


def place_of(root: Path, file: Path, parts: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Part of a file by its folders, or else by its name, and its class by its first folder that is no part.

    `parts`: of folders. The one file that a root is has no part.
    """
    folders = folders_of(root, file)
    named = STEM.fullmatch(file.stem.lower()) if file != root else None
    part = next((parts[name] for name in folders if name in parts), PARTS[named[1]] if named else None)
    return part, next((name for name in folders if name not in parts), None)
