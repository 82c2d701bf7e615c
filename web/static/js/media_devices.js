// The microphone and the camera of this page: asking for them, switching them, and saying why they fail. No DOM.

import { Emitter } from './emitter.js';

/**
 * Why a device does not work; each has a text and a fix of its own.
 * @typedef {'insecure' | 'unsupported' | 'blocked_by_browser' | 'blocked_by_system' | 'dismissed' | 'in_use' |
 *   'not_found' | 'overconstrained' | 'timeout' | 'unplugged' | 'unknown'} FailureCode
 *
 * @typedef {'microphone' | 'camera'} DeviceName
 *
 * @typedef {object} DeviceState
 * @property {boolean} wanted the person wants it on
 * @property {boolean} asking a prompt or the start of the device is pending
 * @property {MediaStreamTrack | null} track live while it is on
 * @property {FailureCode | null} failure
 * @property {boolean} interrupted the system took it away (a phone call, the lid): it may come back with a tap
 * @property {string} deviceId chosen; '' is the default
 *
 * @typedef {object} LocalMediaEvents
 * @property {DeviceName} change
 * @property {MediaDeviceInfo[]} devices
 */

const KINDS = /** @type {const} */ ({ microphone: 'audioinput', camera: 'videoinput' });
// How long a prompt may stay open before the page explains where it is.
const PROMPT_MS = 20_000;

/** @param {string} deviceId @returns {MediaTrackConstraints} */
function microphoneConstraints(deviceId) {
  return {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  };
}

/** @param {string} deviceId @returns {MediaTrackConstraints} */
function cameraConstraints(deviceId) {
  return {
    width: { ideal: 1280 },
    height: { ideal: 720 },
    frameRate: { ideal: 30 },
    ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: 'user' }),
  };
}

/**
 * The cause behind a getUserMedia error. Browsers do not say who refused, so it is a judgement: Chromium words a
 * refusal of the system so, and a refusal although the page has the browser's permission can only be the system's.
 *
 * @param {unknown} error
 * @param {PermissionState | null} permission the browser's answer for this device, null when it does not tell
 * @returns {FailureCode}
 */
export function failureOf(error, permission) {
  const name = error instanceof Error || error instanceof DOMException ? error.name : '';
  const message = error instanceof Error || error instanceof DOMException ? error.message : '';
  switch (name) {
    case 'NotAllowedError':
    case 'PermissionDeniedError':
      if (/by system|system denied|not allowed by the (user agent or the )?platform/i.test(message)) {
        return 'blocked_by_system';
      }
      if (permission === 'granted') return 'blocked_by_system';
      if (/dismissed/i.test(message)) return 'dismissed';
      return 'blocked_by_browser';
    case 'SecurityError':
      return 'blocked_by_browser';
    case 'NotReadableError':
    case 'TrackStartError':
    case 'AbortError':
      return 'in_use';
    case 'NotFoundError':
    case 'DevicesNotFoundError':
      return 'not_found';
    case 'OverconstrainedError':
      return 'overconstrained';
    case 'TimeoutError':
      return 'timeout';
    default:
      return 'unknown';
  }
}

/** @param {DeviceName} name @returns {Promise<PermissionState | null>} */
export async function permissionOf(name) {
  try {
    const status = await navigator.permissions.query({ name: /** @type {PermissionName} */ (name) });
    return status.state;
  } catch {
    return null; // Firefox before 131 and Safari before 16 do not tell
  }
}

/** @extends {Emitter<LocalMediaEvents>} */
export class LocalMedia extends Emitter {
  /** @type {Record<DeviceName, DeviceState>} */
  #state = {
    microphone: { wanted: false, asking: false, track: null, failure: null, interrupted: false, deviceId: '' },
    camera: { wanted: false, asking: false, track: null, failure: null, interrupted: false, deviceId: '' },
  };
  /** each new wish makes what an older request brings unwanted @type {Record<DeviceName, number>} */
  #wish = { microphone: 0, camera: 0 };
  /** @type {MediaDeviceInfo[]} */
  devices = [];

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener('devicechange', () => void this.#plugged());
  }

  get microphone() {
    return this.#state.microphone;
  }

  get camera() {
    return this.#state.camera;
  }

  /** Sound or pictures really leave this page. @param {DeviceName} name */
  isOn(name) {
    const { wanted, track } = this.#state[name];
    return wanted && track?.readyState === 'live' && track.enabled;
  }

  /** Turn both on with one prompt where possible; what one device lacks does not stop the other. */
  async start(microphone = true, camera = true) {
    if (microphone && camera && !this.microphone.track && !this.camera.track) await this.#acquireBoth();
    else {
      if (microphone) await this.#turnOn('microphone');
      if (camera) await this.#turnOn('camera');
    }
  }

  /** @param {boolean} on a muted microphone stays open: unmuting is then instant */
  async setMicrophone(on) {
    const state = this.microphone;
    state.wanted = on;
    if (state.track?.readyState === 'live' && !(on && state.interrupted)) {
      state.track.enabled = on;
      this.emit('change', 'microphone');
    } else if (on) {
      await this.#turnOn('microphone');
    } else {
      this.#wish.microphone += 1;
      state.asking = false;
      this.emit('change', 'microphone');
    }
  }

  /** @param {boolean} on off stops the track, so that the camera's light goes out */
  async setCamera(on) {
    if (on) await this.#turnOn('camera');
    else this.#turnOff('camera');
  }

  /** @param {DeviceName} name @param {string} deviceId */
  async select(name, deviceId) {
    const state = this.#state[name];
    state.deviceId = deviceId;
    if (!state.wanted && !state.track) return;
    const muted = name === 'microphone' && !state.wanted;
    this.#drop(name); // some cameras cannot be open twice, and a phone opens one camera at a time
    await this.#turnOn(name);
    if (muted) await this.setMicrophone(false);
  }

  /** After an interruption: ask anew for what the system took, with one request (an iPhone refuses the second of two). */
  async restore() {
    const taken = /** @type {DeviceName[]} */ (['microphone', 'camera']).filter((name) => {
      const { interrupted, wanted } = this.#state[name];
      return interrupted && wanted;
    });
    for (const name of taken) this.#drop(name);
    await this.start(taken.includes('microphone'), taken.includes('camera'));
  }

  stop() {
    this.#turnOff('microphone');
    this.#turnOff('camera');
  }

  async refreshDevices() {
    if (!navigator.mediaDevices?.enumerateDevices) return;
    const found = await navigator.mediaDevices.enumerateDevices();
    this.devices = found.filter((device) => device.deviceId !== '');
    this.emit('devices', this.devices);
  }

  /** @returns {FailureCode | null} */
  static missing() {
    if (!window.isSecureContext) return 'insecure';
    return 'mediaDevices' in navigator && navigator.mediaDevices ? null : 'unsupported';
  }

  /** Something was plugged in or out: what the page waited for is used at once. */
  async #plugged() {
    await this.refreshDevices();
    for (const name of /** @type {DeviceName[]} */ (['microphone', 'camera'])) {
      const { wanted, asking, failure } = this.#state[name];
      const present = this.devices.some((device) => device.kind === KINDS[name]);
      if (wanted && !asking && present && (failure === 'not_found' || failure === 'unplugged')) await this.#turnOn(name);
    }
  }

  async #acquireBoth() {
    const wishes = { microphone: this.#begin('microphone'), camera: this.#begin('camera') };
    try {
      const stream = await this.#getUserMedia(['microphone', 'camera']);
      for (const track of stream.getTracks()) {
        const name = track.kind === 'audio' ? 'microphone' : 'camera';
        this.#settle(name, wishes[name], track, null);
      }
    } catch (error) {
      const permissions = { microphone: await permissionOf('microphone'), camera: await permissionOf('camera') };
      const refused = failureOf(error, permissions.camera ?? permissions.microphone);
      for (const name of /** @type {DeviceName[]} */ (['microphone', 'camera'])) {
        if (wishes[name] !== this.#wish[name]) continue;
        // A refusal means both, unless one of them is allowed; anything else is the fault of one of them: ask singly.
        const again = permissions[name] === 'granted' || !['blocked_by_browser', 'dismissed', 'timeout'].includes(refused);
        if (again) await this.#turnOn(name);
        else this.#settle(name, wishes[name], null, refused);
      }
    }
    await this.refreshDevices();
  }

  /** @param {DeviceName} name @returns {Promise<void>} */
  async #turnOn(name) {
    const { track, interrupted } = this.#state[name];
    if (track?.readyState === 'live' && !interrupted) {
      this.#state[name].wanted = true;
      track.enabled = true;
      this.emit('change', name);
      return;
    }
    this.#drop(name);
    const wish = this.#begin(name);
    try {
      const stream = await this.#getUserMedia([name]);
      this.#settle(name, wish, stream.getTracks()[0] ?? null, null);
    } catch (error) {
      const state = this.#state[name];
      if (error instanceof DOMException && error.name === 'OverconstrainedError' && state.deviceId && wish === this.#wish[name]) {
        state.deviceId = ''; // the chosen device is gone: the default one is better than none
        return this.#turnOn(name);
      }
      this.#settle(name, wish, null, failureOf(error, await permissionOf(name)));
    }
    await this.refreshDevices();
  }

  /** @param {DeviceName} name */
  #turnOff(name) {
    this.#wish[name] += 1;
    const state = this.#state[name];
    state.wanted = false;
    state.asking = false;
    state.failure = null;
    this.#drop(name);
    this.emit('change', name);
  }

  /** @param {DeviceName} name */
  #drop(name) {
    const state = this.#state[name];
    if (state.track) state.track.onended = state.track.onmute = state.track.onunmute = null;
    state.track?.stop();
    state.track = null;
    state.interrupted = false;
  }

  /** @param {DeviceName} name @returns {number} */
  #begin(name) {
    const state = this.#state[name];
    state.wanted = true;
    state.asking = true;
    state.failure = null;
    this.emit('change', name);
    return ++this.#wish[name];
  }

  /** @param {DeviceName[]} names @returns {Promise<MediaStream>} */
  async #getUserMedia(names) {
    const missing = LocalMedia.missing();
    if (missing) throw new DOMException(missing, missing === 'insecure' ? 'SecurityError' : 'NotSupportedError');
    let asking = true;
    const explain = setTimeout(() => {
      if (!asking) return;
      for (const name of names) {
        this.#state[name].failure = 'timeout'; // the prompt stays open: an answer still counts
        this.emit('change', name);
      }
    }, PROMPT_MS);
    try {
      return await navigator.mediaDevices.getUserMedia({
        audio: names.includes('microphone') && microphoneConstraints(this.microphone.deviceId),
        video: names.includes('camera') && cameraConstraints(this.camera.deviceId),
      });
    } finally {
      asking = false;
      clearTimeout(explain);
    }
  }

  /** @param {DeviceName} name @param {number} wish @param {MediaStreamTrack | null} track @param {FailureCode | null} failure */
  #settle(name, wish, track, failure) {
    const state = this.#state[name];
    if (wish !== this.#wish[name]) {
      track?.stop(); // turned off while the prompt was open
      return;
    }
    state.asking = false;
    state.failure = track ? null : (LocalMedia.missing() ?? failure);
    state.interrupted = track?.muted ?? false;
    state.track = track;
    if (track) {
      if (name === 'camera') track.contentHint = 'motion';
      else track.enabled = state.wanted;
      track.onended = () => this.#ended(name, track);
      track.onmute = () => this.#interrupted(name, track, true);
      track.onunmute = () => this.#interrupted(name, track, false);
    }
    this.emit('change', name);
  }

  /** @param {DeviceName} name @param {MediaStreamTrack} track */
  #ended(name, track) {
    const state = this.#state[name];
    if (state.track !== track) return;
    state.track = null;
    state.failure = 'unplugged';
    state.deviceId = '';
    this.emit('change', name);
    void this.#plugged(); // takes another device when there is one
  }

  /** @param {DeviceName} name @param {MediaStreamTrack} track @param {boolean} interrupted */
  #interrupted(name, track, interrupted) {
    const state = this.#state[name];
    if (state.track !== track) return;
    state.interrupted = interrupted;
    this.emit('change', name);
  }
}
