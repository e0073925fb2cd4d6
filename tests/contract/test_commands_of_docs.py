"""Commands of README and docs can be typed: each composes. Of pages that the last commit has changed all are tried."""

import re
import shlex

import pytest
from pages import BLOCK, COMMENT, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACES = re.compile(r"\b(NAME|FOLDER|GROUP|RUN|MODULE|TASK|FILE|KEY|VALUE|N)(\b|_)|\.\.\.|--|\||interval\(")
WRONG = "pretext=simclar lr=1 batch_size=-2"  # which README shows being refused
OF_SWEEPS = ("-m", "sweep.", "hydra/", "hydra.")  # which no job has
ELSEWHERE = "experiment=demo"  # of a team's own repository


def commands(page):
    """What is trained in a page's blocks and between its backquotes, without what stands for something else."""
    text = page.read_text(encoding="utf-8")
    blocks = "".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    for line in [*blocks, *re.findall(r"`(ssl-runner [^`]+)`", text)]:
        words = COMMENT.sub("", line).strip().removeprefix("$ ")
        known = not words.endswith((WRONG, ELSEWHERE))
        if words.startswith("ssl-runner ") and known and not PLACES.search(words):
            typed = [word for word in shlex.split(words)[1:] if not word.startswith(OF_SWEEPS)]
            if typed and "=" in typed[0]:
                yield typed


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(each, id=str(each.relative_to(ROOT)), marks=pytest.mark.slow(of=each.stem))
        for each in PAGES
        if any(commands(each))
    ],
)
def test_they_compose(composer, page):
    for typed in dict.fromkeys(map(tuple, commands(page))):
        jobs, problems = composer.expand(typed)
        assert not problems, typed
        assert not composer.compose(jobs[0]).problems, typed


def test_they_are_found_as_pages_have_them(tmp_path):
    page = tmp_path / "page.md"
    block = "$ ssl-runner -m seed=1,2 sweep.jobs=2 \\\n  pretext=b  # twice\nssl-runner dataset.root=FOLDER"
    page.write_text(f"`ssl-runner pretext=a b='[c,d]'` and `ssl-runner evaluate RUN`\n```sh\n{block}\n```\n")
    assert [*commands(page)] == [["seed=1,2", "pretext=b"], ["pretext=a", "b=[c,d]"]]
