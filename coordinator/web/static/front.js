// The front page: live standings, and a button that copies the command to join.

import { followPage } from "./live.js";

followPage(document.getElementById("front"), `${document.documentElement.dataset.root}/live`);

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const command = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command); // without TLS a browser lets nobody but the reader copy
      button.textContent = "Selected";
    }
  });
}
