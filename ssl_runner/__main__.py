"""`ssl-runner VERB ...`: without a verb it trains."""

import importlib
import sys
from pathlib import Path

MULTIRUN = {"-m", "--multirun"}
VERBS = sorted(p.stem for p in (Path(__file__).parent / "command").glob("[a-z]*.py"))


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb and returns the exit status: 0 done, 1 failed, 2 refused, 3 stopped by a collapse,
    130 and 143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    without = "sweep" if MULTIRUN.intersection(words) else "train"
    verb, rest = (words[0], words[1:]) if words and words[0] in VERBS else (without, words)
    try:
        return importlib.import_module(f"ssl_runner.command.{verb}").main(rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
