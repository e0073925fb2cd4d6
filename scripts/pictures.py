"""Pictures that a method makes with the weights of a run's newest checkpoint: reconstructions, samples, solved puzzles.

    python scripts/pictures.py RUN [RUN ...] --to FILE.png

A row for each kind, a column for each sample; views of a method that makes none. TensorBoard has those of every
`show_every` steps; here they are made anew, so that those of several runs are one file.
"""

import io
import sys
from argparse import ArgumentParser
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from PIL import Image
from rich.console import Console
from torch import Tensor

from ssl_runner.engine.panels import panels
from ssl_runner.errors import Refused
from ssl_runner.run.assemble import assemble, load_data
from ssl_runner.run.prepare import recorded_job
from ssl_runner.run_folder.atomic import write
from ssl_runner.run_folder.checkpoint import Unreadable

COLUMNS = 8
CELL = 0.8  # inches
DPI = 80
LIMIT = 60_000  # bytes of the PNG; noise needs fewer colours for that
Rows = dict[str, Float[Tensor, "n c h w"]]


def load_pictures(run: Path) -> tuple[str, Rows]:
    """The method and the step; the images of each kind. Raises Refused if the run cannot be rebuilt."""
    prepared = recorded_job(run)
    dataset, data = load_data(prepared)
    trainer = assemble(prepared.job, dataset, data, run, Console(quiet=True))
    try:
        step = trainer.restore()
    except Unreadable as error:
        raise Refused(error) from None
    if step == 0:
        raise Refused(f"{run} holds no checkpoint to make pictures with; type ssl-runner resume {run}")
    images = panels("image", *trainer.learner.look(step)).images
    return f"{prepared.content['choices']['pretext']}, step {step}", choose(dict(images))


def choose(named: Rows) -> Rows:
    """The method's own pictures, after the views that are as large and not among them; all views if it has none."""
    own = {name: images for name, images in named.items() if name.startswith("pictures/")}
    if not own:
        return named
    sizes = {images.shape[2:] for images in own.values()}
    views = {name: images for name, images in named.items() if name not in own and images.shape[2:] in sizes}
    new = {name: x for name, x in views.items() if not any(torch.equal(x, each) for each in own.values())}
    return new | {name.removeprefix("pictures/"): images for name, images in own.items()}


def draw(runs: list[tuple[str, Rows]]) -> bytes:
    """A PNG of the runs below each other."""
    lines = [("" if number else title, *row) for title, rows in runs for number, row in enumerate(rows.items())]
    size = ((COLUMNS + 1.5) * CELL, len(lines) * CELL + 0.2 * len(runs))
    figure, axes = plt.subplots(len(lines), COLUMNS, squeeze=False, figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01)
    for cells, (title, name, images) in zip(axes, lines, strict=True):
        cells[0].set_title(title, loc="left", fontsize=8)
        cells[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for cell, image in zip(cells, images.float().clamp(0, 1).movedim(1, -1).numpy(), strict=False):
            cell.imshow(image, cmap="grey", vmin=0, vmax=1, interpolation="nearest")
        for cell in cells:
            cell.set(xticks=[], yticks=[], frame_on=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    plt.close(figure)
    for colours in (256, 128, 64, 32, 16):
        packed = io.BytesIO()
        Image.open(drawn).convert("RGB").quantize(colours).save(packed, "PNG", optimize=True)
        if packed.tell() <= LIMIT:
            break
    return packed.getvalue()


def main(words: list[str] | None = None) -> int:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--to", required=True, type=Path, help="a PNG")
    given = parser.parse_args(words)
    try:
        write(given.to, draw([load_pictures(run) for run in given.runs]))
    except Refused as refused:
        print("\n".join(refused.lines), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
