// The page as a whole: what its other scripts share, as `page`, and what printing needs.
"use strict";
const page = (() => {
  // What the reader chose (a sorted column, a filter, a sequence) stands behind the section in the address: #ranking?sort=min_f1.desc
  const read = () => {
    const [anchor, query] = location.hash.slice(1).split("?");
    return { anchor: decodeURIComponent(anchor), chosen: new URLSearchParams(query || "") };
  };
  return {
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
  };
})();

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
