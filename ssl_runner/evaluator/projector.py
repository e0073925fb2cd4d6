"""Features to look at: in TensorBoard's projector with classes and thumbnails, and as a t-SNE picture.

Van der Maaten and Hinton: Visualizing data using t-SNE, JMLR 9, 2008; scikit-learn's, from the principal axes, on
features of unit length, so that near is what kNN calls near. Venna and Kaski: Neighborhood preservation in nonlinear
projection methods, ICANN 2001: trustworthiness.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.require import require_finite
from ssl_runner.probing.strata import spread
from ssl_runner.run_folder.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMBNAIL = 32  # largest side in pixels: a sprite of 10,000 is 3,200 px wide, and TensorBoard takes 8,192
AXES = 50  # principal axes that t-SNE reads, for speed
RANKED = 2000  # points among which neighbours are compared: of n, ranks take 30 n^2 bytes, 3 GB at 10,000
TAG = "features"


class Projector:
    """Writes features for TensorBoard's projector and tsne.png into `folder`, in place of what it wrote before.

    `trustworthiness` tells in [0, 1] how far neighbours in the picture are neighbours among the features: near 0.5 the
    picture shows nothing; of more than 2,000 points, 2,000 are compared. `samples` are drawn from the query, each class
    by its share. TensorBoard shows the projector for any logdir above the folder, and the picture under Images. Some 20
    seconds on a CPU for 2,000 samples.

    Args:
        every: how often it runs; only the last is kept.
        samples: rows of the query, or all where there are fewer.
        perplexity: about how many neighbours t-SNE keeps near; less where there are few samples.
        seed: of the draw and of t-SNE.
        query: what is drawn from.

    Raises:
        ValueError: the query has fewer than 8 rows.
        FloatingPointError: from the call, where a feature is not finite.
    """

    version = 1
    headline = "trustworthiness"

    def __init__(
        self,
        *,
        every: Duration,
        samples: Annotated[int, Interval(ge=8, le=10_000)] = 2000,
        perplexity: Annotated[float, Gt(1)] = 30.0,
        seed: Annotated[int, Ge(0)] = 0,
        query: Split,
        classes: Annotated[int, Ge(1)],
        folder: Path,
    ):
        if len(query.y) < 8:
            raise ValueError(f"the query holds {len(query.y)} rows and a picture wants 8; leave the projector out")
        self.every, self.samples, self.perplexity, self.seed = every, samples, perplexity, seed
        self.query, self.classes, self.folder = query, classes, folder

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        from sklearn.manifold import trustworthiness

        features = encode(self.query.x)
        require_finite(features)
        rows = spread(self.query.y, self.samples, torch.Generator().manual_seed(self.seed))
        x, y = features[rows.to(features.device)].cpu(), self.query.y.cpu()[rows]  # (n, d)
        unit = F.normalize(x, dim=1)
        points = flattened(unit, min(self.perplexity, (len(x) - 1) / 3), self.seed)  # (n, 2)
        figure = picture(points, y, self.classes)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "tsne.png") as file:
            figure.savefig(file, format="png", dpi=150)
        self.write(x, y, rows, figure)
        some = spread(y, RANKED, torch.Generator().manual_seed(self.seed))
        trust = trustworthiness(unit[some].numpy(), points[some].numpy(), n_neighbors=min(12, (len(some) - 1) // 2))
        return {"trustworthiness": Metric(float(trust)), "samples": Metric(float(len(x)), None, "number")}

    def write(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], rows: Int[Tensor, " n"], figure: Figure) -> None:
        """What TensorBoard reads, in place of what an earlier call wrote: it would be shown as well."""
        from torch.utils.tensorboard import SummaryWriter

        for old in self.folder.glob("events.out.tfevents.*"):
            old.unlink()
        shutil.rmtree(self.folder / "00000", ignore_errors=True)  # add_embedding's, named by the step
        with SummaryWriter(str(self.folder)) as writer:
            # One scale for all, and five decimals of the float64: the same cloud, and a third of the text.
            size = x.square().mean().sqrt().clamp(min=1e-12)
            writer.add_embedding(
                (x / size).double().round(decimals=5),
                metadata=[[str(label), str(row)] for label, row in zip(y.tolist(), rows.tolist(), strict=True)],
                metadata_header=["class", "row"],
                label_img=thumbnails(self.query.x[rows].cpu()),
                tag=TAG,
            )
            writer.add_image("tsne", pixels(figure), dataformats="HWC")


def flattened(x: Float[Tensor, "n d"], perplexity: float, seed: int) -> Float[Tensor, "n 2"]:
    """The t-SNE map; all points in the centre where all rows are equal."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    centred = (x - x.mean(0)).double()
    if centred.abs().max() <= 1e-6:
        return torch.zeros(len(x), 2)
    centred = F.pad(centred, (0, max(0, 2 - centred.shape[1])))
    axes = PCA(min(AXES, *centred.shape), random_state=seed).fit_transform(centred.numpy())
    map_ = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(axes)
    return torch.from_numpy(map_).float()


def picture(points: Float[Tensor, "n 2"], y: Int[Tensor, " n"], classes: int) -> Figure:
    """Points by colour of their class, with a legend, or a scale where classes are many. Safe in any thread."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xticks=[], yticks=[])
    few = classes <= 20
    colours = colormaps["tab10" if classes <= 10 else "tab20"] if few else colormaps["turbo"]
    last = colours.N - 1 if few else classes - 1
    shown = axes.scatter(*points.T.tolist(), c=y.tolist(), s=8, cmap=colours, vmin=0, vmax=last, linewidths=0)
    if few:
        handles, labels = shown.legend_elements(num=sorted(set(y.tolist())), fmt="{x:.0f}")
        figure.legend(handles, labels, title="class", loc="outside right center", frameon=False)
    else:
        figure.colorbar(shown, label="class")
    return figure


def pixels(figure: Figure) -> UInt8[ndarray, "h w 3"]:
    """A figure drawn. SummaryWriter.add_figure would do it by way of pyplot, which is not for threads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


def thumbnails(x: Tensor) -> Float[Tensor, "n c s s"] | None:
    """Square images in [0, 1] of at most THUMBNAIL px, grey or coloured; None for samples that are no images."""
    if x.ndim != 4:
        return None
    x = x.float().div(255) if x.dtype == torch.uint8 else x.float().clamp(0, 1)
    if x.shape[1] not in (1, 3):
        x = x.mean(1, keepdim=True)
    height, width = x.shape[2:]
    if (longer := max(height, width)) > THUMBNAIL:
        size = [max(1, round(side * THUMBNAIL / longer)) for side in (height, width)]
        x = F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)
        height, width = size
    side = max(height, width)
    down, across = side - height, side - width
    return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
