"""What the numbers are held against: the bars for two CPU cores, each a ratio within one run, or seconds.

Memory: what grows with the steps shows between the 200th and the 500th; 5 % is what pages of the allocator come to.
"""

from collections.abc import Iterator
from typing import Any

from benchmarking.turns import ratio

TO_LIMIT = {"convnet": 0.97, "resnet18": 0.97, "convnet_small": 0.93}
TO_LIGHTLY = ("convnet_small simclr", 256, 1.7)
FUSED = {"kornia": 5.0, "torchvision-pil": 20.0}
SECONDS = {"--help": 1.5, "refused typo": 1.5}
PROBE_SECONDS, GROWTH = 60.0, 1.05


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each bar that something was measured for: what, the wanted and the measured number, and whether it is met."""
    rows = [*of_speed(found.get("speed", {})), *of_augmentation(found.get("augmentation", {}))]
    rows += [
        (row["command"], "<=", SECONDS[row["command"]], row["seconds"])
        for row in found.get("startup", [])
        if row["command"] in SECONDS
    ]
    rows += [
        ("seconds of the probe", "<=", PROBE_SECONDS, row["seconds"])
        for row in found.get("evaluation", [])
        if row["what"] == "probe"
    ]
    if "memory" in found:
        rows.append(("memory after 500 steps to after 200", "<=", GROWTH, found["memory"]["growth"]))
    return [
        {
            "bar": what,
            "wanted": f"{sign} {wanted:g}",
            "measured": measured,
            "met": measured <= wanted if sign == "<=" else measured >= wanted,
        }
        for what, sign, wanted, measured in rows
    ]


Bar = tuple[str, str, float, float]


def of_speed(speed: dict[str, Any]) -> Iterator[Bar]:
    for row in speed.get("rows", []):
        wanted = TO_LIMIT.get(row["work"].split()[0])
        if row["contestant"] == "runner" and wanted and row["ratio"] is not None:
            yield f"runner/limit, {row['work']}", ">=", wanted, row["ratio"]
    work, batch, wanted = TO_LIGHTLY
    rounds = speed.get("rounds", {}).get(work, {})
    if {"runner", "peer-lightly"} <= rounds.keys():
        yield f"runner/lightly, {work}, batch {batch}", ">=", wanted, ratio(rounds["peer-lightly"], rounds["runner"])


def of_augmentation(augmentation: dict[str, Any]) -> Iterator[Bar]:
    for row in augmentation.get("rows", []):
        if row["threads"] == 1 and row["contestant"] in FUSED:
            yield f"fused/{row['contestant']}, one thread", ">=", FUSED[row["contestant"]], row["fused_to_it"]
