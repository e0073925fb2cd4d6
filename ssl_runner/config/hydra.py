"""Hydra by its public face: composition of YAML choices, interpolation. Plain values come out.

With grammar.py the only importer of hydra, and with files.py of omegaconf. What the public face cannot do is done on
plain values in compose.py: it stops at the first mistake, tells no choices of a group, and applies overrides only while
composing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_runner.errors import one_line

JOB = "ssl_runner"  # Hydra's hydra.job.name, unless it is named
# The path replaces a file's own, which could name pkg://MODULE: to look into a module is to import it. Without
# hydra/output, what stands in hydra.run and hydra.sweep comes from a file.
OWN = ("hydra.searchpath=[]", "~hydra/output")


@dataclass(frozen=True)
class Tree:
    """What choices give: content with interpolations as they are written, and the choice in each group and mount."""

    content: dict[str, Any]
    choices: dict[str, str | None]
    origin: DictConfig
    hydra: dict[str, Any]  # Hydra's own node, and among it all choices, as the files give it; `???` is in no file
    recommends: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by the dataset: recommended.py


class SearchFirst(SearchPathPlugin):
    """Folders that are looked in before the one that Hydra is initialised with."""

    folders: ClassVar[Sequence[Path]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.folders):
            search_path.prepend("given", f"file://{folder}")


def compose_tree(folders: Sequence[Path], name: str, choices: Sequence[str]) -> Tree:
    """Composes choices from the YAML files in folders, the first of which wins. Raises ValueError in one line."""
    try:
        with initialised(folders):
            origin = compose(name, [*OWN, *choices], return_hydra_config=True)
        content: Any = OmegaConf.to_container(origin)
    except Exception as error:  # a file may be anything
        raise ValueError(one_line(error)[:300]) from None
    node = content.pop("hydra")
    own = {key: value for key, value in node["runtime"]["choices"].items() if not key.startswith("hydra/")}
    return Tree({str(key): value for key, value in content.items()}, own, origin, node)


@contextmanager
def initialised(folders: Sequence[Path]) -> Iterator[None]:
    *SearchFirst.folders, last = folders
    Plugins.instance().register(SearchFirst)
    with initialize_config_dir(str(last), version_base="1.3", job_name=JOB):
        yield


def print_info(folders: Sequence[Path], name: str, kind: str, words: Sequence[str]) -> None:
    """Prints what Hydra's `--info` says of a composition. Raises ValueError in one line."""
    try:
        with initialised(folders):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            hydra.show_info(kind, name, [*OWN, *words])
    except Exception as error:  # a file may be anything
        raise ValueError(one_line(error)[:300]) from None


def resolve_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Hydra's node without interpolations. Raises ValueError in one line."""
    try:
        config = OmegaConf.create({"hydra": dict(node)})
        OmegaConf.resolve(config)
        whole: Any = OmegaConf.to_container(config.hydra)
    except OmegaConfBaseException as error:
        raise ValueError(f"--resolve: {one_line(error)[:300]}") from None
    return whole


@cache
def default_node(folder: str) -> dict[str, Any]:
    """Hydra's own node if no file sets anything in it. `folder`: any that is there."""
    with initialize_config_dir(folder, version_base="1.3", job_name=JOB):
        node: Any = OmegaConf.to_container(compose(None, [*OWN], return_hydra_config=True).hydra)
    return node


def resolve(
    content: Mapping[str, Any], keys: Sequence[str], tree: Tree | None, own: Mapping[str, Any] = {}
) -> tuple[dict[str, Any], dict[str, str]]:
    """The content without interpolations; and, by key, what is wrong with those of `keys` that point nowhere.

    `own`: values by their keys below `hydra`, laid over the tree's. They are resolved as well, and so beside the
    content as its `hydra`.
    """
    plain, problems = dict[str, Any](), dict[str, str]()

    def note(error: OmegaConfBaseException, key: str) -> None:
        problems.setdefault(key or str(error.full_key or "config"), one_line(error)[:300].partition(" full_key")[0])

    try:
        config = OmegaConf.create(dict(content))
        if tree is not None:
            config.hydra = tree.origin.hydra
            OmegaConf.set_readonly(config.hydra, False)
            for key in (key for key in own if own[key] is not None):
                OmegaConf.update(config, f"hydra.{key}", own[key], force_add=True)
            HydraConfig.instance().set_config(config)  # for ${hydra:...}
    except OmegaConfBaseException as error:
        note(error, "")
        return {"hydra": dict(own)}, problems
    wanted = {f"hydra.{key}": key for key, value in own.items() if value is not None and not key.startswith("job.")}
    for key in (*keys, *wanted, *content):  # at last the whole, for what stands in lists
        try:
            value = OmegaConf.select(config, key)
            whole = OmegaConf.is_config(value) and (key in wanted or key in content)
            plain[key] = OmegaConf.to_container(value, resolve=True) if whole else value
        except OmegaConfBaseException as error:
            note(error, "" if key in content else key)
    hydra = {**own, **{short: plain.get(key) for key, short in wanted.items()}}
    return {**({} if problems else {key: plain[key] for key in content}), "hydra": hydra}, problems
