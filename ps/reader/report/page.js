"use strict";
// Draws the charts one after another, so that the page can be read and scrolled meanwhile; folded ones when unfolded.

const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)").matches;
const config = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // plotly offers to upload the figures otherwise
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d"],
};
const drawings = new Map();
const onDark = JSON.parse(document.body.dataset.onDark);

// Returns a drawing with each colour that a dark page has another one for exchanged.
function recoloured(part, key = "") {
  if (Array.isArray(part)) return part.map((entry) => recoloured(entry, key));
  if (part && typeof part === "object") {
    return Object.fromEntries(Object.entries(part).map(([name, entry]) => [name, recoloured(entry, name)]));
  }
  return dark.matches && /color$/.test(key) ? (onDark[part] ?? part) : part;
}

function theme(layout) {
  const style = getComputedStyle(document.documentElement);
  const [page, ink, line] = ["--page", "--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, exponentformat: "e" };
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: "system-ui, sans-serif", size: 12 },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
    hoverlabel: { bgcolor: page, bordercolor: line, font: { color: ink }, namelength: -1 },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, maxheight: 0.3 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink },
    margin: { l: 56, r: 12, t: 28, b: 40 },
    dragmode: touch ? false : "zoom", // a finger on a chart scrolls the page
    bargap: 0.15,
  };
}

function draw(id) {
  const { choices, layout, chosen } = drawings.get(id);
  return Plotly.react(id, recoloured(choices[chosen]), theme(recoloured(layout)), config);
}

// What is folded has no size to be drawn in: it is drawn when it is unfolded.
async function drawVisible() {
  for (const plot of document.querySelectorAll(".plot")) {
    if (drawings.has(plot.id) || !plot.getClientRects().length || !plot.checkVisibility()) continue;
    const drawing = JSON.parse(document.getElementById(`${plot.id}-drawing`).textContent);
    drawings.set(plot.id, { ...drawing, chosen: 0 });
    await draw(plot.id);
    document.documentElement.dataset.drawn = Number(document.documentElement.dataset.drawn ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve));
  }
}

function unfoldTarget() {
  const target = document.getElementById(location.hash.slice(1));
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

for (const select of document.querySelectorAll("select[data-chart]")) {
  select.addEventListener("change", () => {
    const drawing = drawings.get(select.dataset.chart);
    if (drawing) {
      drawing.chosen = Number(select.value);
      draw(select.dataset.chart);
    }
  });
}
document.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", drawVisible));
for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => setTimeout(unfoldTarget));
addEventListener("hashchange", unfoldTarget);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => (fold.open = true)));
dark.addEventListener("change", () => drawings.forEach((_, id) => draw(id)));
unfoldTarget();
drawVisible();
