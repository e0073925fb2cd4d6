// The page as a whole: what is drawn if something changes, its state in the address, and what a user can do.
const FIELDS = { metric: "metric", curve: "curve", "curve-x": "x", "pareto-x": "cost", "pareto-log": "logcost", filter: "filter", smooth: "smooth", log: "log", logx: "logx", others: "others", unfinished: "unfinished", single: "single", confusion: "confusion", alike: "alike" };
let written = null, waiting = null, pictured = "";

function draw() {
  const all = entries(), { fits, problems } = filterRows(S.filter, S.filter.trim() ? all.map(rowOf) : all), list = all.filter((_, i) => fits[i]);
  $("not-understood").textContent = problems.join("; ");
  $("filter").setAttribute("aria-invalid", problems.length > 0);
  visible = new Set(list.filter((e) => present(e.runs).length).map((e) => e.g));
  tell();
  drawRows(list); drawCurves(); drawPareto(); drawParallel(list); drawSettings(); drawConfusions(); drawPictures();
  listed = list;
  clearTimeout(written);
  written = setTimeout(writeAddress, 250);  // browsers allow few changes a second
}

function writeAddress() {
  const first = START(), words = new URLSearchParams(), name = (g) => D.runs[D.groups[g].runs[0]].name;
  for (const [key, value] of Object.entries(first)) if (S[key] !== value) words.set(key, S[key]);
  const chosen = [...S.slots.keys()].map(name).join("\n");
  if (chosen !== [...firstSlots().keys()].map(name).join("\n")) words.set("chosen", chosen);
  if (S.hidden.size) words.set("hidden", [...S.hidden].join("\n"));
  for (const [key, at] of Object.entries(S.zoom)) if (at) words.set(`zoom-${key}`, [...at.x, ...at.y].join(","));
  const text = String(words);
  if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1)), first = START();
  for (const [key, value] of Object.entries(first)) {
    const given = words.get(key);
    S[key] = given === null ? value : typeof value === "boolean" ? given === "true" : typeof value === "number" ? Number(given) || 0 : given;
  }
  if (!D.metrics.some((m) => m.name === S.metric)) S.metric = first.metric;
  if (!D.curves.includes(S.curve)) S.curve = first.curve;
  if (!confusionNames().includes(S.confusion)) S.confusion = first.confusion;
  S.smooth = Math.max(0, Math.min(0.99, S.smooth));
  S.slots = words.has("chosen") ? slotsOf(words.get("chosen").split("\n")) : firstSlots();
  S.hidden = new Set((words.get("hidden") || "").split("\n").filter((name) => D.places.has(name)));
  S.zoom = {};
  for (const key of ["curve", "pareto"]) {
    const at = (words.get(`zoom-${key}`) || "").split(",").map(Number);
    if (at.length === 4 && at.every(Number.isFinite) && at[0] < at[1] && at[2] < at[3]) S.zoom[key] = { x: at.slice(0, 2), y: at.slice(2) };
  }
}

function slotsOf(names) {  // groups by one of their runs: their order may have changed since
  const groups = new Set(names.map((name) => D.runs[D.places.get(name)]?.group).filter((g) => g !== undefined && g !== null));
  return new Map([...groups].map((g, slot) => [g, slot]));
}

function fill() {
  const put = (id, names, chosen) => { $(id).innerHTML = names.map((n) => `<option ${n === chosen ? "selected" : ""}>${escaped(n)}</option>`).join(""); };
  put("metric", D.metrics.map((m) => m.name), S.metric);
  put("curve", D.curves, S.curve);
  put("confusion", confusionNames(), S.confusion);
  $("title").textContent = D.runs.length > 1 ? `Comparison of ${D.runs.length} runs` : D.runs[0].name;
  $("summary").textContent = D.summary;
  $("verdict").textContent = D.verdict;
  $("warnings").innerHTML = D.warnings.map((w) => `<li>${escaped(w)}</li>`).join("");
  const apart = D.runs.filter((r) => r.group === null);
  $("apart").hidden = !apart.length;
  $("unfinished-label").hidden = !apart.length;
  for (const id of ["pareto", "rows", "difference"]) $(id).hidden = !D.groups.length;
  $("stopped").innerHTML = `<thead><tr><th>run</th><th>status</th><th class="number">step</th><th>error</th><th>to go on</th></tr></thead><tbody>${apart.map((r) => `<tr><td>${escaped(r.name)}</td><td>${escaped(r.status)}</td><td class="number">${r.step} of ${r.steps}</td><td class="long">${escaped(r.error ?? "")}</td><td><code>${escaped(r.resume)}</code></td></tr>`).join("")}</tbody>`;
  for (const [id, key] of Object.entries(FIELDS)) if ($(id).type === "checkbox") $(id).checked = S[key]; else $(id).value = S[key];
  document.documentElement.dataset.theme = S.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function listen() {
  for (const [id, key] of Object.entries(FIELDS)) $(id).addEventListener("input", () => {
    const box = $(id);
    S[key] = box.type === "checkbox" ? box.checked : box.type === "range" ? Number(box.value) : box.value;
    if (["curve", "x", "log", "logx"].includes(key)) S.zoom.curve = null;
    if (["metric", "cost", "logcost"].includes(key)) S.zoom.pareto = null;
    if (key === "metric" && D.curves.includes(S.metric)) { S.curve = $("curve").value = S.metric; S.zoom.curve = null; }
    clearTimeout(waiting);
    waiting = setTimeout(draw, box.type === "search" ? 120 : 0);  // not for every letter
  });
  $("all").onclick = () => { S.all = true; draw(); };
  $("none").onclick = () => { S.slots.clear(); draw(); };
  $("unhide").onclick = () => { S.hidden.clear(); draw(); };
  $("csv").onclick = download;
  $("table").addEventListener("click", (event) => {
    const { sort, group, hide } = event.target.dataset;
    if (group !== undefined) choose(Number(group));
    if (hide !== undefined) {
      const names = hide.split("\n"), off = names.every((name) => S.hidden.has(name));
      for (const name of names) if (off) S.hidden.delete(name); else S.hidden.add(name);
      draw();
    }
    if (sort === undefined) return;
    S.down = S.sort === sort ? !S.down : false;
    S.sort = sort;
    draw();
  });
  $("theme").onclick = () => { S.theme = document.documentElement.dataset.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; writeAddress(); };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip("");
    if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) { event.preventDefault(); $("filter").focus(); }
  });
  addEventListener("hashchange", () => { readAddress(); fill(); draw(); });
  addEventListener("resize", draw);
}

function drawPictures() {  // of the first run of each chosen group that has some
  const figures = [...S.slots].filter(([g]) => visible.has(g)).flatMap(([g, slot]) => {
    const r = present(D.groups[g].runs).find((each) => D.pictures[D.runs[each].name]);
    return r === undefined ? [] : D.pictures[D.runs[r].name].map((p) => `<figure><img alt="${escaped(p.name)} of ${escaped(label(g))}" src="data:image/png;base64,${p.png}"><figcaption>${sample(slot)}${escaped(label(g))}: ${escaped(p.name)}, step ${p.step}</figcaption></figure>`);
  });
  $("pictures").hidden = !Object.keys(D.pictures).length;
  const html = figures.join("") || '<p class="note">No chosen group has pictures here. The page holds those of the first groups; of others: ssl-runner compare RUN --html FILE.</p>';
  if (html !== pictured) $("figures").innerHTML = pictured = html;
}

readAddress();
fill();
listen();
draw();
