// Zoom of a chart: drag over a part of it, or + - 0 and the arrows; a double click shows all of it again.
function zoomed(key, f, ranges) {
  S.zoom[key] = ranges && { x: ranges.x.map((v) => Number(v.toPrecision(6))), y: ranges.y.map((v) => Number(v.toPrecision(6))) };
  tip("");
  draw();
}

function zoomable(box, f, key, click) {
  const svg = box.querySelector("svg"), place = (event) => { const r = box.getBoundingClientRect(); return [event.clientX - r.x, event.clientY - r.y]; };
  let from = null, frame_ = null;
  const undo = document.createElement("button");
  undo.type = "button"; undo.className = "undo"; undo.textContent = "show all"; undo.hidden = !S.zoom[key];
  undo.onclick = () => zoomed(key, f, null);
  box.append(undo);
  svg.ondblclick = () => zoomed(key, f, null);
  svg.onpointerdown = (event) => { if (event.button === 0) { from = place(event); svg.setPointerCapture?.(event.pointerId); } };
  svg.onpointermove = (event) => {
    if (!from) return;
    const [x, y] = place(event);
    if (!frame_ && Math.abs(x - from[0]) < 6 && Math.abs(y - from[1]) < 6) return;
    tip("");
    if (!frame_) { frame_ = document.createElementNS(svg.namespaceURI, "rect"); frame_.setAttribute("class", "drag"); svg.append(frame_); }
    const tall = Math.abs(y - from[1]) > 20;  // else all of the height
    const rect = { x: Math.min(x, from[0]), y: tall ? Math.min(y, from[1]) : EDGE.top, width: Math.abs(x - from[0]), height: tall ? Math.abs(y - from[1]) : f.h - EDGE.top - EDGE.bottom };
    for (const [name, value] of Object.entries(rect)) frame_.setAttribute(name, value);
  };
  svg.onpointerup = (event) => {
    const drawn = frame_, start = from, [x, y] = place(event);
    from = frame_ = null;
    if (!start) return;
    if (!drawn) { click?.(event); return; }
    drawn.remove();
    if (Math.abs(x - start[0]) < 6) return;
    const tall = Math.abs(y - start[1]) > 20, sorted = (a, b) => [Math.min(a, b), Math.max(a, b)];
    zoomed(key, f, { x: sorted(f.x.back(start[0]), f.x.back(x)), y: tall ? sorted(f.y.back(start[1]), f.y.back(y)) : [f.y.low, f.y.high] });
  };
  svg.onpointercancel = () => { frame_?.remove(); from = frame_ = null; };
  svg.onkeydown = (event) => {
    const by = { "+": [0.25, -0.25], "=": [0.25, -0.25], "-": [-0.5, 0.5], ArrowLeft: [-0.25, -0.25], ArrowRight: [0.25, 0.25] }[event.key];
    if (event.key !== "0" && !by || event.target !== svg) return;
    event.preventDefault();
    const w = f.w - EDGE.left - EDGE.right;
    zoomed(key, f, by ? { x: [f.x.back(EDGE.left + by[0] * w), f.x.back(f.w - EDGE.right + by[1] * w)], y: [f.y.low, f.y.high] } : null);
    box.querySelector("svg")?.focus();
  };
}
