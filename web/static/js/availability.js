// @ts-check
// The availability editor: rows can be added and removed. Without this script every day has one empty row to fill in.

/** @param {Element} day */
function refresh(day) {
  const note = day.querySelector("[data-closed]");
  if (note instanceof HTMLElement) {
    note.hidden = day.querySelector("[data-range]") !== null;
  }
}

/** @param {Element} row */
function isEmpty(row) {
  return [...row.querySelectorAll("input")].every((input) => input.value === "");
}

for (const day of document.querySelectorAll("form[data-hours] .hours-day")) {
  const rows = [...day.querySelectorAll("[data-range]")];
  const template = rows.at(-1);
  const add = day.querySelector("button[data-add]");
  const list = day.querySelector("[data-ranges]");
  if (!(template instanceof HTMLElement) || !(add instanceof HTMLButtonElement) || list === null) {
    continue;
  }
  const blank = /** @type {HTMLElement} */ (template.cloneNode(true));
  for (const row of rows) {
    if (isEmpty(row)) {
      row.remove();
    }
  }
  for (const button of [...day.querySelectorAll("button[data-remove]"), ...blank.querySelectorAll("button[data-remove]")]) {
    /** @type {HTMLElement} */ (button).hidden = false;
  }
  add.hidden = false;
  add.addEventListener("click", () => {
    const row = /** @type {HTMLElement} */ (blank.cloneNode(true));
    const ends = [...list.querySelectorAll('input[name^="end-"]')].map((input) => /** @type {HTMLInputElement} */ (input).value);
    const [start, end] = row.querySelectorAll("input");
    const last = ends.filter((value) => value !== "").sort().at(-1);
    if (start !== undefined && end !== undefined) {
      start.value = last ?? "09:00";
      end.value = last === undefined ? "17:00" : "";
    }
    list.insertBefore(row, list.querySelector("[data-closed]"));
    start?.focus();
    refresh(day);
  });
  list.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-remove]") : null;
    if (button !== null) {
      button.closest("[data-range]")?.remove();
      refresh(day);
      add.focus();
    }
  });
  refresh(day);
}

const kind = document.querySelector('select[name="kind"]');
const hours = document.querySelector("[data-exception-hours]");
if (kind instanceof HTMLSelectElement && hours instanceof HTMLElement) {
  const show = () => {
    hours.hidden = kind.value !== "open";
  };
  kind.addEventListener("change", show);
  show();
}
