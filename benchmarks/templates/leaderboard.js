"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  document.documentElement.className = "js";

  // --- sorting: unknown values last in both directions, equal ones in the order of the page
  const table = (element) => element.closest("table");
  for (const t of all("table[data-rows]")) all("tbody tr", t).forEach((row, k) => { row.first = k; });
  function valueOf(row, column, type) {
    const cell = row.cells[column];
    if (type === "text") return cell.textContent.trim().toLowerCase();
    return "v" in cell.dataset ? Number(cell.dataset.v) : NaN;
  }
  function sort(button) {
    const head = button.closest("th"), type = head.dataset.type, body = table(head).tBodies[0];
    const now = head.getAttribute("aria-sort");
    const next = now === "none" ? head.dataset.first : now === "ascending" ? "descending" : "ascending";
    const sign = next === "ascending" ? 1 : -1, column = head.cellIndex;
    const rows = [...body.rows].map((row) => [valueOf(row, column, type), row]);
    const unknown = (value) => typeof value === "number" && Number.isNaN(value);
    rows.sort(([a, x], [b, y]) => {
      if (unknown(a) || unknown(b)) return unknown(a) - unknown(b) || x.first - y.first;
      return a < b ? -sign : a > b ? sign : x.first - y.first;
    });
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", next);
    body.append(...rows.map(([, row]) => row));
    rove(table(head));
  }
  for (const button of all("button.sort")) button.addEventListener("click", () => sort(button));

  // --- filters
  const find = byId("find"), status = byId("status"), pick = byId("pick"), count = byId("count");
  function filter() {
    const words = find.value.toLowerCase().split(",").map((word) => word.trim()).filter(Boolean);
    const named = (element) => !words.length || words.some((word) => element.dataset.name.toLowerCase().includes(word));
    const wanted = (element) => {
      const own = element.dataset.status;
      return !status.value || own === undefined || (status.value === "!ok" ? own !== "ok" : own === status.value);
    };
    for (const element of all("tr[data-name], figure[data-name], .reasons li, .without li, .conf")) {
      element.hidden = !(named(element) && wanted(element));
    }
    for (const element of all(".front [data-name]")) element.classList.toggle("off", !named(element));
    for (const section of all("section.target")) section.hidden = Boolean(pick.value) && section.id !== pick.value;
    for (const item of all(".short li")) item.hidden = Boolean(pick.value) && item.dataset.section !== pick.value;
    const rows = all("section.target:not([hidden]) tbody tr[data-status]");
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = `${shown} of ${rows.length} rows shown`;
    all("table[data-rows]").forEach(rove);
  }
  find.addEventListener("input", filter);
  for (const control of [status, pick]) control.addEventListener("change", filter);
  for (const link of all(".short a.name")) {
    link.addEventListener("click", () => { if (pick.value) { pick.value = ""; filter(); } });
  }

  // --- columns
  const hidden = document.head.appendChild(document.createElement("style"));
  const boxes = all("#columns input");
  function columns() {
    const off = boxes.filter((box) => !box.checked).map((box) => `table .${CSS.escape(box.value)}`);
    hidden.textContent = off.length ? `${off.join(",")} { display: none; }` : "";
    all("table[data-rows]").forEach(rove);
  }
  for (const box of boxes) box.addEventListener("change", columns);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#columns")) byId("columns").open = false;
  });

  // --- one stop of the Tab key per table; arrow keys move between the cells that have more to say
  function rove(t) {
    const cells = all("td[data-t]", t);
    for (const cell of cells) cell.tabIndex = -1;
    const first = cells.find((cell) => cell.offsetParent !== null || !cell.closest("[hidden]"));
    if (first) first.tabIndex = 0;
  }
  const visible = (cell) => cell && !cell.closest("[hidden]") && getComputedStyle(cell).display !== "none";
  function step(cell, dx, dy) {
    let row = cell.parentElement, column = cell.cellIndex;
    for (;;) {
      if (dy) row = dy > 0 ? row.nextElementSibling : row.previousElementSibling;
      column += dx;
      const next = row && row.cells[column];
      if (!next) return null;
      if ("t" in next.dataset && visible(next)) return next;
    }
  }
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { hide(); byId("columns").open = false; return; }
    const cell = event.target.closest("td[data-t]");
    if (!cell || !(event.key in arrows) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const next = step(cell, ...arrows[event.key]);
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // --- what a cell has to say, on hover, focus and touch
  const tip = byId("tip");
  let owner = null, timer = 0;
  function show(element) {
    clearTimeout(timer);
    if (owner) owner.removeAttribute("aria-describedby");
    owner = element;
    tip.textContent = element.dataset.t;
    tip.hidden = false;
    element.setAttribute("aria-describedby", "tip");
    place();
  }
  function place() {
    if (!owner) return;
    const at = owner.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(8, Math.min(at.left, width - own.width - 8))}px`;
    const below = at.bottom + 6;
    tip.style.top = `${below + own.height < innerHeight ? below : Math.max(8, at.top - own.height - 6)}px`;
  }
  function hide() {
    clearTimeout(timer);
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  }
  const said = (target) => (target instanceof Element ? target.closest("[data-t]") : null);
  document.addEventListener("pointerover", (event) => {
    const element = said(event.target);
    if (element) show(element);
    else if (!tip.contains(event.target)) timer = setTimeout(hide, 120);
    else clearTimeout(timer);
  });
  document.addEventListener("focusin", (event) => {
    const element = said(event.target);
    if (element && event.target === element) show(element); else hide();
  });
  addEventListener("scroll", place, { passive: true });
  for (const box of all(".box")) box.addEventListener("scroll", place, { passive: true });

  // --- rows that share a letter with the one under the pointer or focus, and its mark in the drawings
  function relate(row) {
    for (const old of all(".tied, .lit, .same")) old.classList.remove("tied", "lit", "same");
    if (!row || !row.dataset.ties) return;
    const own = row.dataset.ties.split(" ");
    for (const other of row.parentElement.rows) {
      const shared = all(".tie", other).filter((tie) => own.includes(tie.textContent));
      other.classList.toggle("tied", shared.length > 0);
      for (const tie of shared) tie.classList.add("same");
    }
    for (const mark of all(".mark", row.closest("section"))) {
      if (mark.dataset.name === row.dataset.name) mark.classList.add("lit");
    }
  }
  const rowOf = (target) => (target instanceof Element ? target.closest("section.target tbody tr") : null);
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, (event) => relate(rowOf(event.target)));
  }

  columns();
  filter();
})();
