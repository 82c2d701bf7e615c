// The subscribe connection: the relay offers, this page answers. No DOM.

import { RequestFailed } from './connection.js';
import { Emitter } from './emitter.js';

/** @typedef {import('./protocol.js').Offer} Offer */
/** @typedef {import('./protocol.js').TrackInfo} TrackInfo */
/** @typedef {{info: TrackInfo, track: MediaStreamTrack, mid: string}} RemoteTrack */

/**
 * @typedef {object} SubscriberEvents
 * @property {RTCPeerConnectionState} state
 * @property {RemoteTrack[]} tracks everything that is received now
 * @property {null} broken the browser could not take an offer: only a fresh connection helps
 */

/** @extends {Emitter<SubscriberEvents>} */
export class Subscriber extends Emitter {
  /** @type {RTCPeerConnection | null} */
  pc = null;
  /** @type {string | null} the relay's SDP session: a new one is a new connection */
  #session = null;
  /** sessions that this page has thrown away: an offer of theirs may still be under way @type {Set<string>} */
  #retired = new Set();
  /** @type {Offer | null} */
  #waiting = null;
  #busy = false;
  #closed = false;
  /** @type {Record<string, TrackInfo>} */
  #infos = {};

  /**
   * @param {object} options
   * @param {RTCIceServer[]} options.iceServers
   * @param {(message: any) => Promise<any>} options.request
   */
  constructor({ iceServers, request }) {
    super();
    this.iceServers = iceServers;
    this.request = request;
  }

  /** @returns {RTCPeerConnectionState} `new` while there is nothing to receive */
  get state() {
    return this.pc?.connectionState ?? 'new';
  }

  /** Ask for a connection that owes nothing to an older one. */
  async startFresh() {
    this.#retire();
    await this.#ask({ type: 'subscribe', fresh: true, restart: false });
  }

  /** The socket is back: ask for the offer that it may have swallowed. @param {boolean} restart */
  async resync(restart) {
    await this.#ask({ type: 'subscribe', fresh: false, restart });
  }

  /** New ICE credentials: locally at once (see Publisher.restartIce), and from the relay as soon as it hears us. */
  async restartIce() {
    const pc = this.pc;
    if (!pc) return;
    if (pc.signalingState === 'stable' && !this.#busy) {
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
    }
    await this.#ask({ type: 'subscribe', fresh: false, restart: true });
  }

  /** Offers are answered in order; of several that wait, only the newest counts. @param {Offer} offer */
  async take(offer) {
    this.#waiting = offer;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#waiting && !this.#closed) {
        const next = this.#waiting;
        this.#waiting = null;
        await this.#answer(next);
      }
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      if (!this.#closed) this.emit('broken', null);
    } finally {
      this.#busy = false;
    }
  }

  /** @param {string | null | undefined} mid @returns {TrackInfo | null} */
  infoOf(mid) {
    return mid ? (this.#infos[mid] ?? null) : null;
  }

  close() {
    this.#closed = true;
    this.#retire();
  }

  /** @param {Offer} message */
  async #answer(message) {
    const session = /^o=\S+ (\S+)/m.exec(message.offer)?.[1] ?? '';
    if (this.#retired.has(session)) return;
    if (session !== this.#session) {
      this.#retire();
      this.#session = session;
      this.pc = this.#connect();
    }
    const pc = this.pc;
    if (!pc) return;
    this.#infos = message.tracks;
    // after a local ICE restart this rolls the local offer back: the relay's new credentials take over
    await pc.setRemoteDescription({ type: 'offer', sdp: message.offer });
    await pc.setLocalDescription();
    if (this.#closed || pc !== this.pc) return;
    this.#announce();
    // not awaited: a slow answer must not hold up the next offer. Stale or lost ones are harmless: a newer offer comes.
    void this.#ask({ type: 'answer', revision: message.revision, answer: pc.localDescription?.sdp ?? '' });
  }

  #connect() {
    const pc = new RTCPeerConnection({ iceServers: this.iceServers, bundlePolicy: 'max-bundle' });
    pc.onconnectionstatechange = () => this.emit('state', pc.connectionState);
    return pc;
  }

  #announce() {
    /** @type {RemoteTrack[]} */
    const tracks = [];
    for (const { mid, currentDirection, receiver } of this.pc?.getTransceivers() ?? []) {
      const info = this.infoOf(mid);
      if (info && mid && (currentDirection === 'recvonly' || currentDirection === 'sendrecv')) {
        tracks.push({ info, track: receiver.track, mid });
      }
    }
    this.emit('tracks', tracks);
  }

  #retire() {
    if (this.#session !== null) this.#retired.add(this.#session);
    this.#session = null;
    this.#waiting = null;
    if (this.pc) {
      this.pc.onconnectionstatechange = null;
      this.pc.close();
    }
    this.pc = null;
  }

  /** A lost socket needs nothing here: its return and the watchdog ask again. When the relay does not know this
   * connection any more, only a fresh one helps. @param {any} message */
  async #ask(message) {
    try {
      await this.request(message);
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      const forgotten = ['no_participant', 'unavailable', 'media_unavailable', 'bad_sdp'].includes(error.code);
      if (forgotten && !this.#closed) this.emit('broken', null);
    }
  }
}
