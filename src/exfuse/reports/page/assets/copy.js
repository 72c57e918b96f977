"use strict";
// Keys and commands go to the clipboard; where the browser forbids it, they are selected for Ctrl-C.
for (const button of document.querySelectorAll("[data-copy]")) {
  const said = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      const place = button.parentElement.querySelector("code") || document.getElementById("command");
      getSelection().selectAllChildren(place);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = said; }, 1500);
  });
}
