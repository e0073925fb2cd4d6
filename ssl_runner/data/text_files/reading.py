"""Texts of files: lines, paragraphs or whole .txt files, rows of .jsonl, .csv, .tsv, .parquet and .arrow."""

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ssl_runner.data.text_files.listing import PARTS, PLAIN, folders_of, place_of
from ssl_runner.data.text_files.words import cut_words

# Columns of texts, and of classes, if none is named.
TEXT = ("text", "sentence", "content", "document", "utterance", "question", "title")
LABEL = ("label", "class", "category", "intent", "genre", "topic")
QUOTED = re.compile(r'(?s)"([^"]|"")*"')  # a cell of .tsv
INSTALL = "pip install 'ssl-runner[text]'"
Unit = Literal["line", "paragraph", "file", "chunk"]


@dataclass(frozen=True)
class Text:
    """A text with what is known of it: part None for what is not in one, label None for no class."""

    text: str
    part: str | None
    label: str | None


class Found(NamedTuple):
    """The texts of files, how many rows of tables have none, and folders that are parts by their names alone."""

    texts: tuple[Text, ...]
    blank: int
    alone: tuple[str, ...]


def read_texts(root: Path, files: Sequence[Path], unit: Unit, text: str | None, label: str | None) -> Found:
    """All texts, without those that are empty. Raises ValueError, ImportError or OSError if a file cannot be read."""
    texts, blank = list[Text](), 0
    folders = {name for file in files for name in folders_of(root, file)}
    parts = {name: PARTS[name.lower()] for name in folders if name.lower() in PARTS}
    alone = () if "train" in parts.values() else tuple(sorted(parts))
    for file in files:
        plain = file.suffix.lower() in PLAIN
        part, folder = place_of(root, file, {} if alone else parts)
        found = list(read_file(file, unit, text, label))
        kept = [each for each in found if each.text.strip()]
        texts += [Text(each.text, each.part or part, folder if plain else each.label) for each in kept]
        blank += 0 if plain else len(found) - len(kept)
    return Found(tuple(texts), blank, alone)


def read_file(file: Path, unit: Unit, text: str | None, label: str | None) -> Iterator[Text]:
    """Texts as they are in a file, with what its columns say of them."""
    if file.suffix.lower() in PLAIN:
        yield from (Text(each, None, None) for each in split_text(read_plain(file), unit))
        return
    rows = list(read_rows(file))
    if not rows:
        return
    columns = choose_columns(file, dict.fromkeys(key for row in rows for key in row), text, label)
    for row in rows:
        value, known = row.get(columns[0]), row.get(columns[1]) if columns[1] else None
        part = PARTS.get(str(row.get(columns[2])).lower()) if columns[2] else None
        yield Text("" if value is None else str(value), part, None if known in (None, "") else str(known))


def read_plain(file: Path, newline: str | None = None) -> str:
    """`newline`: as of open; by default each end of a line is read as one sign."""
    try:
        with file.open(encoding="utf-8-sig", newline=newline) as opened:
            return opened.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no UTF-8 ({error.reason} at byte {error.start}); convert it with iconv") from None


def split_text(content: str, unit: Unit) -> list[str]:
    if unit == "line":
        return content.splitlines()
    return re.split(r"\n\s*\n", content) if unit == "paragraph" else [content]


def cut_text(text: str, tokenizer: str, length: int) -> list[str]:
    """Pieces that together are the text: of at most `length` bytes or words, of about so many other tokens."""
    if tokenizer == "words":
        return cut_words(text, length)
    most = length * (1 if tokenizer == "bytes" else 3)
    # to a blank in its second half, or else within a word, and never within a character
    piece = rb"(?s).{%d,%d}(?=\s|\Z)|.{1,%d}(?![\x80-\xbf])|.[\x80-\xbf]*" % (most // 2 + 1, most, most)
    return [each.decode() for each in re.findall(piece, text.encode())]


def read_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """Raises ValueError with the line that cannot be read."""
    suffix = file.suffix.lower()
    if suffix == ".jsonl":
        for number, line in enumerate(read_plain(file).split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: no JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{file}, line {number}: given {line[:40]}, and a mapping of columns is wanted")
            yield row
    elif suffix in (".csv", ".tsv"):
        yield from read_cells(file)
    else:
        yield from read_columns(file)


def read_cells(file: Path) -> Iterator[Mapping[str, str]]:
    """Rows of .csv and .tsv below their head. Quotes enclose tabs and ends of lines in .csv alone: texts of a .tsv may
    hold a single one, and a cell of it that is quoted as a whole is read without. Raises ValueError with the line.
    """
    tabs = file.suffix.lower() == ".tsv"
    form = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"delimiter": ","}
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(read_plain(file, newline=""), newline=""), strict=True, **form)
    head, line = list[str](), 1  # where a row begins
    try:
        for cells in rows:
            if tabs:
                cells = [cell[1:-1].replace('""', '"') if QUOTED.fullmatch(cell) else cell for cell in cells]
            if head and len(cells) not in (0, len(head)):
                given = f"{file}, line {line}: {len(cells)} cells under {len(head)} columns"
                raise ValueError(f"{given}; mend the line, or its quotes" if not tabs else f"{given}; mend the line")
            if head and cells:
                yield dict(zip(head, cells, strict=True))
            head, line = head or cells, rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{file}, line {line}: {error}; mend the quotes of the row that begins there") from None


def read_columns(file: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of parquet, and of the arrow files that Hugging Face's data sets keep on disk; classes by their names."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(f"{file.name} is read by pyarrow; type {INSTALL}") from None
    try:
        if file.suffix.lower() == ".parquet":
            table = pq.read_table(file)
        else:
            with pa.memory_map(str(file)) as source:
                table = pa.ipc.open_stream(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file}: {error}") from None
    described = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features", {})
    names = {key: each["names"] for key, each in features.items() if isinstance(each, dict) and "names" in each}
    for row in table.to_pylist():
        yield {key: names[key][v] if key in names and isinstance(v, int) and v >= 0 else v for key, v in row.items()}


def choose_columns(
    file: Path, names: Collection[str], text: str | None, label: str | None
) -> tuple[str, str | None, str | None]:
    """The columns of texts, of classes and of parts. Raises ValueError if one that was named is not there."""
    there = ", ".join(map(str, names))
    for name in (text, label):
        if name is not None and name not in names:
            raise ValueError(f"{file} has no column {name}; it has {there}")
    found = text or next((name for name in TEXT if name in names), None)
    if found is None:
        remedy = "type dataset.text=COLUMN (embed: --text COLUMN) for the one of texts"
        raise ValueError(f"{file} has the columns {there}; {remedy}")
    return found, label or next((name for name in LABEL if name in names), None), "split" if "split" in names else None
