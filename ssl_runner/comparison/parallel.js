// Parallel coordinates: a line for each group over the settings that differ, and what they came to.
const MOST_AXES = 9;

function axes(list) {
  const made = D.keys.map(([key, name], i) => {
    const values = [...new Set(list.map((e) => D.groups[e.g].settings[i]))], numbers = values.filter((v) => v !== "-").map(Number);
    if (values.length < 2) return null;
    if (numbers.length > 1 && numbers.every(Number.isFinite)) {
      const low = Math.min(...numbers), high = Math.max(...numbers), log = low > 0 && high / low >= 20;
      const share = (v) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
      const back = (s) => (log ? low * (high / low) ** s : low + s * (high - low));
      return { key, name, of: (g) => (D.groups[g].settings[i] === "-" ? null : share(Number(D.groups[g].settings[i]))), back, marks: [...new Set(numbers)].length <= 6 ? numbers.map((v) => [share(v), brief(v)]) : [[0, brief(low)], [1, brief(high)]] };
    }
    values.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const at = (v) => values.indexOf(v) / (values.length - 1);
    return { key, name, of: (g) => at(D.groups[g].settings[i]), values, at, marks: values.length <= 14 ? values.map((v) => [at(v), v]) : [[0, values[0]], [1, values[values.length - 1]]] };
  }).filter(Boolean).slice(0, MOST_AXES);
  const worth = new Map(list.map((e) => [e.g, measured(D.groups[e.g].runs, S.metric)?.mean]).filter(([, v]) => v !== undefined));
  const low = Math.min(...worth.values()), high = Math.max(...worth.values()), share = meaning(S.metric).share;
  if (worth.size > 1 && high > low) made.push({ key: S.metric, name: S.metric + (share ? " %" : ""), of: (g) => (worth.has(g) ? (worth.get(g) - low) / (high - low) : null), back: (s) => (low + s * (high - low)) * (share ? 100 : 1), marks: [0, 0.5, 1].map((s) => [s, number(low + s * (high - low), share)]), metric: true });
  return made;
}

function drawParallel(list) {
  const box = $("parallel-chart"), shown = [...new Map(list.map((e) => [e.g, e])).values()].filter((e) => visible.has(e.g)), all = shown.length > 1 ? axes(shown) : [];
  $("parallel").hidden = all.filter((a) => !a.metric).length < 1 || D.groups.length < 3;
  if ($("parallel").hidden) return;
  const w = Math.max(box.parentElement.clientWidth, all.length * 92), h = 260, top = 34, bottom = 14, right = 60;
  const left = Math.min(w / 4, Math.max(60, 12 + 7.2 * Math.max(0, ...(all[0] ? all[0].marks : []).map(([, text]) => String(text).slice(0, 14).length))));
  const x = (i) => left + (i * (w - left - right)) / Math.max(1, all.length - 1), y = (s) => h - bottom - s * (h - bottom - top);
  const lines = shown.map(({ g }) => ({ g, points: all.map((a, i) => [x(i), a.of(g)]).filter((p) => p[1] !== null).map((p) => [p[0], y(p[1])]) })).filter((l) => l.points.length > 1);
  const last = all[all.length - 1], better = meaning(S.metric).larger === false ? (s) => 1 - s : (s) => s;
  const faint = (g) => { const s = last.metric ? last.of(g) : null; return s === null ? 0.15 : 0.1 + 0.5 * better(s) ** 2; };
  const drawn = [...lines].sort((a, b) => S.slots.has(a.g) - S.slots.has(b.g)).map((l) => {
    const slot = S.slots.get(l.g);
    return `<path d="${path(l.points)}" data-line="${l.g}" fill="none" stroke="${slot === undefined ? "var(--accent)" : colour(slot)}" stroke-width="${slot === undefined ? 1.2 : 2.4}" opacity="${slot === undefined ? faint(l.g) : 1}" stroke-dasharray="${slot === undefined ? "" : dashes(slot)}"/>`;
  }).join("");
  const rods = all.map((a, i) => `<line class="axis" x1="${x(i)}" x2="${x(i)}" y1="${top}" y2="${h - bottom}"/><text class="name" x="${x(i)}" y="14" text-anchor="middle">${escaped(a.name.length > 20 ? `…${a.name.slice(-19)}` : a.name)}<title>${escaped(a.key)}</title></text>` + a.marks.map(([s, text]) => `<text class="halo" x="${x(i) - 5}" y="${y(s) + 4}" text-anchor="end">${escaped(String(text).slice(0, 14))}</text>`).join("")).join("");
  box.style.width = `${w}px`;
  box.innerHTML = `<svg role="img" aria-label="settings that differ, and ${escaped(S.metric)}" viewBox="0 0 ${w} ${h}">${drawn}${rods}<rect class="drag" visibility="hidden"/></svg>`;
  const svg = box.firstChild, brush = box.querySelector(".drag");
  const near = (event) => {
    const r = box.getBoundingClientRect(), px = event.clientX - r.x, py = event.clientY - r.y;
    const gap = (l) => { const i = l.points.findIndex((p) => p[0] >= px); if (i < 1) return Infinity; const [a, b] = [l.points[i - 1], l.points[i]]; return Math.abs(a[1] + ((b[1] - a[1]) * (px - a[0])) / (b[0] - a[0]) - py); };
    return lines.map((l) => [gap(l), l]).reduce((a, b) => (b[0] < a[0] ? b : a), [14, null])[1];
  };
  let held = null;
  svg.onpointermove = (event) => {
    const r = box.getBoundingClientRect();
    if (held) {
      const py = event.clientY - r.y, low = Math.min(py, held.y), high = Math.max(py, held.y);
      for (const [name, value] of Object.entries({ x: x(held.i) - 8, y: low, width: 16, height: high - low, visibility: "visible" })) brush.setAttribute(name, value);
      return;
    }
    svg.querySelector(".near")?.classList.remove("near");
    const line = near(event);
    if (line) svg.querySelector(`[data-line="${line.g}"]`).classList.add("near");
    tip(line ? about(line.g) : "", event);
  };
  svg.onpointerleave = () => { svg.querySelector(".near")?.classList.remove("near"); tip(""); };
  svg.onpointerdown = (event) => {
    const r = box.getBoundingClientRect(), px = event.clientX - r.x, i = all.findIndex((_, n) => Math.abs(x(n) - px) < 14);
    if (i >= 0 && event.pointerType !== "touch") { held = { i, y: event.clientY - r.y }; svg.setPointerCapture(event.pointerId); }
  };
  svg.onpointerup = (event) => {
    const py = event.clientY - box.getBoundingClientRect().y, start = held;
    held = null;
    if (start && Math.abs(py - start.y) > 5) return limit(all[start.i], [Math.max(py, start.y), Math.min(py, start.y)].map((v) => (h - bottom - v) / (h - bottom - top)));
    const line = near(event);
    if (line) choose(line.g);
  };
}

function limit(axis, [low, high]) {  // a part of an axis as words of the filter
  const key = /\s/.test(axis.key) ? `"${axis.key}"` : axis.key, rest = (S.filter.match(/(?:"[^"]*"|[^\s"])+/g) || []).filter((word) => !["=", "<", ">"].some((sign) => word.startsWith(key + sign)));
  const quoted = (v) => (/[\s|]/.test(v) ? `"${v}"` : v);
  const own = axis.back ? [low > 0 ? `${key}>=${Number(axis.back(low).toPrecision(3))}` : "", high < 1 ? `${key}<=${Number(axis.back(high).toPrecision(3))}` : ""] : [`${key}=${axis.values.filter((v) => axis.at(v) >= low && axis.at(v) <= high).map(quoted).join("|")}`];
  S.filter = $("filter").value = [...rest, ...own].filter((word) => word && !word.endsWith("=")).join(" ");
  draw();
}
