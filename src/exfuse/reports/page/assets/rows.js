"use strict";
// The table's rows are sorted by a column; differences are those to a row of the reader's choice; two runs' settings compared.
(() => {
  const { bases, settings, names } = JSON.parse(document.getElementById("rows-data").textContent);
  const table = document.querySelector("#table table"), body = table?.tBodies[0];
  const rows = body ? [...body.rows] : [], heads = table ? [...table.tHead.rows[0].cells] : [];
  rows.forEach((row, place) => { row.dataset.name = names[place]; row.dataset.place = place; });

  // A cell's first number, or its text; what has neither comes last.
  function value(row, column) {
    const text = row.cells[column].textContent.trim().replaceAll("\u2212", "-");
    const number = text.match(/^[+<-]? ?[\d.]+(e[+-]?\d+)?/i);
    return number ? Number(number[0].replace(/[<+ ]/g, "")) : text;
  }
  function compared(one, other) {
    if (one === "" || other === "") return (one === "") - (other === "");
    if (typeof one === typeof other) return typeof one === "number" ? one - other : one.localeCompare(other);
    return typeof one === "number" ? -1 : 1;
  }
  function sort(column) {
    const before = heads[column].getAttribute("aria-sort");
    const next = before === "descending" ? "ascending" : before === "ascending" ? null : "descending"; // then as it was
    for (const head of heads) head.removeAttribute("aria-sort");
    if (next) heads[column].setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const sorted = [...rows].sort((one, other) => {
      if (!next) return one.dataset.place - other.dataset.place;
      const [a, b] = [value(one, column), value(other, column)];
      return a === "" || b === "" ? compared(a, b) : sign * compared(a, b);
    });
    body.append(...sorted);
  }
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(column));
  });

  const choice = document.getElementById("base");
  if (choice) {
    const cells = ["difference", "p"].map((key) => heads.findIndex((head) => head.dataset.key === key));
    const usual = rows.map((row) => cells.map((column) => row.cells[column].innerHTML));
    choice.parentElement.hidden = false;
    choice.addEventListener("change", () => {
      const chosen = bases[choice.value];
      rows.forEach((row, place) => cells.forEach((column, which) => {
        if (chosen) row.cells[column].textContent = (chosen[row.dataset.name] || ["", ""])[which];
        else row.cells[column].innerHTML = usual[place][which];
      }));
      document.getElementById("base-note").hidden = !chosen;
    });
  }

  const part = document.getElementById("settings");
  if (part) {
    const [first, second] = ["first-run", "second-run"].map((id) => document.getElementById(id));
    const differing = document.getElementById("differing");
    const show = () => {
      const own = settings[first.value].settings, other = settings[second.value].settings;
      const lines = own.map(([key, text], place) => [key, text, other[place][1]]).filter(([, one, two]) => one !== two);
      differing.replaceChildren(...(lines.length ? lines : [["none", "", ""]]).map((texts) => {
        const line = document.createElement("tr");
        texts.forEach((text, place) => {
          const cell = document.createElement(place ? "td" : "th");
          if (!place) cell.scope = "row";
          cell.className = "left";
          cell.textContent = text;
          line.append(cell);
        });
        return line;
      }));
    };
    const far = settings.findIndex((run) => run.name.split(", seed ")[0] !== settings[0].name.split(", seed ")[0]);
    second.value = String(Math.max(far, 1));
    for (const select of [first, second]) select.addEventListener("change", show);
    part.hidden = false;
    show();
  }
})();
