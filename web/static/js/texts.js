// The page's words come from the server, in the reader's language: <script type="application/json" id="texts">.

/** @type {Record<string, string>} */
let texts = {};

/** @param {Record<string, string>} loaded */
export function setTexts(loaded) {
  texts = loaded;
}

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values] for {name} places
 * @returns {string}
 */
export function text(key, values = {}) {
  const found = texts[key];
  if (found === undefined) throw new Error(`no text for ${key}`);
  return found.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/** @param {number} seconds @returns {string} 4:05 or 1:02:03 */
export function clockText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, '0'));
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${parts.join(':')}` : `${Math.floor(whole / 60)}:${parts[1]}`;
}

/**
 * A moment in the reader's zone, with the zone's name.
 * @param {string} iso
 * @param {string} language
 * @param {string} zone IANA name
 */
export function momentText(iso, language, zone) {
  const moment = new Date(iso);
  const day = new Intl.DateTimeFormat(language, { weekday: 'long', day: 'numeric', month: 'long', timeZone: zone });
  const clock = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', timeZone: zone, timeZoneName: 'short' });
  return `${day.format(moment)}, ${clock.format(moment)} (${zone.replaceAll('_', ' ')})`;
}

/** @param {string} iso @param {string} language */
export function shortTime(iso, language) {
  return new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit' }).format(new Date(iso));
}
