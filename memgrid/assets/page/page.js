// The page as a whole: what its other scripts share, as `page`.
"use strict";
const page = (() => {
  // What the reader chose (a sorted column, a filter, a sequence) stands behind the place in the address: #ranking?ranking.sort=min_f1.desc
  const read = () => {
    const [anchor, query] = location.hash.slice(1).split("?");
    return { anchor: decodeURIComponent(anchor), chosen: new URLSearchParams(query || "") };
  };

  const button = (text, act, label) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "small";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", () => act(made));
    return made;
  };

  /** Say something for a moment in the place of a button's text, to screen readers too. */
  const tell = (made, text) => {
    made.before_ ??= made.textContent;
    made.textContent = text;
    live.textContent = text;
    clearTimeout(made.timer_);
    made.timer_ = setTimeout(() => { made.textContent = made.before_; }, 1600);
  };
  const live = document.createElement("p");
  live.className = "unseen";
  live.setAttribute("role", "status");
  document.body.append(live);

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };

  return {
    button,
    tell,

    /** Where the address leads: the id of an element, or nothing. */
    anchor: () => read().anchor,

    /** What was chosen under a name, or null. */
    chosen: (name) => read().chosen.get(name),

    /** Keep what was chosen in the address, so that a copied link opens the same view; null forgets it. `anchor`: where the link leads. */
    choose(name, value, anchor = read().anchor) {
      const { chosen } = read();
      if (value === null || value === "") chosen.delete(name);
      else chosen.set(name, value);
      const query = chosen.toString();
      history.replaceState(null, "", `#${anchor}${query && "?"}${query}`);
    },

    /** The data of an embedded part: of the element that has its key as its id. */
    data: (element) => JSON.parse(element.querySelector('script[type="application/json"]').textContent),

    /** Copy an element's text; where the browser does not allow it, it is selected, so that a key press copies it. */
    async copy(element, made) {
      try {
        await navigator.clipboard.writeText(element.textContent);
        tell(made, "copied");
      } catch {
        select(element);
        let copied = false;
        try { copied = document.execCommand("copy"); } catch { /* the text stays selected */ }
        tell(made, copied ? "copied" : "selected: press Ctrl+C");
      }
    },

    /** Hand over a file that lies within the page. `content`: a Blob, or an address such as data:… */
    download(name, content) {
      const link = document.createElement("a");
      link.download = name;
      link.href = content instanceof Blob ? URL.createObjectURL(content) : content;
      document.body.append(link);
      link.click();
      link.remove();
      if (content instanceof Blob) setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    },

    /** Unfold what an element lies in, and bring it into view. */
    reveal(element) {
      for (let each = element; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
      element.scrollIntoView();
    },
  };
})();

// A link with what was chosen leads to no element by itself; one into what is folded away unfolds it.
page.follow = () => {
  const element = document.getElementById(page.anchor());
  if (element) page.reveal(element);
};
addEventListener("load", page.follow);

// Commands get a button that copies them.
for (const box of document.querySelectorAll(".command")) {
  const code = box.querySelector("code");
  box.append(page.button("copy", (made) => page.copy(code, made), "Copy the command"));
}

// What is too wide scrolls within itself: with the keyboard, too, and a line says so.
for (const wide of document.querySelectorAll(".wide")) {
  const note = document.createElement("p");
  note.className = "scrolls";
  note.textContent = "This goes on to the right: scroll it sideways →";
  note.hidden = true;
  wide.before(note);
  new ResizeObserver(() => {
    note.hidden = wide.scrollWidth <= wide.clientWidth + 1;
    if (note.hidden) wide.removeAttribute("tabindex");
    else wide.tabIndex = 0;
  }).observe(wide);
}

// Figures are saved from the page itself.
for (const figure of document.querySelectorAll("figure[id]")) {
  const image = figure.querySelector("img");
  if (!image) continue;
  const name = `${figure.id}.png`;
  figure.querySelector("figcaption").append(" ", page.button("save PNG", () => page.download(name, image.src), `Save ${name}`));
}

// What is folded away is printed too, but for commands.
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.typed)").forEach((one) => { one.open = true; }));
