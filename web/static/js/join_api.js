// What the page asks the server before and around the socket: the preview and the ticket. No DOM.

import { TicketRefused } from './connection.js';

/**
 * @typedef {object} Preview
 * @property {'early' | 'open' | 'over' | 'cancelled'} status
 * @property {string} opens_at ISO 8601 UTC
 * @property {string} closes_at
 * @property {string | null} starts_at null for an ad-hoc consultation
 * @property {string | null} ends_at
 * @property {string} server_time
 * @property {string} service '' for an ad-hoc consultation
 * @property {string} specialist name, '' when there is none
 * @property {{id: string, name: string, role: import('./protocol.js').Role}} participant
 */

const ANSWER_MS = 8_000;

export class JoinApi {
  /** @param {string} path /join/ID @param {string | null} token the link's secret; null uses the signed-in session */
  constructor(path, token) {
    this.path = path;
    this.token = token;
  }

  /** @returns {Promise<Preview>} */
  preview() {
    return this.#post('preview');
  }

  /** @returns {Promise<string>} a single-use ticket */
  async ticket() {
    return (await this.#post('ticket')).ticket;
  }

  /** @param {string} what @returns {Promise<any>} throws TicketRefused when trying again will not help */
  async #post(what) {
    const response = await fetch(`${this.path}/${what}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify(this.token === null ? {} : { token: this.token }),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const body = await response.json().catch(() => ({}));
    if (response.ok) return body;
    const temporary = response.status >= 500 || response.status === 429 || response.status === 408;
    if (temporary) throw new Error(`the server answered ${response.status}`);
    throw new TicketRefused(String(body.code ?? 'not_found'), String(body.detail ?? ''));
  }
}
