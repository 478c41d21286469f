// Sorts the tables that say so by a click on a heading. The page is complete without it.
(function () {
  "use strict";
  function key(row, column) { return row.cells[column].dataset.order || ""; }
  function compare(a, b) {
    var x = parseFloat(a), y = parseFloat(b);
    return isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
  }
  function sort(table, column, heading) {
    var up = heading.getAttribute("aria-sort") === "descending";
    if (!heading.hasAttribute("aria-sort")) { up = !heading.classList.contains("number"); }
    table.querySelectorAll("th[aria-sort]").forEach(function (other) { other.removeAttribute("aria-sort"); });
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    var body = table.tBodies[0];
    Array.from(body.rows).sort(function (a, b) {
      var x = key(a, column), y = key(b, column);
      if (!x || !y) { return (x ? 0 : 1) - (y ? 0 : 1); }  // what is missing comes last
      return up ? compare(x, y) : compare(y, x);
    }).forEach(function (row) { body.appendChild(row); });
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (heading, column) {
      if (!table.tBodies[0].rows[0] || !heading.dataset.sorts) { return; }
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent.trim();
      heading.textContent = "";
      heading.appendChild(button);
      button.addEventListener("click", function () { sort(table, column, heading); });
    });
  });
})();
