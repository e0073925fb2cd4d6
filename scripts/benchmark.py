"""Images a second of the runner, of its limit and of its peers, side by side in one run; and what else is waited for.

    python scripts/benchmark.py                            all of it
    python scripts/benchmark.py --quick --json FILE        within three minutes on two cores; the numbers as JSON
    python scripts/benchmark.py --work 'convnet simclr' --contestants limit,runner --section speed
    python scripts/benchmark.py --device cuda --section speed --batch 512 --work 'resnet18 simclr' device.precision=bf16

`limit` is forward, backward and step on views that were made beforehand; `runner` the job as a user runs it. The peers
(`pip install 'ssl-runner[bench]'`) train the same encoder on the same images, each by its own transforms, loader and
loop; with `+ours` they are given the runner's allocator and memory format as well. All take turns, A B A B; the table
has medians of images/s and of the ratio within each round, which the machine's noise disturbs less.
What each does, and what it does not, stands at the top of its file in scripts/benchmarking/.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SECTIONS = ("speed", "startup", "augmentation", "evaluation", "memory", "batch", "rows")
QUICK = ("speed", "startup", "augmentation")


def main(words: list[str] | None = None) -> int:
    typed = arguments().parse_intermixed_args(words)
    from benchmarking.bars import bars  # torch is imported here, after all that the command line can get wrong
    from benchmarking.place import machine
    from benchmarking.settings import ALL, QUICK_CONTESTANTS, QUICK_WORKS, WORKS, Settings

    names = tuple(typed.contestants.split(",")) if typed.contestants else QUICK_CONTESTANTS if typed.quick else ALL
    if wrong := [name for name in names if name not in ALL]:
        return refuse(f"--contestants: given {', '.join(wrong)}; possible are {', '.join(ALL)}")
    possible = [f"{model} {pretext}" for model, pretext, _ in WORKS]
    if wrong := [name for name in typed.work or [] if name not in possible]:
        return refuse(f"--work: given {', '.join(wrong)}; possible are {', '.join(possible)}")
    chosen = (
        [w for w in WORKS if " ".join(w[:2]) in typed.work] if typed.work else QUICK_WORKS if typed.quick else WORKS
    )
    settings = Settings(
        works=(),
        contestants=names,
        rounds=typed.rounds,
        seconds=typed.seconds or (0.5 if typed.quick else 2.0),
        device=typed.device,
        quick=typed.quick,
        overrides=tuple(typed.overrides),
    )
    works = tuple(settings.work(model, pretext, typed.batch or batch) for model, pretext, batch in chosen)
    settings = Settings(**{**vars(settings), "works": works})
    try:
        found: dict[str, Any] = {"machine": machine(typed.device), "rows": []}
        works[0].job()
    except ValueError as error:
        return refuse(str(error))
    return carry_out(typed, settings, found, bars)


def carry_out(typed: argparse.Namespace, settings: Any, found: dict[str, Any], bars: Any) -> int:
    """Measures section by section, and prints and writes what there is after each."""
    console, aside = Console(), Console(stderr=True, highlight=False)
    console.print(found["machine"])
    for name in typed.section or (QUICK if typed.quick else SECTIONS):
        section = importlib.import_module(f"benchmarking.{name}")
        with aside.status(name) as status:
            tell = status.update if aside.is_terminal else aside.print
            found[name] = section.measure(settings, tell)
        if name == "speed":
            found["rows"] = found[name].pop("rows")
        for table in section.tables(with_rows(found)[name]):
            console.print(table)
        for line in found["speed"]["skipped"] if name == "speed" else []:
            console.print(line)
        found["bars"] = bars(with_rows(found))
        if typed.json:
            typed.json.write_text(json.dumps(found, indent=2) + "\n")
    table = Table("bar, for two CPU cores", "wanted", "measured", "met", box=None)
    for bar in found["bars"]:
        table.add_row(bar["bar"], bar["wanted"], f"{bar['measured']:.3f}", "yes" if bar["met"] else "no")
    console.print(table)
    return 0


def with_rows(found: dict[str, Any]) -> dict[str, Any]:
    """As measured: in the file the rows of `speed` stand at the top."""
    return {**found, "speed": {**found["speed"], "rows": found["rows"]}} if "speed" in found else found


def refuse(line: str) -> int:
    Console(stderr=True).print(f"benchmark: {line}", soft_wrap=True, highlight=False, markup=False)
    return 2


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", action="append", choices=SECTIONS, help="again for more; by default all")
    parser.add_argument("--work", action="append", help="MODEL PRETEXT, as in 'convnet simclr'; again for more")
    parser.add_argument("--contestants", help="limit,runner,peer-lightly,peer-lightly+ours, ...; limit is always in")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of a contestant's turn; by default 2, with --quick 0.5")
    parser.add_argument("--batch", type=int, help="of every work")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--quick", action="store_true", help="one work, fewer contestants, shorter turns and sections")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("overrides", nargs="*", help="of every job, as in device.precision=bf16")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
