// Asks `ssl-runner watch` for newer rows; what is chosen stays as it is.
async function follow() {
  let tag = null;
  for (;;) {
    let answer = "";
    const asked = performance.now();
    try {
      const response = await fetch("rows", tag ? { headers: { "If-None-Match": tag } } : {});
      if (response.status === 200) {
        const data = await response.json(), own = location.hash.includes("chosen="), chosen = [...S.slots.keys()].map((g) => D.runs[D.groups[g].runs[0]].name);
        load(data);
        if (own || S.slots.size !== firstSlots().size) S.slots = slotsOf(chosen); else S.slots = firstSlots();
        if (!D.curves.includes(S.curve)) S.curve = START().curve;
        if (!D.metrics.some((m) => m.name === S.metric)) S.metric = D.metric;
        fill();
        draw();
        tag = response.headers.get("ETag");
      }
      answer = response.status < 400 ? `live, ${new Date().toLocaleTimeString()}` : await response.text();
    } catch { answer = "ssl-runner watch has ended"; }
    $("live").textContent = answer;
    await new Promise((done) => setTimeout(done, Math.max(5000, 10 * (performance.now() - asked))));
  }
}
follow();
