"""`ssl-runner watch [FOLDER ...]`: the page of `compare --html`, live in a browser while runs are trained.

It is served to this machine alone: the page and its rows, and nothing else of the folder. Ctrl-C ends it. To see it
from another machine, type there: ssh -L 8642:localhost:8642 THIS_MACHINE
"""

import errno
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path

from ssl_runner.errors import DONE, nearest, refuse

PORT = 8642


def main(words: list[str]) -> int:
    """Returns the exit status."""
    parser = ArgumentParser(prog="ssl-runner watch", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "places", nargs="*", type=Path, metavar="FOLDER", help="runs, or folders of them (default: outputs)"
    )
    parser.add_argument("--metric", help="what to compare (default: probe/top1, or what more of the runs have)")
    parser.add_argument("--port", type=int, default=PORT, help=f"0 is any that is free (default: {PORT})")
    arguments = parser.parse_args(words)
    places = arguments.places or [Path("outputs")]
    if missing := [place for place in arguments.places if not place.is_dir()]:  # outputs may come with the first run
        here = [str(each) for each in Path().iterdir() if each.is_dir()]
        return refuse(f"FOLDER: there is no folder {place}{nearest(str(place), here)}" for place in missing)
    if not 0 <= arguments.port < 2**16:
        return refuse([f"--port: given {arguments.port}, and 0 to 65535 is wanted"])
    from ssl_runner.comparison.export import to_html, to_rows
    from ssl_runner.comparison.server import HOST, open_server

    try:
        server = open_server(places, arguments.metric, arguments.port, partial(to_html, live=True), to_rows)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        state = "is taken" if error.errno == errno.EADDRINUSE else "is not to be had"
        return refuse(
            [f"--port: {arguments.port} {state}; type --port {arguments.port + 1}, or --port 0 for any that is free"]
        )
    with server:
        print(
            f"http://{HOST}:{server.server_address[1]}/ shows {', '.join(map(str, places))}; Ctrl-C ends it", flush=True
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return DONE
