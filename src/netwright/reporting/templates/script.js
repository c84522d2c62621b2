(() => {
"use strict";
const root = document.documentElement;

const scheme = document.getElementById("scheme");
const prefers = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches);
const showScheme = () => scheme.setAttribute("aria-pressed", String(isDark()));
scheme.hidden = false;
showScheme();
prefers.addEventListener("change", showScheme);
scheme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  showScheme();
});

for (const button of document.querySelectorAll("button.copy")) {
  const source = document.getElementById(button.dataset.copies);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

const drawn = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

for (const figure of document.querySelectorAll("figure.curves")) {
  const data = JSON.parse(figure.dataset.points);
  const area = figure.querySelector(".area");
  const svg = area.querySelector("svg");
  const epoch = figure.querySelector(".readout .epoch");
  const values = figure.querySelectorAll(".readout b");
  const last = data.across.length - 1;
  const line = drawn("line", { class: "cursor", y1: data.top, y2: data.bottom, visibility: "hidden" });
  const dots = data.up.map((_, place) => drawn("circle", { class: "at", r: 3.5, fill: data.colours[place], visibility: "hidden" }));
  svg.append(line, ...dots);
  let at = data.start;
  const show = (place) => {
    at = Math.min(Math.max(place, 0), last);
    line.setAttribute("x1", data.across[at]);
    line.setAttribute("x2", data.across[at]);
    line.setAttribute("visibility", "visible");
    epoch.textContent = "epoch " + data.epochs[at];
    data.up.forEach((up, place) => {
      values[place].textContent = data.texts[place][at];
      dots[place].setAttribute("visibility", up[at] === null ? "hidden" : "visible");
      dots[place].setAttribute("cx", data.across[at]);
      dots[place].setAttribute("cy", up[at] ?? 0);
    });
  };
  const point = (event) => {
    const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    let nearest = 0;
    data.across.forEach((place, index) => {
      if (Math.abs(place - x) < Math.abs(data.across[nearest] - x)) nearest = index;
    });
    if (nearest !== at || line.getAttribute("visibility") === "hidden") show(nearest);
  };
  area.addEventListener("pointermove", point);
  area.addEventListener("pointerdown", point);
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  area.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(at + steps[event.key]);
  });
  area.tabIndex = 0;
  area.setAttribute("role", "group");
  area.setAttribute("aria-label", data.label + ". Arrow keys read the values of an epoch.");
  figure.querySelector(".help").hidden = false;
}

const links = new Map([...document.querySelectorAll("nav.contents a")].map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
  const first = [...links.keys()].find((id) => seen.has(id));
  for (const [id, link] of links) {
    if (id === first) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "-15% 0px -60% 0px" });
for (const id of links.keys()) watch.observe(document.getElementById(id));
})();
