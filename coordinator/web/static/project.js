// A project's page: the plot, and live updates of all other parts.

import { coalesce, follow } from "./feed.js";
import { patchFrom, remember } from "./patch.js";
import { createProgressPlot } from "./progress_plot.js";
import { keepTellingTimes } from "./times.js";

const SOON_MS = 250;
const JOBS_MS = 5000; // heartbeats and expiry cause no events, so the list of jobs is polled

const root = document.documentElement.dataset.root;
const page = document.getElementById("project");
const plot = document.getElementById("progress-plot");
const updatePlot = createProgressPlot(plot, ({ run, experiment }) => {
  location.assign(root + (experiment === null ? `/runs/${run}` : `/experiments/${experiment}`));
});

async function loadPlot() {
  const response = await fetch(plot.dataset.source);
  if (response.ok) await updatePlot(await response.json());
}

function partsAddress() {
  const query = new URLSearchParams(location.search);
  query.delete("project");
  return `${root}/projects/${page.dataset.name}/live?${query}`;
}

remember(document);
keepTellingTimes();
loadPlot();

const refreshParts = coalesce(() => patchFrom(partsAddress()), SOON_MS);
const refreshPlot = coalesce(loadPlot, SOON_MS);

function onEvent(event) {
  if (event.project !== page.dataset.name) return;
  refreshParts();
  if (event.kind === "run_stored") refreshPlot();
}

function onReturn() {
  refreshParts();
  refreshPlot();
}

const KINDS = ["lease_claimed", "lease_progressed", "lease_ended", "run_stored", "branch_moved"];
follow(page.dataset.since, KINDS, onEvent, onReturn);
setInterval(() => {
  if (!document.hidden && document.querySelector("#jobs > :not(.nobody)") !== null) refreshParts();
}, JOBS_MS);
