// A metric against what it cost: a point for each group, and the front of those that none surpasses at less cost.
function drawPareto() {
  const box = $("pareto-chart"), m = meaning(S.metric);
  const cost = (r) => D.runs[r][S.cost];
  const all = [...visible].map((g) => ({ g, x: mean(present(D.groups[g].runs).map(cost)), s: measured(D.groups[g].runs, S.metric) })).filter((p) => p.s && p.x > 0);
  if (!all.length) { box.innerHTML = `<p class="note">No group shown has ${escaped(S.metric || "a metric")}.</p>`; return; }
  const runs = all.flatMap((p) => present(D.groups[p.g].runs).filter((r) => D.runs[r].metrics[S.metric] !== undefined && cost(r) > 0).map((r) => ({ g: p.g, x: cost(r), y: D.runs[r].metrics[S.metric] })));
  const xs = [...all.map((p) => p.x), ...runs.map((p) => p.x)], low = Math.min(...xs), high = Math.max(...xs);
  const log = S.logcost === "auto" ? high / low > 20 : S.logcost === "on", room = log ? (high / low) ** 0.05 : (high - low) * 0.05;
  const values = runs.map((p) => p.y), reach = Math.max(...values) - Math.min(...values);
  const bars = all.filter((p) => S.slots.has(p.g) && p.s.half !== null).flatMap((p) => [Math.max(p.s.low, p.s.mean - reach / 2), Math.min(p.s.high, p.s.mean + reach / 2)]);
  const heights = [...values, ...bars], bottom = Math.min(...heights), top = Math.max(...heights), air = (top - bottom) * 0.08 || Math.abs(top) * 0.05 || 1;
  const better = (a, b) => (m.larger ? a > b : a < b);
  const sorted = [...all].sort((a, b) => a.x - b.x || (better(a.s.mean, b.s.mean) ? -1 : 1));
  const front = m.larger === null ? [] : sorted.filter((p, i) => !sorted.slice(0, i).some((q) => !better(p.s.mean, q.s.mean)));
  const zoom = S.zoom.pareto;
  const f = frame(box, zoom ? zoom.x : log ? [low / room, high * room] : [Math.max(0, low - room), high + room], zoom ? zoom.y : [bottom - air, top + air], { x: S.cost === "samples" ? "samples seen" : "seconds" }, m.share, { x: log, y: false });
  let svg = f.svg + '<g clip-path="url(#within)">';
  let line = "";
  front.forEach((p, i) => { line += i ? `H${f.x.at(p.x)}V${f.y.at(p.s.mean)}` : `M${f.x.at(p.x)} ${f.y.at(p.s.mean)}`; });
  if (line) svg += `<path class="front" d="${line}H${f.w - EDGE.right}"/>`;
  const size = all.length > 60 ? 3 : 5;
  for (const p of runs) {
    if (D.groups[p.g].runs.length === 1) continue;
    const slot = S.slots.get(p.g);
    svg += `<circle cx="${f.x.at(p.x)}" cy="${f.y.at(p.y)}" r="2.2" fill="${slot === undefined ? "var(--soft)" : colour(slot)}" opacity="0.4"/>`;
  }
  for (const p of [...all].sort((a, b) => S.slots.has(a.g) - S.slots.has(b.g))) {
    const slot = S.slots.get(p.g), paint = slot === undefined ? "var(--soft)" : colour(slot), [x, y] = [f.x.at(p.x), f.y.at(p.s.mean)];
    const text = `${label(p.g)}: ${range(p.s, m.share)}${m.share ? " %" : ""}, ${brief(p.x)} ${S.cost === "samples" ? "samples" : "seconds"}, n ${p.s.n}`;
    if (p.s.half !== null && slot !== undefined) svg += `<line x1="${x}" x2="${x}" y1="${f.y.at(p.s.low)}" y2="${f.y.at(p.s.high)}" stroke="${paint}" stroke-width="1.5"/>`;
    svg += mark(slot === undefined ? 0 : slot, x, y, slot === undefined ? size - 1 : size, `class="dot" data-group="${p.g}" tabindex="${slot === undefined && all.length > 40 ? -1 : 0}" role="button" aria-pressed="${slot !== undefined}" aria-label="${escaped(text)}" fill="${paint}" ${slot === undefined ? 'opacity="0.6"' : ""}`);
  }
  box.innerHTML = `<svg tabindex="0" role="group" aria-label="${escaped(S.metric)} against cost; + - 0 and arrows zoom"><defs><clipPath id="within"><rect x="${EDGE.left}" y="0" width="${f.w - EDGE.left}" height="${f.h - EDGE.bottom + 4}"/></clipPath></defs>${svg}</g></svg>`;
  for (const dot of box.querySelectorAll(".dot")) {
    const g = Number(dot.dataset.group), p = all.find((each) => each.g === g);
    const show = (event) => tip(`${about(g)}<br><span class="key">${S.cost === "samples" ? "samples seen" : "seconds"}</span> ${brief(p.x)}`, event);
    dot.onpointermove = dot.onfocus = show;
    dot.onpointerleave = dot.onblur = () => tip("");
    dot.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(g);
      box.querySelector(`[data-group="${dot.dataset.group}"]`)?.focus();
    };
  }  zoomable(box, f, "pareto", (event) => {  // a dot, or the one that is nearest: fingers are thick
    const r = box.getBoundingClientRect(), gap = (p) => Math.hypot(f.x.at(p.x) - event.clientX + r.x, f.y.at(p.s.mean) - event.clientY + r.y);
    const p = all.reduce((a, b) => (gap(b) < gap(a) ? b : a));
    if (gap(p) < 22) choose(p.g);
  });
}
