"""Shell completion of verbs, choices, keys, values and run folders. The scripts for bash, zsh and fish are Hydra's."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin

from ssl_runner.config.compose import Composer
from ssl_runner.config.declared import declared_annotation
from ssl_runner.config.explain import sweep_settings
from ssl_runner.config.grammar import encoded
from ssl_runner.config.hydra_node import HYDRA_KEYS
from ssl_runner.config.node import OPEN, choices
from ssl_runner.config.override import ABSENT, get
from ssl_runner.config.text import members
from ssl_runner.config.verbs import VERBS
from ssl_runner.run_folder.find import walk
from ssl_runner.run_folder.layout import SWEEP

OF_RUNS = ("compare", "embed", "evaluate", "export", "ls", "rerun", "resume", "save", "watch")
OUTPUTS = "outputs"
CONFIG_DIR = re.compile(r"(?:-cd|-cp|--config-dir|--config-path)[ =](\S+)")
ZSH = "autoload -Uz compinit bashcompinit; (( $+functions[compdef] )) || compinit; bashcompinit"  # the rest is bash's


def complete(composer: Composer, words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Prints a shell's script, or what may follow $COMP_LINE, a line each; a line for each thing that is wrong.

    `words`: install=SHELL, uninstall=SHELL or query=SHELL. `flags`: options of the command line.
    """
    command, _, shell = words[0].partition("=") if words else ("", "", "")
    plugins: list[Any] = Plugins.instance().discover(CompletionPlugin)
    shells = {each.provides(): each for each in plugins}
    if len(words) != 1 or shell not in shells or command not in ("install", "uninstall", "query"):
        return [f"-sc: given {' '.join(words) or 'nothing'}; possible are install=, uninstall= and {', '.join(shells)}"]
    if command == "query":
        line = CompletionPlugin.strip_python_or_app_name(os.environ.get("COMP_LINE", ""))
        folders = CONFIG_DIR.findall(line)
        composer = Composer(Path(folders[-1])) if folders else composer
        print("\n".join(sorted(set(candidates(composer, line, flags)))))
    else:
        if shell == "zsh" and command == "install":
            print(ZSH)
        getattr(shells[shell](None), command)()
    return []


def candidates(composer: Composer, line: str, flags: Sequence[str] = ()) -> Iterator[str]:
    """Whole words that may stand where a line ends, after the name of the program."""
    *before, word = [*line.split(), *([""] if not line or line.endswith(" ") else [])]
    verb = before[0] if before and before[0] in VERBS else None
    every: list[str] = []
    if word.startswith("-"):
        every = [*flags]
    elif verb == "list":
        every = [*composer.groups]
    elif verb in OF_RUNS and (len(before) == 1 or verb in ("compare", "ls", "watch")):
        every = runs_below(word)
    elif verb == "evaluate" and "=" not in word:
        every = composer.groups["evaluator"]
    elif verb not in ("export", "save", "pack", "usage"):
        every = [*([] if before else VERBS), *overrides(composer, word, [each for each in before if "=" in each])]
    return (each for each in every if each.startswith(word))


def overrides(composer: Composer, word: str, before: Sequence[str]) -> list[str]:
    """Groups, keys and values that an override which is begun may have, after others."""
    body = word.lstrip("+~")
    signs, (key, equals, value) = word[: len(word) - len(body)], body.partition("=")
    try:
        content, chosen = composer.tree([each for each in before if group_of(each) in composer.groups])
    except ValueError:  # what stands before is wrong
        content, chosen = composer.tree([])
    if not equals:
        return [f"{signs}{each}" for each in keys_below(composer, content, chosen, key)]
    if key in ("init", "sweep.resume", "hydra.sweep.dir"):
        return [f"{key}={each}" for each in (runs_below(value) if key == "init" else sweeps())]
    last = max(map(value.rfind, "[,"))  # of a list, or of a sweep
    head = f"{signs}{key}={value[: last + 1]}"
    return [f"{head}{each}" for each in values_of(composer, content, key)]


def group_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def keys_below(composer: Composer, content: dict[str, Any], chosen: Mapping[str, Any], key: str) -> list[str]:
    """Keys at the level at which one is begun: `pretext=`, `pretext.`, `pretext.temperature=`."""
    above, dot, _ = key.rpartition(".")
    node = get(content, above) if dot else content
    own = [each.key for each in sweep_settings()] + [f"hydra.{each}" for each in HYDRA_KEYS]
    keys = [f"{each}=" for each in own if key.startswith(("s", "h"))]
    keys += [] if dot and "@" not in key else [f"{each}=" for each in {*composer.groups, *chosen} - {"augment"}]
    for name, value in node.items() if isinstance(node, dict) else ():
        if name != "_target_":
            keys.append(f"{above}{dot}{name}{'.' if isinstance(value, dict) else '='}")
    return keys


def values_of(composer: Composer, content: dict[str, Any], key: str) -> list[str]:
    """Choices of a group, the words that a setting takes, or the value that it has."""
    if (group := key.partition("@")[0]) in composer.groups:
        return composer.groups[group]
    annotation, now = declared_annotation(content, key), get(content, key)
    words = [] if annotation is OPEN else choices(annotation)
    words += ["true", "false"] if annotation is not OPEN and bool in members(annotation) else []
    return words or ([] if now is ABSENT or isinstance(now, dict) else [encoded(now)])


def runs_below(word: str) -> list[str]:
    """Run folders whose path begins with a word."""
    place = os.path.dirname(word) if "/" in word else OUTPUTS  # noqa: PTH120  as typed
    return [str(each) for each in walk(Path(place))]


def sweeps() -> list[str]:
    return [str(each.parent) for each in Path(OUTPUTS, "sweeps").glob(f"*/{SWEEP}")]
