"""Translated pages say what the English ones say: the same commands, code and figures, in the same order."""

import re

import pytest
from pages import BLOCK, COMMENT, ROOT

PAGES = {"README.zh-CN.md": "README.md", "docs/quickstart.zh-CN.md": "docs/quickstart.md"}
FIGURE = re.compile(r"\d[\d.,-]*\d|\d")
CATALOGUE = re.compile(r"<!-- catalogue: begin -->.*<!-- catalogue: end -->", re.DOTALL)  # in the English page alone


def text_of(page: str) -> str:
    return CATALOGUE.sub("", (ROOT / page).read_text(encoding="utf-8"))


def commands(page: str) -> list[str]:
    """The lines of blocks of code without their comments, but for what shows where files are."""
    blocks = [each for each in BLOCK.findall(text_of(page)) if not each.startswith("conf/ ")]
    return [COMMENT.sub("", line).rstrip() for block in blocks for line in block.splitlines()]


def promises(page: str) -> list[list[str]]:
    """The figures of each item of the list of promises, and of the sentence on the first command."""
    prose = BLOCK.sub("", text_of(page))
    return [sorted(FIGURE.findall(each)) for each in re.split(r"\n(?=- \*\*)|\n\n", prose) if each.startswith("- **")]


@pytest.mark.parametrize(("translated", "english"), PAGES.items())
def test_a_translation_has_the_commands_and_figures_of_the_english_page(translated, english):
    assert commands(translated) == commands(english)
    assert promises(translated) == promises(english)
    settings = [set(re.findall(r"`([a-z_@.]+=[^`]*)`", BLOCK.sub("", text_of(each)))) for each in (translated, english)]
    assert settings[0] == settings[1]


def test_a_changed_command_or_figure_is_seen(monkeypatch, tmp_path):
    for page in ("README.md", "README.zh-CN.md"):
        (tmp_path / page).write_text((ROOT / page).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "README.zh-CN.md"
    for now, other in (("length=200ep", "length=100ep"), ("0.92-1.0", "0.92-1.1"), ("88.6 %", "88.7 %")):
        text = file.read_text(encoding="utf-8")
        assert now in text
        file.write_text(text.replace(now, other), encoding="utf-8")
        with pytest.raises(AssertionError):
            test_a_translation_has_the_commands_and_figures_of_the_english_page("README.zh-CN.md", "README.md")
        file.write_text(text, encoding="utf-8")
