// Listens to the coordinator's event feed: pauses while the tab is hidden, and reconnects by itself.

const RETRY_MS = 5000;
const EVENTS = `${document.documentElement.dataset.root}/api/v1/events`;
const indicator = document.getElementById("link-state");

function show(state) {
  if (indicator === null || indicator.dataset.state === state) return;
  indicator.dataset.state = state;
  indicator.textContent = state;
}

// Calls `onEvent(event)` with each parsed event of one of `kinds` after the id `since`, and `onReturn()` after a
// pause, in which anything may have changed.
export function follow(since, kinds, onEvent, onReturn) {
  let isFirst = true;
  function address() {
    if (!isFirst) return EVENTS; // after a pause the page reads everything again, so missed events are not replayed
    isFirst = false;
    return `${EVENTS}?since=${since}`;
  }
  listen(address, Object.fromEntries(kinds.map((kind) => [kind, onEvent])), onReturn);
}

// Listens to the stream at `address()`, which is asked for each time it opens. `handlers` take its parsed messages by
// their kind; `onReturn()` is called when it is open again after a pause.
export function listen(address, handlers, onReturn = () => {}) {
  let source = null;
  let retry = null;
  let first = true;

  function open() {
    clearTimeout(retry);
    const isFirst = first;
    first = false;
    source = new EventSource(address());
    source.addEventListener("open", () => {
      show("live");
      if (!isFirst) onReturn();
    });
    source.addEventListener("error", () => {
      show("reconnecting");
      source.close(); // the browser would ask for the same address again; the page shows another state by now
      retry = setTimeout(open, RETRY_MS * (1 + Math.random()));
    });
    for (const [kind, handle] of Object.entries(handlers)) {
      source.addEventListener(kind, (message) => handle(JSON.parse(message.data)));
    }
  }

  function close() {
    clearTimeout(retry);
    source?.close();
    source = null;
    show("paused");
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (source === null) open();
  });
  if (document.hidden) {
    first = false;
    show("paused");
  } else {
    open();
  }
}

// A function that runs `action` soon, once for any number of calls, never twice at a time, and not in a hidden tab,
// which reads everything again when it returns.
export function coalesce(action, delayMs) {
  let timer = null;
  let running = false;
  let again = false;
  return function request() {
    if (running) {
      again = true;
      return;
    }
    if (timer !== null) return;
    timer = setTimeout(async () => {
      timer = null;
      if (document.hidden) return;
      running = true;
      try {
        await action();
      } finally {
        running = false;
        if (again) {
          again = false;
          request();
        }
      }
    }, delayMs);
  };
}
