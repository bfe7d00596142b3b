// Code of both plots: the page's colours, axes, and a frame that follows the theme and the width.

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "panel", "ink", "muted", "line", "accent", "good", "bad", "held", "dot"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export function axis(colour, label, others = {}) {
  return {
    label,
    stroke: colour.muted,
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    labelSize: 20,
    grid: { stroke: colour.line, width: 1 },
    ticks: { stroke: colour.line, width: 1 },
    ...others,
  };
}

// Keeps a plot as wide as its element, and in the theme's colours. `make` returns a new uPlot in `element`. `height` is
// that of the plot without a legend, which stands below; without it the plot is as high as its element.
export function frame(element, make, height = null) {
  let plot = null;
  function size() {
    return { width: element.clientWidth, height: height ?? element.clientHeight };
  }
  function remake() {
    plot?.destroy();
    element.replaceChildren();
    plot = make(size());
    element.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  remake();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", remake);
  let width = element.clientWidth;
  new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    plot.setSize(size());
  }).observe(element);
  return { get plot() { return plot; }, remake };
}

// A label beside the pointer. Its texts are strangers': they are never taken as HTML.
export function makeLabel(element) {
  const label = document.createElement("div");
  label.className = "plot-label";
  label.hidden = true;
  function show(lines, left, top) {
    label.replaceChildren(...lines.map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    label.hidden = false;
    if (!label.isConnected) element.append(label);
    const room = element.clientWidth - label.offsetWidth - 4;
    label.style.left = `${Math.max(4, Math.min(room, left + 12))}px`;
    label.style.top = `${Math.max(4, top - label.offsetHeight - 12)}px`;
  }
  function hide() {
    label.hidden = true;
  }
  return { show, hide };
}

// `3.2712 ± 0.0040`: as many decimals as show two significant digits of the sd (shared/formatting.py).
export function measure(mean, sd, isSigned = false) {
  const places = sd > 0 ? Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(sd)))) : 4;
  const sign = isSigned && mean >= 0 ? "+" : "";
  return `${sign}${mean.toFixed(places)} ± ${sd.toFixed(places)}`.replaceAll("-", "−");
}

// `3.27123`: one run's metric, to six significant digits (shared/formatting.py).
export function oneRun(metric) {
  return metric.toPrecision(6).replaceAll("-", "−");
}
