// Keys of every page: `/` goes to the search, `?` lists all keys. And the current tab is in sight.

const dialog = document.getElementById("keys");
const button = document.getElementById("show-keys");

document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
button.hidden = false;
button.addEventListener("click", () => dialog.showModal());

// Whether an element takes letters as its own.
export function isTyping(element) {
  return element.isContentEditable || element.matches("input, select, textarea");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event.target)) return;
  if (event.key === "/") {
    document.querySelector("[data-search]")?.focus();
  } else if (event.key === "?" && !dialog.open) {
    dialog.showModal();
  } else {
    return;
  }
  event.preventDefault();
});
