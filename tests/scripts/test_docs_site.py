"""The docs site: every page has a place in it, and every link within the repository leads somewhere."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*DOCS.rglob("*.md"), ROOT / "README.md"])
GENERATED = {"changelog.md", "catalogue.md"}  # by scripts/docs_site.py


def entries(nav):
    for each in nav:
        for value in each.values() if isinstance(each, dict) else [each]:
            yield from entries(value) if isinstance(value, list) else [value]


def test_every_page_has_one_place_in_the_navigation():
    listed = [*entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])]
    assert len(listed) == len(set(listed))
    assert {*listed} == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | GENERATED


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
        assert target in GENERATED or (ROOT / page).parent.joinpath(target).exists(), target
