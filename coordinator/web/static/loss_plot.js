// Training loss over seconds of the budget: the parent's curve grey and behind, the experiment's own in front.

import { PLOT_CONFIG, baseLayout, colours, hoverText, loadPlotly, onThemeChange } from "./plotting.js";

const OWN_COLOURS = ["accent", "good", "held", "bad"];

export function drawLossPlot(element, curves) {
  async function draw() {
    const colour = colours();
    let own = 0;
    const traces = curves.map((curve) => ({
      name: hoverText(curve.name),
      mode: curve.seconds.length > 1 ? "lines" : "markers",
      type: "scatter",
      x: curve.seconds,
      y: curve.losses,
      text: curve.steps.map((step, i) => `step ${step}, ${curve.seconds[i].toFixed(1)} s<br>loss ${curve.losses[i].toFixed(4)}`),
      hoverinfo: "text+name",
      line: { color: curve.is_parent ? colour.dot : colour[OWN_COLOURS[own++ % OWN_COLOURS.length]], width: 1.8 },
    }));
    const layout = {
      ...baseLayout(colour, "seconds of the budget", "training loss"),
      showlegend: true,
      legend: { orientation: "h", x: 1, y: 1, xanchor: "right", yanchor: "top", font: { color: colour.ink } },
    };
    await loadPlotly();
    await Plotly.react(element, traces, layout, PLOT_CONFIG);
  }
  onThemeChange(draw);
  return draw();
}
