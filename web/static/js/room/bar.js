// The call's controls: the bar, the menu behind ⋮ (a sheet on phones), the dialogs, and the shortcuts.

import { text } from '../texts.js';
import { byId, onClick, setText, setToggle } from './dom.js';

/**
 * @typedef {object} BarOptions
 * @property {import('../call.js').Call} call
 * @property {import('../media_devices.js').LocalMedia} media
 * @property {import('./announcer.js').Announcer} announcer
 * @property {import('./chat_panel.js').ChatPanel} chat
 * @property {() => HTMLVideoElement | null} mainVideo
 * @property {() => void} leave
 */

export class Bar {
  #menu = byId('more-menu');

  /** @param {BarOptions} options */
  constructor(options) {
    this.options = options;
    const { call, media } = options;
    onClick('microphone', () => this.#toggleMicrophone());
    onClick('camera', () => this.#toggleCamera());
    onClick('share', () => void this.#toggleShare());
    onClick('leave', () => options.leave());
    this.#bindMenu();
    this.#bindDialogs();
    document.addEventListener('keydown', (event) => this.#shortcut(event));
    media.on('change', () => this.show());
    call.on('screen', () => this.show());
    call.on('admitted', () => this.show());
    this.show();
  }

  show() {
    const { media, call } = this.options;
    const hears = media.isOn('microphone');
    const sees = media.isOn('camera');
    setToggle(byId('microphone'), hears, text(hears ? 'mute' : 'unmute'));
    setToggle(byId('camera'), sees, text(sees ? 'camera_stop' : 'camera_start'));
    for (const name of /** @type {const} */ (['microphone', 'camera'])) {
      byId(name).classList.toggle('failed', media[name].failure !== null);
      byId(name).toggleAttribute('aria-busy', media[name].asking);
    }
    const canShare = typeof navigator.mediaDevices?.getDisplayMedia === 'function' && call.you?.role !== 'viewer';
    const shares = call.screen !== null;
    const label = text(shares ? 'share_stop' : 'share_start');
    setToggle(byId('share'), shares, label);
    byId('share').hidden = !canShare;
    byId('menu-share').hidden = !canShare;
    setText(byId('menu-share-text'), label);
    byId('menu-finish').hidden = call.you?.role !== 'specialist';
    byId('menu-full-screen').hidden = !document.fullscreenEnabled;
    byId('menu-picture').hidden = !document.pictureInPictureEnabled;
  }

  /** Shows how loud the own microphone is. @param {number} level 0..1 */
  showLevel(level) {
    byId('microphone-meter').style.setProperty('--level', level.toFixed(2));
  }

  #toggleMicrophone() {
    const { media, announcer } = this.options;
    const on = !media.isOn('microphone');
    void media.setMicrophone(on);
    announcer.say(text(on ? 'you_unmuted' : 'you_muted'));
  }

  #toggleCamera() {
    const { media, announcer } = this.options;
    const on = !media.isOn('camera');
    void media.setCamera(on);
    announcer.say(text(on ? 'you_camera_on' : 'you_camera_off'));
  }

  async #toggleShare() {
    const { call, announcer } = this.options;
    if (call.screen) {
      await call.stopScreen();
      announcer.note(text('sharing_stopped'));
      return;
    }
    try {
      await call.shareScreen();
      announcer.note(text('sharing'));
    } catch (error) {
      // closing the browser's question is an answer, not a failure
      if (!(error instanceof DOMException) || error.name !== 'NotAllowedError') announcer.note(text('share_failed'));
    }
  }

  // ---- menu ---------------------------------------------------------------------------------------------------------

  #bindMenu() {
    const { chat, mainVideo } = this.options;
    onClick('more', () => this.#openMenu(this.#menu.hidden !== false));
    onClick('more-backdrop', () => this.#openMenu(false));
    /** @type {Record<string, () => void>} */
    const actions = {
      'menu-chat': () => chat.toggle(true),
      'menu-share': () => void this.#toggleShare(),
      'menu-devices': () => byId('devices-dialog', HTMLDialogElement).showModal(),
      'menu-full-screen': () =>
        void (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()),
      'menu-picture': () => void mainVideo()?.requestPictureInPicture().catch(() => undefined),
      'menu-info': () => this.#openInfo(),
      'menu-finish': () => byId('finish-dialog', HTMLDialogElement).showModal(),
    };
    for (const [id, action] of Object.entries(actions)) {
      onClick(id, () => {
        this.#openMenu(false);
        action();
      });
    }
    this.#menu.addEventListener('keydown', (event) => this.#menuKey(event));
  }

  /** @param {boolean} open */
  #openMenu(open) {
    if (open === !this.#menu.hidden) return;
    this.#menu.hidden = !open;
    byId('more-backdrop').hidden = !open;
    byId('more').setAttribute('aria-expanded', String(open));
    if (open) this.#menuItems()[0]?.focus();
    else byId('more').focus();
  }

  /** @returns {HTMLElement[]} */
  #menuItems() {
    const items = /** @type {HTMLElement[]} */ ([...this.#menu.querySelectorAll('[role="menuitem"]')]);
    return items.filter((item) => item.getClientRects().length > 0);
  }

  /** Arrow keys as in the ARIA practices for menus. @param {KeyboardEvent} event */
  #menuKey(event) {
    const items = this.#menuItems();
    const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      items.at(next % items.length)?.focus();
    } else if (event.key === 'Escape' || event.key === 'Tab') {
      event.preventDefault();
      this.#openMenu(false);
    }
  }

  // ---- dialogs ------------------------------------------------------------------------------------------------------

  #bindDialogs() {
    for (const dialog of document.querySelectorAll('dialog')) {
      dialog.querySelector('[data-close]')?.addEventListener('click', () => dialog.close());
      dialog.addEventListener('click', (event) => {
        if (event.target === dialog) dialog.close(); // the backdrop
      });
    }
    onClick('finish-confirm', () => {
      byId('finish-dialog', HTMLDialogElement).close();
      void this.options.call.finish();
    });
  }

  #openInfo() {
    const { call } = this.options;
    const inside = [...call.participants.values()].filter(({ admitted }) => admitted).map(({ name }) => name);
    const names = [text('you', { name: call.you?.name ?? '' }), ...inside];
    byId('info-people').replaceChildren(
      ...names.map((name) => {
        const item = document.createElement('li');
        item.textContent = name;
        return item;
      }),
    );
    byId('info-dialog', HTMLDialogElement).showModal();
  }

  /** @param {KeyboardEvent} event */
  #shortcut(event) {
    if (byId('call').hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const { target } = event;
    const typing = target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
    if (typing || document.querySelector('dialog[open]')) return;
    if (event.key.toLowerCase() === 'm') this.#toggleMicrophone();
    else if (event.key.toLowerCase() === 'v') this.#toggleCamera();
  }
}
