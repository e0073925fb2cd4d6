"""The docs site: every page has a place in it, and every link within the repository leads somewhere."""

import re
from pathlib import Path
from types import SimpleNamespace

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


@pytest.fixture
def hook():
    for library in ("mkdocs", "latex2mathml"):
        pytest.importorskip(library)
    import docs_site

    return docs_site


def carried(hook, markdown):
    config = {"docs_dir": str(DOCS), "repo_url": None}
    return hook.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri="some.md")), config, None)


def test_formulas_are_drawn_whole_or_refused(hook):
    shown = carried(hook, r"$$c = \arg\max_k z_k$$ and `$$x$$`")
    assert shown.startswith('<div class="formula" data-search-exclude><math')
    assert re.search("<mtext>arg.{1,9}max</mtext>", shown)
    assert shown.endswith("and `$$x$$`")
    with pytest.raises(Exception, match="does not know a word of"):
        carried(hook, r"$$\nosuchword x$$")


def test_links_of_the_changelog_that_leave_the_docs_are_plain(hook, monkeypatch):
    pages = []
    made = SimpleNamespace(generated=lambda config, name, content: (name, content))
    monkeypatch.setattr(hook, "File", made)
    hook.on_files(SimpleNamespace(append=pages.append), {})
    changes = carried(hook, dict(pages)["changelog.md"])
    assert "scripts/docker/Dockerfile makes" in changes.replace("](", "")
    assert not re.search(r"\]\((\.\./)?scripts/", changes)
