"""Images a second of the runner, of its limit and of its peers, side by side in one run; and what else is waited for.

    python scripts/benchmark.py                            all of it: about an hour on two cores, by estimate
    python scripts/benchmark.py --quick --json FILE        within three minutes on two cores; the numbers as JSON
    python scripts/benchmark.py --work 'convnet simclr' --contestants limit,runner --section speed
    python scripts/benchmark.py --device cuda --section speed --batch 512 --work 'resnet18 simclr' device.precision=bf16

`limit` is forward, backward and step on views that were made beforehand; `runner` the job as a user runs it. The peers
(`pip install 'ssl-runner[bench]'`) train the same encoder on the same images, each by its own transforms, loader and
loop; with `+ours` they are given all that the runner gives itself: allocator, memory format, the optimizer's options
and torch.compile where it is asked for. All take turns, A B B A; the table has medians of images/s and of the ratio
within each round, which the machine's noise disturbs less.
What each does, and what it does not, stands at the top of its file in scripts/benchmarking/.
"""

import argparse
import importlib
import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarking.choices import ALL, QUICK_CONTESTANTS, QUICK_WORKS, WORKS
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from benchmarking.settings import Settings

SECTIONS = ("speed", "startup", "augmentation", "evaluation", "memory", "batch", "size", "kinds")
QUICK = ("speed", "startup", "augmentation")
POSSIBLE = tuple(f"{model} {pretext}" for model, pretext, _ in WORKS)


def main(words: list[str] | None = None) -> int:
    typed = arguments().parse_intermixed_args(words)
    names = tuple(typed.contestants.split(",")) if typed.contestants else QUICK_CONTESTANTS if typed.quick else ALL
    if wrong := mistakes(typed, names):
        return refuse(wrong)
    from benchmarking.place import machine  # torch is imported here, after all that the command line can get wrong
    from benchmarking.settings import Settings

    settings = Settings(
        works=(),
        contestants=names,
        rounds=typed.rounds,
        seconds=typed.seconds or (0.5 if typed.quick else 2.0),
        device=typed.device,
        quick=typed.quick,
        overrides=tuple(typed.overrides),
    )
    chosen = (
        [w for w in WORKS if " ".join(w[:2]) in typed.work] if typed.work else QUICK_WORKS if typed.quick else WORKS
    )
    works = tuple(settings.work(model, pretext, typed.batch or batch) for model, pretext, batch in chosen)
    settings = Settings(**{**vars(settings), "works": works})
    if typed.batch and typed.batch > settings.rows:
        return refuse([f"--batch: given {typed.batch}; possible are 1 to {settings.rows}"])
    try:
        found = {"machine": machine(typed.device), "rows": []}
    except ValueError as error:
        return refuse([str(error)])
    if wrong := list(settings.check(sections(typed))):
        return refuse(wrong)
    return carry_out(typed, settings, found)


def mistakes(typed: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """What is wrong with the options, a line each."""
    found = []
    if wrong := [name for name in names if name not in ALL]:
        found.append(f"--contestants: given {', '.join(wrong)}; possible are {', '.join(ALL)}")
    if wrong := [name for name in typed.work or [] if name not in POSSIBLE]:
        found.append(f"--work: given {', '.join(wrong)}; possible are {', '.join(POSSIBLE)}")
    if typed.rounds < 1:
        found.append(f"--rounds: given {typed.rounds}; possible are 1 and more")
    if typed.seconds is not None and not typed.seconds > 0:
        found.append(f"--seconds: given {typed.seconds}; it must be more than 0")
    if typed.batch is not None and typed.batch < 1:
        found.append(f"--batch: given {typed.batch}; possible are 1 and more")
    if typed.json and not typed.json.absolute().parent.is_dir():
        found.append(f"--json: there is no folder {typed.json.parent}")
    return found


def sections(typed: argparse.Namespace) -> Sequence[str]:
    return list(dict.fromkeys(typed.section or (QUICK if typed.quick else SECTIONS)))


def carry_out(typed: argparse.Namespace, settings: "Settings", found: dict[str, Any]) -> int:
    """Measures section by section, and prints and writes what there is after each, and after each work of `speed`.

    A section that fails is told and the others go on; the exit status is then 1.
    """
    console, aside = Console(), Console(stderr=True, highlight=False)
    console.print(found["machine"], soft_wrap=True)

    def keep(speed: dict[str, Any]) -> None:
        """In the file the rows of `speed` stand at the top."""
        found["rows"], found["speed"] = speed["rows"], {k: v for k, v in speed.items() if k != "rows"}
        write(typed.json, found)

    for name in sections(typed):
        section = importlib.import_module(f"benchmarking.{name}")
        try:
            with aside.status(name) as status:
                tell = status.update if aside.is_terminal else aside.print
                measured = section.measure(settings, tell, *[keep] * (name == "speed"))
        except Exception as error:
            traceback.print_exc()
            found.setdefault("failed", {})[name] = " ".join(f"{type(error).__name__}: {error}".split())[-300:]
            write(typed.json, found)
            continue
        if name == "speed":
            keep(measured)
        else:
            found[name] = measured
        for table in section.tables(measured):
            console.print(table)
        for line in measured["skipped"] if name == "speed" else []:
            console.print(line, soft_wrap=True, markup=False)
        write(typed.json, found)
    if has_bars(typed):
        table = Table("bar, for two CPU cores", "wanted", "measured", "met", box=None)
        for bar in bars(found):
            table.add_row(bar["bar"], bar["wanted"], f"{bar['measured']:.3f}", "yes" if bar["met"] else "no")
        console.print(table)
        found["bars"] = bars(found)
        write(typed.json, found)
    for name, line in found.get("failed", {}).items():
        console.print(f"{name} failed: {line}", soft_wrap=True, markup=False)
    return int("failed" in found)


def has_bars(typed: argparse.Namespace) -> bool:
    """They are for a CPU, and for the works as they are."""
    from ssl_runner.device.placement import Placement

    return Placement(name=typed.device).device.type == "cpu" and not (typed.batch or typed.overrides)


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    from benchmarking.bars import bars

    return bars({**found, "speed": {**found.get("speed", {}), "rows": found["rows"]}})


def write(file: Path | None, found: dict[str, Any]) -> None:
    if file:
        file.write_text(json.dumps(found, indent=2) + "\n")


def refuse(lines: Sequence[str]) -> int:
    for line in lines:
        Console(stderr=True).print(f"benchmark: {line}", soft_wrap=True, highlight=False, markup=False)
    return 2


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--section",
        action="append",
        choices=SECTIONS,
        help=f"again for more; by default all, with --quick {', '.join(QUICK)}",
    )
    parser.add_argument("--work", action="append", help="MODEL PRETEXT, as in 'convnet simclr'; again for more")
    parser.add_argument("--contestants", help="limit,runner,peer-lightly,peer-lightly+ours, ...; limit is always in")
    parser.add_argument("--rounds", type=int, default=5, help="by default 5")
    parser.add_argument("--seconds", type=float, help="of a contestant's turn; by default 2, with --quick 0.5")
    parser.add_argument("--batch", type=int, help="of every work")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{' '.join(QUICK_WORKS[0][:2])} alone, no peers +ours, turns of half a second, the first three sections, "
        "start-up without the default job, augmentation on one thread",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="in a folder that exists")
    parser.add_argument("overrides", nargs="*", help="of every job, as in device.precision=bf16")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
