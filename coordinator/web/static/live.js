// Follows the changes of a page: each message holds what differs from the state that the page shows.

import { listen } from "./feed.js";
import { patchList, patchRegion, remember } from "./patch.js";
import { keepTellingTimes } from "./times.js";

// `page` carries `data-state`. `onPlot` gets the marks that changed.
export function followPage(page, address, { list = null, onPlot = null } = {}) {
  remember(document);
  keepTellingTimes();
  const url = () => `${address}${address.includes("?") ? "&" : "?"}state=${page.dataset.state}`;
  listen(url, {
    changes: (changes) => {
      for (const [id, html] of Object.entries(changes.regions ?? {})) {
        if (id !== "pages" || list !== null) patchRegion(id, html);
      }
      if (changes.rows !== undefined && list !== null) patchList(list, changes.rows);
      if (changes.plot !== undefined) onPlot?.(changes.plot);
      page.dataset.state = changes.state;
    },
  });
}
