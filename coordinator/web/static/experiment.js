// The page of an experiment or of a baseline run: the loss plot, and live updates of verdict and runs.

import { coalesce, follow } from "./feed.js";
import { drawLossPlot } from "./loss_plot.js";
import { patchFrom, remember } from "./patch.js";
import { keepTellingTimes } from "./times.js";

const OTHERS_MS = 30000; // runs of others change this posterior, which depends on its ancestors', a little at most
const curves = document.getElementById("loss-curves");
if (curves !== null) drawLossPlot(document.getElementById("loss-plot"), JSON.parse(curves.textContent));

remember(document);
keepTellingTimes();

const page = document.getElementById("experiment");
if (page !== null) {
  const load = () => patchFrom(`${document.documentElement.dataset.root}/experiments/${page.dataset.id}/live`);
  const refresh = coalesce(load, 250);
  const refreshLater = coalesce(load, OTHERS_MS);
  const onEvent = (event) => {
    if (event.project !== page.dataset.project) return;
    if (String(event.data.experiment) === page.dataset.id) refresh();
    else refreshLater();
  };
  follow(page.dataset.since, ["run_stored"], onEvent, refresh);
}
