// The chat beside the call: lines as they come, unread count, sending again what failed.

import { shortTime, text } from '../texts.js';
import { byId, onClick, setText } from './dom.js';

/** @typedef {import('../chat_log.js').Entry} Entry */

export class ChatPanel {
  #panel = byId('chat-panel');
  #lines = byId('chat-lines');
  #field = byId('chat-text', HTMLTextAreaElement);
  #unread = 0;
  /** the newest line is in sight and stays there */
  #follows = true;
  #height = 0;

  /**
   * @param {import('../call.js').Call} call
   * @param {string} language
   * @param {(entry: Entry) => void} missed a line that nobody sees, because the panel is closed
   */
  constructor(call, language, missed) {
    this.call = call;
    this.language = language;
    onClick('chat', () => this.toggle());
    onClick('chat-close', () => this.toggle(false));
    byId('chat-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      }
    });
    this.#field.addEventListener('input', () => this.#grow());
    this.#panel.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.toggle(false);
    });
    // the keyboard opens or the phone is turned: the newest line stays in sight
    new ResizeObserver(() => {
      this.#height = this.#lines.clientHeight;
      if (this.#follows) this.#toEnd();
    }).observe(this.#lines);
    this.#lines.addEventListener('scroll', () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#lines;
      if (clientHeight === this.#height) this.#follows = scrollHeight - scrollTop - clientHeight < 80;
    });
    call.on('chat', (entry) => {
      this.#show();
      if (entry && !this.isOpen) {
        this.#setUnread(this.#unread + 1);
        missed(entry);
      }
    });
    this.#setUnread(0);
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  /** @param {boolean} [open] */
  toggle(open = !this.isOpen) {
    if (open === this.isOpen) return;
    this.#panel.hidden = !open;
    byId('call').classList.toggle('with-chat', open);
    byId('chat').setAttribute('aria-expanded', String(open));
    if (open) {
      this.#setUnread(0);
      this.#toEnd();
      // a finger has come to read: the keyboard would cover half of it
      if (matchMedia('(pointer: coarse)').matches) this.#lines.focus();
      else this.#field.focus();
    } else {
      const opener = byId('chat'); // phones have it behind ⋮
      (opener.getClientRects().length ? opener : byId('more')).focus();
    }
  }

  #send() {
    const words = this.#field.value.trim();
    if (!words) return;
    this.#field.value = '';
    this.#grow();
    this.call.sendChat(words);
  }

  #grow() {
    this.#field.style.setProperty('height', 'auto');
    this.#field.style.setProperty('height', `${Math.min(140, this.#field.scrollHeight + 2)}px`);
  }

  #show() {
    const entries = this.call.chat.entries();
    byId('chat-empty').hidden = entries.length > 0;
    this.#lines.replaceChildren(...entries.map((entry, index) => this.#line(entry, entries[index - 1])));
    if (this.#follows || entries.at(-1)?.status === 'sending') this.#toEnd();
  }

  #toEnd() {
    this.#follows = true;
    this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  /** @param {Entry} entry @param {Entry | undefined} before */
  #line(entry, before) {
    const own = entry.own || entry.participant === this.call.you?.id;
    const line = document.createElement('li');
    line.className = own ? 'chat-line own' : 'chat-line';
    const beforeOwn = before && (before.own || before.participant === this.call.you?.id);
    const follows = before && (own ? beforeOwn : before.participant === entry.participant)
      && Date.parse(entry.at) - Date.parse(before.at) < 120_000;
    if (!follows) {
      const head = document.createElement('p');
      head.className = 'chat-head';
      const name = document.createElement('strong');
      name.textContent = own ? text('chat_you') : entry.name;
      const time = document.createElement('time');
      time.dateTime = entry.at;
      time.textContent = shortTime(entry.at, this.language);
      head.append(name, ' ', time);
      line.append(head);
    }
    const words = document.createElement('p');
    words.className = 'chat-text';
    words.textContent = entry.text;
    line.append(words);
    if (entry.status !== 'sent') line.append(this.#status(entry));
    return line;
  }

  /** @param {Entry} entry */
  #status(entry) {
    const status = document.createElement('p');
    status.className = 'chat-status';
    status.textContent = text(entry.status === 'sending' ? 'chat_sending' : 'chat_failed');
    if (entry.status === 'failed') {
      const again = document.createElement('button');
      again.type = 'button';
      again.textContent = text('chat_retry');
      again.addEventListener('click', () => this.call.retryChat(entry.id));
      status.append(' ', again);
    }
    return status;
  }

  /** @param {number} count */
  #setUnread(count) {
    this.#unread = count;
    for (const id of ['chat-unread', 'more-unread']) {
      byId(id).hidden = count === 0;
      setText(byId(id), String(Math.min(99, count)));
    }
    const label = count ? text('chat_unread', { count }) : text('chat');
    byId('chat').setAttribute('aria-label', label);
    byId('chat').title = label;
  }
}
