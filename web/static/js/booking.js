// @ts-check
/**
 * The booking pages work without this file: every day, month and time is a link. It adds the visitor's own zone,
 * month changes without a page load, arrow keys in the calendar, and small comforts of the form.
 */

const ZONE_COOKIE = "zone";

/** @returns {string | null} the zone chosen or detected in this browser session */
function storedZone() {
  const found = document.cookie.split("; ").find((part) => part.startsWith(`${ZONE_COOKIE}=`));
  return found ? decodeURIComponent(found.slice(ZONE_COOKIE.length + 1)) : null;
}

/** @param {string} zone */
function storeZone(zone) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${ZONE_COOKIE}=${zone}; Path=/; SameSite=Lax${secure}`;
}

/** @returns {boolean} whether the zone became known only now, so that shown times are in another one */
function detectZone() {
  if (storedZone() !== null) return false;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone) return false;
  storeZone(zone);
  return storedZone() !== null;
}

/** @returns {HTMLElement | null} */
const calendar = () => document.getElementById("calendar");

/** @type {AbortController | null} */
let loading = null;

/**
 * Replace the calendar by the one of another URL of this page.
 * @param {string} url
 * @param {{ history?: boolean, after?: (fresh: HTMLElement) => void }} [options]
 */
async function showCalendar(url, { history: keep = true, after } = {}) {
  loading?.abort();
  const controller = (loading = new AbortController());
  const current = calendar();
  current?.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(url, { signal: controller.signal, headers: { Accept: "text/html" } });
    if (!response.ok) throw new Error(String(response.status));
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.getElementById("calendar");
    if (!fresh || !calendar()) throw new Error("no calendar");
    const adopted = document.importNode(fresh, true);
    calendar()?.replaceWith(adopted);
    if (keep) history.pushState({ calendar: true }, "", url);
    prepareCalendar();
    after?.(adopted);
  } catch (error) {
    if (controller.signal.aborted) return;
    location.assign(url);
  }
}

/** Scroll to the times where they stand below the month, and let screen readers start there. */
function moveToTimes() {
  const title = document.getElementById("times-title");
  const times = title?.closest(".times");
  if (!title || !times) return;
  title.focus({ preventScroll: true });
  if (matchMedia("(max-width: 720px)").matches) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    times.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  }
}

/** @returns {HTMLElement[]} the days of the month shown */
const days = () => /** @type {HTMLElement[]} */ ([...(calendar()?.querySelectorAll("[data-day]") ?? [])]);

/**
 * One day is in the tab order (WAI-ARIA APG, date grid); arrows move among all of them.
 * @param {HTMLElement | undefined} day
 */
function rove(day) {
  for (const one of days()) one.tabIndex = -1;
  if (day) day.tabIndex = 0;
}

/** @param {HTMLElement} day @param {number} distance in days */
function moveFocus(day, distance) {
  const all = days();
  const index = all.indexOf(day) + distance;
  const target = all[index];
  if (target) {
    rove(target);
    target.focus();
    return;
  }
  const wanted = new Date(`${day.dataset["day"]}T00:00:00Z`);
  wanted.setUTCDate(wanted.getUTCDate() + distance);
  turnMonth(index < 0 ? "previous" : "next", wanted.toISOString().slice(0, 10));
}

/** @param {"previous" | "next"} direction @param {string} focusDay yyyy-mm-dd */
function turnMonth(direction, focusDay) {
  const link = document.getElementById(`month-${direction}`);
  if (!(link instanceof HTMLAnchorElement)) return;
  showCalendar(link.href, {
    after: () => {
      const all = days();
      const target = all.find((one) => one.dataset["day"] === focusDay) ?? (direction === "next" ? all[0] : all.at(-1));
      rove(target);
      target?.focus();
    },
  });
}

/** @param {KeyboardEvent} event */
function onDayKey(event) {
  const day = event.target;
  if (!(day instanceof HTMLElement) || !day.dataset["day"]) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const column = [...(day.closest("tr")?.children ?? [])].indexOf(/** @type {Element} */ (day.closest("td")));
  /** @type {Record<string, () => void>} */
  const moves = {
    ArrowLeft: () => moveFocus(day, -1),
    ArrowRight: () => moveFocus(day, 1),
    ArrowUp: () => moveFocus(day, -7),
    ArrowDown: () => moveFocus(day, 7),
    Home: () => moveFocus(day, Math.max(-column, -days().indexOf(day))),
    End: () => moveFocus(day, Math.min(6 - column, days().length - 1 - days().indexOf(day))),
    PageUp: () => turnMonth("previous", sameDay(day, -1)),
    PageDown: () => turnMonth("next", sameDay(day, 1)),
    " ": () => day.click(),
  };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  move();
}

/** @param {HTMLElement} day @param {number} months @returns {string} the same day of another month, or its last one */
function sameDay(day, months) {
  const [year = 0, month = 1, date = 1] = (day.dataset["day"] ?? "").split("-").map(Number);
  const last = new Date(Date.UTC(year, month + months, 0)).getUTCDate();
  return new Date(Date.UTC(year, month - 1 + months, Math.min(date, last))).toISOString().slice(0, 10);
}

function prepareCalendar() {
  const root = calendar();
  if (!root) return;
  const table = root.querySelector("table.days");
  table?.setAttribute("role", "grid");
  for (const day of days()) {
    const cell = day.closest("td");
    if (day.tagName === "SPAN") cell?.setAttribute("aria-disabled", "true");
    else cell?.setAttribute("aria-selected", String(cell.classList.contains("selected")));
  }
  const all = days();
  rove(all.find((one) => one.hasAttribute("aria-current")) ?? all.find((one) => one.tagName === "A") ?? all[0]);
  table?.addEventListener("keydown", (event) => onDayKey(/** @type {KeyboardEvent} */ (event)));

  root.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest("a.day, #month-previous, #month-next, a[data-jump]");
    if (!(link instanceof HTMLAnchorElement)) return;
    event.preventDefault();
    const id = link.id;
    const after = link.classList.contains("day") ? moveToTimes : () => document.getElementById(id)?.focus();
    showCalendar(link.href, { after });
  });

  const zone = root.querySelector("#zone");
  if (zone instanceof HTMLSelectElement) {
    zone.addEventListener("change", () => {
      storeZone(zone.value);
      showCalendar(location.href, { history: false, after: () => document.getElementById("zone")?.focus() });
    });
  }
}

/** A form is sent once, however often the button is pressed. */
function prepareForms() {
  for (const form of document.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", (event) => {
      if (form.hasAttribute("data-sent")) event.preventDefault();
      form.setAttribute("data-sent", "");
      form.setAttribute("aria-busy", "true");
    });
  }
  // a page from the back-forward cache can be sent again
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) form.removeAttribute("data-sent");
  });
  const focus = document.querySelector("[data-focus]");
  if (focus instanceof HTMLElement) focus.focus();
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!(button instanceof HTMLButtonElement) || !navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset["copy"] ?? "");
      button.textContent = button.dataset["copied"] ?? button.textContent;
    });
  }
}

const changed = detectZone();
prepareCalendar();
prepareForms();
if (changed && calendar()) showCalendar(location.href, { history: false });
addEventListener("popstate", () => {
  if (calendar()) showCalendar(location.href, { history: false });
});
