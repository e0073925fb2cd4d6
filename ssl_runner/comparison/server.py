"""HTTP server of a comparison on loopback: its page and its rows, read again if a run has changed."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from ssl_runner.comparison.curves import Curve, read_curves
from ssl_runner.comparison.record import load_runs, read_run
from ssl_runner.comparison.run import Run
from ssl_runner.comparison.table import Comparison, Unknown, compare
from ssl_runner.run_folder.find import find
from ssl_runner.run_folder.layout import CONFIG, ENVIRONMENT, EVALUATION, METRICS, SUMMARY
from ssl_runner.run_folder.lock import held

HOST = "127.0.0.1"
Stamp = tuple[object, ...]
Show = Callable[[Comparison, Callable[[Path], Mapping[str, Curve]]], str]  # a comparison with what reads curves as text


def stamp(folder: Path, *names: str) -> Stamp:
    """What changes if one of the files does."""
    stats = [os.stat(folder / name) if os.path.exists(folder / name) else None for name in names]  # noqa: PTH110, PTH116
    return tuple(each and (each.st_mtime_ns, each.st_size, each.st_ino) for each in stats)


def run_stamp(folder: Path) -> Stamp:
    results = sorted(path.name for path in (folder / EVALUATION).glob("*.json"))
    files = stamp(folder, CONFIG, SUMMARY, ENVIRONMENT, *(f"{EVALUATION}/{name}" for name in results))
    running = held(folder)
    return (*files, *results, running, running and stamp(folder, METRICS))


class LiveRuns:
    """Runs below some folders as they are now; only those that have changed are read again."""

    def __init__(self, places: Sequence[Path], metric: str | None):
        self.places, self.metric, self.lock = places, metric, Lock()
        self.runs: dict[Path, tuple[Stamp, Run, list[str]]] = {}
        self.curves: dict[Path, tuple[Stamp, dict[str, Curve]]] = {}

    def tag(self) -> str:
        """Changes if a page of the runs would."""
        paths, _ = find(self.places)
        stamps = [(name, run_stamp(path), stamp(path, METRICS)) for name, path in paths.items()]
        return f'"{hashlib.blake2b(repr(stamps).encode(), digest_size=8).hexdigest()}"'

    def read_run(self, folder: Path, name: str, broken: list[str]) -> Run:
        now = (name, *run_stamp(folder))
        if folder not in self.runs or self.runs[folder][0] != now:
            lines: list[str] = []
            self.runs[folder] = now, read_run(folder, name, lines), lines
        broken += self.runs[folder][2]
        return self.runs[folder][1]

    def read_curves(self, folder: Path) -> dict[str, Curve]:
        now = stamp(folder, METRICS)
        if folder not in self.curves or self.curves[folder][0] != now:
            self.curves[folder] = now, read_curves(folder)
        return self.curves[folder][1]

    def compare(self) -> Comparison:
        """Raises ValueError if there is no run yet, or none that has the metric."""
        runs, problems, _ = load_runs(self.places, self.read_run)
        if not runs:
            raise ValueError("; ".join(problems) or "no run can be read yet")
        return compare(runs, self.metric)


class Handler(BaseHTTPRequestHandler):
    """Answers GET / and GET /rows, and nothing else."""

    def __init__(self, source: LiveRuns, shows: Mapping[str, tuple[Show, str]], *arguments: object):
        self.source, self.shows = source, shows
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]  # browsers leave out port 80
        if host not in (HOST, "localhost"):  # a stranger's page whose name leads here
            return self.answer(HTTPStatus.FORBIDDEN, f"open http://{HOST}:{self.connection.getsockname()[1]}/")
        if self.path not in self.shows:
            return self.answer(HTTPStatus.NOT_FOUND, "only the page is here: /")
        show, kind = self.shows[self.path]
        with self.source.lock:
            tag = self.source.tag()
            if self.headers.get("If-None-Match") == tag:
                return self.answer(HTTPStatus.NOT_MODIFIED, "", kind, tag)
            try:
                return self.answer(HTTPStatus.OK, show(self.source.compare(), self.source.read_curves), kind, tag)
            except Unknown as error:
                return self.answer(HTTPStatus.SERVICE_UNAVAILABLE, f"--metric: {error}")
            except (OSError, ValueError) as error:
                return self.answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}; this page waits for one")

    def answer(self, status: HTTPStatus, text: str, kind: str = "text/plain", tag: str | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content)), "ETag": tag}
        headers["Refresh"] = "5" if status is HTTPStatus.SERVICE_UNAVAILABLE and self.path == "/" else None
        headers |= {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not printed."""


def open_server(places: Sequence[Path], metric: str | None, port: int, page: Show, rows: Show) -> ThreadingHTTPServer:
    """Raises OSError if the port is taken. Port 0 takes any that is free."""
    shows = {"/": (page, "text/html"), "/rows": (rows, "application/json")}
    return ThreadingHTTPServer((HOST, port), partial(Handler, LiveRuns(places, metric), shows))
