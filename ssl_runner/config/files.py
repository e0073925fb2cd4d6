"""Config files: read in the newest format, written as YAML."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from ssl_runner.config.migrate import migrated, writer_of


def read(path: Path, kind: type = dict) -> Any:
    """A resolved config (a mapping) in the newest format, or a list of overrides, from a file.

    Raises OSError, or ValueError where the file is torn, holds something else, or has a format that is not read here.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is torn or no YAML ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path} is torn: it holds no {'config' if kind is dict else kind.__name__}")
    return migrated(content, str(path), writer_of(path.parent)) if isinstance(content, dict) else content


def dump(content: Any) -> str:
    """Plain values as YAML, in their order."""
    return OmegaConf.to_yaml(OmegaConf.create(content))
