"use strict";
// Which variants are shown. The boxes of all sections are one set; others listen to "variantschange".
const variants = (() => {
  const boxes = [...document.querySelectorAll("input[data-variant]")];
  const hidden = new Set();
  for (const box of boxes) {
    box.addEventListener("change", () => {
      const name = box.dataset.variant;
      if (box.checked) hidden.delete(name); else hidden.add(name);
      for (const other of boxes) if (other.dataset.variant === name) other.checked = box.checked;
      document.dispatchEvent(new Event("variantschange"));
    });
  }
  return { isShown: (name) => !hidden.has(name) };
})();
