// SPDX-License-Identifier: Apache-2.0
// Tables that readers sort by a column and search: without scripts they are plain tables.
"use strict";
(() => {
  const alphabet = (first, second) => first.localeCompare(second, undefined, { numeric: true });

  // Numbers by their value, whatever unit follows; cells without one come last in either direction.
  function compare(first, second, sign) {
    const [a, b] = [first, second].map((text) => Number.parseFloat(text));
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a - b);
  }

  function sort(table, column) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], head = heads[column];
    const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const sign = direction === "ascending" ? 1 : -1, words = head.classList.contains("words");
    const rows = [...body.rows].map((row) => [row.cells[column].textContent, row]);
    rows.sort(([a], [b]) => (words ? sign * alphabet(a, b) : compare(a, b, sign)));
    body.append(...rows.map(([, row]) => row));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
  }

  for (const block of document.querySelectorAll(".searched")) {
    const table = block.querySelector("table"), search = block.querySelector("input"), count = block.querySelector("output");
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column));
      head.replaceChildren(button);
    });
    const filter = () => {
      const wanted = search.value.trim().toLowerCase();
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${table.tBodies[0].rows.length}`;
    };
    search.addEventListener("input", filter);
    search.parentElement.hidden = false;
    filter();
  }
})();
