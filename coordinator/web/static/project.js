// A project's page: the plot, and live changes of all parts.

import { followPage } from "./live.js";
import { createProgressPlot } from "./progress_plot.js";

const root = document.documentElement.dataset.root;
const page = document.getElementById("project");
const element = document.getElementById("progress-plot");
const chosen = page.dataset.hardwareClass ? `hardware_class=${encodeURIComponent(page.dataset.hardwareClass)}` : "";

async function ask(path) {
  try {
    const response = await fetch(`${root}${path}`);
    return response.ok ? await response.json() : null;
  } catch (error) {
    if (error instanceof TypeError) return null; // the network is gone; the page shows that
    throw error;
  }
}

function rangeQuery(first, last) {
  return [chosen, first > 1 ? `first=${first}` : "", last === null ? "" : `last=${last}`].filter(Boolean).join("&");
}

// The address says which range one looks at, so that it can be passed on.
function onShow(plot, first, last) {
  const isWhole = first === 1 && last === null;
  const query = new URLSearchParams(location.search);
  query.delete("first");
  query.delete("last");
  if (first > 1) query.set("first", first);
  if (last !== null) query.set("last", last);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  const end = Math.min(last ?? plot.total, plot.total);
  const whole = ["No run yet", "1 run"][plot.total] ?? `All ${plot.total.toLocaleString("en")} runs`;
  const range = isWhole
    ? whole
    : `Runs ${plot.first.toLocaleString("en")} to ${end.toLocaleString("en")} of ${plot.total.toLocaleString("en")}`;
  document.getElementById("plot-covers").textContent = plot.width > 1 ? `${range}, ${plot.width} in each mark` : range;
  document.getElementById("whole-history").hidden = isWhole;
  const legend = document.getElementById("progress-legend");
  legend.dataset.bins = plot.width > 1 ? "many" : "one";
  for (const width of legend.querySelectorAll(".bin-width")) width.textContent = plot.width;
}

const asked = new URLSearchParams(location.search);
const isZoomed = asked.has("first") || asked.has("last");
const plot = createProgressPlot(element, JSON.parse(document.getElementById("progress-data").textContent), isZoomed, {
  ask: (first, last) => ask(`/projects/${page.dataset.name}/plot?${rangeQuery(first, last)}`),
  tell: async (number) => {
    const found = await ask(`/api/v1/projects/${page.dataset.name}/progress?${chosen}&first=${number}&last=${number}`);
    return found?.points[0] ?? null;
  },
  open: (run, experiment) => location.assign(root + (experiment === 0 ? `/runs/${run}` : `/experiments/${experiment}`)),
  onShow,
});
document.getElementById("whole-history").addEventListener("click", (event) => {
  event.preventDefault();
  plot.reset();
});
document.getElementById("newest-runs")?.addEventListener("click", (event) => {
  event.preventDefault();
  plot.showRange(Math.max(1, plot.total - 599), plot.total);
});

followPage(page, `${root}/projects/${page.dataset.name}/live?${chosen}`, {
  list: page.dataset.first === "yes" ? document.getElementById("experiment-rows") : null,
  onPlot: plot.append,
});
