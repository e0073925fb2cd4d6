// The table of groups or runs, and the settings side by side.
const MOST = 5;  // settings that come before the numbers, as those tell rows apart; more of them come after
const ROWS = 100;  // that are drawn at first: a table of five hundred takes longer than all charts
let visible = new Set(D.groups.keys()), listed = [];  // groups that the filter leaves; rows of the table

function entries() {
  const m = meaning(S.metric), main = S.metric === D.metric;
  const row = (g, runs, name) => {
    const own = present(runs).length ? present(runs) : runs, cell = (f) => mean(own.map((r) => f(D.runs[r]))), given = (key) => { const all = [...new Set(runs.flatMap((r) => D.runs[r][key] ?? []))]; return all.length > 3 ? `${all.slice(0, 2).join(", ")}, ${all.length - 2} more` : all.join(", "); };
    const s = measured(runs, S.metric), d = present(D.groups[g].runs).length === D.groups[g].runs.length ? D.groups[g].difference : null;
    const cells = name === null ? [] : [["run", name, name], ["seed", D.runs[runs[0]].seed, D.runs[runs[0]].seed]];
    const settings = D.keys.map(([key, short], i) => [short, D.groups[g].settings[i], D.groups[g].settings[i], key]);
    cells.push(...settings.slice(0, MOST));
    if (name === null) cells.push(["n", s ? s.n : runs.length, s ? s.n : runs.length]);
    if (S.metric) cells.push([S.metric + (m.share ? " %" : ""), s ? s.mean : null, range(s, m.share), null, m.share]);
    if (main && name === null && D.groups.some((e) => e.difference)) cells.push(["difference", d ? d.mean : null, d ? `${d.mean > 0 ? "+" : ""}${number(d.mean, m.share)}${d.half === null ? "" : ` ± ${number(d.half, m.share, 3)} ${d.kind}${D.groups[g].worse ? "" : " ="}`}` : "", null, m.share]);
    for (const [head, other] of [["raw features", m.raw], ["random", m.baseline], ["test", m.test]]) {
      const value = other && measured(runs, other);
      if (other && D.runs.some((r) => r.metrics[other] !== undefined)) cells.push([head, value ? value.mean : null, head !== "test" && value ? number(value.mean, m.share) : range(value, m.share), null, m.share]);
    }
    const numbers = { seconds: (r) => r.seconds, "samples seen": (r) => r.samples, "samples/s": (r) => r.speed, steps: (r) => r.step };
    for (const [head, f] of Object.entries(numbers)) cells.push([head, cell(f), brief(cell(f) >= 10 ? Math.round(cell(f)) : cell(f))]);
    for (const [head, key] of [["name", "label"], ["tags", "tags"]]) if (D.runs.some((run) => run[key]?.length)) cells.push([head, given(key), given(key)]);
    cells.push(...settings.slice(MOST));
    return { g, runs, cells };
  };
  return D.groups.flatMap((group, g) => (S.single ? group.runs.map((r) => row(g, [r], D.runs[r].name)) : [row(g, group.runs, null)]));
}

function rowOf(entry) {  // what the filter sees of an entry: its columns, every setting and every number, as they are shown
  const row = {}, runs = entry.runs.map((r) => D.runs[r]), list = (values) => { const all = [...new Set(values.filter((v) => v !== undefined && v !== null && v !== "-"))]; return all.length > 1 ? all : all[0]; };
  const shown = (value, share) => (share ? Number((100 * value).toFixed(1)) : Number(value.toPrecision(4)));
  for (const m of D.metrics) { const s = measured(entry.runs, m.name); if (s) row[m.name] = shown(s.mean, m.share); }
  D.configuration.forEach((key, i) => { const value = list(runs.map((run) => run.settings[i])); row[key] = typeof value === "string" && numeric(value) !== null && !value.endsWith("%") ? numeric(value) : value; });
  for (const [head, value, , key, share] of entry.cells) {
    if (typeof value === "number") row[head.replace(/ %$/, "")] = shown(value, share);
    else if (key) row[head] = row[key];
  }
  for (const key of ["name", "status", "error", "notes"]) row[key === "name" ? "run" : key] = list(runs.map((run) => run[key]));
  row.test ??= row["test/probe/top1"] ?? row["test/knn/top1"];
  return Object.assign(row, { name: list(runs.map((run) => run.label)), tags: runs.flatMap((run) => run.tags), seed: runs.length > 1 ? runs.map((run) => String(run.seed)) : runs[0].seed });
}

function drawRows(list) {
  const heads = list.length ? list[0].cells.map((c) => c[0]) : [];
  const settings = new Set(["run", "name", "tags", ...D.keys.map((k) => k[1])]);
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
  const few = S.all ? list : list.slice(0, ROWS), more = list.length - few.length;
  const body = few.map((e) => {
    const slot = S.slots.get(e.g), first = e.g === 0 && D.best_is_shown && S.metric === D.metric;
    const cells = e.cells.map((c) => `<td class="${settings.has(c[0]) ? "" : "number"}">${escaped(c[2])}</td>`).join("");
    const off = !present(e.runs).length, names = e.runs.map((r) => D.runs[r].name).join("\n");
    const hide = `<button type="button" class="hide" data-hide="${escaped(names)}" title="${off ? "show" : "hide"}" aria-label="${off ? "show" : "hide"} ${escaped(S.single ? names : label(e.g))}">${off ? "+" : "×"}</button>`;
    return `<tr class="${off ? "off" : first ? "best" : D.groups[e.g].worse && S.metric === D.metric ? "worse" : ""}"><td><input type="checkbox" data-group="${e.g}" aria-label="choose ${escaped(label(e.g))}" ${slot === undefined ? "" : "checked"}> ${hide}${slot === undefined ? "" : sample(slot)}</td>${cells}</tr>`;
  }).join("");
  keeping(() => { $("table").innerHTML = `<thead><tr><th>chosen</th>${head}</tr></thead><tbody>${body}</tbody>`; });
  $("all").hidden = !more;
  $("all").textContent = `show ${more} more`;
  $("unhide").hidden = !S.hidden.size;
  $("unhide").textContent = `show ${S.hidden.size} hidden`;
  $("counted").textContent = `${list.length} of ${S.single ? D.groups.reduce((n, g) => n + g.runs.length, 0) : D.groups.length}`;
  $("table-note").textContent = S.metric === D.metric
    ? `± 95 % interval over seeds. Differences to the first: paired over equal seeds, or Welch's; = may still be the best${D.groups.length > 2 ? `, all ${D.groups.length - 1} comparisons allowed for` : ""}. Random: the encoder untrained.`
    : `Differences are judged for ${D.metric} alone; for others: ssl-runner compare --metric ${S.metric}`;
}

function keeping(change) {  // the keyboard's place, although the table is made anew
  const held = document.activeElement?.dataset ?? {};
  const { group, sort, hide } = held;
  change();
  const again = group !== undefined ? `#table [data-group="${group}"]` : sort !== undefined ? `#table [data-sort="${CSS.escape(sort)}"]` : hide !== undefined ? `#table [data-hide="${CSS.escape(hide)}"]` : null;
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

function toCsv(list) {  // the rows as they are filtered and sorted; shares in per cent, as they are shown
  const cell = (v) => (/[",\n]/.test(v) ? `"${v.replaceAll('"', '""')}"` : v);
  const rows = list.map((e) => e.cells.flatMap(([head, value, shown, , share]) => {
    const plain = value === null || value === undefined ? "" : typeof value === "number" ? String(share ? Number((100 * value).toPrecision(6)) : value) : shown;
    const half = / ± ([\d.e+-]+)/.exec(shown);
    return head === S.metric || head === `${S.metric} %` ? [[head, plain], ["±", half ? half[1] : ""]] : [[head, plain]];
  }));
  const heads = rows.length ? rows[0].map(([head]) => head) : [];
  return [heads, ...rows.map((row) => row.map(([, v]) => v))].map((row) => row.map((v) => cell(String(v))).join(",")).join("\n") + "\n";
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([toCsv(listed)], { type: "text/csv" }));
  link.download = "runs.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
