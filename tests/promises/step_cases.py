"""A case for each task, optimizer, regulariser and augmentation: what traces and counted costs are kept of."""

from conftest import LESS, names


def cases(group: str, default: str, key: str) -> dict[str, tuple[str, ...]]:
    """SimCLR with each choice of a group but the one that it has by default."""
    return {f"{group}-{name}": ("pretext=simclr", f"{key}={name}") for name in names(group) if name != default}


CHOICES = {
    **{f"pretext-{name}": (f"pretext={name}", *LESS.get(name, ())) for name in names("pretext")},
    **cases("optimizer", "adamw", "optimizer"),
    **cases("regulariser", "none", "regulariser"),
    **cases("augment", "simclr", "augment@pretext.augment"),
}
