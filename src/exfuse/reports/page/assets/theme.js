"use strict";
// Light and dark: the system's choice until the button is pressed. Others listen to "themechange".
const theme = (() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const announce = () => {
    button.textContent = isDark() ? "Light colours" : "Dark colours"; // what pressing it does
    document.dispatchEvent(new Event("themechange"));
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* storage may be forbidden */ }
    announce();
  });
  system.addEventListener("change", announce);
  addEventListener("beforeprint", () => { printing = true; root.classList.add("printing"); announce(); });
  addEventListener("afterprint", () => { printing = false; root.classList.remove("printing"); announce(); });
  announce();
  // A CSS variable's value in the theme of this moment.
  return { value: (name) => getComputedStyle(root).getPropertyValue(name).trim() };
})();
