// The confusion matrix whose cells open their sequences, each with what every network and baseline says of it.
"use strict";
(() => {
  if (!viewer) return;
  const { part, make, current, answers, percent, options, title, state } = viewer;
  const FIRST = 20; // rows, until all are asked for
  const KINDS = ["#0b6bb8", "#e07b1a", "#2a9d6f", "#a355c7", "#c43d5a", "#7a7a7a"]; // of classes
  const chosen = { judge: 0, cell: null, shown: 0, by: null, down: true, all: false };
  let before = null;

  const inCell = (label, said) => current().ids.map((_, which) => which)
    .filter((which) => current().labels[which] === label && answers().said(chosen.judge, which) === said);

  function drawMatrix() {
    const table = part("confusion"), { classes } = current();
    table.replaceChildren();
    const head = table.createTHead().insertRow(), body = table.createTBody();
    const headings = ["class", ...classes.map((name) => `said: ${name}`)];
    head.append(...headings.map((name) => make("th", { scope: "col", textContent: name })));
    classes.forEach((name, label) => {
      const line = body.insertRow(), counts = classes.map((_, said) => inCell(label, said).length);
      const total = counts.reduce((sum, count) => sum + count, 0);
      line.append(make("th", { scope: "row", textContent: name }));
      counts.forEach((count, said) => {
        const share = total ? count / total : 0, button = make("button", { type: "button", disabled: !count });
        button.append(make("b", { textContent: `${count}` }), percent(share));
        button.dataset.cell = `${label}.${said}`;
        const what = `${count} of ${total} sequences of ${name} are taken for ${classes[said]}, ${percent(share)}`;
        button.setAttribute("aria-label", `${what}: open them`);
        button.setAttribute("aria-pressed", `${chosen.cell?.join(".") === button.dataset.cell}`);
        button.style.backgroundColor = viewer.tint(viewer.BLUE, share);
        button.addEventListener("click", () => openCell([label, said]));
        line.insertCell().append(button);
      });
    });
  }

  function openCell(cell) {
    Object.assign(chosen, { cell, shown: cell[1], by: null, all: false });
    page.choose("cell", cell.join("."), "viewer");
    draw();
    part("cell-head").focus();
  }

  /** The columns: everybody who says something, whoever is asked first. */
  const order = () => [chosen.judge, ...current().sources.map((_, source) => source).filter((source) => source !== chosen.judge)];

  function drawList() {
    part("cell").hidden = !chosen.cell;
    if (!chosen.cell) return;
    const [label, said] = chosen.cell, run = current(), { probability } = answers();
    const rows = inCell(label, said), by = chosen.by ?? chosen.judge;
    const value = (which) => (by === "id" ? run.ids[which] : probability(by, which, chosen.shown));
    rows.sort((one, other) => (chosen.down ? value(other) - value(one) : value(one) - value(other)) || run.ids[one] - run.ids[other]);
    const number = rows.length === 1 ? "1 sequence" : `${rows.length} sequences`;
    const what = label === said ? "rightly taken for it" : `taken for ${title(said)}`;
    part("cell-head").textContent = `${number} of ${title(label)}, ${what} by ${run.sources[chosen.judge]}`;
    options(part("shown"), run.classes.map((name, place) => [place, name]), chosen.shown);
    const table = part("list");
    table.replaceChildren();
    const head = table.createTHead().insertRow(), body = table.createTBody(), known = new Set(viewer.openable());
    const all = rows.every((which) => known.has(run.ids[which]));
    const unknown = all ? "" : " Underlined sequences can be opened: the page has no room for the attention of the others.";
    const swatches = run.classes.flatMap((name, place) => [place ? ", " : "", make("i"), ` ${name}`]);
    part("legend").replaceChildren(`Numbers are the probability of ${title(chosen.shown)}, bars those of `, ...swatches, `.${unknown}`);
    part("legend").querySelectorAll("i").forEach((swatch, place) => { swatch.style.backgroundColor = KINDS[place % KINDS.length]; });
    for (const column of ["id", ...order()]) {
      const name = column === "id" ? "sequence" : run.sources[column];
      const cell = make("th", { scope: "col" }), button = make("button", { type: "button", textContent: name });
      cell.setAttribute("aria-sort", by !== column ? "none" : chosen.down ? "descending" : "ascending");
      button.addEventListener("click", () => {
        Object.assign(chosen, { by: column, down: by === column ? !chosen.down : true });
        drawList();
        [...part("list").querySelectorAll("thead button")].find((other) => other.textContent === button.textContent).focus();
      });
      cell.append(button);
      head.append(cell);
    }
    for (const which of rows.slice(0, chosen.all ? rows.length : FIRST)) body.append(lineOf(which, known.has(run.ids[which])));
    const more = part("more");
    more.hidden = chosen.all || rows.length <= FIRST;
    more.textContent = `Show all ${rows.length}`;
  }

  function lineOf(which, known) {
    const run = current(), { probability } = answers(), line = make("tr"), name = make("th", { scope: "row" }), id = run.ids[which];
    if (known) {
      const button = make("button", { type: "button", textContent: `${id}` });
      button.setAttribute("aria-label", `open sequence ${id}`);
      button.addEventListener("click", () => {
        viewer.open(state.run, id);
        viewer.remember();
        viewer.root.scrollIntoView();
        part("tokens").focus({ preventScroll: true });
      });
      name.append(button);
    } else name.append(`${id}`);
    line.append(name);
    for (const source of order()) {
      const cell = line.insertCell(), bar = make("i"), beliefs = run.classes.map((_, label) => probability(source, which, label));
      let from = 0;
      const stops = beliefs.map((belief, label) => {
        const [start, end] = [from, from + 100 * belief];
        from = end;
        return `${KINDS[label % KINDS.length]} ${start.toFixed(1)}% ${end.toFixed(1)}%`;
      });
      bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
      cell.title = `${run.sources[source]}: ${beliefs.map((belief, label) => `${title(label)} ${percent(belief)}`).join(", ")}`;
      cell.append(percent(beliefs[chosen.shown]), bar);
    }
    return line;
  }

  function draw() {
    if (before !== state.run) {
      if (before !== null) {
        Object.assign(chosen, { judge: 0, cell: null, by: null, all: false });
        page.choose("cell", null);
      }
      before = state.run;
    }
    const { sources, networks } = current(), kind = (place) => (place === 0 ? "" : place <= networks ? "network " : "compared: ");
    const names = sources.map((name, place) => [place, place === 0 ? "the panel (mean of its networks)" : `${kind(place)}${name}`]);
    options(part("judge"), names, chosen.judge);
    drawMatrix();
    drawList();
  }

  part("judge").addEventListener("change", (event) => {
    Object.assign(chosen, { judge: Number(event.target.value), by: null, all: false });
    draw();
  });
  part("shown").addEventListener("change", (event) => { chosen.shown = Number(event.target.value); drawList(); });
  part("more").addEventListener("click", () => { chosen.all = true; drawList(); });
  viewer.listen(draw);
  function follow() {
    const cell = page.chosen("cell")?.split(".").map(Number);
    if (cell?.length !== 2 || !cell.every((label) => label in current().classes)) return;
    Object.assign(chosen, { cell, shown: cell[1], by: null, all: false });
    draw();
  }
  viewer.follow();
  follow();
  addEventListener("hashchange", follow);
})();
