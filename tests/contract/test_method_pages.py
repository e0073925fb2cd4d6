"""Pages of methods, held against the code: each method is in the index, and what a page says to type is possible."""

import inspect
import re
from pathlib import Path

import pytest
from conftest import names
from result_pages import paper_of
from toys import choice

from ssl_runner.config.compose import TREE

PAGES = Path(__file__).parents[2] / "docs" / "methods"
SECTIONS = {
    section[1]: section[2]
    for page in sorted(PAGES.glob("*.md"))
    for section in re.finditer(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.M | re.S)
}


@pytest.mark.parametrize("name", names("pretext"))
def test_each_method_is_in_the_index(name):
    assert f"`{name}`" in (PAGES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_names_what_there_is(name):
    text = SECTIONS[name]
    settings = inspect.signature(choice("pretext", name)[0]).parameters
    assert set(re.findall(r"pretext\.(\w+)", text)) <= settings.keys()
    recipes = re.findall(r"experiment=(\w+)", text)
    assert all((TREE / "experiment" / f"{each}.yaml").is_file() for each in recipes), recipes
    assert set(re.findall(r"ssl-runner pretext=(\w+)", text)) == {name}
    file = Path(inspect.getfile(choice("pretext", name)[0])).read_text(encoding="utf-8")
    numbers = re.findall(r"arXiv (\d{4}\.\d{4,5})", text)
    assert all(each in file for each in numbers), numbers
    assert bool(numbers) == ("arXiv" in paper_of(name))
    assert all((PAGES / each).is_file() for each in re.findall(r"!\[.*?\]\((.*?)\)", text))
