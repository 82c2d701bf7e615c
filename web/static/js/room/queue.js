// A specialist's waiting room: who is here, since when, and the buttons to let them in. Only a specialist's page puts
// it into the document.

import { clockText, text } from '../texts.js';
import { byId, find, fromTemplate, initials, setText } from './dom.js';

/** @typedef {import('../protocol.js').ParticipantInfo} ParticipantInfo */

export class Queue {
  /** @type {HTMLElement | null} */
  #box = null;
  /** @type {Map<string, HTMLElement>} */
  #items = new Map();
  /** "Not now": those stay in the waiting room behind a small button @type {Set<string>} */
  #later = new Set();
  /** @type {HTMLButtonElement | null} */
  #chip = null;

  /** @param {import('../call.js').Call} call */
  constructor(call) {
    this.call = call;
    call.on('participants', () => this.show());
  }

  /** @returns {ParticipantInfo[]} */
  waiting() {
    if (this.call.you?.role !== 'specialist') return [];
    return [...this.call.participants.values()].filter(({ admitted }) => !admitted);
  }

  show() {
    const waiting = this.waiting();
    for (const id of this.#later) if (!waiting.some((one) => one.id === id)) this.#later.delete(id);
    const shown = waiting.filter(({ id }) => !this.#later.has(id));
    for (const [id, item] of this.#items) {
      if (shown.some((one) => one.id === id)) continue;
      item.remove();
      this.#items.delete(id);
    }
    if (shown.length) this.#list(shown);
    else {
      this.#box?.remove();
      this.#box = null;
    }
    this.#showChip(waiting.length - shown.length);
  }

  /** Counts up the waiting times. */
  tick() {
    for (const participant of this.waiting()) {
      const item = this.#items.get(participant.id);
      if (item) setText(find(item, '.queue-since'), this.#since(participant));
    }
  }

  /** @param {ParticipantInfo[]} shown */
  #list(shown) {
    if (!this.#box) {
      this.#box = fromTemplate('queue-template');
      byId('stage').append(this.#box);
    }
    const title = shown.length === 1 ? text('queue_title_one') : text('queue_title_many', { count: shown.length });
    setText(find(this.#box, '#queue-title'), title);
    for (const participant of shown) {
      const item = this.#items.get(participant.id) ?? this.#create(participant.id);
      if (!item.isConnected) find(this.#box, '.queue-list').append(item);
      setText(find(item, '.queue-name'), participant.name);
      setText(find(item, '.avatar'), initials(participant.name));
      setText(find(item, '.queue-since'), this.#since(participant));
    }
  }

  /** @param {string} id @returns {HTMLElement} */
  #create(id) {
    const item = fromTemplate('queue-item-template');
    const name = find(item, '.queue-name');
    name.id = `queue-name-${id}`;
    for (const button of item.querySelectorAll('button')) button.setAttribute('aria-describedby', name.id);
    find(item, '[data-action="admit"]').addEventListener('click', (event) => {
      if (event.currentTarget instanceof HTMLButtonElement) event.currentTarget.disabled = true;
      void this.call.admit(id).then((done) => {
        if (!done) /** @type {HTMLButtonElement} */ (find(item, '[data-action="admit"]')).disabled = false;
      });
    });
    find(item, '[data-action="later"]').addEventListener('click', () => {
      this.#later.add(id);
      this.show();
    });
    find(item, '[data-action="refuse"]').addEventListener('click', () => this.#askRefuse(id));
    this.#items.set(id, item);
    return item;
  }

  /** @param {string} id */
  #askRefuse(id) {
    const dialog = byId('refuse-dialog', HTMLDialogElement);
    setText(byId('refuse-title'), text('refuse_title', { name: this.call.participants.get(id)?.name ?? '' }));
    byId('refuse-confirm').onclick = () => {
      dialog.close();
      void this.call.refuse(id);
    };
    dialog.showModal();
  }

  /** @param {number} count of those put off */
  #showChip(count) {
    if (count === 0) {
      this.#chip?.remove();
      this.#chip = null;
      return;
    }
    if (!this.#chip) {
      this.#chip = document.createElement('button');
      this.#chip.type = 'button';
      this.#chip.className = 'queue-chip';
      this.#chip.addEventListener('click', () => {
        this.#later.clear();
        this.show();
      });
      byId('stage').append(this.#chip);
    }
    setText(this.#chip, text('queue_show', { count }));
  }

  /** @param {ParticipantInfo} participant */
  #since(participant) {
    if (participant.presence === 'reconnecting') return text('queue_away');
    const now = Date.now() + this.call.clockOffset;
    return text('queue_since', { duration: clockText((now - Date.parse(participant.since)) / 1000) });
  }
}
