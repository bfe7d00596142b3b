// The progress plot: a mark for each run, or for the best of several, and the line of what led.
//
// Dragging chooses a range, of which the server is asked for narrower marks, down to single runs. Failed runs have no
// value; their share stands at the edge of bad values. Marks beyond the scale are triangles at its edge.

import { axis, colours, frame, makeLabel, measure, oneRun } from "./plotting.js";

const EDGE_PX = 7;
const DETAIL_MS = 120; // the pointer rests so long on a mark before its words are asked for
const COLUMNS = ["best", "leading", "failed", "runs", "experiments", "kinds"];

// `ask(first, last)` fetches the marks of a range; `tell(first, number)` the words of one run; `open` opens a run.
// The server tells what led as pairs of a number of marks and a metric.
function unpack(plot) {
  return { ...plot, leading: plot.leading.flatMap(([marks, value]) => Array(marks).fill(value)) };
}

export function createProgressPlot(element, whole, isZoomed, { ask, tell, open, onShow }) {
  let shown = unpack(whole);
  let newest = isZoomed ? null : shown; // the whole history, if it is known here
  let pointedAt = null;
  let waiting = 0;
  const label = makeLabel(element.parentElement);

  const numberOf = (index) => shown.first + index * shown.width;
  const lastOf = (index) => Math.min(numberOf(index) + shown.width - 1, shown.total);
  const kindOf = (index) => (shown.width > 1 ? "r" : shown.kinds[index]);

  function columns() {
    const x = shown.best.map((_, index) => (numberOf(index) + lastOf(index)) / 2);
    const ends = shown.best.map((_, index) => lastOf(index));
    // The line's points stand where each mark's runs end, which is where its leader is known.
    return x.length === 0 ? [[0, 1], [null, null]] : [ends, shown.leading, x];
  }

  function make(size) {
    const colour = colours();
    const [ends, leading] = columns();
    const start = shown.first - 0.5;
    const end = shown.best.length === 0 ? 1 : lastOf(shown.best.length - 1) + 0.5;
    const options = {
      ...size,
      legend: { show: false },
      padding: [8, 32, 0, 0], // half of "1,000,000", the longest number on the axis, is right of its mark
      scales: { x: { time: false, range: () => [start, end] }, y: { range: () => shown.range } },
      axes: [
        axis(colour, "run", { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6] }),
        axis(colour, element.dataset.metric + (element.dataset.unit && ` (${element.dataset.unit})`), { size: 62 }),
      ],
      series: [
        {},
        { stroke: colour.accent, width: 1.6, spanGaps: true, points: { show: false }, paths: uPlot.paths.stepped({ align: -1 }) },
      ],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      hooks: {
        draw: [(plot) => drawMarks(plot, colour)],
        setCursor: [point],
        setSelect: [(plot) => zoom(plot)],
      },
    };
    const plot = new uPlot(options, [ends, leading], element);
    plot.over.addEventListener("click", onClick);
    plot.over.addEventListener("dblclick", reset);
    plot.over.addEventListener("pointerleave", onLeave);
    element.dataset.runs = String(shown.total);
    element.dataset.width = String(shown.width);
    element.dataset.marks = String(shown.best.length);
    return plot;
  }

  function placeOf(plot, index) {
    const x = plot.valToPos((numberOf(index) + lastOf(index)) / 2, "x", true);
    const { top, height } = plot.bbox;
    const isUp = shown.sign > 0;
    const value = shown.best[index];
    if (value === null) return { x, y: isUp ? top + height - EDGE_PX * devicePixelRatio : top + EDGE_PX * devicePixelRatio, shape: "none" };
    const y = plot.valToPos(value, "y", true);
    if (y < top) return { x, y: top + EDGE_PX * devicePixelRatio, shape: "up" };
    if (y > top + height) return { x, y: top + height - EDGE_PX * devicePixelRatio, shape: "down" };
    return { x, y, shape: kindOf(index) === "b" ? "diamond" : "dot" };
  }

  function drawMarks(plot, colour) {
    const { ctx, bbox } = plot;
    const px = devicePixelRatio;
    const size = (shown.best.length > 250 ? 2.2 : 3.4) * px;
    const colourOf = { i: colour.good, b: colour.accent, q: colour.line };
    ctx.save();
    for (let index = 0; index < shown.best.length; index += 1) {
      const share = shown.failed[index] / (lastOf(index) - numberOf(index) + 1);
      const { x, y, shape } = placeOf(plot, index);
      if (share > 0) {
        ctx.strokeStyle = colour.bad;
        ctx.lineWidth = 1.6 * px;
        const edge = shown.sign > 0 ? bbox.top + bbox.height : bbox.top;
        ctx.beginPath();
        ctx.moveTo(x, edge);
        ctx.lineTo(x, edge - Math.sign(shown.sign) * 14 * px * share);
        ctx.stroke();
      }
      if (shape === "none") continue;
      ctx.fillStyle = colourOf[kindOf(index)] ?? colour.dot;
      ctx.beginPath();
      if (shape === "dot") {
        ctx.arc(x, y, size, 0, 2 * Math.PI);
      } else {
        const tip = shape === "down" ? 1 : -1;
        ctx.moveTo(x, y + tip * 1.5 * size);
        ctx.lineTo(x + 1.4 * size, shape === "diamond" ? y : y - tip * size);
        if (shape === "diamond") ctx.lineTo(x, y + 1.5 * size);
        ctx.lineTo(x - 1.4 * size, shape === "diamond" ? y : y - tip * size);
      }
      ctx.fill();
    }
    ctx.restore();
  }

  function nearest(plot) {
    const { left, top } = plot.cursor;
    if (left === undefined || left < 0 || shown.best.length === 0) return null;
    const run = plot.posToVal(left, "x");
    const middle = Math.round((run - shown.first - (shown.width - 1) / 2) / shown.width);
    let found = null;
    for (let index = Math.max(0, middle - 8); index <= Math.min(shown.best.length - 1, middle + 8); index += 1) {
      const { x, y } = placeOf(plot, index);
      const distance = Math.hypot((x - plot.bbox.left) / devicePixelRatio - left, (y - plot.bbox.top) / devicePixelRatio - top);
      if (found === null || distance < found.distance) found = { index, distance, x, y };
    }
    return found;
  }

  function point(plot) {
    const found = nearest(plot);
    pointedAt = found !== null && found.distance < 60 ? found.index : null;
    if (pointedAt === null) {
      label.hide();
      return;
    }
    const left = found.x / devicePixelRatio + element.offsetLeft;
    const top = found.y / devicePixelRatio + element.offsetTop;
    label.show(describe(pointedAt), left, top);
    clearTimeout(waiting);
    if (shown.width === 1) waiting = setTimeout(() => detail(pointedAt, left, top), DETAIL_MS);
  }

  function describe(index) {
    const best = shown.best[index];
    const metric = element.dataset.metric;
    const led = shown.leading[index] === null ? [] : [`led then: ${oneRun(shown.leading[index])}`];
    if (shown.width === 1) {
      const experiment = shown.experiments[index];
      const result = best === null ? "no measurement that counts" : `this run: ${metric} ${oneRun(best)}`;
      return [experiment === 0 ? `run ${numberOf(index)}: the baseline` : `#${experiment}, run ${numberOf(index)}`, result, ...led];
    }
    const failed = shown.failed[index];
    return [
      `runs ${numberOf(index).toLocaleString("en")} to ${lastOf(index).toLocaleString("en")}`,
      best === null ? "no measurement that counts" : `best of them: ${metric} ${oneRun(best)}`,
      ...(failed ? [`${failed} without a measurement`] : []),
      ...led,
    ];
  }

  async function detail(index, left, top) {
    const run = await tell(numberOf(index));
    if (run === null || index !== pointedAt || numberOf(index) !== run.number) return;
    const lines = [run.experiment_id === null ? "the baseline" : `#${run.experiment_id} ${run.title}`.slice(0, 180)];
    if (run.metric === null) lines.push(`${run.outcome.replaceAll("_", " ")}: ${run.reason || "no reason given"}`.slice(0, 180));
    else lines.push(`this run: ${element.dataset.metric} ${oneRun(run.metric)}`);
    const posterior = run.posterior;
    if (posterior !== null) {
      lines.push(`posterior ${measure(posterior.metric_mean, posterior.metric_sd)}, n = ${posterior.runs}`);
      if (posterior.effect_mean !== null) {
        const verdict = posterior.verdict === null ? "" : ` · ${posterior.verdict.replaceAll("_", " ")}, ${posterior.standing}`;
        lines.push(`effect ${measure(posterior.effect_mean, posterior.effect_sd, true)}${verdict}`);
      }
    }
    label.show(lines, left, top);
  }

  function zoom(plot) {
    const { left, width } = plot.select;
    if (width < 6) return;
    const first = Math.max(1, Math.floor(plot.posToVal(left, "x") + 0.5));
    const last = Math.min(shown.total, Math.ceil(plot.posToVal(left + width, "x") - 0.5));
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (last >= first) showRange(first, last);
  }

  async function showRange(first, last) {
    const found = await ask(first, last);
    if (found === null) return;
    const next = unpack(found);
    isZoomed = true;
    show(next);
    onShow(next, first, last);
  }

  async function reset() {
    const found = newest === null ? await ask(1, null) : null;
    if (newest === null && found === null) return;
    const next = newest ?? unpack(found);
    newest = next;
    isZoomed = false;
    show(next);
    onShow(next, 1, null);
  }

  function onClick() {
    if (pointedAt === null) return;
    if (shown.width > 1) showRange(numberOf(pointedAt), lastOf(pointedAt));
    else open(shown.runs[pointedAt], shown.experiments[pointedAt]);
  }

  function show(next) {
    shown = next;
    label.hide();
    framed.remake();
  }

  const framed = frame(element, make);

  function onLeave() {
    label.hide();
    pointedAt = null;
    showNewest();
  }

  // A range that one looks at stays as it is, and so does a mark that one points at.
  function showNewest() {
    if (isZoomed || newest === shown || element.matches(":hover")) return;
    show(newest);
    onShow(newest, 1, null);
  }

  // Takes the marks from the first that changed on.
  function append(packed) {
    if (packed.best === undefined) return;
    const changes = unpack(packed);
    if (newest === null && changes.skipped > 0) return;
    const joined = { ...changes };
    for (const name of COLUMNS) {
      const before = newest === null ? changes[name].slice(0, 0) : newest[name].slice(0, changes.skipped);
      joined[name] = typeof before === "string" ? before + changes[name] : [...before, ...changes[name]];
    }
    newest = joined;
    showNewest();
  }

  return { append, reset, showRange, get total() { return (newest ?? shown).total; } };
}
