// What the page tells beside what it shows: live regions for screen readers, short notes, the title's badge.

import { byId } from './dom.js';

const TOAST_MS = 5_000;

export class Announcer {
  #live = byId('live');
  #alerts = byId('alerts');
  #toasts = byId('toasts');
  #title = document.title;
  #badge = 0;

  constructor() {
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.badge(0);
    });
  }

  /** For screen readers only. @param {string} words */
  say(words) {
    this.#live.textContent = '';
    // a change is spoken, the same text again is not: leave the empty state for a moment
    setTimeout(() => (this.#live.textContent = words), 50);
  }

  /** @param {string} words */
  alert(words) {
    this.#alerts.textContent = words;
  }

  /** A short note over the call, spoken too. @param {string} words */
  note(words) {
    const toast = document.createElement('p');
    toast.className = 'toast';
    toast.textContent = words;
    this.#toasts.append(toast);
    while (this.#toasts.childElementCount > 3) this.#toasts.firstElementChild?.remove();
    setTimeout(() => toast.remove(), TOAST_MS);
    this.say(words);
  }

  /** The page's name in the tab. @param {string} title */
  setTitle(title) {
    this.#title = title;
    this.#show();
  }

  /** Something to look at in a hidden tab; it goes away when the tab is looked at. @param {number} count */
  badge(count) {
    this.#badge = document.visibilityState === 'visible' ? 0 : count;
    this.#show();
  }

  addBadge() {
    this.badge(this.#badge + 1);
  }

  #show() {
    document.title = this.#badge ? `(${this.#badge}) ${this.#title}` : this.#title;
  }
}
