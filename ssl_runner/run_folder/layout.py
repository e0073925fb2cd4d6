"""File names of a run folder, each said once, and the settings that cannot change a result.

The folder is a public format: docs/run_folder.md.
"""

CONFIG = "config.yaml"  # the resolved config
OVERRIDES = "overrides.yaml"  # what the user typed
ENVIRONMENT = "environment.json"  # versions, commit, host, device, folder, fingerprint of the data
DIFF, PROJECT_DIFF = "source.diff", "project.diff"  # uncommitted changes of the code, and of the user's own
METRICS = "metrics.jsonl"  # a row for each log
SUMMARY = "summary.json"
LOG = "run.log"
CONSOLE = "console.log"  # of a job of a sweep: what it would have printed, and what it died of
EVENTS = "events.out.tfevents.*"  # TensorBoard's
CHECKPOINTS = "checkpoints"
WEIGHTS, ENCODER = "encoder.safetensors", "encoder.yaml"  # the trained encoder: weights, and what builds it
EVALUATION = "evaluation"  # results of `ssl-runner evaluate`
STOP = "stop"  # its presence requests a stop at the next log step; what is in it is the reason
LOCK = ".lock"
CONFUSION = "confusion.json"  # in a result's folder
SWEEP = "sweep.json"  # in a sweep's folder, above those of its jobs

GROUPS = ("dataset", "pretext", "model", "optimizer", "regulariser", "device")  # of a config.yaml
# Paths into a config.yaml. Where data or initial weights lie, and how they are read, cannot change a result as long as
# their digests are the same; that of a stream with a file that cannot be read is another, since it is a row of it.
HARMLESS = {"log_every", "save_every", "show_every", "keep", "on_collapse", "choices", "experiment", "init.path"}
PEOPLE = ("name", "tags", "notes")  # say something to people alone
HARMLESS |= {*PEOPLE}
HARMLESS |= {"loggers"}
HARMLESS |= {f"device.{each}" for each in ("name", "channels_last", "compile", "deterministic", "threads")}
HARMLESS |= {f"device.{each}" for each in ("processes", "strategy", "timeout", "restarts")}
READING = ("root", "labelled", "download", "cache", "cache_size", "stream", "workers", "max_broken", "max_pixels")
HARMLESS |= {f"dataset.{each}" for each in READING}
