"""What is made of docs/results.json: docs/results.md and README's catalogue, each between two markers of its page, and
lengths and numbers of the recipes in conf/experiment."""

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from result_jobs import ROOT, SHARES, STAGES, Row, minutes

from ssl_runner.comparison.statistics import interval
from ssl_runner.config.compose import TREE, Composer
from ssl_runner.config.describe import docstring_of, file_of, first_sentence, target_of
from ssl_runner.config.files import parse_yaml
from ssl_runner.run_folder.atomic import write

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
NAMED = {"knn": "kNN", "probe": "probe"}
MEASURED = re.compile(r"# [\d.]+ minutes of one CPU core, seed 0: .*\n")
LENGTH = re.compile(r"^length: .*$", re.MULTILINE)


def paper_of(method: str) -> str:
    """Title, and the arXiv number if there is one, as the method's file opens with them."""
    file = file_of(Composer(), f"pretext/{method}")
    docstring = docstring_of(target_of(parse_yaml(file.read_text(encoding="utf-8"))), whole=True)
    found = ARXIV.search(docstring)
    return first_sentence(docstring).rstrip(".") + (f", arXiv {found[1]}" if found else "")


def linked(paper: str) -> str:
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", paper)


def groups(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows over seeds, by dataset, method and what it goes on from, family by family."""
    by_name = defaultdict(list)
    place = {family: number for number, family in enumerate(ORDER)}
    for row in sorted(rows, key=lambda row: (place.get(row["family"], len(ORDER)), row["method"], row["seed"])):
        by_name[row["dataset"], row["method"], row.get("after", "")].append(row)
    return dict(by_name)


def shown(rows: Sequence[Row], protocol: str, which: str) -> str:
    """A mean in per cent, with its 95 % interval if there are several seeds; nothing if rows lack it."""
    if not all(which in row[protocol] for row in rows):
        return ""
    return mean_shown([100 * row[protocol][which] for row in rows])


def mean_shown(values: Sequence[float]) -> str:
    """A mean, with its 95 % interval if there are several values."""
    of = interval(values)
    return f"{of.mean:.1f}" + (f" ± {of.half:.1f}" if len(values) > 1 else "")


def gained(rows: Sequence[Row], protocol: str) -> str:
    """The trained encoder's mean in per cent, and how many points above its random encoder that is.

    On test, where its speakers are in no other part: validation then has those of training.
    """
    before, after = ("random_test", "test") if "random_test" in rows[0][protocol] else ("random", "trained")
    gain = sum(row[protocol][after] - row[protocol][before] for row in rows) / len(rows)
    return f"{shown(rows, protocol, after)} ({100 * gain:+.0f})"


def results(rows: Sequence[Row]) -> list[str]:
    """A table for each stage, with a column of raw features and one of ABX errors where rows have them."""
    lines = []
    for dataset in stages(rows):
        here = {key: own for key, own in groups(rows).items() if key[0] == dataset}
        protocols = [each for each in (*SHARES, "abx") if all(each in own[0] for own in here.values())]
        raw = [each for each in SHARES if STAGES[dataset].kind != "image"]
        named = NAMED | {"abx": "ABX error"}
        heads = [
            head
            for each in protocols
            for head in (named[each], *([f"{named[each]}, raw"] if each in raw else []), f"{named[each]}, test")
        ]
        heads = ["method", "family", *heads, "steps", "samples/s", "CPU s", "seeds"]
        lines += ["", f"### {dataset}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for (_, method, after), own in here.items():
            name = f"`{method}` after `{after}`" if after else f"`{method}`"
            numbers = [cell for each in protocols for cell in cells(own, each, each in raw)]
            first = own[0]
            steps = f"{first['steps']} in {first['minutes']:g} min" if "minutes" in first else first["steps"]
            cost = [steps, f"{first['samples_per_second']:,.0f}", first["seconds"], len(own)]
            lines.append(f"| {' | '.join(map(str, [name, first['family'], *numbers, *cost]))} |")
    return lines


def cells(rows: Sequence[Row], protocol: str, raw: bool) -> list[str]:
    """Random and trained on validation, perhaps raw features, and test, there too with random where that is known."""
    gain = f"{shown(rows, protocol, 'random')} → {shown(rows, protocol, 'trained')}"
    random, test = shown(rows, protocol, "random_test"), shown(rows, protocol, "test")
    return [gain, *([shown(rows, protocol, "raw")] if raw else []), f"{random} → {test}" if random else test]


def stages(rows: Sequence[Row]) -> list[str]:
    """Those that have rows, in the protocol's order."""
    has = {row["dataset"] for row in rows}
    return [each for each in STAGES if each in has]


def catalogue(rows: Sequence[Row]) -> list[str]:
    """A row for each method of conf/pretext, with its numbers on data that code draws and on real data."""
    known, names = groups(rows), sorted(file.stem for file in (TREE / "pretext").glob("*.yaml"))
    here = stages(rows)
    real = [each for each in here if STAGES[each].lies_somewhere]
    columns = [each for each in ([name for name in here if name not in real], real) if each]
    heads = ["family", "method", "paper", *(f"{', '.join(each)}: kNN / probe (gain)" for each in columns)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for family in ORDER:
        for method in (each for each in names if FAMILY.get(each, "other") == family):
            own = [[known[each, method, ""] for each in column if (each, method, "") in known] for column in columns]
            numbers = [" / ".join(gained(each[0], which) for which in SHARES) if each else "" for each in own]
            lines.append(f"| {' | '.join([family, f'`{method}`', linked(paper_of(method)), *numbers])} |")
    return lines


def write_pages(rows: Sequence[Row]) -> None:
    """Puts the tables between their markers; what else a page says stays."""
    for (name, page), table in zip(PAGES.items(), (results, catalogue), strict=True):
        put_table(page, name, table(rows))


def put_table(page: Path, name: str, lines: Sequence[str]) -> None:
    """Puts lines between the markers of that name, if the page has them."""
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not (found and ends):
        print(f"{page.name} has no table: write {begin} and {end} where it is to be", file=sys.stderr)
        return
    text = f"{before}{begin}\n" + "\n".join(lines).strip("\n") + f"\n{end}{after}"
    if text != page.read_text(encoding="utf-8"):
        write(page, text)


def write_recipes(rows: Sequence[Row], folder: Path = TREE / "experiment") -> None:
    """The recipe of a row's task gets the row's length, and a line with its numbers above its defaults.

    Of images alone: recipes of text and speech have lengths of their own, as mlm learns most in 80 seconds.
    """
    for row in rows:
        file = folder / f"{row['method']}_{row['dataset']}.yaml"
        if row["seed"] or STAGES[row["dataset"]].kind != "image" or not file.exists():
            continue
        number = {(each, which): f"{100 * share:.1f}" for each in SHARES for which, share in row[each].items()}
        gains = [f"{name} {number[each, 'random']} -> {number[each, 'trained']}" for each, name in NAMED.items()]
        time = row.get("minutes", minutes(row["method"], row["dataset"]))
        line = f"# {time:g} minutes of one CPU core, seed 0: {', '.join(gains)} %; "
        line += f"test {number['knn', 'test']} and {number['probe', 'test']} %.\n"
        text = LENGTH.sub(f"length: {row['steps']}st", MEASURED.sub("", file.read_text(encoding="utf-8")))
        write(file, text.replace("defaults:\n", f"{line}defaults:\n", 1))
