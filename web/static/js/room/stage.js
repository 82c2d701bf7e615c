// The others: one tile per person, a large one for a shared screen. One person fills the stage, more make a grid.

import { text } from '../texts.js';
import { byId, find, fromTemplate, initials, setText } from './dom.js';

/** @typedef {import('../protocol.js').ParticipantInfo} ParticipantInfo */
/** @typedef {import('../remote_media.js').RemoteStream} RemoteStream */
/** @typedef {{box: HTMLElement, video: HTMLVideoElement}} Tile */

export class Stage {
  #tiles = byId('tiles');
  /** @type {Map<string, Tile>} by `participant part` */
  #shown = new Map();
  #speaker = '';
  #blocked = false;

  /** @param {import('../call.js').Call} call */
  constructor(call) {
    this.call = call;
    call.on('participants', () => this.show());
    call.on('remote', () => this.show());
    byId('tap-to-hear').addEventListener('click', () => this.#hear());
  }

  /** @param {string} deviceId of the loudspeaker, '' is the default */
  setSpeaker(deviceId) {
    this.#speaker = deviceId;
    for (const { video } of this.#shown.values()) this.#sink(video);
  }

  /** The picture for picture-in-picture. @returns {HTMLVideoElement | null} */
  mainVideo() {
    const tiles = [...this.#shown.values()].filter(({ video }) => !video.classList.contains('dark'));
    return (tiles.find(({ box }) => box.classList.contains('screen')) ?? tiles[0])?.video ?? null;
  }

  show() {
    const inside = [...this.call.participants.values()].filter((one) => one.admitted && one.role !== 'viewer');
    /** @type {Set<string>} */
    const wanted = new Set();
    let screens = 0;
    for (const participant of inside) {
      if (participant.screen && this.call.remotes.find(participant.id, 'screen')?.video) {
        this.#update(participant, 'screen', wanted);
        screens += 1;
      }
      this.#update(participant, 'main', wanted);
    }
    for (const [key, tile] of this.#shown) {
      if (wanted.has(key)) continue;
      tile.video.srcObject = null;
      tile.box.remove();
      this.#shown.delete(key);
    }
    const stage = byId('stage');
    stage.dataset['layout'] = screens ? 'presentation' : inside.length === 0 ? 'alone' : inside.length === 1 ? 'single' : 'grid';
    stage.dataset['count'] = String(Math.min(8, inside.length));
    byId('stage-empty').hidden = inside.length > 0;
  }

  /** @param {ParticipantInfo} participant @param {'main' | 'screen'} part @param {Set<string>} wanted */
  #update(participant, part, wanted) {
    const key = `${participant.id} ${part}`;
    wanted.add(key);
    const tile = this.#shown.get(key) ?? this.#create(key, part);
    const remote = this.call.remotes.find(participant.id, part);
    const label = text(part === 'screen' ? 'screen_of' : 'video_of', { name: participant.name });
    if (tile.video.getAttribute('aria-label') !== label) tile.video.setAttribute('aria-label', label);
    const picture = part === 'screen' || (participant.camera && remote?.video === true);
    tile.video.classList.toggle('dark', !picture);
    find(tile.box, '.tile-avatar').hidden = picture;
    setText(find(tile.box, '.avatar'), initials(participant.name));
    setText(find(tile.box, '.tile-name'), part === 'screen' ? text('screen_caption', { name: participant.name }) : participant.name);
    const muted = find(tile.box, '.tile-muted');
    muted.hidden = part === 'screen' || participant.microphone;
    muted.title = text('is_muted', { name: participant.name });
    const note = find(tile.box, '.tile-note');
    note.hidden = participant.presence !== 'reconnecting' || part === 'screen';
    setText(note, text('remote_reconnecting', { name: participant.name }));
    tile.box.classList.toggle('away', participant.presence === 'reconnecting');
    if (remote && tile.video.srcObject !== remote.stream) {
      tile.video.srcObject = remote.stream;
      void this.#play(tile.video);
    } else if (remote && tile.video.paused) {
      void this.#play(tile.video);
    }
  }

  /** @param {string} key @param {'main' | 'screen'} part @returns {Tile} */
  #create(key, part) {
    const box = fromTemplate('tile-template');
    const video = /** @type {HTMLVideoElement} */ (find(box, 'video'));
    box.classList.add(part);
    // a tall picture on a wide tile (a phone held upright) is shown whole, a wide one on a tall tile not too small
    const fit = () => {
      const { clientWidth, clientHeight } = box;
      if (!video.videoWidth || !clientWidth) return;
      const ratio = video.videoWidth / video.videoHeight / (clientWidth / clientHeight);
      video.classList.toggle('whole', part === 'screen' || ratio < 0.6);
      video.classList.toggle('zoomed', part !== 'screen' && ratio > 2.2);
    };
    video.addEventListener('resize', fit);
    new ResizeObserver(fit).observe(box);
    if (part === 'screen') this.#tiles.prepend(box);
    else this.#tiles.append(box);
    const tile = { box, video };
    this.#shown.set(key, tile);
    this.#sink(video);
    return tile;
  }

  /** Browsers may refuse sound before a click: then the picture runs and a button asks for the click.
   * @param {HTMLVideoElement} video */
  async #play(video) {
    try {
      video.muted = this.#blocked;
      await video.play();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== 'NotAllowedError') return; // replaced meanwhile
      this.#blocked = true;
      byId('tap-to-hear').hidden = false;
      video.muted = true;
      await video.play().catch(() => undefined);
    }
  }

  #hear() {
    this.#blocked = false;
    byId('tap-to-hear').hidden = true;
    for (const { video } of this.#shown.values()) void this.#play(video);
  }

  /** @param {HTMLVideoElement} video */
  #sink(video) {
    if (this.#speaker && 'setSinkId' in video) video.setSinkId(this.#speaker).catch(() => undefined);
  }
}
