// One person's call: joins the room, publishes and subscribes, and comes back by itself after a lost socket, a
// replaced relay or a changed network. Emits what the page shows; knows no DOM. Time comes in through tick(now).

import { ChatLog } from './chat_log.js';
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { MediaLink, iceServersOf } from './media_link.js';
import { RemoteMedia } from './remote_media.js';

// the server takes one chat line a second when many come at once
const CHAT_PAUSE_MS = 1000;

/** @typedef {import('./protocol.js').ParticipantInfo} ParticipantInfo */
/** @typedef {import('./protocol.js').EndReason} EndReason */
/** @typedef {import('./stats.js').Quality} Quality */
/** @typedef {'prejoin' | 'waiting' | 'connecting' | 'connected' | 'reconnecting' | 'ended'} CallState */

/**
 * @typedef {object} CallEvents
 * @property {CallState} state
 * @property {boolean} admitted let in (true) or sent to wait (false)
 * @property {ParticipantInfo[]} participants the others
 * @property {ParticipantInfo} arrived someone waits or came in
 * @property {import('./chat_log.js').Entry | null} chat the new line of somebody else, null for other changes
 * @property {null} remote the received media changed
 * @property {null} screen the own screen share started or stopped
 * @property {Quality} quality
 * @property {'media_blocked' | 'request_failed'} notice
 * @property {EndReason | 'closed' | 'bad_ticket' | string} ended why; also the code of a refused ticket
 */

/** @extends {Emitter<CallEvents>} */
export class Call extends Emitter {
  /** @type {CallState} */
  state = 'prejoin';
  /** @type {ParticipantInfo | null} */
  you = null;
  /** the others @type {Map<string, ParticipantInfo>} */
  participants = new Map();
  remotes = new RemoteMedia();
  chat = new ChatLog();
  /** @type {string | null} since when two people talk, ISO 8601 */
  startedAt = null;
  /** @type {string | null} */
  closesAt = null;
  /** server's clock − this machine's, ms */
  clockOffset = 0;
  /** @type {MediaStream | null} */
  screen = null;

  #now = 0;
  #ended = false;
  #flushing = false;
  /** the media state that the server was told */
  #told = '';
  #videoWanted = true;

  /**
   * @param {object} options
   * @param {string} options.url of /ws
   * @param {() => Promise<string>} options.ticket
   * @param {import('./media_devices.js').LocalMedia} options.media
   */
  constructor({ url, ticket, media }) {
    super();
    this.media = media;
    this.connection = new Connection({
      url,
      ticket,
      sending: () => ({ microphone: media.isOn('microphone'), camera: media.isOn('camera') }),
      lastChat: () => this.chat.lastId(),
    });
    this.connection.on('state', () => this.#evaluate());
    this.connection.on('welcome', (welcome) => this.#welcome(welcome));
    this.connection.on('message', (message) => this.#receive(message));
    this.connection.on('ended', (reason) => this.#end(reason));
    this.connection.on('refused', (refused) => this.#end(refused.code));
    this.link = new MediaLink(this.connection, media);
    this.link.on('change', () => this.#evaluate());
    this.link.on('tracks', (tracks) => this.#tracksChanged(tracks));
    this.link.on('samples', (samples) => this.connection.send({ type: 'stats', samples }));
    this.link.on('quality', (quality) => this.emit('quality', quality));
    this.link.on('blocked', () => this.emit('notice', 'media_blocked'));
    media.on('change', () => this.#announceMedia());
  }

  /** Join, or come back after `ended`. @param {number} now */
  start(now) {
    this.#now = now;
    this.#ended = false;
    this.you = null;
    this.connection.open(now);
    this.#evaluate();
  }

  leave() {
    this.connection.leave();
    this.#end('left');
  }

  /** Specialist: end the consultation for everybody. */
  finish() {
    return this.#request({ type: 'finish' });
  }

  /** @param {string} participant */
  admit(participant) {
    return this.#request({ type: 'admit', participant });
  }

  /** @param {string} participant */
  refuse(participant) {
    return this.#request({ type: 'refuse', participant });
  }

  /** @param {string} text */
  sendChat(text) {
    this.chat.write(text, this.you?.name ?? '', new Date(Date.now() + this.clockOffset).toISOString());
    this.emit('chat', null);
    void this.#flushChat();
  }

  /** @param {string} id of a line that could not be sent */
  retryChat(id) {
    this.chat.retry(id);
    void this.#flushChat();
  }

  /** Call from a click. Throws what getDisplayMedia throws; NotAllowedError means that the person chose not to. */
  async shareScreen() {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } }, audio: true });
    const [video] = stream.getVideoTracks();
    if (!video) return;
    video.contentHint = 'detail';
    video.onended = () => this.stopScreen();
    this.screen = stream;
    await this.link.setScreen(this.screen);
    this.#announceMedia();
    this.emit('screen', null);
  }

  async stopScreen() {
    for (const track of this.screen?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this.screen = null;
    this.#announceMedia();
    this.emit('screen', null);
    await this.link.setScreen(this.screen);
  }

  /** Nobody looks: stop receiving pictures, keep the sound. @param {boolean} wanted */
  setVideoWanted(wanted) {
    if (wanted === this.#videoWanted) return;
    this.#videoWanted = wanted;
    this.#participantsChanged();
    for (const { id, kind } of this.remotes.tracks()) {
      if (kind === 'video') void this.#request({ type: 'pause', track: id, paused: !wanted });
    }
  }

  /** The browser reports another network: do not wait for silence. */
  networkChanged() {
    this.connection.probe(this.#now);
    this.link.networkChanged();
  }

  /** The page woke up, or the network may have changed. */
  wake() {
    this.connection.probe(this.#now);
  }

  /** @param {number} now milliseconds, monotonic */
  tick(now) {
    this.#now = now;
    if (this.state === 'prejoin' || this.#ended) return;
    this.connection.tick(now);
    this.link.tick(now);
  }

  // ---- messages -----------------------------------------------------------------------------------------------------

  /** @param {import('./protocol.js').Welcome} welcome */
  #welcome(welcome) {
    this.you = welcome.you;
    this.link.setIceServers(iceServersOf(welcome.ice_servers));
    this.clockOffset = Date.parse(welcome.server_time) - Date.now();
    this.startedAt = welcome.started_at;
    this.closesAt = welcome.closes_at;
    this.#setParticipants(welcome.participants);
    this.chat.merge(welcome.chat);
    this.emit('chat', null);
    this.#told = '';
    this.emit('admitted', welcome.you.admitted);
    if (welcome.you.admitted) {
      if (this.link.belongsTo(welcome.media_session)) void this.link.resync();
      else this.#startMedia(welcome.media_session);
      void this.#flushChat();
    } else {
      this.link.stop();
    }
    this.#announceMedia();
    this.#evaluate();
  }

  /** @param {import('./protocol.js').ServerMessage} message */
  #receive(message) {
    switch (message.type) {
      case 'admitted':
        if (this.you) this.you = { ...this.you, admitted: true, presence: 'joined' };
        this.startedAt = message.started_at;
        this.#setParticipants(message.participants);
        this.chat.merge(message.chat);
        this.emit('chat', null);
        this.emit('admitted', true);
        this.#startMedia(message.media_session);
        this.#announceMedia();
        break;
      case 'started':
        this.startedAt = message.started_at;
        break;
      case 'participant_changed': {
        const { participant } = message;
        if (participant.id === this.you?.id) {
          this.you = participant;
          break;
        }
        const before = this.participants.get(participant.id);
        this.participants.set(participant.id, participant);
        this.#participantsChanged();
        if (!before || before.admitted !== participant.admitted) this.emit('arrived', participant);
        break;
      }
      case 'participant_left':
        this.participants.delete(message.participant);
        if (this.remotes.remove(message.participant)) this.emit('remote', null);
        this.#participantsChanged();
        break;
      case 'offer':
        this.link.takeOffer(message);
        break;
      case 'chat': {
        const entry = this.chat.add(message.line);
        this.emit('chat', entry && message.line.participant !== this.you?.id ? entry : null);
        break;
      }
      case 'media_reset':
        this.#startMedia(message.media_session);
        break;
      default:
        break; // errors without a request: nothing that this page could repeat
    }
    this.#evaluate();
  }

  /** @param {ParticipantInfo[]} participants */
  #setParticipants(participants) {
    this.participants = new Map(participants.filter(({ id }) => id !== this.you?.id).map((one) => [one.id, one]));
    this.remotes.keepOnly(new Set(this.participants.keys()));
    this.#participantsChanged();
    this.emit('remote', null);
  }

  /** One at a time: lines go in the order they were written, each once. */
  async #flushChat() {
    if (this.#flushing) return;
    this.#flushing = true;
    try {
      for (let entry = this.chat.unsent()[0]; entry; entry = this.chat.unsent()[0]) {
        try {
          await this.connection.request({ type: 'send_chat', id: entry.id, text: entry.text });
          this.chat.sent(entry.id);
        } catch (error) {
          const code = error instanceof Error && 'code' in error ? error.code : '';
          // a lost socket: it is sent again after the next welcome, under the same id
          if (code === 'socket_lost' || code === 'timeout') return;
          if (code === 'too_fast') await new Promise((done) => setTimeout(done, CHAT_PAUSE_MS));
          else this.chat.failed(entry.id);
        }
        this.emit('chat', null);
      }
    } finally {
      this.#flushing = false;
    }
  }

  /** @param {any} message @returns {Promise<boolean>} whether it was carried out */
  async #request(message) {
    try {
      await this.connection.request(message);
      return true;
    } catch {
      if (message.type !== 'pause') this.emit('notice', 'request_failed');
      return false;
    }
  }

  /** @param {string} reason */
  #end(reason) {
    if (this.#ended) return;
    this.#ended = true;
    this.link.stop();
    this.remotes.keepOnly(new Set());
    this.participants.clear();
    for (const track of this.screen?.getTracks() ?? []) track.stop();
    this.screen = null;
    this.#evaluate();
    this.emit('ended', reason);
  }

  // ---- what this page sends -----------------------------------------------------------------------------------------

  #announceMedia() {
    if (!this.you?.admitted || this.connection.state !== 'open') return;
    // what the system took away (a phone call) is off for the others: a name instead of a black picture
    const sends = (/** @type {'microphone' | 'camera'} */ name) => this.media.isOn(name) && !this.media[name].interrupted;
    const state = {
      microphone: sends('microphone'),
      camera: sends('camera'),
      screen: this.screen !== null,
    };
    const key = JSON.stringify(state);
    if (key === this.#told) return;
    this.#told = key;
    this.connection.send({ type: 'media_state', ...state });
  }

  /** @param {string} session */
  #startMedia(session) {
    this.link.start(session, this.you?.role !== 'viewer');
  }

  /** @param {import('./subscriber.js').RemoteTrack[]} tracks */
  #tracksChanged(tracks) {
    const known = new Set(this.remotes.tracks().map(({ id }) => id));
    this.remotes.set(tracks);
    this.emit('remote', null);
    if (this.#videoWanted) return;
    for (const { info } of tracks) {
      if (info.kind === 'video' && !known.has(info.id)) void this.#request({ type: 'pause', track: info.id, paused: true });
    }
  }

  #participantsChanged() {
    const others = [...this.participants.values()];
    this.link.expectsMedia = others.some(
      (one) => one.presence === 'joined' && one.admitted && (one.microphone || (one.camera && this.#videoWanted)),
    );
    this.emit('participants', others);
  }

  #evaluate() {
    const next = this.#nextState();
    if (next === this.state) return;
    this.state = next;
    this.emit('state', next);
  }

  /** @returns {CallState} */
  #nextState() {
    if (this.#ended) return 'ended';
    if (!this.you) return 'connecting';
    const open = this.connection.state === 'open';
    if (!this.you.admitted) return open ? 'waiting' : 'reconnecting';
    if (open && this.link.healthy) return 'connected';
    return this.link.everConnected || !open ? 'reconnecting' : 'connecting';
  }
}
