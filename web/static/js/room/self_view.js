// The own picture in the call: movable with the pointer and the arrow keys, at rest in the nearest corner.

import { byId, setText, initials, showTrack } from './dom.js';

/** @typedef {'top-left' | 'top-right' | 'bottom-left' | 'bottom-right'} Corner */

const STEP_PX = 24;

export class SelfView {
  #box = byId('self-view');
  #video = byId('self-video', HTMLVideoElement);
  /** @type {{pointer: number, x: number, y: number, moved: boolean} | null} */
  #drag = null;

  /** @param {import('../media_devices.js').LocalMedia} media */
  constructor(media) {
    this.media = media;
    this.#rest('top-right');
    this.#box.addEventListener('pointerdown', (event) => this.#start(event));
    this.#box.addEventListener('pointermove', (event) => this.#move(event));
    this.#box.addEventListener('pointerup', (event) => this.#end(event));
    this.#box.addEventListener('pointercancel', (event) => this.#end(event));
    this.#box.addEventListener('keydown', (event) => this.#key(event));
    media.on('change', () => this.show());
    this.show();
  }

  /** @param {string} name */
  setName(name) {
    setText(byId('self-avatar'), initials(name));
  }

  show() {
    const { camera } = this.media;
    const picture = camera.track !== null && camera.wanted;
    this.#video.hidden = !picture;
    byId('self-view-off').hidden = picture;
    byId('self-muted').hidden = this.media.isOn('microphone');
    showTrack(this.#video, camera.track);
  }

  /** @param {PointerEvent} event */
  #start(event) {
    if (event.button !== 0) return;
    const box = this.#box.getBoundingClientRect();
    this.#drag = { pointer: event.pointerId, x: event.clientX - box.left, y: event.clientY - box.top, moved: false };
    this.#box.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (this.#drag?.pointer !== event.pointerId) return;
    const stage = this.#stage();
    this.#drag.moved = true;
    this.#box.classList.add('dragging');
    this.#place(event.clientX - this.#drag.x - stage.left, event.clientY - this.#drag.y - stage.top);
  }

  /** @param {PointerEvent} event */
  #end(event) {
    if (this.#drag?.pointer !== event.pointerId) return;
    const { moved } = this.#drag;
    this.#drag = null;
    this.#box.classList.remove('dragging');
    if (moved) this.#rest(this.#nearest());
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    if (!step) return;
    event.preventDefault();
    const stage = this.#stage();
    const box = this.#box.getBoundingClientRect();
    if (event.shiftKey) {
      this.#place(box.left - stage.left + (step[0] ?? 0) * STEP_PX, box.top - stage.top + (step[1] ?? 0) * STEP_PX);
      return;
    }
    // a plain arrow moves to the corner in that direction
    const [vertical = 'top', horizontal = 'right'] = this.#nearest().split('-');
    const toSide = step[0] === 0 ? horizontal : (step[0] ?? 0) < 0 ? 'left' : 'right';
    const toEnd = step[1] === 0 ? vertical : (step[1] ?? 0) < 0 ? 'top' : 'bottom';
    this.#rest(/** @type {Corner} */ (`${toEnd}-${toSide}`));
  }

  /** @param {number} left @param {number} top relative to the stage */
  #place(left, top) {
    const stage = this.#stage();
    const box = this.#box.getBoundingClientRect();
    delete this.#box.dataset['corner'];
    this.#box.style.setProperty('left', `${Math.max(0, Math.min(stage.width - box.width, left))}px`);
    this.#box.style.setProperty('top', `${Math.max(0, Math.min(stage.height - box.height, top))}px`);
  }

  /** @param {Corner} corner */
  #rest(corner) {
    this.#box.style.removeProperty('left');
    this.#box.style.removeProperty('top');
    this.#box.dataset['corner'] = corner;
  }

  /** @returns {Corner} */
  #nearest() {
    const stage = this.#stage();
    const box = this.#box.getBoundingClientRect();
    const vertical = box.top + box.height / 2 < stage.top + stage.height / 2 ? 'top' : 'bottom';
    const horizontal = box.left + box.width / 2 < stage.left + stage.width / 2 ? 'left' : 'right';
    return /** @type {Corner} */ (`${vertical}-${horizontal}`);
  }

  #stage() {
    return byId('stage').getBoundingClientRect();
  }
}
