"""The comparison page in a browser: filter, state in the address, hidden runs, CSV; skipped if there is no Chromium."""

import json
import re
import shutil
import subprocess
from html import unescape
from urllib.parse import urlencode

import pytest
import torch
from comparison_toys import compared, logged, seeds
from torch.utils.tensorboard import SummaryWriter

from ssl_runner.comparison.export import to_html
from ssl_runner.comparison.pictures import read_pictures

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOOK = """
<script>addEventListener("load", () => setTimeout(() => {
  const out = {};
  for (const [name, look] of Object.entries({%s})) out[name] = look();
  document.body.innerHTML = ""; document.body.textContent = JSON.stringify(out);
}, 400));</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two groups of two and three seeds with curves, of which the first run has a picture."""
    folder = tmp_path_factory.mktemp("page")
    seeds(folder / "runs", "a", {0: 0.80, 1: 0.82}, tags=["paper"])
    seeds(folder / "runs", "b", {0: 0.60, 1: 0.61, 2: 0.615}, optimizer={"lr": 0.1}, tags=["second try"])
    for run in (folder / "runs").iterdir():
        logged(run, 40)
    with SummaryWriter(str(folder / "runs/a-0")) as events:
        for step in (0, 7):
            events.add_image("views/0", torch.rand(3, 8, 8), step)
    return folder / "page.html", to_html(compared(folder / "runs"))


def test_pictures_are_the_newest_and_damage_is_left_out(page):
    run = page[0].parent / "runs/a-0"
    ((name, (step, content)),) = read_pictures(run).items()
    assert (name, step, content[:4]) == ("views/0", 7, b"\x89PNG")
    (file,) = run.glob("events*")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + b"\xff" * 40)
    assert len(read_pictures(run)) <= 1
    file.write_bytes(whole)


def browse(page, looks, **state):
    file, html = page
    file.write_text(html.replace("</body>", LOOK % ",".join(f"{name}: () => {look}" for name, look in looks.items())))
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    address = f"file://{file}#{urlencode(state)}"
    words += ["--enable-logging=stderr", f"--user-data-dir={file.parent / 'browser'}", address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert not re.findall("Uncaught.*", done.stderr)
    return json.loads(unescape(re.search(r"<body[^>]*>(.*)</body>", done.stdout, re.DOTALL)[1]))


@pytest.mark.skipif(not BROWSER, reason="there is no Chromium")
def test_what_the_address_says_is_shown(page):
    text = "document.getElementById('{}').textContent".format
    looks = {
        "counted": text("counted"),
        "wrong": text("not-understood"),
        "rows": "[...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[1].textContent)",
        "csv": "toCsv(listed)",
        "figures": "document.querySelectorAll('figure').length",
        "note": text("curve-note"),
        "undo": "[...document.querySelectorAll('.undo')].map((button) => button.hidden)",
        "about": "about(1)",
        "band": "document.querySelectorAll('.band').length",
        "hash": "location.hash",
        "axes": "axes(entries()).map((axis) => axis.name)",
        "width": "document.documentElement.scrollWidth - innerWidth",
    }
    shown = browse(page, looks, filter="probe>70 tset=1", **{"zoom-curve": "100,200,0.1,0.3"}, smooth=0.5)
    assert (shown["counted"], shown["rows"]) == ("1 of 2", ["0.001"])
    assert shown["wrong"] == "tset is no column; nearest is test"
    assert (shown["undo"], shown["figures"], shown["band"]) == ([False, True], 1, 1)
    assert "of two seeds, what lies between them" in shown["note"]
    assert "smooth=0.5" in shown["hash"]
    assert shown["axes"] == ["lr", "probe/top1 %"]
    assert shown["width"] <= 0
    assert "61.0" not in shown["about"]
    assert all(word in shown["about"] for word in ("lr</span> 0.1", "probe/top1 60.8 ± 1.9 %, n 3"))
    shown = browse(page, looks, single="true", hidden="a-0\nb-2", filter='"second try"|paper seed!=1', theme="dark")
    assert (shown["counted"], shown["rows"], shown["wrong"]) == ("3 of 5", ["a-0", "b-0", "b-2"], "")
    lines = shown["csv"].splitlines()
    assert lines[0].startswith("run,seed,lr,probe/top1 %,±,")
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["a-0", "0", "0.001", ""],
        ["b-0", "0", "0.1", "60"],
        ["b-2", "2", "0.1", ""],
    ]
