// Training loss over seconds of the budget: the parent's curve grey and behind, the experiment's own in front.

import { axis, colours, frame } from "./plotting.js";

const HEIGHT = 290;
const OWN_COLOURS = ["accent", "good", "held", "bad"];

export function drawLossPlot(element, curves) {
  const data = uPlot.join(curves.map((curve) => [curve.seconds, curve.losses]));
  const steps = curves.map((curve) => new Map(curve.seconds.map((seconds, i) => [seconds, curve.steps[i]])));

  function make(size) {
    const colour = colours();
    let own = 0;
    const series = curves.map((curve, index) => ({
      label: curve.name,
      stroke: curve.is_parent ? colour.dot : colour[OWN_COLOURS[own++ % OWN_COLOURS.length]],
      width: 1.8,
      spanGaps: true,
      points: { show: curve.seconds.length === 1 },
      value: (_, loss, __, i) => (loss == null ? "" : `${loss.toFixed(4)} at step ${steps[index].get(data[0][i])}`),
    }));
    const options = {
      ...size,
      scales: { x: { time: false } },
      axes: [axis(colour, "seconds of the budget"), axis(colour, "training loss", { size: 56 })],
      series: [{ label: "seconds", value: (_, seconds) => (seconds == null ? "" : seconds.toFixed(1)) }, ...series],
      cursor: { points: { size: 6 } },
    };
    const plot = new uPlot(options, data, element);
    for (const heading of element.querySelectorAll(".u-legend th")) heading.scope = "row";
    return plot;
  }
  frame(element, make, HEIGHT);
  element.dataset.curves = String(curves.length);
}
