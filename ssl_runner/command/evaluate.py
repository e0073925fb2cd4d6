"""`ssl-runner evaluate RUN ... [PROTOCOL ...] [KEY=VALUE ...]`: measure encoders that are trained.

RUN is a run folder, a checkpoint in it (RUN/checkpoints/0000700.pt), an exported encoder.safetensors, or a folder of
runs such as a sweep's. Numbers go to RUN/evaluation/PROTOCOL.json, each with protocol, settings, data and split.
"""

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from ssl_runner.config.compose import Composer
from ssl_runner.engine.console import Terminal
from ssl_runner.errors import DONE, FAILED, Refused, nearest, refuse
from ssl_runner.run_folder.find import walk
from ssl_runner.run_folder.layout import CONFIG, EVALUATION, WEIGHTS

EXAMPLES = """\
protocols: {protocols}

  ssl-runner evaluate outputs/RUN                                  kNN and linear probe, on validation and test
  ssl-runner evaluate outputs/RUN probe dataset=cifar100           transfer to another dataset
  ssl-runner evaluate outputs/RUN finetune init=random split=test  the supervised baseline
  ssl-runner evaluate outputs/sweeps/NAME cluster geometry         every run of a sweep
  ssl-runner evaluate outputs/RUN knn evaluator.knn.k=200          a protocol's own settings

keys: dataset=, split=validation|test|both, init=trained|random, seed=, device=, evaluator.PROTOCOL.KEY=
"""


def main(words: list[str]) -> int:
    """Returns the exit status."""
    protocols = [name for name in Composer().groups["evaluator"] if name != "none"]
    possible = ", ".join(protocols)
    parser = ArgumentParser(
        prog="ssl-runner evaluate",
        description=__doc__,
        epilog=EXAMPLES.format(protocols=possible),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="RUN | PROTOCOL | KEY=VALUE")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write there, and not into RUN/evaluation")
    arguments = parser.parse_intermixed_args(words)
    overrides = [word for word in arguments.words if "=" in word and not os.path.exists(word)]  # noqa: PTH110  a Path raises of a long name
    chosen = [word for word in arguments.words if word in protocols]
    places = [word for word in arguments.words if word not in (*overrides, *protocols)]
    lines = {word: f"{word}: is neither a path nor a protocol; possible are {possible}" for word in places}
    problems = [f"{line}{nearest(word, protocols)}" for word, line in lines.items() if not os.path.exists(word)]  # noqa: PTH110
    stray = [word for word in overrides if word.lstrip("+~").startswith("hydra")]
    problems += [f"{word}: is not used here; type --to FOLDER, by default it is RUN/evaluation" for word in stray]
    if not places:
        problems.append("RUN: is missing; give a run folder, a checkpoint or an encoder.safetensors")
    if problems:
        return refuse(problems)
    paths = {run: Path(place) == run for place in places for run in runs(Path(place))}
    if arguments.to is not None and len(paths) > 1:
        return refuse([f"--to: names one folder, and there are {len(paths)} encoders"])
    return evaluate(paths, chosen, overrides, arguments.to)


def evaluate(paths: dict[Path, bool], protocols: list[str], overrides: list[str], to: Path | None) -> int:
    """Returns the exit status. `paths`: whether each was named itself, and not found below a folder."""
    from ssl_runner.encoder.load import find_encoder  # torch is imported here, after all that needs none
    from ssl_runner.engine.console import journal
    from ssl_runner.evaluation.measure import Evaluation
    from ssl_runner.evaluation.plan import make_plan

    plans = {}
    problems: list[str] = []
    without: list[str] = []
    for path, named in paths.items():
        try:
            plans[path] = make_plan(find_encoder(path), protocols, overrides)
        except Refused as error:
            problems += error.lines
        except (OSError, ValueError) as error:
            (problems if named else without).append(str(error))
    if problems or not plans:
        return refuse(problems + without)
    console = Terminal()
    for line in without:  # of a sweep: a job that failed before its first checkpoint
        console.print(f"left out: {line}", style="yellow", soft_wrap=True)
    evaluation, status = Evaluation(console), FAILED if without else DONE
    with journal(console):
        for number, (path, plan) in enumerate(plans.items(), start=1):
            source = find_encoder(path)  # again: the encoders of a sweep need not fit into memory together
            if len(plans) > 1:
                console.print(f"{number} of {len(plans)}: {source.folder}", soft_wrap=True)
            try:
                complete = evaluation.measure(source, plan, to or source.folder / EVALUATION)
                status = max(status, DONE if complete else FAILED)
            except Refused as reason:
                status = refuse(reason.lines)
    return status


def runs(path: Path) -> list[Path]:
    """The path itself, or the runs below a folder that is none."""
    holds_run = not path.is_dir() or (path / CONFIG).exists() or (path / WEIGHTS).exists()
    return [path] if holds_run else list(walk(path)) or [path]
