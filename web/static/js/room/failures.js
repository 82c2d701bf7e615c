// Device failures in words: what happened and how to mend it, one card per cause.

import { text } from '../texts.js';

/** @typedef {import('../media_devices.js').LocalMedia} LocalMedia */
/** @typedef {import('../media_devices.js').DeviceName} DeviceName */

/**
 * @param {LocalMedia} media
 * @returns {{key: string, title: string, fix: string, devices: DeviceName[]}[]}
 */
export function failuresOf(media) {
  const camera = media.camera.failure;
  const microphone = media.microphone.failure;
  if (camera && camera === microphone) {
    return [{ key: `both_${camera}`, title: text(`both_${camera}`), fix: text(`fix_${camera}`), devices: ['microphone', 'camera'] }];
  }
  const found = [];
  for (const name of /** @type {DeviceName[]} */ (['camera', 'microphone'])) {
    const code = media[name].failure;
    if (code) found.push({ key: `${name}_${code}`, title: text(`${name}_${code}`), fix: text(`fix_${code}`), devices: [name] });
  }
  return found;
}

/** Shows the failures in a box, and a silent microphone. */
export class FailureCards {
  #shown = '';

  /** @param {HTMLElement} box @param {LocalMedia} media */
  constructor(box, media) {
    this.box = box;
    this.media = media;
    this.silent = false;
    media.on('change', () => this.show());
  }

  /** @param {boolean} silent */
  setSilent(silent) {
    if (silent === this.silent) return;
    this.silent = silent;
    this.show();
  }

  show() {
    const cards = failuresOf(this.media);
    const silent = this.silent && this.media.isOn('microphone');
    const key = cards.map((card) => card.key).join() + String(silent);
    if (key === this.#shown) return;
    this.#shown = key;
    this.box.replaceChildren(...cards.map((card) => this.#card(card.title, card.fix, card.devices)));
    if (silent) this.box.append(this.#card(text('silent_title'), text('silent_fix'), []));
  }

  /** @param {string} title @param {string} fix @param {DeviceName[]} devices to try again */
  #card(title, fix, devices) {
    const card = document.createElement('div');
    card.className = 'banner warning';
    const words = document.createElement('div');
    const head = document.createElement('h3');
    head.textContent = title;
    const advice = document.createElement('p');
    advice.textContent = fix;
    words.append(head, advice);
    card.append(words);
    if (devices.length) {
      const again = document.createElement('button');
      again.type = 'button';
      again.className = 'button';
      again.textContent = text('try_again');
      again.addEventListener('click', () => void this.media.start(devices.includes('microphone'), devices.includes('camera')));
      card.append(again);
    }
    return card;
  }
}
