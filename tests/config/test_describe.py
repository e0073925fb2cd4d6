"""`ssl-runner list` and `ssl-runner GROUP=CHOICE --help`: each choice in a line, each setting with its meaning."""

import subprocess
import sys
from typing import Annotated, Literal

import pytest
from annotated_types import Gt, Interval
from conftest import names
from reference import PAGES, describe_group, group_page, pages
from runs import CLEAN, enter, put, refusal

from ssl_runner.config.compose import TREE
from ssl_runner.config.describe import describe_choices, describe_type, documented, first_sentence
from ssl_runner.duration import Duration

GROUPS = sorted({file.parent.name for file in TREE.glob("*/*.yaml")} - {"experiment"})


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_and_setting_is_described_and_the_reference_page_says_the_same(composer, group):
    lines, described = describe_choices(composer, group), describe_group(composer, group)
    assert [*lines] == names(group)
    assert all(len(line) > 10 for line in lines.values())
    assert len({*lines.values()}) == len(lines)
    for name, settings in described.items():
        for each in settings:
            assert all((each.type, each.default, each.meaning)), f"{name}: add a comment beside {each.key}"
    page = (PAGES / f"{group}.md").read_text(encoding="utf-8")
    assert group_page(composer, group, described) == page, "type python scripts/reference.py"


def test_the_other_reference_pages_are_in_step(composer):
    every = pages(composer) | {"experiment": group_page(composer, "experiment", describe_group(composer, "experiment"))}
    for name, text in every.items():
        assert text == (PAGES / f"{name}.md").read_text(encoding="utf-8"), "type python scripts/reference.py"
    assert {file.stem for file in PAGES.glob("*.md")} == {*every, *GROUPS}


def test_types_and_ranges_are_said_in_words():
    said = {
        "float > 0": Annotated[float, Gt(0)],
        "float in [0, 1)": Annotated[float, Interval(ge=0, lt=1)],
        "int in (0, 5] or null": Annotated[int, Interval(gt=0, le=5)] | None,
        "ddp|fsdp": Literal["ddp", "fsdp"],
        "true|false or text": bool | str,
        "2 of float > 0": tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]],
        "list of int": tuple[int, ...],
        "duration": Duration,
    }
    assert {words: describe_type(annotation) for words, annotation in said.items()} == {each: each for each in said}


def test_what_a_docstring_says_of_a_setting_is_found():
    text = "Does it.\n\n    a, b: widths of 0.5 or\n        more. c: another. Raises."
    assert [documented(text, key) for key in "abcd"] == [
        "widths of 0.5 or more",
        "widths of 0.5 or more",
        "another",
        "",
    ]
    assert (
        first_sentence("One of arXiv 2002.05709, or\nmore. 400 steps.\n\nThen.") == "One of arXiv 2002.05709, or more."
    )


def test_list_and_the_help_of_choices(here, capsys):
    text = enter(capsys, "list optimizer pretext", "optimizer=NAME", "  adamw  torch.optim.AdamW; a step", "  simclr ")
    assert "dataset" not in text
    text = enter(
        capsys, "pretext=dino optimizer=sgd pretext.hidden=7 --help", "pretext=dino: Predicts", "optimizer=sgd: "
    )
    (row,) = [line.split() for line in text.splitlines() if "pretext.momentum" in line]
    assert row[:8] == ["pretext.momentum", "float", "in", "[0,", "1]", "0.99", "of", "the"]
    assert "augment@pretext.augment_local=NAME, by default what the dataset recommends" in text
    enter(capsys, "evaluator=[knn,probe] --help", "evaluator.knn.k ", "evaluator.probe.l2")
    enter(capsys, "dataset=image_folder --help", "dataset.root ", "???", "dataset.imbalance")
    enter(capsys, "experiment=dino_shapes --help", "override /pretext: dino")
    enter(capsys, "--help", "usage: ssl-runner")
    refusal(capsys, "pretext=simclar --help", "did you mean simclr?")
    refusal(capsys, "list pretexts", "did you mean pretext?")
    refusal(capsys, "list --config-dir nowhere", "nowhere")


def test_a_choice_of_ones_own_is_listed_with_the_comments_that_it_inherits(here, capsys):
    put("conf/optimizer/mine.yaml", "# A slow one.\ndefaults:\n  - sgd\nlr: 0.001 # slow\n")
    enter(capsys, "list optimizer --config-dir conf", "  mine   A slow one.")
    text = enter(
        capsys, "optimizer=mine --help --config-dir conf", "optimizer=mine: A slow one.", "a share of the run 5%"
    )
    assert [line.split()[-1] for line in text.splitlines() if "optimizer.lr" in line] == ["slow"]


def test_neither_needs_torch():
    code = "import sys; from ssl_runner.__main__ import main\n"
    code += "assert main(sys.argv[1:]) == 0 and 'torch' not in sys.modules"
    for words in (["list"], ["pretext=dino", "--help"]):
        assert subprocess.run([sys.executable, "-c", code, *words], capture_output=True, env=CLEAN).returncode == 0
