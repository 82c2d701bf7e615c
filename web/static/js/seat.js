// What this tab remembers of its seat: the link's secret and whether it was in the call, so that a reload comes back to
// the same seat. sessionStorage dies with the tab.

// A page that comes back this soon was reloaded, or thrown out by a phone that needed the memory.
const AWAY_MS = 120_000;

/** @typedef {{token: string | null, joined: boolean, hiddenAt: number, microphone: boolean, camera: boolean}} Memory */

/** @type {Memory} */
const NOTHING = { token: null, joined: false, hiddenAt: 0, microphone: true, camera: true };

export class Seat {
  /** @type {Memory} */
  #memory = { ...NOTHING };

  /** @param {string} consultation */
  constructor(consultation) {
    this.key = `consult.seat.${consultation}`;
    try {
      const kept = JSON.parse(sessionStorage.getItem(this.key) ?? '{}');
      this.#memory = { ...NOTHING, ...kept };
    } catch {
      // storage is switched off: a reload then needs the link again
    }
  }

  get token() {
    return this.#memory.token;
  }

  /** This tab was in the call (or waited for it) a moment ago: it goes straight back. */
  get joined() {
    const [navigation] = performance.getEntriesByType('navigation');
    const reloaded = /** @type {PerformanceNavigationTiming | undefined} */ (navigation)?.type === 'reload';
    return this.#memory.joined && (reloaded || Date.now() - this.#memory.hiddenAt < AWAY_MS);
  }

  get wanted() {
    return { microphone: this.#memory.microphone, camera: this.#memory.camera };
  }

  /**
   * Take the secret of the link. A new one is a new seat.
   * @param {string} hash of the address
   * @returns {boolean} whether it differs from the one before
   */
  take(hash) {
    const token = hash.replace(/^#/, '');
    if (!/^[A-Za-z0-9_.-]{8,200}$/.test(token) || token === this.#memory.token) return false;
    this.#memory = { ...NOTHING, token };
    this.#keep();
    return true;
  }

  /** @param {Partial<Memory>} changes */
  remember(changes) {
    this.#memory = { ...this.#memory, ...changes };
    this.#keep();
  }

  /** The secret leaves the address bar once a reload works without it. */
  hideToken() {
    try {
      if (sessionStorage.getItem(this.key) === null) return;
    } catch {
      return;
    }
    if (location.hash) history.replaceState(history.state, '', location.pathname + location.search);
  }

  #keep() {
    try {
      sessionStorage.setItem(this.key, JSON.stringify(this.#memory));
    } catch {
      // see the constructor
    }
  }
}
