// Pages without live updates: their times are kept current, and the addresses of filtered lists are short.

import { keepTellingTimes } from "./times.js";

keepTellingTimes();

// Leaves empty fields out of the address that a form of filters leads to, and boxes that nobody touched.
document.addEventListener("formdata", ({ target, formData }) => {
  if (target.method !== "get") return;
  const given = new URLSearchParams(location.search);
  for (const name of new Set(formData.keys())) {
    const boxes = [...target.querySelectorAll("input[type=checkbox]")].filter((box) => box.name === name);
    const isUsual = boxes.length > 0 && !given.has(name) && boxes.every((box) => box.checked === box.defaultChecked);
    const kept = isUsual ? [] : formData.getAll(name).filter((value) => value !== "");
    formData.delete(name);
    for (const value of kept) formData.append(name, value);
  }
});
