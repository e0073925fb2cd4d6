"""Evaluations in TensorBoard: what was measured of a finished run stands in the run's own curves and HPARAMS row."""

from dataclasses import replace
from pathlib import Path

from ssl_runner.comparison.record import read_run
from ssl_runner.comparison.run import base_name, name_metrics
from ssl_runner.run_folder.layout import EVALUATION, SUMMARY
from ssl_runner.run_folder.lock import held, locked
from ssl_runner.run_folder.metrics import accuracy_names

SUFFIX = ".evaluation"  # of the event file, in which all of it is written anew each time
ONLY_COMPARED = ("gain/", "best/")  # names of what can be told from other numbers


def draw_evaluations(run: Path) -> None:
    """Writes the numbers of RUN/evaluation for TensorBoard, under the names that compare gives them.

    Not those of a run that still writes its own events, nor those of steps before the last. Raises OSError.
    """
    if held(run) or not (run / SUMMARY).exists():
        return
    whole = read_run(run, run.name, [])
    training = replace(whole, results=tuple(each for each in whole.results if each.machine is None))
    (every, trained), step = (name_metrics([each])[0][0] for each in (whole, training)), whole.step
    ways = {(each.name, each.way) for each in training.results}
    added = {
        name: value
        for name, value in every.items()
        if trained.get(name) != value and (base_name(name), name.partition("#")[2]) not in ways
    }
    folder = run / EVALUATION
    with locked(folder, wait=True):
        old = [*run.glob(f"events.out.tfevents.*{SUFFIX}"), *folder.glob("*/*/events.out.tfevents.*.numbers")]
        for file in old:  # the latter are of older versions, for each result a run
            file.unlink()
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        with SummaryWriter(str(run), filename_suffix=SUFFIX) as events:
            for name, value in added.items():
                for each in () if name.startswith(ONLY_COMPARED) else (name, *accuracy_names(name)):
                    events.add_scalar(each, value, 0 if name.startswith("baseline/") else step)
