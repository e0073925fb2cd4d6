// The table of groups or runs, the settings side by side, and what happens where something is changed.
const MOST = 5;  // settings that come before the numbers
let visible = new Set(D.groups.keys());

function entries() {
  const m = meaning(S.metric), main = S.metric === D.metric;
  const row = (g, runs, name) => {
    const cell = (f) => mean(runs.map((r) => f(D.runs[r])));
    const s = measured(runs, S.metric), d = D.groups[g].difference;
    const cells = name === null ? [] : [["run", name, name], ["seed", D.runs[runs[0]].seed, D.runs[runs[0]].seed]];
    const settings = D.keys.map(([key, short], i) => [short, D.groups[g].settings[i], D.groups[g].settings[i], key]);
    if (settings.length <= MOST) cells.push(...settings);
    if (name === null) cells.push(["n", s ? s.n : runs.length, s ? s.n : runs.length]);
    if (S.metric) cells.push([S.metric + (m.share ? " %" : ""), s ? s.mean : null, range(s, m.share)]);
    if (main && name === null && D.groups.some((e) => e.difference)) cells.push(["difference", d ? d.mean : null, d ? `${d.mean > 0 ? "+" : ""}${number(d.mean, m.share)}${d.half === null ? "" : ` ± ${number(d.half, m.share, 3)} ${d.kind}${D.groups[g].worse ? "" : " ="}`}` : ""]);
    for (const [head, other] of [["random", m.baseline], ["test", m.test]]) {
      const value = other && measured(runs, other);
      if (other && D.runs.some((r) => r.metrics[other] !== undefined)) cells.push([head, value ? value.mean : null, head === "random" && value ? number(value.mean, m.share) : range(value, m.share)]);
    }
    const numbers = { seconds: (r) => r.seconds, "samples seen": (r) => r.samples, "samples/s": (r) => r.speed, steps: (r) => r.step };
    for (const [head, f] of Object.entries(numbers)) cells.push([head, cell(f), brief(cell(f) >= 10 ? Math.round(cell(f)) : cell(f))]);
    if (settings.length > MOST) cells.push(...settings);  // where they fill the page, numbers come first
    return { g, runs, cells };
  };
  return D.groups.flatMap((group, g) => (S.single ? group.runs.map((r) => row(g, [r], D.runs[r].name)) : [row(g, group.runs, null)]));
}

function fits(entry) {  // words, and comparisons such as lr<0.01
  return S.filter.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const parts = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
    if (!parts) return entry.cells.some((c) => String(c[2]).toLowerCase().includes(word)) || entry.runs.some((r) => D.runs[r].name.toLowerCase().includes(word));
    const cell = entry.cells.find((c) => [c[0], c[3]].some((head) => head && (head.toLowerCase() === parts[1] || head.toLowerCase() === `${parts[1]} %`)));
    if (!cell) return false;
    const share = cell[0].endsWith(" %"), given = Number(parts[3]), value = Number(cell[1]) * (share ? 100 : 1);
    if (parts[2] === "=") return String(cell[2]).toLowerCase() === parts[3] || (cell[1] !== null && value === given);
    if (cell[1] === null || Number.isNaN(value) || Number.isNaN(given)) return false;
    return { "<": value < given, ">": value > given, "<=": value <= given, ">=": value >= given }[parts[2]];
  });
}

function drawRows(list) {
  const heads = list.length ? list[0].cells.map((c) => c[0]) : [];
  const settings = new Set(["run", ...D.keys.map((k) => k[1])]);
  if (S.sort !== null && heads.includes(S.sort)) {
    const place = heads.indexOf(S.sort), of = (e) => e.cells[place][1];
    const worth = (v) => (v === null || v === "-" ? null : Number.isNaN(Number(v)) ? String(v) : Number(v));
    list.sort((a, b) => {
      const [x, y] = [worth(of(a)), worth(of(b))];
      if (x === null || y === null) return (x === null) - (y === null);
      return (typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1) * (S.down ? -1 : 1);
    });
  }
  const head = heads.map((h) => `<th class="${settings.has(h) ? "" : "number"}" aria-sort="${S.sort === h ? (S.down ? "descending" : "ascending") : "none"}"><button type="button" data-sort="${escaped(h)}">${escaped(h)}${S.sort === h ? (S.down ? " ▾" : " ▴") : ""}</button></th>`).join("");
  const body = list.map((e) => {
    const slot = S.slots.get(e.g), first = e.g === 0 && D.best_is_shown && S.metric === D.metric;
    const cells = e.cells.map((c) => `<td class="${settings.has(c[0]) ? "" : "number"}">${escaped(c[2])}</td>`).join("");
    return `<tr class="${first ? "best" : D.groups[e.g].worse && S.metric === D.metric ? "worse" : ""}"><td><input type="checkbox" data-group="${e.g}" aria-label="choose ${escaped(label(e.g))}" ${slot === undefined ? "" : "checked"}> ${slot === undefined ? "" : sample(slot)}</td>${cells}</tr>`;
  }).join("");
  keeping(() => { $("table").innerHTML = `<thead><tr><th>chosen</th>${head}</tr></thead><tbody>${body}</tbody>`; });
  $("counted").textContent = `${list.length} of ${S.single ? D.groups.reduce((n, g) => n + g.runs.length, 0) : D.groups.length}`;
  $("table-note").textContent = S.metric === D.metric
    ? `± 95 % interval over seeds. Differences to the first: paired over equal seeds, or Welch's; = is not shown to be worse${D.groups.length > 2 ? `, all ${D.groups.length - 1} comparisons allowed for` : ""}. Random: the encoder untrained.`
    : `Differences are judged for ${D.metric} alone; for others: ssl-runner compare --metric ${S.metric}`;
}

function keeping(change) {  // the keyboard's place, although the table is made anew
  const held = document.activeElement?.dataset ?? {};
  const [group, sort] = [held.group, held.sort];
  change();
  const again = group !== undefined ? `#table [data-group="${group}"]` : sort !== undefined ? `#table [data-sort="${CSS.escape(sort)}"]` : null;
  if (again && !document.querySelector(":focus-visible, :focus")?.closest("table, svg")) document.querySelector(again)?.focus();
}

function drawSettings() {
  const chosen = [...S.slots].filter(([g]) => visible.has(g)).slice(0, 12);
  const value = (g, i) => [...new Set(D.groups[g].runs.map((r) => D.runs[r].settings[i] ?? "-"))].sort().join(" | ");
  const rows = D.configuration.map((key, i) => [key, chosen.map(([g]) => value(g, i))]).filter(([, v]) => S.alike || chosen.length < 2 || new Set(v).size > 1);
  $("settings").innerHTML = chosen.length
    ? `<thead><tr><th>setting</th>${chosen.map(([g, slot]) => `<th>${sample(slot)}${escaped(label(g))}</th>`).join("")}</tr></thead><tbody>${rows.map(([key, v]) => `<tr><th scope="row">${escaped(key)}</th>${v.map((x) => `<td class="${new Set(v).size > 1 && x !== v[0] ? "unlike" : ""}">${escaped(x)}</td>`).join("")}</tr>`).join("")}</tbody>`
    : '<tbody><tr><td class="note">Choose groups in the table.</td></tr></tbody>';
}

function draw() {
  const list = entries().filter(fits);
  visible = new Set(list.map((e) => e.g));
  tell();
  drawRows(list); drawCurves(); drawPareto(); drawSettings();
}

function begin() {
  const fill = (id, names, chosen) => { $(id).innerHTML = names.map((n) => `<option ${n === chosen ? "selected" : ""}>${escaped(n)}</option>`).join(""); };
  fill("metric", D.metrics.map((m) => m.name), S.metric);
  fill("curve", D.curves, S.curve);
  $("title").textContent = D.runs.length > 1 ? `Comparison of ${D.runs.length} runs` : D.runs[0].name;
  $("summary").textContent = D.summary;
  $("verdict").textContent = D.verdict;
  $("warnings").innerHTML = D.warnings.map((w) => `<li>${escaped(w)}</li>`).join("");
  const apart = D.runs.filter((r) => r.group === null);
  $("apart").hidden = !apart.length;
  $("unfinished-label").hidden = !apart.length;
  $("stopped").innerHTML = `<thead><tr><th>run</th><th>status</th><th class="number">step</th><th>error</th><th>to go on</th></tr></thead><tbody>${apart.map((r) => `<tr><td>${escaped(r.name)}</td><td>${escaped(r.status)}</td><td class="number">${r.step} of ${r.steps}</td><td class="long">${escaped(r.error ?? "")}</td><td><code>${escaped(r.resume)}</code></td></tr>`).join("")}</tbody>`;
  const on = (id, key, read) => { const box = $(id); if (box.type === "checkbox") box.checked = S[key]; box.addEventListener("input", () => { S[key] = read(box); draw(); }); };
  for (const [id, key] of [["metric", "metric"], ["curve", "curve"], ["curve-x", "x"], ["pareto-x", "cost"], ["filter", "filter"]]) on(id, key, (box) => box.value);
  for (const id of ["log", "others", "unfinished", "single", "alike"]) on(id, id, (box) => box.checked);
  $("metric").addEventListener("input", () => { if (D.curves.includes(S.metric)) { S.curve = $("curve").value = S.metric; draw(); } });
  $("none").onclick = () => { S.slots.clear(); draw(); };
  $("table").addEventListener("click", (event) => {
    const { sort, group } = event.target.dataset;
    if (group !== undefined) choose(Number(group));
    if (sort === undefined) return;
    S.down = S.sort === sort ? !S.down : false;
    S.sort = sort;
    draw();
  });
  const root = document.documentElement;
  root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  $("theme").onclick = () => { root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark"; };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip(""); });
  addEventListener("resize", draw);
  draw();
}
begin();
