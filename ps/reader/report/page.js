"use strict";
// Draws the charts one after another, so that the page can be read and scrolled meanwhile.

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

function theme(layout) {
  const style = getComputedStyle(document.documentElement);
  const [page, ink, line] = ["--page", "--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
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
  return Plotly.react(id, structuredClone(choices[chosen]), theme(layout), config);
}

async function drawAll() {
  for (const plot of document.querySelectorAll(".plot")) {
    const drawing = JSON.parse(document.getElementById(`${plot.id}-drawing`).textContent);
    drawings.set(plot.id, { ...drawing, chosen: 0 });
    await draw(plot.id);
    await new Promise((resolve) => setTimeout(resolve));
  }
  document.documentElement.dataset.drawn = drawings.size;
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
dark.addEventListener("change", () => drawings.forEach((_, id) => draw(id)));
drawAll();
