"""Tables made of docs/results.json: docs/results.md and README's catalogue, each between two markers of its page."""

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_runner.comparison.statistics import interval
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.describe import docstring_of, file_of, first_sentence, target_of
from ssl_runner.config.files import parse_yaml
from ssl_runner.run_folder.atomic import write

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"results": ROOT / "docs" / "results.md", "catalogue": ROOT / "README.md"}
ARXIV = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})")
FAMILIES = {  # as the pages of docs/methods/
    "contrastive": "simclr moco_v2 moco_v3 nnclr dcl pirl instance_discrimination",
    "self-distillation": "byol simsiam dino ressl msn ibot dinov2",
    "redundancy reduction": "barlow_twins vicreg vibcreg w_mse tico frossl mmcr emp_ssl lejepa visreg",
    "clustering": "deepcluster_v2 swav smog all4one",
    "dense": "densecl vicregl",
    "masked": "mae crossmae simmim maskfeat beit data2vec ijepa capi aim nepa",
    "speech": "cpc wav2vec2 hubert",
    "generative": "autoencoder vae vq_vae bigan diffusion",
    "context": "rotation flip crop transformation jigsaw relative_patch counting "
    "colorisation inpainting super_resolution",
    "text": "mlm clm simcse electra tsdae",
}
FAMILY = {method: family for family, methods in FAMILIES.items() for method in methods.split()}
ORDER = [*FAMILIES, "other"]
Row = dict[str, Any]


def paper_of(method: str) -> str:
    """Title, and the arXiv number if there is one, as the method's file opens with them."""
    file = file_of(Composer(), f"pretext/{method}")
    docstring = docstring_of(target_of(parse_yaml(file.read_text(encoding="utf-8"))), whole=True)
    found = ARXIV.search(docstring)
    return first_sentence(docstring).rstrip(".") + (f", arXiv {found[1]}" if found else "")


def linked(paper: str) -> str:
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", paper)


def groups(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows over seeds, by dataset and method, family by family."""
    by_name = defaultdict(list)
    place = {family: number for number, family in enumerate(ORDER)}
    for row in sorted(rows, key=lambda row: (place.get(row["family"], len(ORDER)), row["method"], row["seed"])):
        by_name[row["dataset"], row["method"]].append(row)
    return dict(by_name)


def shown(rows: Sequence[Row], protocol: str, which: str) -> str:
    """A mean in per cent, with its 95 % interval if there are several seeds."""
    of = interval([100 * row[protocol][which] for row in rows])
    return f"{of.mean:.1f}" + (f" ± {of.half:.1f}" if len(rows) > 1 else "")


def results(rows: Sequence[Row]) -> list[str]:
    """A table for each dataset."""
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in sorted(rows, key=lambda row: row["dataset"] != "shapes")):
        lines += ["", f"### {dataset}", ""]
        lines += ["| method | family | kNN | kNN, test | probe | probe, test | steps | samples/s | CPU s | seeds |"]
        lines += ["|---|---|---|---|---|---|---|---|---|---|"]
        for (_, method), own in ((key, own) for key, own in groups(rows).items() if key[0] == dataset):
            numbers = [
                cell
                for each in ("knn", "probe")
                for cell in (f"{shown(own, each, 'random')} → {shown(own, each, 'trained')}", shown(own, each, "test"))
            ]
            first = own[0]
            cost = [first["steps"], f"{first['samples_per_second']:,.0f}", first["seconds"], len(own)]
            lines.append(f"| {' | '.join(map(str, [f'`{method}`', first['family'], *numbers, *cost]))} |")
    return lines


def catalogue(rows: Sequence[Row]) -> list[str]:
    """A row for each method of conf/pretext, with its numbers on each dataset if it has them."""
    datasets = list(dict.fromkeys(row["dataset"] for row in sorted(rows, key=lambda row: row["dataset"] != "shapes")))
    names, known = sorted(file.stem for file in (TREE / "pretext").glob("*.yaml")), groups(rows)
    lines = [f"| family | method | paper |{''.join(f' {each}: kNN / probe |' for each in datasets)}"]
    lines += ["|---" * (3 + len(datasets)) + "|"]
    for family in ORDER:
        for method in (each for each in names if FAMILY.get(each, "other") == family):
            both = [known.get((dataset, method)) for dataset in datasets]
            numbers = [
                f"{shown(own, 'knn', 'trained')} / {shown(own, 'probe', 'trained')}" if own else "" for own in both
            ]
            lines.append(f"| {' | '.join([family, f'`{method}`', linked(paper_of(method)), *numbers])} |")
    return lines


def write_pages(rows: Sequence[Row]) -> None:
    """Puts the tables between their markers; what else a page says stays."""
    for (name, page), table in zip(PAGES.items(), (results, catalogue), strict=True):
        begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
        before, found, rest = page.read_text(encoding="utf-8").partition(begin)
        _, ends, after = rest.partition(end)
        if not (found and ends):
            print(f"{page.name} has no table: write {begin} and {end} where it is to be", file=sys.stderr)
            continue
        text = f"{before}{begin}\n" + "\n".join(table(rows)).strip("\n") + f"\n{end}{after}"
        if text != page.read_text(encoding="utf-8"):
            write(page, text)
