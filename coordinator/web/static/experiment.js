// The page of an experiment or of a baseline run: the loss plot, and live updates of verdict and runs.

import { coalesce, follow } from "./feed.js";
import { drawLossPlot } from "./loss_plot.js";
import { patchFrom, remember } from "./patch.js";
import { keepTellingTimes } from "./times.js";

const curves = document.getElementById("loss-curves");
if (curves !== null) drawLossPlot(document.getElementById("loss-plot"), JSON.parse(curves.textContent));

remember(document);
keepTellingTimes();

const page = document.getElementById("experiment");
if (page !== null) {
  const refresh = coalesce(() => patchFrom(location.pathname), 250);
  // Any new run of the project may change this posterior, which depends on its ancestors'.
  const onEvent = (event) => event.project === page.dataset.project && refresh();
  follow(page.dataset.since, ["run_stored"], onEvent, refresh);
}
