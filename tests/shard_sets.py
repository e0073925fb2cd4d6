"""Sets of shards as tests make them, and a web server that hands them out."""

import contextlib
import http.server
import io
import tarfile
import threading
from collections import Counter
from functools import partial
from pathlib import Path

from PIL import Image

from ssl_runner.dataset.shards import Shards


def picture(number: int, size=(16, 16), kind="PNG") -> bytes:
    """An image whose red tells its number."""
    file = io.BytesIO()
    Image.new("RGB", size, (number, number // 2, 7)).save(file, kind)
    return file.getvalue()


def tar(path: Path, members) -> Path:
    """A tar of (name, content); what is a TarInfo already is added as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(numbers, classes=3, size=(16, 16)):
    """Members of a tar: an image and its class for each number."""
    for i in numbers:
        yield f"{i:04d}.png", picture(i, size)
        yield f"{i:04d}.cls", str(i % classes).encode()


def three_shards(root: Path, sizes=(8, 8, 8)) -> Path:
    first = 0
    for i, size in enumerate(sizes):
        tar(root / f"train-{i:06d}.tar", samples(range(first, first + size)))
        first += size
    return root


def shards(root, cache: Path, **settings) -> Shards:
    return Shards(root=str(root), **{"cache": str(cache), "workers": 2} | settings)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked[name] += 1
        if name in self.server.forbidden:
            return self.send_error(403)
        if self.server.failures[name] > 0:
            self.server.failures[name] -= 1
            return self.cut(name)
        return super().do_GET()

    def cut(self, name):
        """Half of the file, of which the length is announced."""
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True


@contextlib.contextmanager
def serve(folder: Path):
    """A server of a folder: its URL; `asked` counts requests by name, `failures[name]` answers are cut in half,
    `forbidden` ones are refused."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.asked, server.failures, server.forbidden = Counter(), Counter(), set()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
