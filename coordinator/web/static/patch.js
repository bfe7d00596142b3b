// Patches a page with newer HTML of itself, without moving the element under the pointer.
//
// Elements with `data-live` are regions, matched by id. A region with `data-keyed` is a list whose children carry
// `data-key`: they are changed in place; while the pointer or the focus is inside, none is added or removed until it
// leaves. Other regions are replaced as a whole, not while the focus is inside.

import { tellTimes } from "./times.js";

const served = new WeakMap(); // element -> its HTML as the server sent it, before times.js changed it
const heldBack = new Map(); // region -> its newest version that waits for the pointer to leave

export function remember(root) {
  for (const element of root.querySelectorAll("[data-live], [data-key]")) served.set(element, element.innerHTML);
}

// Fetches `url` and patches every region of this page that the answer holds. False without a usable answer.
export async function patchFrom(url) {
  let response;
  try {
    response = await fetch(url, { headers: { Accept: "text/html" }, cache: "no-store" });
  } catch (error) {
    if (error instanceof TypeError) return false; // the network is gone; the feed shows that
    throw error;
  }
  if (!response.ok) return false;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  remember(fresh);
  for (const region of fresh.querySelectorAll("[data-live]")) {
    const current = document.getElementById(region.id);
    if (current === null) continue;
    if ("keyed" in current.dataset) patchList(current, region);
    else replaceContent(current, region);
  }
  return true;
}

function replaceContent(current, fresh) {
  const html = served.get(fresh);
  if (served.get(current) === html || current.contains(document.activeElement)) return;
  current.innerHTML = html;
  served.set(current, html);
  for (const element of current.querySelectorAll("[data-key]")) served.set(element, element.innerHTML);
  tellTimes(current);
}

function patchList(current, fresh) {
  const known = childrenByKey(current);
  for (const child of fresh.children) {
    const old = known.get(child.dataset.key);
    if (old !== undefined) replaceContent(old, child);
  }
  const isSame = keysOf(current).join("\n") === keysOf(fresh).join("\n");
  if (isSame) {
    heldBack.delete(current);
  } else if (isPointedAt(current)) {
    waitForLeave(current, fresh);
  } else {
    arrange(current, fresh);
  }
  sayHeldBack(current);
}

function waitForLeave(current, fresh) {
  const isWaiting = heldBack.has(current);
  heldBack.set(current, fresh);
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

// Brings the children of `current` into the order of `fresh`; elements in view keep their place on the screen.
function arrange(current, fresh) {
  heldBack.delete(current);
  const anchor = [...current.children].find((child) => child.getBoundingClientRect().top >= 0);
  const before = anchor?.getBoundingClientRect().top;
  const isAbove = current.getBoundingClientRect().top < 0;
  const known = childrenByKey(current);
  const wanted = new Set(keysOf(fresh));
  for (const [key, child] of known) if (!wanted.has(key)) child.remove();
  let place = current.firstElementChild;
  for (const child of [...fresh.children]) {
    const old = known.get(child.dataset.key);
    if (old === undefined) current.insertBefore(adopt(child), place);
    else if (old === place) place = place.nextElementSibling;
    else current.insertBefore(old, place);
  }
  if (isAbove && anchor?.isConnected) window.scrollBy(0, anchor.getBoundingClientRect().top - before);
}

function adopt(child) {
  const element = document.importNode(child, true);
  served.set(element, served.get(child));
  element.classList.add("fresh");
  tellTimes(element);
  return element;
}

function isPointedAt(element) {
  return element.matches(":hover") || element.contains(document.activeElement);
}

function sayHeldBack(current) {
  const note = document.getElementById("held-back");
  if (note === null || !note.closest("section").contains(current)) return;
  const waiting = heldBack.get(current);
  const known = childrenByKey(current);
  const count = waiting === undefined ? 0 : keysOf(waiting).filter((key) => !known.has(key)).length;
  note.textContent = count === 0 ? "" : `· ${count} new, shown when you leave the table`;
}

function childrenByKey(list) {
  return new Map([...list.children].map((child) => [child.dataset.key, child]));
}

function keysOf(list) {
  return [...list.children].map((child) => child.dataset.key);
}
