// A metric against what it cost: a point for each group, and the front of those that none surpasses at less cost.
function drawPareto() {
  const box = $("pareto-chart"), m = meaning(S.metric);
  const cost = (r) => D.runs[r][S.cost];
  const all = [...visible].map((g) => ({ g, x: mean(D.groups[g].runs.map(cost)), s: measured(D.groups[g].runs, S.metric) })).filter((p) => p.s && p.x > 0);
  if (!all.length) { box.innerHTML = `<p class="note">No group shown has ${escaped(S.metric || "a metric")}.</p>`; return; }
  const runs = all.flatMap((p) => D.groups[p.g].runs.filter((r) => D.runs[r].metrics[S.metric] !== undefined && cost(r) > 0).map((r) => ({ g: p.g, x: cost(r), y: D.runs[r].metrics[S.metric] })));
  const xs = [...all.map((p) => p.x), ...runs.map((p) => p.x)], low = Math.min(...xs), high = Math.max(...xs);
  const log = high / low > 20, room = log ? (high / low) ** 0.05 : (high - low) * 0.05;
  const values = runs.map((p) => p.y), reach = Math.max(...values) - Math.min(...values);
  const bars = all.filter((p) => S.slots.has(p.g) && p.s.half !== null).flatMap((p) => [1, -1].map((sign) => p.s.mean + sign * Math.min(p.s.half, reach / 2)));
  const heights = [...values, ...bars], bottom = Math.min(...heights), top = Math.max(...heights), air = (top - bottom) * 0.08 || Math.abs(top) * 0.05 || 1;
  const better = (a, b) => (m.larger ? a > b : a < b);
  const sorted = [...all].sort((a, b) => a.x - b.x || (better(a.s.mean, b.s.mean) ? -1 : 1));
  const front = m.larger === null ? [] : sorted.filter((p, i) => !sorted.slice(0, i).some((q) => !better(p.s.mean, q.s.mean)));
  const f = frame(box, log ? [low / room, high * room] : [Math.max(0, low - room), high + room], [bottom - air, top + air], { x: S.cost === "samples" ? "samples seen" : "seconds" }, m.share, { x: log, y: false });
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
    if (p.s.half !== null && slot !== undefined) svg += `<line x1="${x}" x2="${x}" y1="${f.y.at(p.s.mean - p.s.half)}" y2="${f.y.at(p.s.mean + p.s.half)}" stroke="${paint}" stroke-width="1.5"/>`;
    svg += mark(slot === undefined ? 0 : slot, x, y, slot === undefined ? size - 1 : size, `class="dot" data-group="${p.g}" tabindex="0" role="button" aria-pressed="${slot !== undefined}" aria-label="${escaped(text)}" fill="${paint}" ${slot === undefined ? 'opacity="0.6"' : ""}`);
  }
  box.innerHTML = `<svg role="group" aria-label="${escaped(S.metric)} against cost"><defs><clipPath id="within"><rect x="${EDGE.left}" y="0" width="${f.w - EDGE.left}" height="${f.h - EDGE.bottom}"/></clipPath></defs>${svg}</g></svg>`;
  for (const dot of box.querySelectorAll(".dot")) {
    const show = (event) => tip(escaped(dot.getAttribute("aria-label")), event);
    dot.onpointermove = dot.onfocus = show;
    dot.onpointerleave = dot.onblur = () => tip("");
    dot.onclick = () => choose(Number(dot.dataset.group));
    dot.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(Number(dot.dataset.group));
      box.querySelector(`[data-group="${dot.dataset.group}"]`)?.focus();
    };
  }
}
