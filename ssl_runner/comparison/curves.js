// Curves of runs, and their mean and 95 % interval for each chosen group.
function points(r, name) {
  const place = D.curves.indexOf(name), run = D.runs[r];
  for (const track of D.tracks[r]) {
    const values = track.values[place];
    if (!values) continue;
    const x = S.x === "seconds" ? track.seconds : S.x === "samples" ? track.step.map((s) => s * run.batch) : track.step;
    return x.map((v, i) => [v, values[i]]).filter((p) => !S.log || p[1] > 0);
  }
  return [];
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

function drawCurves() {
  const box = $("curve-chart"), name = S.curve, share = meaning(name).share;
  const shown = (g) => visible.has(g);
  const lines = D.runs.map((run, r) => {
    const chosen = run.group !== null && S.slots.has(run.group);
    const wanted = run.group === null ? S.unfinished : shown(run.group) && (chosen || S.others);
    return wanted ? points(r, name) : [];
  });
  const all = lines.flat();
  if (!all.length) { box.innerHTML = `<p class="note">No run shown has a curve of ${escaped(name || "this")}.</p>`; $("legend").innerHTML = ""; return; }
  const ys = all.map((p) => p[1]).sort((a, b) => a - b);
  const names = { x: { step: "steps", seconds: "seconds", samples: "samples seen" }[S.x] };
  const f = frame(box, [Math.min(...all.map((p) => p[0])), Math.max(...all.map((p) => p[0]))], [ys[0], ys[ys.length - 1]], names, share, { x: false, y: S.log });
  const put = (line) => path(line.map((p) => [f.x.at(p[0]), f.y.at(p[1])]));
  const many = lines.filter((l) => l.length).length;
  let under = "", over = "";
  const means = [];
  D.runs.forEach((run, r) => {
    if (!lines[r].length) return;
    const slot = run.group === null ? undefined : S.slots.get(run.group);
    const alone = slot !== undefined && D.groups[run.group].runs.length === 1;
    if (slot === undefined) under += `<path d="${put(lines[r])}" fill="none" stroke="var(--soft)" stroke-width="1" opacity="${many > 60 ? 0.18 : 0.35}"${run.group === null ? ' stroke-dasharray="4 3"' : ""}/>`;
    else if (!alone) over += `<path class="run" d="${put(lines[r])}" fill="none" stroke="${colour(slot)}" stroke-width="1" opacity="0.35"/>`;
  });
  for (const [g, slot] of S.slots) {
    const seeds = D.groups[g].runs.map((r) => lines[r]).filter((l) => l.length);
    if (!shown(g) || !seeds.length) continue;
    const middle = seeds.length > 1 ? together(seeds) : seeds[0].map((p) => ({ x: p[0], mean: p[1], half: null }));
    if (!middle.length) continue;
    if (seeds.length > 1) {
      const low = S.log ? ys[0] / 10 : -Infinity;
      const edge = (sign) => middle.map((p) => [f.x.at(p.x), Math.max(-2000, Math.min(4000, f.y.at(Math.max(low, p.mean + sign * p.half))))]);
      over += `<path class="band" d="${path(edge(1))}${path(edge(-1).reverse()).replace("M", "L")}Z" fill="${colour(slot)}" opacity="0.14"/>`;
    }
    over += `<path class="mean" d="${put(middle.map((p) => [p.x, p.mean]))}" fill="none" stroke="${colour(slot)}" stroke-width="2.2" stroke-dasharray="${dashes(slot)}"/>`;
    const last = middle[middle.length - 1];
    over += mark(slot, f.x.at(last.x), f.y.at(last.mean), 4, `fill="${colour(slot)}"`);
    means.push({ g, slot, middle });
  }
  box.innerHTML = `<svg role="img" aria-label="${escaped(name)} against ${names.x}"><defs><clipPath id="inside"><rect x="${EDGE.left}" y="${EDGE.top - 4}" width="${f.w - EDGE.left - EDGE.right + 6}" height="${f.h - EDGE.top - EDGE.bottom + 8}"/></clipPath></defs>${f.svg}<g clip-path="url(#inside)">${under}${over}</g><line class="guide" y1="${EDGE.top}" y2="${f.h - EDGE.bottom}" visibility="hidden"/></svg>`;
  $("legend").innerHTML = means.map((m) => `<span>${sample(m.slot)}${escaped(label(m.g))}</span>`).join("");
  const guide = box.querySelector(".guide");
  box.onpointermove = (event) => {
    const x = f.x.low + ((event.clientX - box.getBoundingClientRect().x - EDGE.left) / (f.w - EDGE.left - EDGE.right)) * (f.x.high - f.x.low);
    if (x < f.x.low || x > f.x.high) return box.onpointerleave(event);
    guide.setAttribute("x1", f.x.at(x)); guide.setAttribute("x2", f.x.at(x)); guide.setAttribute("visibility", "visible");
    const near = means.filter((m) => x >= m.middle[0].x && x <= m.middle[m.middle.length - 1].x).map((m) => ({ ...m, p: m.middle.reduce((a, b) => (Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a)) }));
    near.sort((a, b) => b.p.mean - a.p.mean);
    return tip(near.length ? `${brief(x)} ${names.x}<br>` + near.map((m) => `${sample(m.slot)}${range(m.p, share)}${share ? " %" : ""} ${escaped(label(m.g))}`).join("<br>") : "", event);
  };
  box.onpointerleave = () => { guide.setAttribute("visibility", "hidden"); tip(""); };
}
