// Curves of dB against the shift, and heat maps over (dx, dy), drawn at the width there is so that text
// keeps its size on a phone. Values appear under the pointer, or with the arrow keys.
(function charts() {
  const key = report.axis === "y" ? "dy" : "dx";
  const limit = report.off_scale_db;
  const color = (i) => `var(--m${i % 8})`;
  const decibels = (v) => `${v.toFixed(2)} dB`;

  function svg(tag, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    return node;
  }

  function html(tag, text, style = {}) {
    const node = document.createElement(tag);
    node.textContent = text;
    Object.assign(node.style, style);
    return node;
  }

  function ticks(low, high, most) {
    const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(+v.toFixed(6));
    return found;
  }

  const points = report.panels.flatMap((p) => p.lines.flat());
  const inside = points.flatMap((p) => [p.mean_db, ...(p.ci95_db ?? [])]).filter((v) => v <= limit);
  const beyond = points.some((p) => p.mean_db > limit);
  const shifts = [...new Set(points.map((p) => p[key]))].sort((a, b) => a - b);
  const bottom = Math.min(...(inside.length ? inside : [0])), top = Math.max(...(inside.length ? inside : [limit]));
  const pad = Math.max(0.5, (top - bottom) * 0.06);
  const range = [bottom - pad, top + pad * (beyond ? 2.5 : 1)];
  const plots = [...document.querySelectorAll("[data-panel]")];

  // Drawn again whenever the room changes; a page that is hidden has none.
  function keepFitting(plot, draw) {
    let known = 0;
    const fit = () => {
      if (plot.clientWidth < 80 || plot.clientWidth === known) return;
      known = plot.clientWidth;
      draw();
    };
    fit();
    new ResizeObserver(fit).observe(plot);
  }

  function drawCurve(plot) {
    const panel = report.panels[plot.dataset.panel];
    const width = plot.clientWidth, height = Math.round(Math.min(330, Math.max(220, width * 0.6)));
    const box = { left: 40, right: width - 12, top: 24, bottom: height - 40 };
    const first = Math.min(0, ...shifts), last = Math.max(0, ...shifts);
    const x = (s) => box.left + 8 + ((s - first) / (last - first || 1)) * (box.right - box.left - 16);
    const y = (v) => box.bottom - ((Math.min(v, range[1]) - range[0]) / (range[1] - range[0])) * (box.bottom - box.top);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    for (const v of ticks(range[0], range[1], height / 50)) {
      root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(v), y2: y(v) }));
      root.append(svg("text", { x: box.left - 6, y: y(v) + 4, "text-anchor": "end" }, v));
    }
    const every = Math.ceil(shifts.length / (width / 34));
    for (const s of [...new Set([0, ...shifts])]) {
      if (s % every === 0 || shifts.length < 9) root.append(svg("text", { x: x(s), y: box.bottom + 17, "text-anchor": "middle" }, signed(s)));
    }
    const way = { x: "shift right, px", y: "shift down, px", diagonal: "shift right and down, px" }[report.axis] ?? "shift, px";
    root.append(svg("text", { x: (box.left + box.right) / 2, y: height - 5, "text-anchor": "middle" }, way));
    root.append(svg("text", { x: 0, y: 12 }, beyond ? `dB (dotted: above ${limit})` : "dB"));
    if (beyond) root.append(svg("line", { class: "off", x1: box.left, x2: box.right, y1: y(range[1]) + 8, y2: y(range[1]) + 8 }));
    const level = (v) => (v > limit ? y(range[1]) + 8 : y(v));
    panel.lines.forEach((line, i) => {
      const sorted = line.filter((p) => p.mean_db !== null).sort((a, b) => a[key] - b[key]);
      const parts = [sorted.filter((p) => p[key] < 0), sorted.filter((p) => p[key] > 0)];
      for (const part of parts.filter((p) => p.length)) {
        const banded = part.filter((p) => p.ci95_db);
        const edge = [...banded.map((p) => [p[key], p.ci95_db[1]]), ...banded.reverse().map((p) => [p[key], p.ci95_db[0]])];
        root.append(svg("polygon", { class: "band", fill: color(i), points: edge.map(([s, v]) => `${x(s)},${level(v)}`).join(" ") }));
        root.append(svg("polyline", { class: "curve", stroke: color(i), "stroke-dasharray": i < 8 ? "none" : "6 4", points: part.map((p) => `${x(p[key])},${level(p.mean_db)}`).join(" ") }));
        for (const p of part) root.append(svg("circle", { cx: x(p[key]), cy: level(p.mean_db), r: 3, fill: color(i) }));
      }
    });
    const here = svg("line", { class: "here", y1: box.top, y2: box.bottom, visibility: "hidden" });
    root.append(here);
    plot.replaceChildren(root);
    plot.at = (clientX) => {
      const place = ((clientX - root.getBoundingClientRect().left) / root.getBoundingClientRect().width) * width;
      return shifts.reduce((a, b) => (Math.abs(x(b) - place) < Math.abs(x(a) - place) ? b : a));
    };
    plot.point = (shift) => {
      here.setAttribute("visibility", shift === null ? "hidden" : "visible");
      if (shift !== null) { here.setAttribute("x1", x(shift)); here.setAttribute("x2", x(shift)); }
      const words = plot.parentElement.querySelector(".values");
      const found = panel.lines.map((line) => line.find((p) => p[key] === shift));
      words.replaceChildren(html("span", shift === null ? "" : `${signed(shift)} px`));
      found.forEach((p, i) => {
        if (!p || p.mean_db === null) return;
        const entry = html("span", "");
        entry.append(html("b", report.models[i], { color: color(i) }), ` ${decibels(p.mean_db)} `);
        if (p.ci95_db) entry.append(html("small", `[${p.ci95_db.map((v) => v.toFixed(2)).join(", ")}]`));
        words.append(entry);
      });
    };
    plot.point(current);
  }

  let current = shifts.find((s) => s > 0) ?? shifts[0] ?? null, resting = current;
  const point = (shift) => { current = shift; plots.forEach((plot) => plot.point?.(shift)); };
  const pick = (shift) => {
    resting = shift;
    point(shift);
    const [dx, dy] = { x: [shift, 0], y: [0, shift], diagonal: [shift, shift] }[report.axis] ?? [shift, 0];
    document.dispatchEvent(new CustomEvent("pick", { detail: [dx, dy] }));
  };
  for (const plot of plots) {
    keepFitting(plot, () => drawCurve(plot));
    plot.addEventListener("pointermove", (event) => point(plot.at(event.clientX)));
    plot.addEventListener("pointerleave", () => point(resting));
    plot.addEventListener("click", (event) => pick(plot.at(event.clientX)));
    const words = plot.parentElement.querySelector(".values");
    plot.addEventListener("focus", () => words.setAttribute("aria-live", "polite"));
    plot.addEventListener("blur", () => words.removeAttribute("aria-live"));
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      pick(shifts[Math.min(shifts.length - 1, Math.max(0, shifts.indexOf(current) + step))]);
    });
  }
  document.addEventListener("shift", (event) => {
    const shift = event.detail[key === "dy" ? 1 : 0];
    resting = shifts.includes(shift) ? shift : null;
    point(resting);
  });

  // ---- maps
  const list = document.getElementById("map-list");
  if (!list) return;
  const anchors = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
  const cells = report.maps.flatMap((m) => m.mean_db.flat()).filter((v) => v !== null && v <= limit);
  const low = Math.min(...(cells.length ? cells : [0])), high = Math.max(...(cells.length ? cells : [limit]));
  const shade = (value) => {
    const place = Math.min(1, Math.max(0, (value - low) / (high - low || 1))) * (anchors.length - 1);
    const i = Math.min(anchors.length - 2, Math.floor(place));
    return anchors[i].map((c, k) => Math.round(c + (place - i) * (anchors[i + 1][k] - c)));
  };
  document.getElementById("map-low").textContent = `${low.toFixed(1)} dB`;
  document.getElementById("map-high").textContent = `${high.toFixed(1)} dB${report.maps.some((m) => m.mean_db.flat().some((v) => v > limit)) ? " or more" : ""}`;
  document.getElementById("map-scale").style.background = `linear-gradient(90deg, ${anchors.map((c) => `rgb(${c})`).join(", ")})`;

  function drawMap(plot, map, say) {
    const width = plot.clientWidth, free = 30;
    const cell = Math.min(46, (width - free - 2) / map.dx.length);
    const height = cell * map.dy.length + free + 14;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    const mark = svg("rect", { width: cell, height: cell, fill: "none", stroke: "var(--ink)", "stroke-width": 3, visibility: "hidden" });
    map.dy.forEach((dy, row) => map.dx.forEach((dx, column) => {
      const value = map.mean_db[row][column], place = { x: free + column * cell, y: row * cell };
      const rgb = value === null ? null : shade(value);
      root.append(svg("rect", { ...place, width: cell + 0.5, height: cell + 0.5, fill: rgb ? `rgb(${rgb})` : "var(--well)" }));
      if (rgb && cell >= 30) {
        const dark = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] < 125;
        const text = svg("text", { x: place.x + cell / 2, y: place.y + cell / 2 + 4, "text-anchor": "middle" }, value > limit ? `>${limit}` : value.toFixed(0));
        text.style.fill = dark ? "#fff" : "#111";
        root.append(text);
      }
    }));
    const every = Math.ceil(28 / cell);
    map.dx.forEach((dx, i) => { if (dx % every === 0) root.append(svg("text", { x: free + (i + 0.5) * cell, y: cell * map.dy.length + 16, "text-anchor": "middle" }, signed(dx))); });
    map.dy.forEach((dy, i) => { if (dy % every === 0) root.append(svg("text", { x: free - 7, y: (i + 0.5) * cell + 4, "text-anchor": "end" }, signed(dy))); });
    root.append(svg("text", { x: free, y: height - 3 }, "dx, px → · dy, px ↓"));
    root.append(mark);
    plot.replaceChildren(root);
    plot.point = (column, row) => {
      Object.entries({ x: free + column * cell, y: row * cell, visibility: "visible" }).forEach(([k, v]) => mark.setAttribute(k, v));
      const value = map.mean_db[row][column];
      say.textContent = `dx ${signed(map.dx[column])}, dy ${signed(map.dy[row])}: ${value === null ? "nothing moves" : decibels(value)}`;
    };
    plot.at = (event) => {
      const box = root.getBoundingClientRect(), scale = width / box.width;
      const column = Math.floor(((event.clientX - box.left) * scale - free) / cell), row = Math.floor(((event.clientY - box.top) * scale) / cell);
      return column >= 0 && row >= 0 && column < map.dx.length && row < map.dy.length ? [column, row] : null;
    };
  }

  for (const map of report.maps) {
    const figure = document.createElement("figure"), plot = html("div", ""), say = html("p", "");
    figure.className = "chart";
    plot.className = "plot";
    say.className = "values";
    plot.tabIndex = 0;
    plot.setAttribute("role", "img");
    plot.dataset.map = map.name;
    plot.setAttribute("aria-label", `Heat map of stability over dx and dy, ${map.name}`);
    const caption = html("figcaption", `${map.name} `);
    caption.append(html("small", `${map.protocol}, ${map.margin_px ? `${map.margin_px} px of border left out` : "full frame"}`));
    figure.append(caption, plot, say);
    list.append(figure);
    let at = [Math.min(1, map.dx.length - 1), 0];
    keepFitting(plot, () => drawMap(plot, map, say));
    plot.addEventListener("pointermove", (event) => { at = plot.at?.(event) ?? at; plot.point?.(...at); });
    plot.addEventListener("focus", () => { say.setAttribute("aria-live", "polite"); plot.point?.(...at); });
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      at = [Math.min(map.dx.length - 1, Math.max(0, at[0] + step[0])), Math.min(map.dy.length - 1, Math.max(0, at[1] + step[1]))];
      plot.point?.(...at);
    });
  }
})();
