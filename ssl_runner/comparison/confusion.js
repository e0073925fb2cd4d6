// Confusion matrices of the chosen groups: a line a class, a column a predicted class, the darker the more.
const NUMBERED = 12, NAMED = 30;  // most classes whose cells have numbers, and that are named

function drawConfusions() {
  $("confusion-part").hidden = !Object.keys(D.confusions).length;
  if ($("confusion-part").hidden) return;
  const found = [...S.slots].filter(([g]) => visible.has(g)).map(([g, slot]) => {
    const r = present(D.groups[g].runs).find((each) => D.confusions[D.runs[each].name]);
    return { g, slot, r, m: r === undefined ? undefined : D.confusions[D.runs[r].name].find((each) => each.name === S.confusion) };
  }).filter((each) => each.m);
  $("matrices").innerHTML = found.length ? "" : `<p class="note">No chosen group has a matrix of ${escaped(S.confusion)} here.</p>`;
  for (const each of found) drawMatrix(each);
}

function drawMatrix({ g, slot, r, m }) {
  const n = m.classes.length, sums = m.rows.map((row) => row.reduce((a, b) => a + b, 0)), all = sums.reduce((a, b) => a + b, 0);
  const share = (i, j) => (sums[i] ? m.rows[i][j] / sums[i] : 0), percent = (s) => `${number(s, true)} %`;
  const wrong = m.rows.flatMap((row, i) => row.map((count, j) => ({ i, j, count }))).filter((c) => c.i !== c.j && c.count).sort((a, b) => share(b.i, b.j) - share(a.i, a.j) || b.count - a.count);
  const often = wrong.length ? `Most often taken for another: ${wrong.slice(0, 3).map((c) => `${m.classes[c.i]} for ${m.classes[c.j]} ${percent(share(c.i, c.j))}`).join(", ")}.` : "No row is taken for another class.";
  const figure = document.createElement("figure"), hits = m.rows.reduce((a, row, i) => a + row[i], 0);
  $("matrices").append(figure);
  figure.innerHTML = `<figcaption>${sample(slot)}${escaped(label(g))}${D.groups[g].runs.length > 1 ? `, seed ${escaped(D.runs[r].seed)}` : ""}: ${percent(hits / all)} of ${all} rows</figcaption>`;
  const w = figure.clientWidth, short = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);
  const room = n <= NAMED ? 12 + 7.6 * Math.max(...m.classes.map((name) => short(name).length)) : 22, size = (w - room - 2) / n, h = n * size + room;
  const x = (j) => room + j * size, y = (i) => 1 + i * size;
  let svg = "";
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const s = share(i, j), mixed = 100 * Math.sqrt(s);  // a root, so that few are seen
      if (!m.rows[i][j]) continue;
      svg += `<rect x="${x(j).toFixed(1)}" y="${y(i).toFixed(1)}" width="${size.toFixed(1)}" height="${size.toFixed(1)}" style="fill:color-mix(in srgb, var(--accent) ${mixed.toFixed(0)}%, var(--panel))"/>`;
      if (n <= NUMBERED) svg += `<text class="${mixed > 60 ? "light" : "dark"}" x="${x(j + 0.5).toFixed(1)}" y="${(y(i + 0.5) + 4).toFixed(1)}" text-anchor="middle">${Math.round(100 * s)}</text>`;
    }
    if (n <= NAMED) {
      const [px, py] = [x(i + 0.5) + 4, n * size + 8];
      svg += `<text x="${room - 5}" y="${(y(i + 0.5) + 4).toFixed(1)}" text-anchor="end">${escaped(short(m.classes[i]))}</text><text transform="translate(${px.toFixed(1)} ${py.toFixed(1)}) rotate(-90)" text-anchor="end">${escaped(short(m.classes[i]))}</text>`;
    }
  }
  if (n > NAMED) svg += `<text transform="translate(14 ${h / 2}) rotate(-90)" text-anchor="middle">${n} classes</text><text x="${room + (n * size) / 2}" y="${h - 6}" text-anchor="middle">predicted</text>`;
  const about = `${S.confusion} of ${label(g)}: ${percent(hits / all)} of ${all} rows. ${often}`;
  figure.insertAdjacentHTML("beforeend", `<svg tabindex="0" role="img" viewBox="0 0 ${w} ${h.toFixed(1)}" aria-label="${escaped(about)} The arrows go through the cells."><rect class="whole" x="${room}" y="1" width="${n * size}" height="${n * size}"/>${svg}<rect class="at" width="${size}" height="${size}" visibility="hidden"/></svg><p class="note" role="status">${escaped(often)}</p>`);
  pointing(figure, { n, x, y, room, size, w, text: (i, j) => `${m.classes[i]}${i === j ? " for itself" : ` for ${m.classes[j]}`}: ${m.rows[i][j]} of ${sums[i]}, ${percent(share(i, j))}`, often, first: wrong[0] || { i: 0, j: 0 } });
}

function pointing(figure, f) {  // a cell's words, by pointer, touch and keyboard
  const svg = figure.querySelector("svg[role]"), frame_ = figure.querySelector(".at"), words = figure.querySelector("p");
  let at = null;
  const go = (cell) => {
    at = cell;
    words.textContent = cell ? f.text(cell.i, cell.j) : f.often;
    frame_.setAttribute("visibility", cell ? "visible" : "hidden");
    if (cell) { frame_.setAttribute("x", f.x(cell.j)); frame_.setAttribute("y", f.y(cell.i)); }
  };
  svg.onpointermove = svg.onpointerdown = (event) => {
    const box = svg.getBoundingClientRect(), scale = f.w / box.width;
    const j = Math.floor(((event.clientX - box.x) * scale - f.room) / f.size), i = Math.floor(((event.clientY - box.y) * scale - 1) / f.size);
    go(i >= 0 && j >= 0 && i < f.n && j < f.n ? { i, j } : null);
  };
  svg.onpointerleave = svg.onblur = () => go(null);
  svg.onkeydown = (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Escape") go(null);
    if (!by) return;
    event.preventDefault();
    const within = (v) => Math.max(0, Math.min(f.n - 1, v));
    go(at ? { i: within(at.i + by[0]), j: within(at.j + by[1]) } : f.first);
  };
}
