"""Embedding projector: features in TensorBoard's projector with classes and thumbnails, and as a t-SNE picture.

Van der Maaten and Hinton: Visualizing data using t-SNE, JMLR 9, 2008; scikit-learn's, from the principal axes, on
features of unit length, so that its neighbours are those of kNN. Venna and Kaski: Neighborhood preservation in
nonlinear projection methods, ICANN 2001: trustworthiness.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn import decomposition, manifold
from torch import Tensor

from ssl_runner.contract import Encoder, Metric, Samples
from ssl_runner.duration import Phase
from ssl_runner.probing.label_efficiency import stratified_sample
from ssl_runner.probing.protocol import Encode, Labelled, Seed, require_finite
from ssl_runner.run_folder.atomic import replacing

THUMBNAIL = 32  # largest side in pixels: a sprite of 10,000 is 3,200 px wide, and TensorBoard takes 8,192
AXES = 50  # principal axes that t-SNE reads, for speed
RANKED = 2000  # points among which neighbours are compared: of n, ranks take 30 n^2 bytes, 3 GB at 10,000


@dataclass(frozen=True, kw_only=True)
class Projector(Labelled):
    """Writes features for TensorBoard's projector and tsne.png into `folder`, in place of what it wrote before.

    `trustworthiness`, in [0, 1], says how far neighbours in the picture are neighbours among the features: near 0.5 the
    picture shows nothing; of more than 2,000 points, 2,000 are compared. TensorBoard shows the projector for any logdir
    above the folder, and the picture under Images. Some 20 seconds on a CPU for 2,000 samples.
    Raises: as probing.protocol.Labelled, and ValueError if the query has fewer than 8 rows.
    """

    version = 1
    headline = "trustworthiness"
    numbers = ("trustworthiness", "samples")
    samples: Annotated[int, Interval(ge=8, le=10_000)] = 2000  # rows of the query, each class by its share
    perplexity: Annotated[float, Gt(1)] = 30.0  # about how many neighbours t-SNE keeps near; less for few samples
    seed: Seed = 0  # of the draw and of t-SNE
    sample: Samples
    folder: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        if (rows := len(self.query.x)) < 8:
            raise ValueError(f"the query holds {rows} rows, and the picture needs 8; leave projector out")

    def __call__(self, encoder: Encoder, encode: Encode) -> dict[str, Metric]:
        features = encode(self.query.x)
        require_finite(features)
        rows = stratified_sample(self.query.y, self.samples, torch.Generator().manual_seed(self.seed))
        x, y = features[rows.to(features.device)].cpu(), self.query.y.cpu()[rows]  # (n, d), (n,)
        unit = F.normalize(x, dim=1)
        points = project(unit, min(self.perplexity, (len(x) - 1) / 3), self.seed)  # (n, 2)
        self.write(x, y, rows, draw_points(points, y, self.classes))
        some = stratified_sample(y, RANKED, torch.Generator().manual_seed(self.seed))
        near = min(12, (len(some) - 1) // 2)
        trust = manifold.trustworthiness(unit[some].numpy(), points[some].numpy(), n_neighbors=near)
        return {"trustworthiness": Metric(float(trust)), "samples": Metric(float(len(x)), None, "number")}

    def write(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], rows: Int[Tensor, " n"], figure: Figure) -> None:
        """Writes the picture and TensorBoard's files, in place of those of an earlier call: all would be shown."""
        from torch.utils.tensorboard import SummaryWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "tsne.png") as file:
            figure.savefig(file, format="png", dpi=150)
        for old in self.folder.glob("events.out.tfevents.*"):
            old.unlink()
        shutil.rmtree(self.folder / "00000", ignore_errors=True)  # add_embedding's, named by the step
        with SummaryWriter(str(self.folder)) as writer:
            samples = self.sample.from_rows(self.query.x[rows].cpu())
            # One scale for all, and five decimals of the float64: the same cloud, and a third of the text.
            size = x.square().mean().sqrt().clamp(min=1e-12)
            writer.add_embedding(
                (x / size).double().round(decimals=5),
                metadata=[[str(label), str(row)] for label, row in zip(y.tolist(), rows.tolist(), strict=True)],
                metadata_header=["class", "row"],
                label_img=make_thumbnails(samples) if self.sample.kind == "image" else None,
                tag="features",
            )
            # SummaryWriter.add_figure would use pyplot, which is not safe in threads.
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            writer.add_image("tsne", np.asarray(canvas.buffer_rgba())[:, :, :3], dataformats="HWC")


def project(x: Float[Tensor, "n d"], perplexity: float, seed: int) -> Float[Tensor, "n 2"]:
    """t-SNE map; all points in the centre if all rows are equal."""
    centred = (x - x.mean(0)).double()
    if centred.abs().max() <= 1e-6:
        return torch.zeros(len(x), 2)
    centred = F.pad(centred, (0, max(0, 2 - centred.shape[1])))
    axes = decomposition.PCA(min(AXES, *centred.shape), random_state=seed).fit_transform(centred.numpy())
    tsne = manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed)
    with Phase(f"t-SNE of {len(x):,} samples", 1) as phase:
        phase.start()
        return torch.from_numpy(tsne.fit_transform(axes)).float()


def draw_points(points: Float[Tensor, "n 2"], y: Int[Tensor, " n"], classes: int) -> Figure:
    """Points coloured by class, with a legend, or a colour scale of many classes. Safe in any thread."""
    figure, few = Figure(figsize=(6, 5), layout="constrained"), classes <= 20
    axes = figure.add_subplot(aspect="equal", xticks=[], yticks=[])
    colours = colormaps["tab10" if classes <= 10 else "tab20" if few else "turbo"]
    last = colours.N - 1 if few else classes - 1
    shown = axes.scatter(*points.T.tolist(), c=y.tolist(), s=8, cmap=colours, vmin=0, vmax=last, linewidths=0)
    if few:
        handles, labels = shown.legend_elements(num=sorted(set(y.tolist())), fmt="{x:.0f}")
        figure.legend(handles, labels, title="class", loc="outside right center", frameon=False)
    else:
        figure.colorbar(shown, label="class")
    return figure


def make_thumbnails(x: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n c s s"]:
    """Square images of at most THUMBNAIL px, grey or coloured, of images in [0, 1]."""
    if x.shape[1] not in (1, 3):
        x = x.mean(1, keepdim=True)
    if (longer := max(x.shape[2:])) > THUMBNAIL:
        size = [max(1, round(side * THUMBNAIL / longer)) for side in x.shape[2:]]
        x = F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)
    down, across = (max(x.shape[2:]) - side for side in x.shape[2:])
    return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
