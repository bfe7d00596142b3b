// <time> elements show how long ago their moment was; the tooltip keeps the exact moment.

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
];

export function ago(moment, now) {
  const seconds = Math.max(0, (now - moment) / 1000);
  for (const [size, name] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${name} ago`;
  return "just now";
}

export function tellTimes(root) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time")) {
    element.title ||= element.textContent.replace("Z", " UTC");
    element.dateTime ||= element.textContent.replace(" ", "T");
    const text = ago(Date.parse(element.dateTime), now);
    if (element.textContent !== text) element.textContent = text;
  }
}

export function keepTellingTimes() {
  tellTimes(document);
  document.addEventListener("htmx:afterSwap", () => tellTimes(document));
  setInterval(() => {
    if (!document.hidden) tellTimes(document);
  }, 20000);
}
