"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const signed = (d) => (d ? (d > 0 ? "+" : "−") + Math.abs(d) : "0");

// The pictures: a slider over the shift, a flicker, a close-up. Every tile is cut at the same place of
// the scene, so moving one is drawing it elsewhere, and differences are taken pixel by pixel.
(function pictures() {
  const frames = report.frames;
  if (!frames) return;
  const { width_px: W, height_px: H, offsets_px: offsets, reference } = frames;
  const byId = (id) => document.getElementById(id);
  const slider = byId("slider"), buttons = { flicker: byId("flicker"), hold: byId("hold"), zoom: byId("zoom") };
  const room = (moves) => Math.ceil(Math.max(0, ...moves));
  const left = room(offsets.map((o) => o[0])), right = room(offsets.map((o) => -o[0]));
  const above = room(offsets.map((o) => o[1])), below = room(offsets.map((o) => -o[1]));
  const side = frames.closeup.size_px;
  const lens = { x: frames.closeup.left_px, y: frames.closeup.top_px };
  const state = { index: reference, flicker: 0, phase: true, hold: false, zoom: false };
  const sheets = {};

  const name = (index) => {
    const [dx, dy] = offsets[index];
    if (dx && dy) return `${signed(dx)}, ${signed(dy)} px`;
    return `${signed(dx || dy)} px`;
  };

  async function load(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    return { canvas, pixels: pen.getImageData(0, 0, canvas.width, canvas.height).data };
  }

  // The mean change over channels as heat, and the squared error that goes with it.
  function difference(sheet, index) {
    const canvas = document.createElement("canvas");
    canvas.width = W;
    canvas.height = H;
    const pen = canvas.getContext("2d"), heat = pen.createImageData(W, H);
    const size = 4 * W * H, a = index * size, b = reference * size;
    let squares = 0;
    for (let i = 0; i < size; i += 4) {
      let change = 0;
      for (let c = 0; c < 3; c++) {
        const d = sheet.pixels[a + i + c] - sheet.pixels[b + i + c];
        change += Math.abs(d);
        squares += d * d;
      }
      heat.data.set(report.heat[Math.min(255, Math.round((85 * change) / frames.full_scale))], i);
      heat.data[i + 3] = 255;
    }
    pen.putImageData(heat, 0, 0);
    return { canvas, db: squares ? 10 * Math.log10((255 * 255 * 3 * W * H) / squares) : Infinity };
  }

  function paint(canvas, picture, row, offset) {
    canvas.width = state.zoom ? side : W + left + right;
    canvas.height = state.zoom ? side : H + above + below;
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    // What moves right comes from the left: the free border lies on the side the scene moves to.
    const x = (state.zoom ? -lens.x : right) + offset[0], y = (state.zoom ? -lens.y : below) + offset[1];
    pen.drawImage(picture, 0, row * H, W, H, x, y, W, H);
  }

  function changeOf(model, index) {
    const sheet = sheets[model];
    sheet.changes ??= {};
    return (sheet.changes[index] ??= difference(sheet, index));
  }

  function score(model) {
    const { db } = changeOf(model, state.index);
    if (state.index === reference) return [["nothing has moved yet", false]];
    const words = [["difference ", false], [db === Infinity ? "none, identical" : `${db.toFixed(1)}\u00a0dB`, true]];
    // The panel with the least border left out is nearest to what is shown.
    const [panel] = report.panels.filter((p) => p.protocol === frames.protocol).sort((a, b) => a.margin - b.margin);
    const [dx, dy] = offsets[state.index];
    const point = panel?.lines[model].find((p) => p.dx === dx && p.dy === dy);
    if (point) words.push([` · all\u00a0pictures ${point.mean_db.toFixed(1)}\u00a0dB`, false]);
    return words;
  }

  function draw() {
    const shown = state.flicker && !state.phase ? reference : state.index;
    const offset = state.flicker || state.hold ? [0, 0] : offsets[shown];
    for (const figure of document.querySelectorAll(".tile")) {
      const model = figure.dataset.tile;
      for (const canvas of figure.querySelectorAll("canvas")) {
        const kind = canvas.dataset.kind;
        if (kind === "output") paint(canvas, sheets[model].canvas, shown, offset);
        else if (kind === "difference") paint(canvas, changeOf(model, state.index).canvas, 0, offset);
        else paint(canvas, sheets[kind].canvas, 0, offset);
      }
      const label = figure.querySelector("[data-score]");
      if (label) label.replaceChildren(...score(Number(model)).map(([text, bold]) => {
        const node = document.createElement(bold ? "b" : "span");
        node.textContent = text;
        return node;
      }));
      for (const frame of figure.querySelectorAll(".lens")) {
        const [width, height] = [W + left + right, H + above + below];
        frame.style.left = `${(100 * (lens.x + right + offset[0])) / width}%`;
        frame.style.top = `${(100 * (lens.y + below + offset[1])) / height}%`;
        frame.style.width = `${(100 * side) / width}%`;
        frame.style.height = `${(100 * side) / height}%`;
      }
    }
    slider.value = state.index;
    slider.setAttribute("aria-valuetext", name(state.index));
    byId("shift").textContent = name(shown);
    byId("tiles").classList.toggle("zoomed", state.zoom);
    byId("tiles").dataset.shown = shown;
    for (const [key, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", Boolean(state[key]));
  }

  function show(index) {
    state.index = Math.min(offsets.length - 1, Math.max(0, index));
    draw();
    document.dispatchEvent(new CustomEvent("shift", { detail: offsets[state.index] }));
  }

  const actions = {
    flicker() {
      clearInterval(state.flicker);
      if (state.flicker) {
        state.flicker = 0;
      } else {
        if (state.index === reference) show(offsets.length > reference + 1 ? reference + 1 : reference - 1);
        state.phase = true;
        // Below three flashes a second, which is safe for photosensitive readers.
        state.flicker = setInterval(() => { state.phase = !state.phase; draw(); }, 400);
      }
      draw();
    },
    hold() { state.hold = !state.hold; draw(); },
    zoom() { state.zoom = !state.zoom; draw(); },
  };
  for (const [key, button] of Object.entries(buttons)) button.addEventListener("click", actions[key]);
  slider.addEventListener("input", () => show(Number(slider.value)));
  document.addEventListener("pick", (event) => {
    const index = offsets.findIndex((o) => o[0] === event.detail[0] && o[1] === event.detail[1]);
    if (index >= 0) show(index);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = { f: "flicker", h: "hold", z: "zoom" }[event.key.toLowerCase()];
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (key) actions[key]();
    // Charts, scrolled tables and the slider itself have their own use for the arrows.
    else if (step && !event.target.closest("input, [tabindex]")) show(state.index + step);
  });
  byId("tiles").addEventListener("click", (event) => {
    const canvas = event.target.closest("canvas");
    if (!canvas) return;
    if (!state.zoom) {
      const box = canvas.getBoundingClientRect();
      const offset = state.flicker || state.hold ? [0, 0] : offsets[state.index];
      const at = (place, scale, free, moved, size) =>
        Math.round(Math.min(size - side, Math.max(0, place * scale - free - moved - side / 2)));
      lens.x = at((event.clientX - box.left) / box.width, canvas.width, right, offset[0], W);
      lens.y = at((event.clientY - box.top) / box.height, canvas.height, below, offset[1], H);
    }
    actions.zoom();
  });

  const bar = byId("heatbar").getContext("2d"), strip = bar.createImageData(256, 1);
  report.heat.forEach((color, i) => strip.data.set([...color, 255], 4 * i));
  bar.putImageData(strip, 0, 0);
  const wanted = [["input", frames.input], ...(frames.target ? [["target", frames.target]] : []), ...frames.models.map((m, i) => [i, m.file])];
  Promise.all(wanted.map(async ([key, uri]) => { sheets[key] = await load(uri); })).then(() => {
    show(offsets.length > reference + 1 ? reference + 1 : Math.max(0, reference - 1));
    document.documentElement.dataset.ready = "yes";
  });
})();
