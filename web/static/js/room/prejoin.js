// The pre-join screen and the waiting room's preview: explain, ask, show, choose. It never asks before a click unless
// the browser says that the permission is there already.

import { LevelMeter } from '../level_meter.js';
import { permissionOf } from '../media_devices.js';
import { momentText, text } from '../texts.js';
import { DevicesForm } from './devices_form.js';
import { byId, initials, onClick, setText, setToggle, showTrack } from './dom.js';
import { FailureCards } from './failures.js';

/** @typedef {import('../media_devices.js').LocalMedia} LocalMedia */

export class Prejoin {
  #decided = false;
  #meter = new LevelMeter();
  /** @type {MediaStreamTrack | null} */
  #metered = null;

  /**
   * @param {object} options
   * @param {LocalMedia} options.media
   * @param {import('../sounds.js').Sounds} options.sounds
   * @param {(deviceId: string) => void} options.speakerChosen
   * @param {() => void} options.join
   */
  constructor({ media, sounds, speakerChosen, join }) {
    this.media = media;
    this.failures = new FailureCards(byId('device-failures'), media);
    this.form = new DevicesForm(byId('prejoin-devices'), media, sounds, speakerChosen);
    onClick('ask-both', () => this.#ask(true));
    onClick('ask-microphone', () => this.#ask(false));
    onClick('join', () => {
      sounds.unlock();
      // never asked: the click is the wish to be seen and heard; the call does not wait for the answer
      if (!this.#decided) this.#ask(true);
      join();
    });
    for (const place of ['preview', 'waiting']) {
      onClick(`${place}-microphone`, () => void media.setMicrophone(!media.microphone.wanted));
      onClick(`${place}-camera`, () => void media.setCamera(!media.camera.wanted));
    }
    media.on('change', () => this.#show());
    this.#show();
  }

  /** Start without a question where the browser was already told to allow it.
   * @param {{microphone: boolean, camera: boolean}} wanted */
  async resume(wanted) {
    const [microphone, camera] = await Promise.all([permissionOf('microphone'), permissionOf('camera')]);
    if (this.#decided) return;
    const use = { microphone: wanted.microphone && microphone === 'granted', camera: wanted.camera && camera === 'granted' };
    if (!use.microphone && !use.camera) return;
    this.#decided = true;
    this.#show();
    await this.media.start(use.microphone, use.camera);
  }

  /**
   * @param {import('../join_api.js').Preview} preview
   * @param {string} language @param {string} zone
   */
  describe(preview, language, zone) {
    setText(byId('prejoin-service'), preview.service);
    const other = preview.participant.role === 'specialist' ? '' : preview.specialist;
    setText(byId('prejoin-title'), other ? text('with_specialist', { name: other }) : text('ready'));
    byId('prejoin-time-row').hidden = preview.starts_at === null;
    if (preview.starts_at) setText(byId('prejoin-time'), momentText(preview.starts_at, language, zone));
    setText(byId('prejoin-name'), text('joining_as', { name: preview.participant.name }));
    setText(byId('preview-avatar'), initials(preview.participant.name));
    setText(byId('join-note'), text('join_note'));
  }

  /** Between two level readings lie about 250 ms; the bar's transition makes it smooth. @param {number} now */
  tick(now) {
    const { level, silent } = this.#meter.read(now);
    const on = this.media.isOn('microphone');
    byId('preview-level').style.setProperty('--level', (on ? level : 0).toFixed(2));
    this.form.showLevel(on ? level : 0);
    this.failures.setSilent(on && silent);
    return on ? { level, silent } : { level: 0, silent: false };
  }

  /** The level is measured again after the system had stopped it. */
  revive() {
    this.#meter.resume();
  }

  /** @param {boolean} camera */
  #ask(camera) {
    this.#decided = true;
    this.#show();
    void this.media.start(true, camera);
  }

  #show() {
    const { microphone, camera } = this.media;
    this.#listen();
    const asking = microphone.asking || camera.asking;
    byId('preview-ask').hidden = this.#decided || asking;
    byId('preview-bar').hidden = !this.#decided;
    byId('preview-level-box').hidden = !microphone.track;
    byId('prejoin-devices').hidden = !this.#decided || this.media.devices.length === 0;
    byId('preview-pending').hidden = !asking;
    if (asking) {
      const both = microphone.asking && camera.asking;
      setText(byId('preview-pending-text'), text(both ? 'asking_both' : camera.asking ? 'asking_camera' : 'asking_microphone'));
    }
    const picture = camera.track !== null && camera.wanted;
    byId('preview-empty').hidden = picture || asking || !this.#decided;
    setText(byId('preview-note'), text(camera.failure ? 'camera_failed' : 'camera_off'));
    const video = byId('preview-video', HTMLVideoElement);
    video.hidden = !picture;
    showTrack(video, camera.track);
    const waiting = byId('waiting-video', HTMLVideoElement);
    waiting.hidden = !picture;
    showTrack(waiting, camera.track);
    byId('waiting-preview-off').hidden = picture;
    for (const place of ['preview', 'waiting']) {
      const hears = this.media.isOn('microphone');
      setToggle(byId(`${place}-microphone`), hears, text(hears ? 'mute' : 'unmute'));
      setToggle(byId(`${place}-camera`), picture, text(picture ? 'camera_stop' : 'camera_start'));
    }
    this.form.refresh();
  }

  #listen() {
    const { track } = this.media.microphone;
    if (track === this.#metered) return;
    this.#metered = track;
    this.#meter.listen(track);
  }
}
