"use strict";
// Groups of the table's columns open and close; those that fit beside the scores are open at first.
(() => {
  const choice = document.getElementById("groups"), table = document.querySelector("#table table");
  const boxes = [...choice.querySelectorAll("input")];
  const show = (box) => {
    for (const cell of table.querySelectorAll(`[data-group="${box.value}"]`)) cell.hidden = !box.checked;
  };
  for (const box of boxes) {
    box.checked = false;
    show(box);
    box.addEventListener("change", () => show(box));
  }
  for (const box of boxes) {
    box.checked = true;
    show(box);
    if (table.offsetWidth > table.parentElement.clientWidth) {
      box.checked = false;
      show(box);
    }
  }
  choice.hidden = boxes.length === 0;
})();
