// Keys of the queue: `j` and `k` move between things, `x` selects one, `r` goes to the reason. Enter opens its link.

import { isTyping } from "./keys.js";

const rows = [...document.querySelectorAll("[data-row]")];

function findCurrent() {
  const focused = rows.findIndex((row) => row.contains(document.activeElement));
  return focused >= 0 ? focused : rows.findIndex((row) => row.classList.contains("current"));
}

function focus(index) {
  const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
  row?.querySelector("[data-open]").focus();
  row?.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const isBox = event.target.matches("input[type=checkbox]");
  if (isTyping(event.target) && !isBox) return;
  const hasFocus = rows.some((row) => row.contains(document.activeElement));
  if (event.key === "j") {
    focus(hasFocus ? findCurrent() + 1 : findCurrent());
  } else if (event.key === "k") {
    focus(findCurrent() - 1);
  } else if (event.key === "x" && rows.length) {
    const box = rows[Math.max(0, findCurrent())].querySelector("input[type=checkbox]");
    box.checked = !box.checked;
  } else if (event.key === "r") {
    document.querySelector("[data-reason]")?.focus();
  } else {
    return;
  }
  event.preventDefault();
});
