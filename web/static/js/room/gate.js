// The first screen: finds out whether this link opens a consultation now, and says what to do when it does not.

import { TicketRefused } from '../connection.js';
import { clockText, momentText, text } from '../texts.js';
import { byId, onClick, setText } from './dom.js';

/** @typedef {import('../join_api.js').Preview} Preview */
/** @typedef {'retry' | 'sign-in' | 'home'} Action */

const RETRY_MS = 4_000;
const EARLY_CHECK_MS = 60_000;
/** seconds: from then on it is worth counting them */
const COUNTDOWN_FROM = 3_600;

export class Gate {
  /** @type {Preview | null} */
  preview = null;
  #opensAt = 0;
  #checkAt = Infinity;
  #checking = false;

  /**
   * @param {object} options
   * @param {import('../join_api.js').JoinApi} options.api
   * @param {string} options.language
   * @param {string} options.zone
   * @param {(preview: Preview) => void} options.opened
   * @param {() => void} options.shown the gate has something to say
   */
  constructor(options) {
    this.options = options;
    onClick('gate-retry', () => void this.check());
  }

  async check() {
    if (this.#checking) return;
    this.#checking = true;
    this.#checkAt = Infinity;
    try {
      this.preview = await this.options.api.preview();
    } catch (error) {
      if (error instanceof TicketRefused) this.#refused(error.code);
      else this.#offline();
      return;
    } finally {
      this.#checking = false;
    }
    const { preview } = this;
    const { language, zone } = this.options;
    switch (preview.status) {
      case 'open':
        this.#opensAt = 0;
        this.options.opened(preview);
        return;
      case 'early': {
        const away = Date.parse(preview.opens_at) - Date.parse(preview.server_time);
        this.#opensAt = performance.now() + away;
        // asked again on the way: the appointment may have been moved
        this.#checkAt = performance.now() + Math.min(EARLY_CHECK_MS, away + 300);
        this.#show('early', { time: momentText(preview.opens_at, language, zone) }, []);
        this.tick(performance.now());
        return;
      }
      case 'over':
        this.#show('over', { time: momentText(preview.closes_at, language, zone) }, ['home']);
        return;
      case 'cancelled':
        this.#show('cancelled', {}, ['home']);
    }
  }

  /** @param {number} now */
  tick(now) {
    if (this.#opensAt) {
      const seconds = Math.max(0, (this.#opensAt - now) / 1000);
      const duration = clockText(seconds);
      setText(byId('gate-clock'), seconds < COUNTDOWN_FROM ? text('early_countdown', { duration }) : text('early_later'));
      byId('gate-clock').hidden = false;
    }
    if (now >= this.#checkAt) void this.check();
  }

  #offline() {
    this.#checkAt = performance.now() + RETRY_MS;
    this.#show('offline', {}, ['retry']);
  }

  /** @param {string} code */
  #refused(code) {
    this.#opensAt = 0;
    if (this.options.api.token === null) this.#show('incomplete', {}, ['sign-in', 'home']);
    else if (code === 'forbidden') this.#show('forbidden', {}, ['sign-in', 'home']);
    else this.#show('unknown', {}, ['home']);
  }

  /** @param {'early' | 'over' | 'cancelled' | 'offline' | 'incomplete' | 'forbidden' | 'unknown'} what
   * @param {Record<string, string>} values @param {Action[]} actions */
  #show(what, values, actions) {
    const icons = { early: 'clock', over: 'clock', cancelled: 'close', offline: 'alert', incomplete: 'link', forbidden: 'lock', unknown: 'link' };
    byId('gate-icon').querySelector('use')?.setAttribute('href', `#icon-${icons[what]}`);
    setText(byId('gate-title'), text(`${what}_title`));
    setText(byId('gate-text'), text(`${what}_text`, values));
    byId('gate-clock').hidden = what !== 'early';
    const { preview } = this;
    const about = preview && what === 'early' ? [preview.service, preview.specialist].filter(Boolean).join(' · ') : '';
    byId('gate-more').hidden = !about;
    setText(byId('gate-more'), about);
    for (const action of ['retry', 'sign-in', 'home']) byId(`gate-${action}`).hidden = !actions.includes(/** @type {Action} */ (action));
    this.options.shown();
  }
}
