for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const isNumber = head.classList.contains("number"), at = head.cellIndex;
    const of = row => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
    const compare = isNumber ? (a, b) => of(a) - of(b) : (a, b) => of(a).localeCompare(of(b));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isUp = head.getAttribute("aria-sort") !== "ascending";
      for (const one of head.parentNode.cells) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => isUp ? compare(a, b) : compare(b, a)));
    });
  }
}
