"""`ssl-runner watch`: the live page, its rows, and nothing else, on loopback."""

import contextlib
import http.client
import json
import threading
from functools import partial

from comparison_toys import logged, make_run, pretext
from runs import enter, refusal

from ssl_runner.comparison.export import to_html, to_rows
from ssl_runner.comparison.server import HOST, open_server


@contextlib.contextmanager
def served(place, metric=None):
    """How to ask for a path: returns status, headers and text."""
    with open_server([place], metric, 0, partial(to_html, live=True), to_rows) as server:
        port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(path, method="GET", **headers):
            connection = http.client.HTTPConnection(HOST, port, timeout=20)
            connection.request(method, path, headers={"Host": f"{HOST}:{port}"} | headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

        yield ask
        server.shutdown()


def test_the_page_follows_its_runs(tmp_path):
    with served(tmp_path / "runs") as ask:  # which comes with the first run
        status, headers, text = ask("/")
        assert (status, headers["Refresh"], "waits for one" in text) == (503, "5", True)
        tmp_path = tmp_path / "runs"
        logged(make_run(tmp_path / "one", 0.5, summary={"status": "running", "final": {}}), 20)
        status, headers, page = ask("/")
        assert (status, "connect-src 'self'" in page, "fetch(" in page) == (200, True, True)
        status, headers, text = ask("/rows")
        assert [(run["name"], run["status"]) for run in json.loads(text)["runs"]] == [("one", "killed")]
        assert ask("/rows", **{"If-None-Match": headers["ETag"]})[0] == 304
        logged(tmp_path / "one", 30)
        make_run(tmp_path / "two", 0.75, **pretext("flip"))
        status, _, text = ask("/rows", **{"If-None-Match": headers["ETag"]})
        rows = json.loads(text)
        assert (status, [group["mean"] for group in rows["groups"]]) == (200, [0.75])
        assert max(track["step"][-1] for track in rows["tracks"][0]) == 290


def test_nothing_but_the_page_is_served(tmp_path):
    make_run(tmp_path / "one", 0.5)
    with served(tmp_path) as ask:
        for path in ("/one/config.yaml", "/../one/config.yaml", "/rows/..", "//etc/passwd", "/index.html", "/%2e%2e/"):
            assert ask(path)[0] == 404
        for host in ("evil.example:80", "evil.example", "localhost.evil.example", ""):
            status, _, text = ask("/", Host=host)
            assert (status, "one" in text) == (403, False)
        assert ask("/", Host="localhost")[0] == 200, "as a browser asks through a tunnel from its port 80"
        assert ask("/", "POST")[0] == 501


def test_an_unknown_metric_says_what_is_possible(tmp_path):
    make_run(tmp_path / "one", 0.5)
    with served(tmp_path, "prob/top1") as ask:
        status, _, text = ask("/")
    assert (status, "possible are probe/top1" in text) == (503, True)


def test_what_cannot_be_watched_is_refused(here, capsys):
    make_run(here / "outputs/one", 0.5)
    refusal(capsys, "watch output", "there is no folder output", "outputs")
    refusal(capsys, "watch --port 70000", "given 70000")
    with open_server([here], None, 0, to_html, to_rows) as server:
        port = server.server_address[1]
        refusal(capsys, f"watch --port {port}", f"{port} is taken; type --port {port + 1}, or --port 0")


def test_it_says_its_address(here, capsys, monkeypatch):
    make_run(here / "outputs/one", 0.5)
    monkeypatch.setattr(
        "socketserver.BaseServer.serve_forever", lambda server: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    enter(capsys, "watch --port 0", f"http://{HOST}:", "/ shows outputs; Ctrl-C ends it")
