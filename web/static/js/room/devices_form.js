// The choice of camera, microphone and speaker, as on the pre-join page and in the call's dialog.

import { text } from '../texts.js';
import { byId, find } from './dom.js';

/** @typedef {import('../media_devices.js').LocalMedia} LocalMedia */

export class DevicesForm {
  /**
   * @param {HTMLElement} box
   * @param {LocalMedia} media
   * @param {import('../sounds.js').Sounds} sounds
   * @param {(deviceId: string) => void} speakerChosen
   */
  constructor(box, media, sounds, speakerChosen) {
    this.media = media;
    box.append(document.importNode(byId('devices-template', HTMLTemplateElement).content, true));
    /** @type {Map<string, {field: HTMLElement, select: HTMLSelectElement}>} */
    this.fields = new Map();
    for (const field of box.querySelectorAll('[data-kind]')) {
      if (!(field instanceof HTMLElement)) continue;
      const select = /** @type {HTMLSelectElement} */ (find(field, 'select'));
      const kind = field.dataset['kind'] ?? '';
      select.id = `${box.id}-${kind}`;
      find(field, 'label').setAttribute('for', select.id);
      select.addEventListener('change', () => this.#chosen(kind, select.value));
      this.fields.set(kind, { field, select });
    }
    this.levelBox = find(box, '.level');
    this.levelBox.setAttribute('aria-label', text('level'));
    this.bar = find(box, '.level .level-bar');
    this.speakerChosen = speakerChosen;
    const test = find(box, '.test-sound button');
    const label = find(test, 'span');
    test.addEventListener('click', () => {
      const length = sounds.play('test');
      label.textContent = text('test_playing');
      setTimeout(() => (label.textContent = text('test_sound')), length);
    });
    media.on('devices', () => this.refresh());
    this.refresh();
  }

  refresh() {
    for (const [kind, { field, select }] of this.fields) {
      const devices = this.media.devices.filter((device) => device.kind === kind);
      if (kind === 'audiooutput') field.hidden = !('setSinkId' in HTMLMediaElement.prototype) || devices.length === 0;
      const current = this.#current(kind) || select.value;
      const options = devices.map((device, index) => {
        const name = device.label || text('device_number', { number: index + 1 });
        return new Option(name, device.deviceId, false, device.deviceId === current);
      });
      if (options.length === 0) options.push(new Option(text('no_device'), ''));
      select.replaceChildren(...options);
      select.disabled = devices.length === 0;
    }
  }

  /** @param {number} level 0..1 */
  showLevel(level) {
    this.bar.style.setProperty('--level', level.toFixed(2));
  }

  /** @param {string} kind */
  #current(kind) {
    if (kind === 'videoinput') return this.media.camera.track?.getSettings().deviceId || this.media.camera.deviceId;
    if (kind === 'audioinput') return this.media.microphone.track?.getSettings().deviceId || this.media.microphone.deviceId;
    return '';
  }

  /** @param {string} kind @param {string} deviceId */
  #chosen(kind, deviceId) {
    if (kind === 'videoinput') void this.media.select('camera', deviceId);
    else if (kind === 'audioinput') void this.media.select('microphone', deviceId);
    else this.speakerChosen(deviceId);
  }
}
