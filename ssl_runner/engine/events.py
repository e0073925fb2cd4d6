"""TensorBoard's events of a run: pictures of earlier attempts, the layout of its charts, the end in the HPARAMS tab."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

HEALTH = "health/text_summary"  # the tag of the collapse detector's verdicts
TEXTS = "views/texts"  # the name of the tables of texts
# Of TensorBoard's custom scalars. What belongs to no other category is quality. Numbers of the test split are in none:
# they are measured once, which makes no curve.
CATEGORIES = ("learning", "quality", "geometry", "speed")
LEARNING = ("train", "regulariser", "optimizer")  # groups of numbers in that category


def earlier_pictures(files: Iterable[Path], start: int) -> Iterator[Any]:
    """Events of earlier attempts with what metrics.jsonl does not hold: pictures, clips, texts and verdicts.

    Those of `start` itself are left out but for verdicts, since they will be shown again. A torn file gives what can be
    read.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    seen = set()
    for file in files:
        with suppress(Exception):  # a damaged file can raise anything
            for event in LegacyEventFileLoader(str(file)).Load():
                values = [value for value in event.summary.value if (value.tag, event.step) not in seen]
                kept = [
                    value
                    for value in values
                    if (is_shown(value) and event.step < start) or (value.tag == HEALTH and event.step <= start)
                ]
                seen |= {(value.tag, event.step) for value in kept}
                if kept:
                    del event.summary.value[:]
                    event.summary.value.extend(kept)
                    yield event


def is_shown(value: Any) -> bool:
    """Whether it is a picture, a clip or a table of texts."""
    tables = value.tag == f"{TEXTS}/text_summary"
    return bool(tables or value.HasField("image") or value.HasField("audio"))


def charts(names: Iterable[str]) -> Any:
    """A chart for each name, by category. A run's newest layout counts; TensorBoard merges those of many runs."""
    from torch.utils.tensorboard.summary import custom_scalars

    layout: dict[str, dict[str, list[Any]]] = {category: {} for category in CATEGORIES}
    for name in names:
        group = name.partition("/")[0]
        category = "learning" if group in LEARNING else group if group in CATEGORIES else "quality"
        if group != "test":
            layout[category][name] = ["Multiline", [f"{re.escape(name)}$"]]
    return custom_scalars(layout)


def run_end(status: str) -> Any:
    """The end of a run, as of now, for the HPARAMS tab: STATUS_SUCCESS or STATUS_FAILURE."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value(status), end_time_secs=time.time())
    described = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=described, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
