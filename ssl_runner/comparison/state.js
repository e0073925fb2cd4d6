// What the page knows and what is chosen on it; numbers, colours and axes that both charts and the table use.
const $ = (id) => document.getElementById(id);
const COLOURS = 8, FIRST = 6;
let D;  // what the page was written with, or what `ssl-runner watch` has sent since

function load(data) {
  D = data;
  D.configuration = [...new Set([D.shared, ...D.runs.map((run) => run.configuration)].flatMap(Object.keys))];
  for (const run of D.runs) {
    const own = { ...D.shared, ...run.configuration }, metrics = D.names.map((name, i) => [name, run.metrics[i] ?? undefined]);
    Object.assign(run, { group: null, samples: run.samples_seen, speed: run.samples_per_second, batch: run.batch_size, settings: D.configuration.map((key) => own[key]), metrics: Object.fromEntries(metrics) });
  }
  const places = new Map(D.runs.map((run, r) => [run.name, r]));
  D.places = places;
  D.groups.forEach((group, g) => {  // settings and runs by their places
    const runs = group.runs.map((name) => places.get(name));
    Object.assign(group, { runs, settings: D.keys.map(([key]) => group.settings[key]), difference: group.to_first, worse: group.shown_worse });
    for (const r of runs) D.runs[r].group = g;
  });
}
load(JSON.parse($("data").textContent));

const confusionNames = () => [...new Set(Object.values(D.confusions).flatMap((all) => all.map((each) => each.name)))].sort();
const START = () => ({
  metric: D.metric,
  curve: D.curves.includes(D.metric) ? D.metric : D.curves.find((name) => name === "train/loss") || D.curves[0],
  x: "step", cost: "seconds", log: false, logx: false, logcost: "auto", smooth: 0, all: false, others: D.groups.length <= 40, unfinished: Boolean(window.LIVE) || !D.groups.length, alike: false,
  single: false, confusion: confusionNames().find((name) => name === `test/${D.metric}`) || confusionNames()[0] || "", filter: "", sort: null, down: false, theme: null,
});
const S = { ...START(), zoom: {}, hidden: new Set(), slots: null };  // hidden: names of runs; slots: chosen groups, and the colour of each
const firstSlots = () => new Map(D.groups.slice(0, FIRST).map((_, g) => [g, g]));
S.slots = firstSlots();
const present = (runs) => runs.filter((r) => !S.hidden.has(D.runs[r].name));

const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const meaning = (name) => D.metrics.find((m) => m.name === name) || { name, larger: D.larger, share: D.shares.includes(name) };
const colour = (slot) => `var(--c${slot % COLOURS})`;
const dashes = (slot) => ["", "7 3", "2 3", "9 3 2 3"][Math.floor(slot / COLOURS + (slot % COLOURS) / 3) % 4];
const GROUPS = /^(pretext|dataset|model|optimizer|regulariser)$/;
let telling = [];  // places of the settings that tell the chosen groups apart, no more than it takes

function tell() {
  const chosen = [...S.slots.keys()], kinds = (places) => new Set(chosen.map((g) => places.map((i) => D.groups[g].settings[i]).join("\n"))).size;
  telling = [];
  D.keys.forEach((_, i) => { if (kinds([...telling, i]) > kinds(telling)) telling.push(i); });
}

function label(g) {
  const group = D.groups[g], all = [...group.settings.keys()];
  if (!all.length) return group.runs.length > 1 ? "all runs" : D.runs[group.runs[0]].name;
  const places = S.slots.has(g) && telling.length ? telling : all;
  return places.map((i) => (group.settings[i] === "-" ? "" : GROUPS.test(D.keys[i][0]) ? group.settings[i] : `${D.keys[i][1]} ${group.settings[i]}`)).filter(Boolean).join(", ") || D.runs[group.runs[0]].name;
}

function about(g, r) {  // of a group, or of one of its runs: what it came to, and the settings that differ
  const group = D.groups[g], s = measured(r === undefined ? group.runs : [r], S.metric), share = meaning(S.metric).share, slot = S.slots.get(g);
  const rows = D.keys.map(([, name], i) => [name, group.settings[i]]).filter(([, value]) => value !== "-");
  const more = rows.length > 12 ? `<br>… ${rows.length - 12} more` : "", run = r === undefined ? group.runs.length === 1 ? group.runs[0] : undefined : r;
  return `<b>${slot === undefined ? "" : sample(slot)}${escaped(run === undefined ? label(g) : D.runs[run].label || D.runs[run].name)}</b>${s ? `<br>${escaped(S.metric)} ${range(s, share)}${share ? " %" : ""}${s.n > 1 ? `, n ${s.n}` : ""}` : ""}${rows.slice(0, 12).map(([name, value]) => `<br><span class="key">${escaped(name)}</span> ${escaped(value)}`).join("")}${more}`;
}

function choose(g) {
  if (S.slots.has(g)) S.slots.delete(g);
  else {
    const taken = new Set(S.slots.values());
    let slot = 0;
    while (taken.has(slot)) slot++;
    S.slots.set(g, slot);
  }
  draw();
}

const mean = (x) => x.reduce((a, b) => a + b, 0) / x.length;

function spread(x) {  // mean and half of its 95 % interval
  const m = mean(x), n = x.length;
  if (n < 2) return { mean: m, half: null, n, low: m, high: m };
  const deviation = Math.sqrt(x.reduce((a, b) => a + (b - m) ** 2, 0) / (n - 1));
  const half = ((D.t[n - 2] || 1.96) * deviation) / Math.sqrt(n);
  return n > 2 ? { mean: m, half, n, low: m - half, high: m + half } : { mean: m, half, n, low: Math.min(...x), high: Math.max(...x) };  // of two values, 12.7 standard errors would hide all else
}

function measured(runs, name) {  // over seeds; runs of the same seed count once
  const seeds = new Map();
  for (const r of present(runs)) {
    const value = D.runs[r].metrics[name];
    if (value !== undefined) seeds.set(D.runs[r].seed, [...(seeds.get(D.runs[r].seed) || []), value]);
  }
  return seeds.size ? spread([...seeds.values()].map(mean)) : null;
}

function number(value, share, digits = 4) {
  if (value === null || value === undefined) return "";
  if (share) return (100 * value).toFixed(1).replace(/^-0\.0$/, "0.0");
  return String(Number(value.toPrecision(digits)));
}
const range = (s, share) => (s ? number(s.mean, share) + (s.half === null ? "" : ` ± ${number(s.half, share, 3)}`) : "");

function brief(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(4)));
}

function ticks(low, high, count, log) {
  if (log) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const m of [1, 2, 5]) if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) found.push(m * 10 ** e);
    const decades = found.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9);
    if (found.length > count && decades.length > 1) return decades;
    if (found.length > 2) return found;  // else they are too near for decades
  }
  const rough = (high - low) / count || 1, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return found;
}

const EDGE = { left: 52, right: 14, top: 8, bottom: 36 };

function frame(box, xs, ys, names, share, logs) {  // scales, and axes as SVG
  const w = Math.max(260, box.clientWidth), h = Math.max(160, box.clientHeight);
  const scale = (from, to, values, log) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (log) { if (low === high) { low /= 2; high *= 2; } return { low, high, log, at: (v) => from + ((Math.log(v) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from), back: (p) => low * (high / low) ** ((p - from) / (to - from)) }; }
    if (high - low <= 1e-9 * Math.abs(high)) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }  // equal but for rounding
    return { low, high, log, at: (v) => from + ((v - low) / (high - low)) * (to - from), back: (p) => low + ((p - from) / (to - from)) * (high - low) };
  };
  const x = scale(EDGE.left, w - EDGE.right, xs, logs.x), y = scale(h - EDGE.bottom, EDGE.top, ys, logs.y);
  let svg = "";
  for (const v of ticks(y.low, y.high, 6, logs.y))
    svg += `<line class="grid" x1="${EDGE.left}" x2="${w - EDGE.right}" y1="${y.at(v)}" y2="${y.at(v)}"/><text x="${EDGE.left - 6}" y="${y.at(v) + 4}" text-anchor="end">${share ? number(v, true).replace(".0", "") + " %" : brief(v)}</text>`;
  for (const v of ticks(x.low, x.high, 7, logs.x))
    svg += `<line class="grid" y1="${EDGE.top}" y2="${h - EDGE.bottom}" x1="${x.at(v)}" x2="${x.at(v)}"/><text x="${x.at(v)}" y="${h - EDGE.bottom + 15}" text-anchor="middle">${brief(v)}</text>`;
  svg += `<text x="${(w + EDGE.left) / 2}" y="${h - 4}" text-anchor="middle">${escaped(names.x)}</text>`;
  return { x, y, w, h, svg };
}

function tip(html, event) {
  const box = $("tip");
  box.hidden = !html;
  if (!html) return;
  box.innerHTML = html;
  const at = event.clientX === undefined || !event.clientX ? event.target.getBoundingClientRect() : { x: event.clientX, y: event.clientY };
  box.style.left = `${Math.max(4, Math.min(at.x + 14, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(4, Math.min(at.y + 14, innerHeight - box.offsetHeight - 8))}px`;
}

const mark = (slot, x, y, size, more = "") => {  // a shape of its own for each colour
  const s = size, [px, py] = [x.toFixed(1), y.toFixed(1)];
  const shapes = [`<circle cx="${px}" cy="${py}" r="${s}" `, `<path d="M${px} ${y - s * 1.2}l${s * 1.15} ${s * 2}h${-2.3 * s}z" `, `<rect x="${x - s}" y="${y - s}" width="${2 * s}" height="${2 * s}" `, `<path d="M${px} ${y - s * 1.35}l${s * 1.35} ${s * 1.35}l${-s * 1.35} ${s * 1.35}l${-s * 1.35} ${-s * 1.35}z" `];
  return `${shapes[slot % 4]}${more}/>`;
};
const sample = (slot) => `<svg class="sample" viewBox="0 0 30 12" aria-hidden="true"><line x1="0" x2="30" y1="6" y2="6" stroke="${colour(slot)}" stroke-width="2.5" stroke-dasharray="${dashes(slot)}"/>${mark(slot, 15, 6, 4, `fill="${colour(slot)}"`)}</svg>`;
