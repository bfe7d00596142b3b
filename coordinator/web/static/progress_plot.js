// The progress plot: a mark for each run, and the line of the leading posterior mean.
//
// Failed runs have no value and are crosses at the lower edge. A few bad runs must not flatten all others, so the scale
// ends a little beyond the worst of the better 90 %; runs beyond it are triangles at that edge.

import { PLOT_CONFIG, baseLayout, colours, hoverText, loadPlotly, measure, onThemeChange } from "./plotting.js";

const KEPT_SHARE = 0.9;
const LET_GO_MS = 100; // until plotly has told of a click, and its cover is gone
const EDGE = 0.025; // of the plot's height
const CLICK_PX = 8; // a press that moves further is a drag, as plotly has it

export function createProgressPlot(element, onOpen) {
  let progress = null;
  let isWaiting = false;
  let pointedAt = null; // the mark whose label is shown
  let pressed = null; // that mark, and where the pointer went down on it
  let isPressed = false; // from the plot on: meanwhile plotly covers the page, and the plot is not hovered over

  async function draw() {
    const colour = colours();
    const { traces, range } = describe(progress, colour);
    const layout = baseLayout(colour, "run", `${progress.metric} (${progress.unit})`);
    layout.yaxis = { ...layout.yaxis, range };
    layout.yaxis2 = { overlaying: "y", range: [0, 1], visible: false, fixedrange: true };
    layout.xaxis = { ...layout.xaxis, range: [0, progress.points.length + 1] };
    if (progress.points.length === 0) showNothing(layout);
    await loadPlotly();
    await Plotly.react(element, traces, layout, PLOT_CONFIG);
    element.dataset.runs = String(progress.points.length);
  }

  async function update(next) {
    const isFirst = progress === null;
    progress = next;
    if (!isFirst && isInUse()) {
      isWaiting = true; // drawn when the pointer leaves, so that a shown label stays
      return;
    }
    await draw();
    if (!isFirst) return;
    element.on("plotly_hover", (hover) => {
      pointedAt = hover.points[0].customdata;
    });
    element.on("plotly_unhover", () => {
      pointedAt = null;
    });
    element.on("plotly_click", (click) => onOpen(click.points[0].customdata)); // a tap has nothing to point with
    element.addEventListener("pointerdown", press, { capture: true });
    document.addEventListener("pointerup", openPressed, { capture: true });
    for (const end of ["pointerup", "pointercancel"]) {
      document.addEventListener(end, () => {
        setTimeout(letGo, LET_GO_MS);
      });
    }
    element.addEventListener("pointerleave", drawWhatWaits);
    onThemeChange(draw);
  }

  function press(event) {
    isPressed = true;
    pressed = event.button === 0 && pointedAt !== null ? { mark: pointedAt, x: event.clientX, y: event.clientY } : null;
  }

  // Plotly tells of no click when a busy page has kept it from following the pointer; the mark that it names is clicked.
  function openPressed(event) {
    if (pressed === null) return;
    const { mark, x, y } = pressed;
    pressed = null;
    if (Math.hypot(event.clientX - x, event.clientY - y) < CLICK_PX) onOpen(mark);
  }

  function letGo() {
    isPressed = false;
    drawWhatWaits(); // where one let go outside
  }

  function isInUse() {
    return isPressed || element.matches(":hover");
  }

  function drawWhatWaits() {
    if (!isWaiting || isInUse()) return;
    isWaiting = false;
    draw();
  }

  return update;
}

function showNothing(layout) {
  layout.xaxis.visible = layout.yaxis.visible = false;
  layout.annotations = [{ text: "no run yet", x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false }];
}

function describe(progress, colour) {
  const sign = progress.direction === "maximize" ? -1 : 1;
  const marks = progress.points.map((point, index) => ({ ...point, x: index + 1 }));
  const measured = marks.filter((mark) => mark.metric !== null);
  const limit = findLimit(measured, sign);
  const isBeyond = (mark) => sign * mark.metric > sign * limit;
  const within = measured.filter((mark) => !isBeyond(mark));
  const isRoot = (mark) => mark.experiment_id === null;
  const isImproved = (mark) => mark.posterior?.verdict === "improved";
  const own = within.filter((mark) => !isRoot(mark));
  const traces = [
    marksTrace(progress, "run", own.filter((m) => !isImproved(m)), { color: colour.dot, size: 7 }),
    marksTrace(progress, "run of an improvement", own.filter(isImproved), { color: colour.good, size: 8 }),
    marksTrace(progress, "run of the baseline", within.filter(isRoot), { color: colour.accent, size: 9, symbol: "diamond" }),
    edgeTrace(progress, "off the scale", measured.filter(isBeyond), sign > 0 ? 1 - EDGE : EDGE, {
      color: colour.dot,
      size: 8,
      symbol: sign > 0 ? "triangle-up" : "triangle-down",
    }),
    edgeTrace(progress, "failed", marks.filter((m) => m.metric === null), sign > 0 ? EDGE : 1 - EDGE, {
      color: colour.bad,
      size: 8,
      symbol: "x-thin",
      line: { color: colour.bad, width: 1.6 },
    }),
    leadingTrace(marks, colour),
  ];
  return { traces: traces.filter((trace) => trace.x.length > 0), range: findRange(within, marks, sign) };
}

function findLimit(measured, sign) {
  const costs = measured.map((mark) => sign * mark.metric).sort((a, b) => a - b);
  if (costs.length === 0) return 0;
  const kept = costs[Math.ceil(KEPT_SHARE * costs.length) - 1];
  const roots = measured.filter((mark) => mark.experiment_id === null).map((mark) => sign * mark.metric);
  return sign * Math.max(kept + 0.25 * (kept - costs[0]), ...roots);
}

function findRange(within, marks, sign) {
  const leading = marks.filter((mark) => mark.leading !== null).map((mark) => mark.leading);
  const values = within.map((mark) => mark.metric).concat(leading);
  if (values.length === 0) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = high - low || Math.abs(high) * 0.02 || 1;
  // The edge where failures stand gets a little more room.
  return sign > 0 ? [low - 0.12 * span, high + 0.08 * span] : [low - 0.08 * span, high + 0.12 * span];
}

function marksTrace(progress, name, marks, marker) {
  return {
    name,
    mode: "markers",
    type: "scatter",
    x: marks.map((mark) => mark.x),
    y: marks.map((mark) => mark.metric),
    customdata: marks.map((mark) => ({ run: mark.run_id, experiment: mark.experiment_id })),
    text: marks.map((mark) => describeMark(progress, mark)),
    hoverinfo: "text",
    marker,
  };
}

function edgeTrace(progress, name, marks, height, marker) {
  return { ...marksTrace(progress, name, marks, marker), y: marks.map(() => height), yaxis: "y2" };
}

function leadingTrace(marks, colour) {
  const points = marks.filter((mark) => mark.leading !== null);
  return {
    name: "leading (posterior mean, provisional)",
    mode: "lines",
    type: "scatter",
    x: points.map((mark) => mark.x),
    y: points.map((mark) => mark.leading),
    line: { shape: "hv", color: colour.accent, width: 1.6 },
    hoverinfo: "skip",
  };
}

function describeMark(progress, mark) {
  const lines = [mark.experiment_id === null ? "the baseline" : `<b>#${mark.experiment_id}</b> ${hoverText(mark.title)}`];
  if (mark.metric === null) {
    lines.push(`${mark.outcome.replaceAll("_", " ")}: ${hoverText(mark.reason || "no reason given")}`);
  } else {
    lines.push(`this run: ${progress.metric} ${mark.metric.toFixed(4)}`);
  }
  const posterior = mark.posterior;
  if (posterior !== null) {
    const runs = `n = ${posterior.runs}`;
    lines.push(`posterior ${measure(posterior.metric_mean, posterior.metric_sd)}, ${runs}`);
    if (posterior.effect_mean !== null) {
      const verdict = posterior.verdict === null ? "" : ` · ${posterior.verdict.replaceAll("_", " ")}, ${posterior.standing}`;
      lines.push(`effect ${measure(posterior.effect_mean, posterior.effect_sd, true)}${verdict}`);
    }
  }
  return lines.join("<br>");
}
