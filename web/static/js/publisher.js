// The publish connection: this page offers, the relay answers. It heals itself as far as it can without the socket.
// No DOM.

import { RequestFailed } from './connection.js';
import { Emitter } from './emitter.js';

/** @typedef {import('./protocol.js').Source} Source */

/**
 * @typedef {object} PublisherEvents
 * @property {RTCPeerConnectionState} state
 * @property {RequestFailed} refused the relay did not take the offer
 */

/** @type {Source[]} */
const ALWAYS = ['microphone', 'camera'];
const KINDS = /** @type {const} */ ({ microphone: 'audio', camera: 'video', screen: 'video', screen_audio: 'audio' });

/** VP8 first (what every browser here encodes and the relay forwards), Opus first; the rest keeps its order. A wish only:
 * Firefox before 128 has no such method, Safaris differ in what they take, and the relay's answer decides anyway.
 * @param {RTCRtpTransceiver} transceiver @param {'audio' | 'video'} kind */
function preferCodec(transceiver, kind) {
  const wanted = kind === 'video' ? 'video/vp8' : 'audio/opus';
  const codecs = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  const rank = (/** @type {RTCRtpCodec} */ codec) => (codec.mimeType.toLowerCase() === wanted ? 0 : 1);
  try {
    if (codecs.length) transceiver.setCodecPreferences?.([...codecs].sort((a, b) => rank(a) - rank(b)));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}

/** @extends {Emitter<PublisherEvents>} */
export class Publisher extends Emitter {
  /** @type {Map<Source, RTCRtpTransceiver>} */
  #transceivers = new Map();
  #busy = false;
  #again = false;
  #restart = false;
  #closed = false;

  /**
   * @param {object} options
   * @param {RTCIceServer[]} options.iceServers
   * @param {(message: any) => Promise<any>} options.request sends a protocol request
   */
  constructor({ iceServers, request }) {
    super();
    this.request = request;
    /** @type {RTCPeerConnection} */
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.pc.onconnectionstatechange = () => this.emit('state', this.pc.connectionState);
    // both m-lines from the start, also without devices: turning a camera on later needs no negotiation
    for (const source of ALWAYS) this.#add(source);
  }

  /** @param {Source} source @param {MediaStreamTrack | null} track */
  async setTrack(source, track) {
    if (this.#closed) return;
    let transceiver = this.#transceivers.get(source);
    if (!transceiver) {
      if (!track) return;
      transceiver = this.#add(source);
    }
    if (transceiver.sender.track !== track) await transceiver.sender.replaceTrack(track);
    if (ALWAYS.includes(source) || this.#closed) return;
    const direction = track ? 'sendonly' : 'inactive';
    if (transceiver.direction !== direction || transceiver.mid === null) {
      transceiver.direction = direction;
      await this.negotiate();
    }
  }

  /** Offer what is to be sent now. Runs one at a time; a call during a run leads to one more run. */
  async negotiate() {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#again && !this.#closed) {
        this.#again = false;
        const iceRestart = this.#restart;
        this.#restart = false;
        await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart }));
        await this.#offer();
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#busy = false;
    }
  }

  /** New ICE credentials at once: the browser tries all its addresses again with what it knows of the relay, so the
   * media may be back before the socket is. */
  async restartIce() {
    this.#restart = true;
    if (this.#busy) {
      // an offer is under way, perhaps for ever: give it the new credentials now
      this.#restart = false;
      await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: true }));
      this.#again = true;
    } else {
      await this.negotiate();
    }
  }

  /** The socket is back: repeat an offer that has no answer. */
  async resync() {
    if (this.pc.signalingState !== 'have-local-offer' || this.#busy) return;
    this.#busy = true;
    try {
      await this.#offer();
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#busy = false;
    }
    if (this.#again) await this.negotiate();
  }

  /** @param {string | null | undefined} mid @returns {Source | null} */
  sourceOf(mid) {
    for (const [source, transceiver] of this.#transceivers) if (transceiver.mid === mid) return source;
    return null;
  }

  close() {
    this.#closed = true;
    this.pc.onconnectionstatechange = null;
    this.pc.close();
  }

  async #offer() {
    /** @type {Record<string, Source>} */
    const sources = {};
    for (const [source, { mid }] of this.#transceivers) if (mid !== null) sources[mid] = source;
    const sdp = this.pc.localDescription?.sdp ?? '';
    const { answer } = await this.request({ type: 'publish', offer: sdp, sources });
    // a newer offer may have been set meanwhile; its own answer follows
    if (this.#closed || ufrag(this.pc.localDescription?.sdp ?? '') !== ufrag(sdp)) return;
    await this.pc.setRemoteDescription({ type: 'answer', sdp: answer });
  }

  /** @param {unknown} error */
  #failed(error) {
    if (this.#closed) return;
    if (!(error instanceof RequestFailed)) {
      // the browser does not take the relay's answer: for the outside as bad as an offer that the relay refuses
      this.emit('refused', new RequestFailed('bad_sdp', String(error)));
    } else if (error.code !== 'socket_lost' && error.code !== 'timeout') {
      this.emit('refused', error);
    } // else: a lost socket, resync() sends the same offer again
  }

  /** @param {Source} source @returns {RTCRtpTransceiver} */
  #add(source) {
    const kind = KINDS[source];
    /** @type {RTCRtpTransceiver} */
    const transceiver = this.pc.addTransceiver(kind, { direction: 'sendonly' });
    preferCodec(transceiver, kind);
    this.#transceivers.set(source, transceiver);
    return transceiver;
  }
}

/** @param {string} sdp */
function ufrag(sdp) {
  return /a=ice-ufrag:(\S+)/.exec(sdp)?.[1];
}
