"""Embedding projector: features in TensorBoard's projector with classes and thumbnails, and as a t-SNE picture.

Van der Maaten and Hinton: Visualizing data using t-SNE, JMLR 9, 2008; scikit-learn's, from the principal axes, on
features of unit length, so that its neighbours are those of kNN. Venna and Kaski: Neighborhood preservation in
nonlinear projection methods, ICANN 2001: trustworthiness.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Rows, Samples, Split
from ssl_runner.duration import Duration
from ssl_runner.probing.require import require_finite, require_labelled
from ssl_runner.probing.sampling import stratified_sample
from ssl_runner.run_folder.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMBNAIL = 32  # largest side in pixels: a sprite of 10,000 is 3,200 px wide, and TensorBoard takes 8,192
AXES = 50  # principal axes that t-SNE reads, for speed
RANKED = 2000  # points among which neighbours are compared: of n, ranks take 30 n^2 bytes, 3 GB at 10,000
TAG = "features"


@dataclass(frozen=True, kw_only=True)
class Projector:
    """Writes features for TensorBoard's projector and tsne.png into `folder`, in place of what it wrote before.

    `trustworthiness`, in [0, 1], says how far neighbours in the picture are neighbours among the features: near 0.5 the
    picture shows nothing; of more than 2,000 points, 2,000 are compared. TensorBoard shows the projector for any logdir
    above the folder, and the picture under Images. Thumbnails are left out of text and audio. Some 20 seconds on a CPU
    for 2,000 samples.

    Raises:
        ValueError: the query has fewer than 8 rows.
        FloatingPointError: from the call, if a feature is not finite.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "trustworthiness"

    every: Duration  # only the last is kept
    samples: Annotated[int, Interval(ge=8, le=10_000)] = 2000  # rows of the query, each class by its share
    perplexity: Annotated[float, Gt(1)] = 30.0  # about how many neighbours t-SNE keeps near; less for few samples
    seed: Annotated[int, Ge(0)] = 0  # of the draw and of t-SNE
    query: Split
    classes: Annotated[int, Ge(1)]
    sample: Samples
    folder: Path

    def __post_init__(self) -> None:
        require_labelled("projector", query=self.query)
        if (rows := len(self.query.x)) < 8:
            raise ValueError(f"the query holds {rows} rows, and the picture needs 8; leave projector out")

    @torch.no_grad()
    def __call__(self, encoder: Encoder, encode: Callable[[Rows], Float[Tensor, "n d"]]) -> Mapping[str, Metric]:
        from sklearn.manifold import trustworthiness

        features = encode(self.query.x)
        require_finite(features)
        rows = stratified_sample(self.query.y, self.samples, torch.Generator().manual_seed(self.seed))
        x, y = features[rows.to(features.device)].cpu(), self.query.y.cpu()[rows]  # (n, d)
        unit = F.normalize(x, dim=1)
        points = project(unit, min(self.perplexity, (len(x) - 1) / 3), self.seed)  # (n, 2)
        figure = draw_points(points, y, self.classes)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "tsne.png") as file:
            figure.savefig(file, format="png", dpi=150)
        self.write(x, y, rows, figure)
        some = stratified_sample(y, RANKED, torch.Generator().manual_seed(self.seed))
        trust = trustworthiness(unit[some].numpy(), points[some].numpy(), n_neighbors=min(12, (len(some) - 1) // 2))
        return {"trustworthiness": Metric(float(trust)), "samples": Metric(float(len(x)), None, "number")}

    def write(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], rows: Int[Tensor, " n"], figure: Figure) -> None:
        """Writes TensorBoard's files, in place of those of an earlier call: they would be shown as well."""
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
                label_img=make_thumbnails(self.query.x[rows].cpu()) if self.sample.kind == "image" else None,
                tag=TAG,
            )
            writer.add_image("tsne", render(figure), dataformats="HWC")


def project(x: Float[Tensor, "n d"], perplexity: float, seed: int) -> Float[Tensor, "n 2"]:
    """t-SNE map; all points in the centre if all rows are equal."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    centred = (x - x.mean(0)).double()
    if centred.abs().max() <= 1e-6:
        return torch.zeros(len(x), 2)
    centred = F.pad(centred, (0, max(0, 2 - centred.shape[1])))
    axes = PCA(min(AXES, *centred.shape), random_state=seed).fit_transform(centred.numpy())
    map_ = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(axes)
    return torch.from_numpy(map_).float()


def draw_points(points: Float[Tensor, "n 2"], y: Int[Tensor, " n"], classes: int) -> Figure:
    """Points coloured by class, with a legend, or a colour scale of many classes. Safe in any thread."""
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


def render(figure: Figure) -> UInt8[ndarray, "h w 3"]:
    """Pixels of a figure. SummaryWriter.add_figure would use pyplot, which is not safe in threads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


def make_thumbnails(x: Tensor) -> Float[Tensor, "n c s s"]:
    """Square images in [0, 1] of at most THUMBNAIL px, grey or coloured."""
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
