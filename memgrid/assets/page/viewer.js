// One sequence: its tokens, what they attend to, and what Δ says of that. `cells.js` opens others by `viewer.open`.
"use strict";
const viewer = (() => {
  const root = document.getElementById("viewer");
  if (!root) return null;
  const { runs } = page.data(root);
  const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);
  const part = (name) => root.querySelector(`[data-v="${name}"]`);
  const VIEWS = { mean: "mean over heads", max: "maximum over heads", delta: "Δ", difference: "difference of classes" };
  const BLUE = { light: [[120, 176, 220], [9, 74, 134], [4, 32, 70]], dark: [[36, 92, 148], [92, 172, 240], [226, 242, 255]] };
  const ORANGE = { light: [[240, 170, 96], [192, 78, 8], [92, 28, 0]], dark: [[140, 70, 18], [250, 150, 62], [255, 238, 214]] };
  const state = { run: 0, id: null, of: 0, layer: 0, view: "mean", token: 0, hovered: null, pointed: null };
  const listeners = [];
  let printing = false;

  // Numbers: as memgrid/report/viewer/packed.py packs them
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const at = (query, key) => (query * (query + 1)) / 2 + key;
  const current = () => runs[state.run];
  const sequence = () => current().sequences[state.id];
  const cells = () => at(current().length, 0);
  const places = (from, to) => Array.from({ length: to - from }, (_, index) => from + index);

  /** Positions of one map of a packed stack, by its number. */
  function unpack(stack, number, signed) {
    stack.bytes ??= bytes(stack.codes);
    const scale = stack.scales[number];
    return Float64Array.from(stack.bytes.subarray(number * cells(), (number + 1) * cells()), (code) => {
      const value = signed ? (code - 128) / 127 : code / 255;
      return scale * value * Math.abs(value);
    });
  }

  /** Whether there is anything to show of a kind of map. */
  const has = (kind) => Boolean(kind === "delta" || kind === "difference" ? current()[kind] : sequence()?.[kind]);

  /** The shown layer of a kind of map, or null. */
  function map(kind, layer = state.layer) {
    if (!has(kind)) return null;
    const ofClass = kind === "delta" || kind === "difference";
    return ofClass ? unpack(current()[kind], state.of * current().layers + layer, kind === "difference") : unpack(sequence()[kind], layer);
  }

  /** The largest value that a kind of map has in any layer: attention may reach 1. */
  function largest(kind) {
    const { layers } = current();
    if (kind === "mean" || kind === "max") return 1;
    return Math.max(...current()[kind].scales.slice(state.of * layers, (state.of + 1) * layers)) || 1;
  }

  /** A share in percent, with a digit more where it is small. */
  const percent = (share) => {
    if (share < 0.0005) return "0\u00a0%";
    return `${share < 0.0995 ? (100 * share).toFixed(1) : Math.round(100 * share)}\u00a0%`;
  };

  /** A value of a map in words. */
  function told(kind, value) {
    if (kind === "difference") return `${value < 0 ? "−" : "+"}${(100 * Math.abs(value)).toFixed(1)}\u00a0points`;
    return percent(kind === "delta" ? value / largest("delta") : value);
  }

  // Words
  const readable = (text) => text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ {2,}/g, "␣␣").replace(/^ $/, "␣");
  const token = (place) => {
    const text = sequence()?.tokens?.[place];
    return text === undefined ? `${place}` : `${place} “${readable(text).trim()}”`;
  };
  const title = (label) => current().classes[label];
  const dark = () => {
    if (printing) return false;
    const [red, green, blue] = getComputedStyle(document.body).color.match(/[\d.]+/g).map(Number);
    return red + green + blue > 384;
  };
  const colour = (ramp, share) => {
    const stops = ramp[dark() ? "dark" : "light"], place = Math.min(Math.max(share, 0), 1) * 2, from = Math.min(Math.floor(place), 1);
    return [0, 1, 2].map((index) => Math.round(stops[from][index] + (place - from) * (stops[from + 1][index] - stops[from][index])));
  };
  const css = (ramp, share, alpha) => `rgba(${colour(ramp, share).join(", ")}, ${alpha.toFixed(3)})`;
  /** A colour behind text that stays readable. */
  const tint = (ramp, share) => css(ramp, dark() ? 0.1 : 0, 0.72 * share);
  const ramp = (kind, value) => (kind === "delta" || value < 0 ? ORANGE : BLUE);

  // What is chosen
  const row = (judged) => current().ids.indexOf(judged);
  function answers(run = current()) {
    if (!run.answers) {
      const coded = bytes(run.probabilities), view = new DataView(coded.buffer), said = bytes(run.said), { length } = run.ids;
      const place = (source, which, label) => (source * length + which) * run.classes.length + label;
      const probability = (source, which, label) => view.getUint16(2 * place(source, which, label), true) / 10000;
      run.answers = { probability, said: (source, which) => said[source * length + which] };
    }
    return run.answers;
  }
  /** The sequences that can be opened: those with maps; where no map is there, all. */
  function openable(run = current()) {
    const known = run.ids.filter((id) => run.sequences[id]);
    return known.length ? known : run.ids;
  }
  /** How much there is to see in a layer: the sum of Δ; without Δ, of how much the class differs. */
  const ofLayer = (layer) => {
    const values = map("delta", layer) ?? map("difference", layer) ?? [];
    return values.reduce((sum, value) => sum + Math.abs(value), 0);
  };

  /** Where something is to be seen first: the layer with most of Δ, and there the token of the suffix whose attention counts most. */
  function tellingLayer() {
    const shares = places(0, current().layers).map(ofLayer);
    return Math.max(shares.indexOf(Math.max(...shares)), 0);
  }
  function tellingToken() {
    const values = map("delta"), { length, k } = current();
    if (!values) return k;
    const attention = map("mean") ?? values.map(() => 1);
    const count = (query, key) => values[at(query, key)] * attention[at(query, key)];
    const counts = places(k, length).map((query) => places(0, query).reduce((sum, key) => sum + count(query, key), 0));
    return k + counts.indexOf(Math.max(...counts));
  }

  /** Open a sequence of the page; false where it is not there. */
  function open(run, id, keep = {}) {
    if (!openable(runs[run]).includes(id)) return false;
    Object.assign(state, { run, id, hovered: null, pointed: null });
    state.of = keep.of ?? current().labels[row(id)];
    state.layer = keep.layer ?? tellingLayer();
    state.token = keep.token ?? tellingToken();
    if (!has(state.view)) state.view = Object.keys(VIEWS).find(has) ?? "mean";
    fill();
    return true;
  }

  function remember() {
    page.choose("run", state.run ? `${state.run}` : null, "viewer");
    const chosen = { sequence: state.id, layer: state.layer + 1, view: state.view, token: state.token };
    for (const [name, value] of Object.entries(chosen)) page.choose(name, `${value}`, "viewer");
    page.choose("of", state.of === current().labels[row(state.id)] ? null : `${state.of}`, "viewer");
  }

  // Drawing
  /** In pixels of a map's canvas: a position, the margins for what stands beside, and the side of the map. */
  function sizes() {
    const step = Math.max(2, Math.round(880 / current().length));
    return { step, left: 36, above: 12, side: step * current().length };
  }
  function drawMap(place, kind) {
    const canvas = part(`map-${place}`), values = map(kind), { length, k } = current(), box = canvas.parentElement;
    box.hidden = !values;
    if (!values) return;
    const most = largest(kind), { step, left, above, side } = sizes();
    Object.assign(canvas, { width: left + side + 2, height: above + side + 34 });
    const pen = canvas.getContext("2d"), ink = printing ? "#1b1b1b" : getComputedStyle(root).color;
    pen.translate(left, above);
    for (let query = 0; query < length; query++) {
      for (let key = 0; key <= query; key++) {
        const value = values[at(query, key)], share = Math.sqrt(Math.abs(value) / most);
        pen.fillStyle = css(ramp(kind, value), share, Math.min(1, share * 2.5));
        pen.fillRect(key * step, query * step, step, step);
      }
    }
    Object.assign(pen, { strokeStyle: ink, fillStyle: ink, font: "22px sans-serif", textBaseline: "middle" });
    Object.assign(pen, { globalAlpha: 0.5, lineWidth: 1.5 });
    pen.beginPath();
    pen.rect(0, 0, k * step, k * step);
    pen.moveTo(0, k * step); pen.lineTo(0, side); pen.lineTo(side, side); pen.lineTo(0, 0);
    pen.moveTo(k * step, k * step); pen.lineTo(k * step, side);
    pen.stroke();
    pen.globalAlpha = 0.85;
    for (const number of [0, k]) {
      pen.textAlign = "right";
      pen.fillText(`${number}`, -6, (number + 0.5) * step);
      pen.textAlign = "center";
      pen.fillText(`${number}`, (number + 0.5) * step, side + 18);
    }
    pen.textAlign = "right";
    pen.fillText("key: is attended to →", side, side + 18);
    pen.save();
    pen.rotate(-Math.PI / 2);
    pen.fillText("← query: attends", -k * step - 24, -16);
    pen.restore();
    const chosen = shownToken();
    Object.assign(pen, { globalAlpha: 1, lineWidth: 3 });
    pen.strokeRect(0, chosen * step - 1, (chosen + 1) * step, step + 2);
    pen.globalAlpha = 0.35;
    pen.strokeRect(chosen * step - 1, chosen * step, step + 2, side - chosen * step);
    const where = `${VIEWS[kind]}, layer ${state.layer + 1}: queries from above to below, keys from left to right.`;
    canvas.setAttribute("aria-label", `${where} ${sentences().join(" ")}`);
    const { delta, difference } = current(), means = (maps) => `mean of ${maps.samples[state.of]} sequences`;
    const name = {
      delta: delta && `Δ: what decides for ${title(state.of)} (${delta.note}, ${means(delta)})`,
      difference: difference && `Attention of ${title(state.of)} less that of the others (${means(difference)})`,
      mean: "Attention, mean over heads",
      max: "Attention, maximum over heads",
    };
    part(`title-${place}`).textContent = name[kind];
    drawScale(part(`scale-${place}`), kind, most);
  }

  function drawScale(scale, kind, most) {
    const shade = (colours, share) => css(colours, share, Math.min(1, share * 2.5));
    const eighths = places(0, 9).map((eighth) => eighth / 8);
    const up = (colours) => eighths.map((share) => shade(colours, share));
    const stops = kind === "difference" ? [...up(ORANGE).reverse(), ...up(BLUE)] : up(kind === "delta" ? ORANGE : BLUE);
    const bar = make("i");
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    const ends = {
      delta: ["0", `the largest of all layers (${most.toPrecision(2)})`],
      difference: [`others more (${told(kind, -most)})`, `${title(state.of)} more (${told(kind, most)})`],
    }[kind] ?? ["0", "100 %"];
    scale.replaceChildren(ends[0], bar, ends[1]);
  }

  function drawProfile() {
    const canvas = part("profile"), { layers } = current(), shares = places(0, layers).map(ofLayer);
    const most = Math.max(...shares), width = Math.round(600 / layers);
    Object.assign(canvas, { width: width * layers, height: 52 });
    canvas.hidden = !most;
    const pen = canvas.getContext("2d");
    shares.forEach((share, layer) => {
      pen.fillStyle = css(has("delta") ? ORANGE : BLUE, layer === state.layer ? 0.6 : 0.2, layer === state.layer ? 1 : 0.6);
      const height = most ? (50 * share) / most : 0;
      pen.fillRect(layer * width + 2, 52 - height, width - 4, height);
    });
  }

  const shownToken = () => state.hovered ?? state.token;

  function drawTokens() {
    const chosen = shownToken(), kind = has(state.view) ? state.view : "delta", values = map(kind), { length } = current();
    if (!values) return;
    const value = (place) => (place <= chosen ? values[at(chosen, place)] : values[at(place, chosen)]);
    const others = places(0, length).filter((place) => place !== chosen);
    const most = (places) => Math.max(...places.map((place) => Math.abs(value(place))), 1e-9);
    const strongest = [most(others.filter((place) => place < chosen)), most(others.filter((place) => place > chosen))];
    [...part("tokens").children].forEach((chip, place) => {
      const share = Math.sqrt(Math.abs(value(place)) / strongest[Number(place > chosen)]);
      const colours = place < chosen ? BLUE : ORANGE;
      chip.style.backgroundColor = place === chosen ? "transparent" : tint(colours, Math.min(share, 1));
      chip.setAttribute("aria-selected", `${place === chosen}`);
    });
    part("tokens").setAttribute("aria-activedescendant", `viewer-token-${chosen}`);
    const what = { delta: "Δ of ", difference: "difference in " }[kind] ?? "";
    part("to").textContent = `${what}what token ${chosen} attends to`;
    part("by").textContent = `${what}who attends to it`;
    root.querySelector(".v-to").style.backgroundColor = tint(BLUE, 1);
    root.querySelector(".v-by").style.backgroundColor = tint(ORANGE, 1);
  }

  /** The few places with the largest values, as `37 “ the” (12 %)`; `of`: what the first value is a share of. */
  function best(kind, places, value, number, of = "") {
    const sorted = places.filter((place) => Math.abs(value(place)) > 0).sort((one, other) => Math.abs(value(other)) - Math.abs(value(one)));
    const words = sorted.slice(0, number).map((place, rank) => `${token(place)} (${told(kind, value(place))}${rank ? "" : of})`);
    return words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : (words[0] ?? "");
  }

  /** What there is to say of the shown token. */
  function sentences() {
    const chosen = shownToken(), { length, layers, k } = current(), kind = has(state.view) && state.view !== "delta" ? state.view : "mean";
    const before = places(0, chosen + 1), later = places(chosen + 1, length);
    const lines = [`Layer ${state.layer + 1} of ${layers}, token ${token(chosen)} of the ${chosen < k ? "prefix" : "suffix"}.`];
    const values = map(kind), delta = map("delta");
    if (values) {
      const to = best(kind, before, (key) => values[at(chosen, key)], 3), by = best(kind, later, (query) => values[at(query, chosen)], 2);
      const pool = { mean: "", max: " with one of its heads", difference: "" }[kind];
      if (kind === "difference") lines.push(`${title(state.of)} differs most from the others in how much this place attends to ${to}.`);
      else lines.push(`It attends most${pool} to ${to}${by ? `; of those after it, it is attended to most by ${by}` : ""}.`);
    }
    if (delta) {
      const counts = best("delta", before, (key) => delta[at(chosen, key)], 2, " of the largest Δ");
      const where = counts ? `is largest where it attends to ${counts}` : "is 0 wherever it attends";
      lines.push(`For ${title(state.of)}, Δ ${where}.`);
    }
    return lines;
  }

  function fillTable() {
    const chosen = shownToken(), kinds = Object.keys(VIEWS).filter(has), shown = Object.fromEntries(kinds.map((kind) => [kind, map(kind)]));
    const sort = kinds.includes(state.view) ? state.view : kinds[0], table = part("table"), words = sequence()?.tokens;
    const keys = places(0, chosen + 1), size = (key) => Math.abs(shown[sort][at(chosen, key)]);
    if (sort) keys.sort((one, other) => size(other) - size(one));
    table.replaceChildren();
    const caption = table.createCaption(), head = table.createTHead().insertRow(), body = table.createTBody();
    caption.textContent = `What token ${token(chosen)} attends to in layer ${state.layer + 1}, most first; Δ as a share of the largest.`;
    const columns = ["token", ...(words ? ["text"] : []), ...kinds.map((kind) => VIEWS[kind])];
    head.append(...columns.map((name) => make("th", { scope: "col", textContent: name })));
    for (const place of keys) {
      const line = body.insertRow();
      line.append(make("th", { scope: "row", textContent: `${place}` }));
      if (words) Object.assign(line.insertCell(), { className: "text", textContent: readable(words[place]) });
      for (const kind of kinds) line.insertCell().textContent = told(kind, shown[kind][at(chosen, place)]);
    }
  }

  /** Everything that depends on the shown token, layer and view. */
  function draw() {
    if (!current().layers) return;
    const kinds = [state.view, state.view === "delta" ? "mean" : "delta"].map((kind) => (has(kind) ? kind : null));
    if (!kinds[1] && state.view !== "difference" && has("difference")) kinds[1] = "difference";
    kinds.forEach((kind, place) => (kind ? drawMap(place, kind) : (part(`map-${place}`).parentElement.hidden = true)));
    drawProfile();
    drawTokens();
    part("live").textContent = sentences().join(" ");
    part("number").textContent = `${state.layer + 1} of ${current().layers}`;
    part("layer").value = state.layer + 1;
    part("read").textContent = state.pointed ? pointedText() : "";
    for (const input of root.querySelectorAll('input[name="viewer-view"]')) {
      Object.assign(input, { checked: input.value === state.view, disabled: !has(input.value) });
    }
    if (root.querySelector(".v-as-table").open) fillTable();
  }

  function pointedText() {
    const [query, key] = state.pointed, kinds = Object.keys(VIEWS).filter(has);
    const values = kinds.map((kind) => [kind, told(kind, map(kind)[at(query, key)])]);
    const words = values.map(([kind, value]) => `${VIEWS[kind]} ${value}${kind === "delta" ? " of the largest" : ""}`);
    return `${token(query)} → ${token(key)}: ${words.join(", ")}`;
  }

  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, `${value}` === `${chosen}`)));
  }

  /** Everything that depends on the sequence. */
  function fill() {
    const run = current(), which = row(state.id), label = run.labels[which], { probability, said } = answers();
    options(part("run"), runs.map((each, place) => [place, each.name]), state.run);
    options(part("class"), run.classes.map((name, place) => [place, name]), label);
    options(part("of"), run.classes.map((name, place) => [place, name]), state.of);
    root.querySelector(".v-of").hidden = !has("delta") && !has("difference");
    const groups = run.classes.map((name, other) => {
      const group = make("optgroup", { label: other === label ? `rightly taken for ${name}` : `taken for ${name}` });
      const own = openable().filter((id) => run.labels[row(id)] === label && said(0, row(id)) === other);
      group.append(...own.map((id) => new Option(`${id} · ${percent(probability(0, row(id), other))}`, id, false, id === state.id)));
      return own.length ? group : "";
    });
    part("sequence").replaceChildren(groups[label], ...groups.filter((_, other) => other !== label));
    const beliefs = run.classes.map((_, other) => other).sort((one, other) => probability(0, which, other) - probability(0, which, one));
    const head = part("head"), bold = (text) => make("b", { textContent: text });
    const shares = beliefs.map((other) => `${title(other)} ${percent(probability(0, which, other))}`).join(", ");
    const panel = ["; the panel takes it for ", bold(title(said(0, which))), ` (${shares}).`];
    head.replaceChildren(`Sequence ${state.id} is `, bold(title(label)), ...panel);
    const list = part("tokens"), words = sequence()?.tokens;
    list.classList.toggle("v-numbers", !words);
    list.replaceChildren(...places(0, run.length).map((place) => {
      const chip = make("span", { id: `viewer-token-${place}`, className: `v-token${place < run.k ? "" : " v-suffix"}` });
      chip.textContent = words ? readable(words[place]) : `${place}`;
      chip.setAttribute("role", "option");
      chip.setAttribute("aria-label", `${token(place)}, ${place < run.k ? "prefix" : "suffix"}`);
      return chip;
    }));
    part("hint").textContent = run.hint;
    part("layer").max = run.layers;
    const ofMaps = [".v-how", ".v-tokens", ".v-key", ".v-what", ".v-maps", ".v-live", ".v-as-table"];
    for (const name of ofMaps) root.querySelector(name).hidden = !run.layers;
    draw();
    listeners.forEach((tell) => tell());
  }

  // What the reader does
  const change = (next) => { Object.assign(state, next); draw(); remember(); };
  function step(by) {
    const same = [...part("sequence").options].map((option) => Number(option.value)), place = same.indexOf(state.id);
    if (open(state.run, same[(place + by + same.length) % same.length], { layer: state.layer, token: state.token })) remember();
  }
  function first(run, label) {
    const own = openable(runs[run]), of = own.filter((id) => runs[run].labels[runs[run].ids.indexOf(id)] === label);
    return of.find((id) => answers(runs[run]).said(0, runs[run].ids.indexOf(id)) === label) ?? of[0] ?? own[0];
  }
  part("run").addEventListener("change", (event) => {
    const run = Number(event.target.value);
    if (open(run, first(run, runs[run].classes.length - 1))) remember();
  });
  part("class").addEventListener("change", (event) => { if (open(state.run, first(state.run, Number(event.target.value)))) remember(); });
  part("sequence").addEventListener("change", (event) => {
    if (open(state.run, Number(event.target.value), { layer: state.layer })) remember();
  });
  part("of").addEventListener("change", (event) => change({ of: Number(event.target.value) }));
  part("before").addEventListener("click", () => step(-1));
  part("after").addEventListener("click", () => step(1));
  part("layer").addEventListener("input", (event) => change({ layer: Number(event.target.value) - 1 }));
  root.querySelector(".v-views").addEventListener("change", (event) => change({ view: event.target.value }));
  root.querySelector(".v-as-table").addEventListener("toggle", draw);
  const chipOf = (event) => { const chip = event.target.closest(".v-token"); return chip && Number(chip.id.split("-").at(-1)); };
  part("tokens").addEventListener("pointerover", (event) => {
    const place = chipOf(event);
    if (place === null || event.pointerType !== "mouse") return;
    state.hovered = place;
    draw();
  });
  part("tokens").addEventListener("pointerleave", () => { state.hovered = null; draw(); });
  part("tokens").addEventListener("click", (event) => {
    const place = chipOf(event);
    if (place !== null) change({ token: place, hovered: null });
  });
  part("tokens").addEventListener("keydown", (event) => {
    const { length, layers } = current(), { token: place, layer } = state;
    const next = {
      ArrowLeft: { token: Math.max(place - 1, 0) },
      ArrowRight: { token: Math.min(place + 1, length - 1) },
      Home: { token: 0 },
      End: { token: length - 1 },
      ArrowUp: { layer: Math.min(layer + 1, layers - 1) },
      ArrowDown: { layer: Math.max(layer - 1, 0) },
    }[event.key];
    if (!next) return;
    event.preventDefault();
    change({ ...next, hovered: null });
  });
  for (const place of [0, 1]) {
    const canvas = part(`map-${place}`);
    const position = (event) => {
      const box = canvas.getBoundingClientRect(), { step, left, above } = sizes(), scale = canvas.width / box.width;
      const key = Math.floor(((event.clientX - box.left) * scale - left) / step);
      const query = Math.floor(((event.clientY - box.top) * scale - above) / step);
      return key >= 0 && key <= query && query < current().length ? [query, key] : null;
    };
    canvas.addEventListener("pointermove", (event) => {
      state.pointed = position(event);
      part("read").textContent = state.pointed ? pointedText() : "";
    });
    canvas.addEventListener("pointerleave", () => { state.pointed = null; part("read").textContent = ""; });
    canvas.addEventListener("click", (event) => { const place = position(event); if (place) change({ token: place[0], hovered: null }); });
  }
  const repaint = () => { draw(); listeners.forEach((tell) => tell()); };
  new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  addEventListener("beforeprint", () => { printing = true; draw(); });
  addEventListener("afterprint", () => { printing = false; draw(); });

  /** Open what the address names, or else something telling. */
  function follow() {
    const short = location.hash.match(/^#sequence=(.*)$/);
    if (short) history.replaceState(null, "", `#viewer?sequence=${short[1]}`);
    const number = (name) => { const text = page.chosen(name); return text === null || !/^\d+$/.test(text) ? undefined : Number(text); };
    const id = number("sequence"), home = runs.findIndex((each) => openable(each).includes(id));
    const run = runs[number("run")] ? number("run") : Math.max(home, 0), { layers, length, classes } = runs[run];
    if (page.chosen("view") in VIEWS) state.view = page.chosen("view");
    const within = (value, most) => (value !== undefined && value < most ? value : undefined);
    const keep = {
      layer: number("layer") > 0 ? within(number("layer") - 1, layers) : undefined,
      token: within(number("token"), length),
      of: within(number("of"), classes.length),
    };
    if (id !== undefined && open(run, id, keep)) {
      root.scrollIntoView();
      return;
    }
    open(run, first(run, runs[run].classes.length - 1));
    if (id !== undefined) part("hint").textContent = `Sequence ${id} is not on this page. ${current().hint}`;
  }
  addEventListener("hashchange", () => location.hash.match(/sequence=/) && follow());
  part("whole").hidden = false;
  return {
    ...{ root, part, make, options, runs, state, current, answers, openable, open, follow, remember, percent, title, tint, BLUE },
    listen: (tell) => listeners.push(tell),
  };
})();
