// Changes a page where it differs from now, without moving the element under the pointer.
//
// Elements with `data-live` are regions, replaced as a whole by id, not while the focus is inside. A list's children
// carry `data-key`: they are changed in place; while the pointer or the focus is inside, none is added or removed until
// it leaves.

import { tellTimes } from "./times.js";

const served = new WeakMap(); // element -> its HTML as the server sent it, before times.js changed it
const heldBack = new Map(); // list -> the newest keys that wait for the pointer to leave
const rows = new Map(); // list -> key -> the newest HTML of that row

export function remember(root) {
  for (const element of root.querySelectorAll("[data-live], [data-key]")) served.set(element, element.innerHTML);
}

// Replaces a region's content with HTML that the server rendered.
export function patchRegion(id, html) {
  const current = document.getElementById(id);
  if (current !== null) replaceContent(current, html);
}

// Fetches `url` and replaces every region of this page that the answer holds.
export async function patchFrom(url) {
  let response;
  try {
    response = await fetch(url, { headers: { Accept: "text/html" } });
  } catch (error) {
    if (error instanceof TypeError) return; // the network is gone; the feed shows that
    throw error;
  }
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const region of fresh.querySelectorAll("[data-live]")) patchRegion(region.id, region.innerHTML);
}

function replaceContent(current, html) {
  if (served.get(current) === html || current.contains(document.activeElement)) return;
  current.innerHTML = html;
  served.set(current, html);
  tellTimes(current);
}

// Brings a table's rows to `keys`, in that order; `changed` holds the HTML of those that are new or differ.
export function patchList(current, { keys, changed }) {
  const newest = rows.get(current) ?? new Map();
  rows.set(current, newest);
  for (const [key, html] of Object.entries(changed)) newest.set(key, html);
  const known = childrenByKey(current);
  for (const [key, html] of Object.entries(changed)) if (known.has(key)) replaceContent(known.get(key), html);
  const isSame = keysOf(current).join("\n") === keys.join("\n");
  if (isSame) {
    heldBack.delete(current);
  } else if (isPointedAt(current)) {
    waitForLeave(current, keys);
  } else {
    arrange(current, keys);
  }
  sayHeldBack(current);
}

function waitForLeave(current, keys) {
  const isWaiting = heldBack.has(current);
  heldBack.set(current, keys);
  if (isWaiting) return;
  function onLeave() {
    const newest = heldBack.get(current);
    if (newest !== undefined && isPointedAt(current)) return;
    current.removeEventListener("pointerleave", onLeave);
    current.removeEventListener("focusout", onLeaveSoon);
    if (newest === undefined) return;
    arrange(current, newest);
    sayHeldBack(current);
  }
  const onLeaveSoon = () => setTimeout(onLeave); // the focus is nowhere while it moves
  current.addEventListener("pointerleave", onLeave);
  current.addEventListener("focusout", onLeaveSoon);
}

// Brings the rows of `current` into the order of `keys`; elements in view keep their place on the screen.
function arrange(current, keys) {
  heldBack.delete(current);
  const anchor = [...current.children].find((child) => child.getBoundingClientRect().top >= 0);
  const before = anchor?.getBoundingClientRect().top;
  const isAbove = current.getBoundingClientRect().top < 0;
  const known = childrenByKey(current);
  const wanted = new Set(keys);
  for (const [key, child] of known) if (!wanted.has(key)) child.remove();
  let place = current.firstElementChild;
  for (const key of keys) {
    const old = known.get(key);
    if (old === undefined) current.insertBefore(makeRow(current, key), place);
    else if (old === place) place = place.nextElementSibling;
    else current.insertBefore(old, place);
  }
  for (const key of rows.get(current).keys()) if (!wanted.has(key)) rows.get(current).delete(key);
  if (isAbove && anchor?.isConnected) window.scrollBy(0, anchor.getBoundingClientRect().top - before);
}

function makeRow(current, key) {
  const row = document.createElement("tr");
  row.dataset.key = key;
  row.innerHTML = rows.get(current).get(key) ?? "";
  served.set(row, row.innerHTML);
  row.classList.add("fresh");
  tellTimes(row);
  return row;
}

function isPointedAt(element) {
  return element.matches(":hover") || element.contains(document.activeElement);
}

function sayHeldBack(current) {
  const note = document.getElementById("held-back");
  if (note === null || !note.closest("section").contains(current)) return;
  const waiting = heldBack.get(current) ?? [];
  const known = childrenByKey(current);
  const count = waiting.filter((key) => !known.has(key)).length;
  note.textContent = count === 0 ? "" : `· ${count} new, shown when you leave the table`;
}

function childrenByKey(list) {
  return new Map([...list.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
}

function keysOf(list) {
  return [...list.children].map((child) => child.dataset.key).filter(Boolean);
}
