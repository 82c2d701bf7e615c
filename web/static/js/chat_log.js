// The lines of the chat by id, those still on their way included. No DOM.

/** @typedef {import('./protocol.js').ChatLine} ChatLine */
/** @typedef {ChatLine & {own: boolean, status: 'sent' | 'sending' | 'failed'}} Entry */

export class ChatLog {
  /** @type {Map<string, Entry>} in the order of arrival */
  #entries = new Map();
  /** @type {Set<string>} ids chosen by this page */
  #own = new Set();

  /** @returns {Entry[]} */
  entries() {
    return [...this.#entries.values()];
  }

  /** @returns {string | null} the newest line that the server has */
  lastId() {
    return this.entries().findLast(({ status }) => status === 'sent')?.id ?? null;
  }

  /** @param {ChatLine[]} lines */
  merge(lines) {
    for (const line of lines) this.add(line);
  }

  /** @param {ChatLine} line @returns {Entry | null} null for a line that is known */
  add(line) {
    const known = this.#entries.get(line.id);
    if (known?.status === 'sent') return null;
    /** @type {Entry} */
    const entry = { ...line, own: this.#own.has(line.id), status: 'sent' };
    this.#entries.delete(line.id);
    this.#entries.set(line.id, entry);
    return entry;
  }

  /** @param {string} text @param {string} name @param {string} at ISO 8601 */
  write(text, name, at) {
    const id = crypto.randomUUID();
    this.#own.add(id);
    this.#entries.set(id, { id, participant: '', name, text, at, own: true, status: 'sending' });
  }

  unsent() {
    return this.entries().filter(({ status }) => status === 'sending');
  }

  /** @param {string} id */
  sent(id) {
    this.#mark(id, 'sent');
  }

  /** @param {string} id */
  failed(id) {
    this.#mark(id, 'failed');
  }

  /** @param {string} id */
  retry(id) {
    this.#mark(id, 'sending');
  }

  /** @param {string} id @param {Entry['status']} status */
  #mark(id, status) {
    const entry = this.#entries.get(id);
    if (entry && entry.status !== 'sent') this.#entries.set(id, { ...entry, status });
  }
}
