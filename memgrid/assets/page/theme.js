// Light or dark: as the reader chose last, or else as the system prefers. It runs before anything is painted.
"use strict";
const theme = (() => {
  const kept = () => { try { return localStorage.getItem("memgrid-theme"); } catch { return null; } };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const show = () => {
    const name = theme.paper || kept() || (dark.matches ? "dark" : "light");
    root.dataset.theme = name;
    const button = document.querySelector("button.theme");
    if (button) button.textContent = name === "dark" ? "Light" : "Dark";
  };
  const choose = (name) => {
    try { localStorage.setItem("memgrid-theme", name); } catch { theme.paper = name; }
    show();
  };
  dark.addEventListener("change", show);
  // Paper is white.
  addEventListener("beforeprint", () => { theme.paper = "light"; show(); });
  addEventListener("afterprint", () => { theme.paper = ""; show(); });
  addEventListener("DOMContentLoaded", () => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "theme";
    button.title = "Light or dark";
    button.addEventListener("click", () => choose(root.dataset.theme === "dark" ? "light" : "dark"));
    document.querySelector("header").append(button);
    show();
  });
  return { show, paper: "" };
})();
theme.show();
