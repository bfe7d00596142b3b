// Code of both plots: loading plotly, the page's colours, and a frame that follows the theme.

export const PLOT_CONFIG = {
  responsive: true,
  displaylogo: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

let loading = null;

// plotly takes more than a second to evaluate, so it loads after the rest of the page works.
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.getElementById("plotly").href;
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error("plotly could not be loaded")));
    document.head.append(script);
  });
  return loading;
}

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "panel", "ink", "muted", "line", "accent", "good", "bad", "held", "dot"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export function baseLayout(colour, xTitle, yTitle) {
  const axis = { gridcolor: colour.line, linecolor: colour.line, zeroline: false, ticks: "outside", tickcolor: colour.line };
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: colour.muted },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 62, r: 12, t: 10, b: 40 },
    xaxis: { ...axis, title: { text: xTitle } },
    yaxis: { ...axis, title: { text: yTitle } },
    showlegend: false,
    hoverlabel: {
      align: "left",
      bgcolor: colour.panel,
      bordercolor: colour.line,
      font: { family: "system-ui, sans-serif", size: 12, color: colour.ink },
    },
    hovermode: "closest",
    dragmode: "zoom",
    uirevision: "kept", // new data does not undo a zoom
  };
}

export function onThemeChange(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

// Strangers' text for a hover label, where plotly would read tags: escaped, cut, and broken into short lines.
export function hoverText(text, width = 60, most = 180) {
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  const lines = cut.match(new RegExp(`.{1,${width}}(?=\\s|$)|.{1,${width}}`, "gsu")) ?? [""];
  return lines.map((line) => escape(line.trim())).join("<br>");
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// `3.2712 ± 0.0040`: as many decimals as show two significant digits of the sd (shared/formatting.py).
export function measure(mean, sd, isSigned = false) {
  const places = sd > 0 ? Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(sd)))) : 4;
  const sign = isSigned && mean >= 0 ? "+" : "";
  return `${sign}${mean.toFixed(places)} ± ${sd.toFixed(places)}`.replaceAll("-", "−");
}
