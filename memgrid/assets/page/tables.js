// Tables: sort, filter, show more rows, save as CSV, and tell intervals where a value is pointed at.
"use strict";
(() => {
  const SHORT = 8; // rows; a longer table can be filtered
  const FIRST = 60; // rows that are shown until somebody asks for more

  const textOf = (cell) => {
    const shown = cell.cloneNode(true);
    shown.querySelectorAll("small, details, .anchor, .unseen").forEach((part) => part.remove());
    return shown.textContent.trim();
  };
  // The number that a text begins with: an interval is sorted by its lower end; null where there is none.
  const numberOf = (text) => {
    const found = text.replace("\u2212", "-").replaceAll(",", "").match(/^[<>≤≥]?\s*([+-]?\d+(\.\d+)?(e[+-]?\d+)?)/i);
    return found ? parseFloat(found[1]) : null;
  };
  // As memgrid/io/display.py has it: text that a spreadsheet takes for a formula gets an apostrophe before it, a number does not.
  const FORMULA = /^\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]/, NUMBER = /^[+\-]?[\d.,]+(e[+\-]?\d+)?$/i;
  const csvField = (text) => `"${(FORMULA.test(text) && !NUMBER.test(text) ? "'" : "") + text.replaceAll('"', '""')}"`;

  class Table {
    constructor(box) {
      this.box = box;
      this.table = box.querySelector("table");
      this.bodies = [...this.table.tBodies];
      this.rows = this.bodies.map((body) => [...body.rows].filter((row) => !row.classList.contains("group")));
      this.headings = [...this.table.tHead.rows[0].cells];
      this.number = this.rows.flat().length;
      this.all = this.number <= FIRST;
      this.filter = "";
      this.sorted = null; // [index of a column, 1 upwards or -1 downwards]
      this.makeTools();
      this.headings.forEach((heading, column) => this.makeSortable(heading, column));
      this.recall();
    }

    makeTools() {
      this.tools = document.createElement("div");
      this.tools.className = "tools";
      const title = this.box.querySelector("h3").childNodes[0].textContent.trim();
      if (this.number > SHORT) {
        this.field = document.createElement("input");
        this.field.type = "search";
        this.field.placeholder = "filter rows";
        this.field.setAttribute("aria-label", `Filter the rows of ${title}`);
        this.field.addEventListener("input", () => { this.filter = this.field.value; this.all = true; this.show(); this.keep(); });
        this.tools.append(this.field);
      }
      this.count = document.createElement("span");
      this.count.setAttribute("role", "status");
      this.more = page.button(`show all ${this.number}`, () => { this.all = true; this.show(); }, `Show all ${this.number} rows of ${title}`);
      const name = `${this.table.dataset.file || this.box.id}.csv`;
      this.tools.append(this.count, this.more, page.button("save CSV", () => this.save(name), `Save ${title} as ${name}`));
      this.box.querySelector(".caption").after(this.tools);
    }

    makeSortable(heading, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const first = heading.classList.contains("text") ? 1 : -1;
        const way = this.sorted && this.sorted[0] === column ? -this.sorted[1] : first;
        this.sorted = this.sorted && this.sorted[0] === column && way === first ? null : [column, way];
        this.sort();
        this.keep();
      });
    }

    /** Rows stay within their groups. A third click gives the order of the page back. */
    sort() {
      const [column, way] = this.sorted || [-1, 1];
      this.headings.forEach((heading, at) => heading.setAttribute("aria-sort", at !== column ? "none" : way > 0 ? "ascending" : "descending"));
      this.bodies.forEach((body, at) => {
        const keyed = this.rows[at].map((row) => ({ row, text: column < 0 ? "" : textOf(row.cells[column]) }));
        const numbers = keyed.every(({ text }) => text === "–" || text === "" || numberOf(text) !== null);
        const empty = ({ text }) => text === "–" || text === "";
        if (column >= 0) {
          keyed.sort((a, b) => empty(a) - empty(b)
            || (empty(a) ? 0 : way * (numbers ? numberOf(a.text) - numberOf(b.text) : a.text.localeCompare(b.text, "en", { numeric: true }))));
        }
        body.append(...keyed.map(({ row }) => row));
      });
      this.show();
    }

    /** Every word of the filter must stand somewhere in a row, or in its group's heading. */
    show() {
      const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
      let seen = 0, matching = 0;
      this.bodies.forEach((body) => {
        const heading = body.querySelector("tr.group");
        const above = heading ? heading.textContent.toLowerCase() : "";
        let here = 0;
        for (const row of body.rows) {
          if (row === heading) continue;
          const text = `${above} ${row.textContent.toLowerCase()}`;
          const match = words.every((word) => text.includes(word));
          row.hidden = !match || (!this.all && seen >= FIRST);
          matching += match;
          seen += !row.hidden;
          here += !row.hidden;
        }
        if (heading) heading.hidden = !here;
      });
      this.more.hidden = seen === matching;
      this.count.textContent = seen === this.number ? `${this.number} rows` : `${seen} of ${this.number} rows`;
      this.count.hidden = this.number <= SHORT;
    }

    keep() {
      const name = this.sorted && this.headings[this.sorted[0]].dataset.name;
      page.choose(`${this.box.id}.sort`, name ? `${name}.${this.sorted[1] > 0 ? "asc" : "desc"}` : null, this.box.id);
      page.choose(`${this.box.id}.filter`, this.filter || null, this.box.id);
    }

    recall() {
      const [name, way] = (page.chosen(`${this.box.id}.sort`) || "").split(".");
      const column = this.headings.findIndex((heading) => heading.dataset.name === name);
      this.sorted = name && column >= 0 ? [column, way === "asc" ? 1 : -1] : null;
      this.filter = page.chosen(`${this.box.id}.filter`) || "";
      if (this.field) this.field.value = this.filter;
      const target = document.getElementById(page.anchor());
      this.all ||= Boolean(this.filter) || (target !== null && this.table.contains(target));
      this.sort();
    }

    /** The whole table as it is in the page's data; one that has none there, as it is shown. */
    async save(name) {
      if (this.table.dataset.file) return saveFile(this.table.dataset.file);
      const lines = [this.headings, ...this.rows.flat().map((row) => [...row.cells])];
      const text = lines.map((cells) => cells.map((cell) => csvField(textOf(cell))).join(",")).join("\n");
      page.download(name, new Blob([`${text}\n`], { type: "text/csv" }));
    }
  }

  /** A file that lies in the page, packed. */
  async function saveFile(name) {
    const packed = Uint8Array.from(atob(document.getElementById(`file-${name}`).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    page.download(`${name}.csv`, new Blob([await new Response(stream).arrayBuffer()], { type: "text/csv" }));
  }

  const tables = [...document.querySelectorAll(".table")].map((box) => new Table(box));
  addEventListener("hashchange", () => {
    const target = document.getElementById(page.anchor());
    tables.filter((table) => location.hash.includes("?") || (target && target.hidden && table.table.contains(target))).forEach((table) => table.recall());
    page.follow();
  });
  for (const place of document.querySelectorAll(".file")) {
    const button = page.button(place.textContent, () => saveFile(place.dataset.file), `Save ${place.textContent}`);
    place.replaceChildren(button);
  }

  // What is said of a value that is pointed at, or that has the focus; an interval is drawn, too.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true"); // screen readers read the same in the cell itself
  document.body.append(tip);
  const drawn = (text, value) => {
    const found = text.match(/(-?\d+(?:\.\d+)?)(?:–| to )(-?\d+(?:\.\d+)?)/);
    if (!found || numberOf(value) === null) return "";
    const [low, high, middle] = [parseFloat(found[1]), parseFloat(found[2]), numberOf(value)];
    if (low < 0 || high > 100 || high <= 1) return "";
    const at = (number) => 2 + number * 1.96;
    return `<svg width="200" height="18" viewBox="0 0 200 18" fill="none" stroke="currentColor"><path d="M2 9H198M2 5v8M100 6v6M198 5v8" opacity=".35"/>`
      + `<path d="M${at(low)} 9H${at(high)}" stroke-width="4"/><circle cx="${at(middle)}" cy="9" r="4" fill="currentColor" stroke="none"/></svg>`;
  };
  const point = (event) => {
    const place = event.target instanceof Element && event.target.closest(".hint");
    if (!place) { tip.hidden = true; return; }
    const said = place.querySelector(".unseen").textContent.trim().replace(/^\(|\)$/g, "");
    tip.textContent = said;
    tip.insertAdjacentHTML("beforeend", drawn(said, textOf(place)));
    tip.hidden = false;
    const [box, own] = [place.getBoundingClientRect(), tip.getBoundingClientRect()];
    tip.style.left = `${Math.max(8, Math.min(innerWidth - own.width - 8, box.right - own.width))}px`;
    tip.style.top = `${box.top - own.height - 8 > 0 ? box.top - own.height - 8 : box.bottom + 8}px`;
  };
  document.addEventListener("mouseover", point);
  document.addEventListener("focusin", point);
  document.addEventListener("scroll", () => { tip.hidden = true; }, true);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
})();
