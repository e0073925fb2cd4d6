// Curves of runs, and their mean and 95 % interval for each chosen group.
function points(r, name) {
  const place = D.curves.indexOf(name), run = D.runs[r];
  for (const track of D.tracks[r]) {
    const values = track.values[place];
    if (!values) continue;
    const x = S.x === "seconds" ? track.seconds : S.x === "samples" ? track.step.map((s) => s * run.batch) : track.step;
    return smoothed(x.map((v, i) => [v, values[i]]).filter((p) => (!S.log || p[1] > 0) && (!S.logx || p[0] > 0)));
  }
  return [];
}

function smoothed(line) {  // exponential moving average, without the pull of its first value
  let sum = 0, weight = 0;
  return S.smooth ? line.map(([x, y]) => { sum = S.smooth * sum + (1 - S.smooth) * y; weight = S.smooth * weight + 1 - S.smooth; return [x, sum / weight]; }) : line;
}

function at(line, x) {  // linear between the points of a line
  let low = 0, high = line.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (line[middle][0] <= x) low = middle; else high = middle;
  }
  const [a, b] = [line[low], line[high]];
  return b[0] === a[0] ? b[1] : a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0]);
}

function together(lines) {  // where all seeds have points
  const low = Math.max(...lines.map((l) => l[0][0])), high = Math.min(...lines.map((l) => l[l.length - 1][0]));
  let grid = [...new Set(lines.flatMap((l) => l.map((p) => p[0])))].filter((x) => x >= low && x <= high).sort((a, b) => a - b);
  if (grid.length > 150) grid = Array.from({ length: 150 }, (_, i) => low + ((high - low) * i) / 149);
  return grid.map((x) => ({ x, ...spread(lines.map((l) => at(l, x))) }));
}

const path = (list) => list.map((p, i) => `${i ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("");

function lineOfGroup(g, lines) {
  const seeds = D.groups[g].runs.map((r) => lines[r]).filter((l) => l.length);
  return seeds.length > 1 ? together(seeds) : (seeds[0] || []).map((p) => ({ x: p[0], mean: p[1], low: p[1], high: p[1], half: null, n: 1 }));
}

function drawCurves() {
  const box = $("curve-chart"), name = S.curve, share = meaning(name).share;
  const others = S.others || ![...S.slots.keys()].some((g) => visible.has(g));
  const lines = D.runs.map((run, r) => {
    const wanted = run.group === null ? S.unfinished : visible.has(run.group) && (S.slots.has(run.group) || others);
    return wanted && !S.hidden.has(run.name) ? points(r, name) : [];
  });
  let low = Infinity, high = -Infinity, left = Infinity, right = -Infinity;
  for (const line of lines) for (const [x, y] of line) {
    left = Math.min(left, x); right = Math.max(right, x);
    low = Math.min(low, y); high = Math.max(high, y);
  }
  if (left > right) { box.innerHTML = `<p class="note">No run shown has a curve of ${escaped(name || "this")}.</p>`; $("legend").innerHTML = ""; return; }
  const names = { x: { step: "steps", seconds: "seconds", samples: "samples seen" }[S.x] }, zoom = S.zoom.curve;
  const f = frame(box, zoom ? zoom.x : [left, right], zoom ? zoom.y : [low, high], names, share, { x: S.logx, y: S.log });
  const put = (line) => path(line.map((p) => [f.x.at(p[0]), f.y.at(p[1])]));
  const many = lines.filter((l) => l.length).length;
  let under = "", over = "";
  D.runs.forEach((run, r) => {
    if (!lines[r].length) return;
    const slot = run.group === null ? undefined : S.slots.get(run.group);
    if (slot === undefined) under += `<path d="${put(lines[r])}" fill="none" stroke="var(--soft)" stroke-width="1" opacity="${many > 60 ? 0.18 : run.group === null ? 0.9 : 0.35}"${run.group === null ? ' stroke-dasharray="4 3"' : ""}/>`;
    else if (present(D.groups[run.group].runs).length > 1) over += `<path class="run" d="${put(lines[r])}" fill="none" stroke="${colour(slot)}" stroke-width="1" opacity="0.35"/>`;
  });
  const means = [];
  for (const [g, slot] of S.slots) {
    const middle = visible.has(g) ? lineOfGroup(g, lines) : [];
    if (!middle.length) continue;
    if (middle[0].n > 1) {
      const edge = (side) => middle.map((p) => [f.x.at(p.x), Math.max(-2000, Math.min(4000, f.y.at(S.log ? Math.max(low / 10, p[side]) : p[side])))]);
      over += `<path class="band" d="${path(edge("high"))}${path(edge("low").reverse()).replace("M", "L")}Z" fill="${colour(slot)}" opacity="0.14"/>`;
    }
    over += `<path class="mean" d="${put(middle.map((p) => [p.x, p.mean]))}" fill="none" stroke="${colour(slot)}" stroke-width="2.2" stroke-dasharray="${dashes(slot)}"/>`;
    const last = middle[middle.length - 1];
    over += mark(slot, f.x.at(last.x), f.y.at(last.mean), 4, `fill="${colour(slot)}"`);
    means.push({ g, slot, middle });
  }
  box.innerHTML = `<svg tabindex="0" role="img" aria-label="${escaped(name)} against ${names.x}; + - 0 and arrows zoom"><defs><clipPath id="inside"><rect x="${EDGE.left}" y="${EDGE.top - 4}" width="${f.w - EDGE.left - EDGE.right + 6}" height="${f.h - EDGE.top - EDGE.bottom + 8}"/></clipPath></defs>${f.svg}<g clip-path="url(#inside)">${under}${over}<path class="near" fill="none"/></g><line class="guide" y1="${EDGE.top}" y2="${f.h - EDGE.bottom}" visibility="hidden"/></svg>`;
  $("legend").innerHTML = means.map((m) => `<span>${sample(m.slot)}${escaped(label(m.g))}</span>`).join("");
  $("curve-note").textContent = means.some((m) => m.middle[0].n === 2) ? "Bands: 95 % interval over seeds; of two seeds, what lies between them." : means.some((m) => m.middle[0].n > 2) ? "Bands: 95 % interval over seeds." : "";
  const near = hoverCurves(box, f, lines, means, { name, share, x: names.x });
  zoomable(box, f, "curve", (event) => { const r = near(event); if (r !== null && D.runs[r].group !== null) choose(D.runs[r].group); });
}

function hoverCurves(box, f, lines, means, names) {  // values under the pointer; returns how to find the run that is nearest to it
  const guide = box.querySelector(".guide"), bold = box.querySelector(".near");
  const place = (event) => { const r = box.getBoundingClientRect(); return [f.x.back(event.clientX - r.x), event.clientY - r.y]; };
  const nearest = (event) => {
    const [x, y] = place(event);
    let best = null, gap = 14;
    lines.forEach((line, r) => {
      if (!line.length || x < line[0][0] || x > line[line.length - 1][0]) return;
      const distance = Math.abs(f.y.at(at(line, x)) - y);
      if (distance < gap) [best, gap] = [r, distance];
    });
    return best;
  };
  box.onpointermove = (event) => {
    const [x] = place(event);
    if (event.buttons || !(x >= f.x.low && x <= f.x.high)) return box.onpointerleave(event);
    guide.setAttribute("x1", f.x.at(x)); guide.setAttribute("x2", f.x.at(x)); guide.setAttribute("visibility", "visible");
    const under = means.filter((m) => x >= m.middle[0].x && x <= m.middle[m.middle.length - 1].x).map((m) => ({ ...m, p: m.middle.reduce((a, b) => (Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a)) }));
    under.sort((a, b) => b.p.mean - a.p.mean);
    const r = nearest(event), run = D.runs[r];
    bold.setAttribute("d", r === null ? "" : path(lines[r].map((p) => [f.x.at(p[0]), f.y.at(p[1])])));
    const which = r === null ? "" : `<hr>${escaped(run.name)}: ${number(at(lines[r], x), names.share)}${names.share ? " %" : ""}<br>${run.group === null ? escaped(run.status) : about(run.group, r)}`;
    return tip(`${brief(x)} ${names.x}<br>` + under.slice(0, 12).map((m) => `${sample(m.slot)}${range(m.p, names.share)}${names.share ? " %" : ""} ${escaped(label(m.g))}`).join("<br>") + which, event);
  };
  box.onpointerleave = () => { guide.setAttribute("visibility", "hidden"); bold.setAttribute("d", ""); tip(""); };
  return nearest;
}
