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
    file.write_text(html.replace("</body>", LOOK % ",".join(f"{name}: () => ({look})" for name, look in looks.items())))
    words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    address = f"file://{file}#{urlencode(state)}"
    words += ["--enable-logging=stderr", f"--user-data-dir={file.parent / 'browser'}", address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert not re.findall("Uncaught.*", done.stderr)
    return json.loads(unescape(re.search(r"<body[^>]*>(.*)</body>", done.stdout, re.DOTALL)[1]))


def drag(place, start, end):
    """Drags the pointer over an element, as an expression before another."""
    sent = ""
    for name, (x, y) in (("pointerdown", start), ("pointermove", end), ("pointerup", end)):
        made = f"clientX: box.x + {x}, clientY: box.y + {y}, bubbles: true, button: 0"
        sent += f"e.dispatchEvent(new PointerEvent('{name}', {{{made}}}));"
    find = f"const e = document.querySelector('{place}'), box = e.getBoundingClientRect();"
    return f"(() => {{{find} e.setPointerCapture = () => {{}}; {sent}}})(), "


def key(place, name):
    event = f"new KeyboardEvent('keydown', {{key: '{name}', bubbles: true}})"
    return f"document.querySelector('{place}').dispatchEvent({event}), "


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
    acts = {
        "drag": drag("#curve-chart svg", (200, 60), (400, 62)) + "Object.keys(S.zoom).join() + S.zoom.curve.y",
        "again": key("#curve-chart svg", "0") + "S.zoom.curve",
        "brush": drag("#parallel-chart svg", (60, 20), (60, 120)) + "S.filter",
        "hide": "document.querySelector('[data-hide]').click(), S.hidden.size",
        "choose": "document.querySelector('[data-group]').click(), S.slots.size",
        "slash": key("body", "/") + "document.activeElement.id",
        "sort": "document.querySelector('[data-sort]').click(), S.sort",
    }
    done = browse((page[0], page[1].replace("D.groups.length < 3", "false")), acts)
    first = page[0], page[1].replace("const ROWS = 100", "const ROWS = 1")
    rows = "document.querySelectorAll('#table tbody tr').length"
    several = {"few": rows, "button": text("all"), "counted": text("counted"), "csv": "toCsv(listed)"}
    several["all"] = "document.getElementById('all').click(), " + rows
    shown_first = browse(first, several)
    assert [shown_first[name] for name in ("few", "button", "counted", "all")] == [1, "show 1 more", "2 of 2", 2]
    assert len(shown_first["csv"].splitlines()) == 3, "all rows"
    assert done["drag"].startswith("curve0,0."), "a flat drag keeps all of the height"
    assert (done["again"], done["slash"], done["sort"]) == (None, "filter", "lr")
    assert done["brush"].startswith("optimizer.lr>=")
    assert (done["hide"], done["choose"]) == (3, 1)
    lines = shown["csv"].splitlines()
    assert lines[0].startswith("run,seed,lr,probe/top1 %,±,")
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["a-0", "0", "0.001", ""],
        ["b-0", "0", "0.1", "60"],
        ["b-2", "2", "0.1", ""],
    ]
