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

/** British English: the day before the month, as every other page has it. @param {string} language */
const localeOf = (language) => (language === 'en' ? 'en-GB' : language);

/**
 * A moment in the reader's zone, with the zone's name: Sunday 22 November, 13:30, Europe/Berlin (UTC+1).
 * @param {string} iso
 * @param {string} language
 * @param {string} zone IANA name
 */
export function momentText(iso, language, zone) {
  const moment = new Date(iso);
  const day = new Intl.DateTimeFormat(localeOf(language), { weekday: 'long', day: 'numeric', month: 'long', timeZone: zone });
  const offset = new Intl.DateTimeFormat('en', { timeZone: zone, timeZoneName: 'shortOffset' })
    .formatToParts(moment)
    .find(({ type }) => type === 'timeZoneName')
    ?.value.replace('GMT', 'UTC');
  const place = zone === 'UTC' ? zone : `${zone.replaceAll('_', ' ')} (${offset})`;
  return `${day.format(moment)}, ${shortTime(iso, language, zone)}, ${place}`;
}

/** @param {string} iso @param {string} language @param {string} [zone] */
export function shortTime(iso, language, zone) {
  const options = /** @type {const} */ ({ hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  return new Intl.DateTimeFormat(localeOf(language), { ...options, ...(zone ? { timeZone: zone } : {}) }).format(new Date(iso));
}
