"""MkDocs hook: the changelog and README's catalogue as pages, links that leave docs/ made to fit, MathML formulas."""

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")
CATALOGUE = re.compile(r"<!-- catalogue: begin -->\n(.*)<!-- catalogue: end -->", re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\w$])\$([^$\n]+?)\$(?![\w$])", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
OUTSIDE = re.compile(r"\]\((?!docs/|\w+:|#)")
CHANGE = re.compile(r"(?<=\d) → (?=\d)")  # of a number, which stays on its line
METHOD = re.compile(r"^(\|[^|]*\| )`(\w+)`", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that stand outside docs/."""
    changes = OUTSIDE.sub("](../", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")).replace("](docs/", "](")
    table = CATALOGUE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    if table is None:
        raise PluginError("README.md has no table between <!-- catalogue: begin --> and <!-- catalogue: end -->")
    methods = METHOD.sub(r"\1[`\2`](reference/pretext.md#\2)", table[1]).replace("](docs/", "](")
    intro = (
        "# Catalogue\n\nTop-1 accuracies in per cent on held-out rows; [results](results.md) has what they rest on.\n\n"
    )
    for name, content in {"changelog.md": changes, "catalogue.md": intro + methods}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files outside docs/ lead to the repository if `repo_url` names it, and are plain text otherwise."""
    docs = Path(config["docs_dir"])
    here = (docs / page.file.src_uri).parent

    def change(match: re.Match[str]) -> str:
        target = (here / match[2]).resolve()
        if target.is_relative_to(docs) and not target.is_dir():
            return match[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: links to {match[2]}, which is not there")
        if not config["repo_url"]:
            return match[1]
        return f"[{match[1]}]({config['repo_url'].rstrip('/')}/blob/main/{target.relative_to(ROOT).as_posix()})"

    parts = CODE.split(LINK.sub(change, markdown))  # every second one is code
    text = "".join(part if number % 2 else FORMULA.sub(as_mathml, part) for number, part in enumerate(parts))
    return CHANGE.sub("\u00a0→\u00a0", text)


def as_mathml(match: re.Match[str]) -> str:
    """A formula, which every browser draws by itself, where MathJax would be fetched."""
    formula = (match[1] or match[2]).replace(r"\arg\max", r"\text{arg max}")
    drawn = convert(formula, display="block" if match[1] else "inline")
    if "\\" in drawn:
        raise PluginError(f"latex2mathml does not know a word of {formula}")
    if match[1]:  # on a narrow screen it scrolls by itself; a search would show its letters without their places
        return f'<div class="formula" data-search-exclude>{drawn}</div>'
    return f"<span>{drawn}</span>"  # at the beginning of a line it would be a paragraph
