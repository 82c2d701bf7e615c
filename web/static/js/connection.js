// The WebSocket of one seat: join, resume, heartbeat, reconnecting with backoff, requests and their answers.
// Knows no DOM. Time comes in through tick(now); see docs/protocol.md for the messages.

import { Emitter } from './emitter.js';
import { HEARTBEAT_MS, PROTOCOL_VERSION, decode, encode } from './protocol.js';

/** @typedef {import('./protocol.js').ClientMessage} ClientMessage */
/** @typedef {import('./protocol.js').ServerMessage} ServerMessage */
/** @typedef {import('./protocol.js').Welcome} Welcome */
/** @typedef {import('./protocol.js').EndReason} EndReason */

// The server answers each ping: two and a half heartbeats without a word mean that the socket is dead, although the
// browser shows no sign of it (measured after a network change).
const SILENCE_MS = 5_000;
// A tick this late tells of this machine, not of the network.
export const LATE_MS = 1_000;
const URGENT_SILENCE_MS = 1_500;
const OPENING_MS = 8_000;
const FIRST_RETRY_MS = 150;
const LAST_RETRY_MS = 4_000;
const REQUEST_MS = 10_000;

/** The server would not give a ticket, and asking again will not help. */
export class TicketRefused extends Error {
  /** @param {string} code @param {string} [detail] */
  constructor(code, detail = '') {
    super(detail || code);
    this.code = code;
  }
}

/** A request that was not carried out. `code` as in the protocol's `error`, or `socket_lost`. */
export class RequestFailed extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * @typedef {'idle' | 'connecting' | 'open' | 'lost' | 'closed'} SocketState
 *
 * @typedef {object} ConnectionEvents
 * @property {SocketState} state
 * @property {Welcome} welcome
 * @property {ServerMessage} message everything else that is not an answer
 * @property {EndReason} ended the server said good-bye and this seat does not come back by itself
 * @property {TicketRefused} refused no ticket any more
 */

/** @extends {Emitter<ConnectionEvents>} */
export class Connection extends Emitter {
  /** @type {SocketState} */
  state = 'idle';
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {string | null} */
  #resumeToken = null;
  /** @type {Map<number, {resolve: (message: any) => void, reject: (error: Error) => void, deadline: number}>} */
  #pending = new Map();
  #nextRequest = 1;
  #pings = 0;
  #now = 0;
  #pingedAt = 0;
  #heardAt = 0;
  #openingSince = 0;
  #silenceLimit = SILENCE_MS;
  #retryAt = 0;
  #failures = 0;
  /** grows with each attempt: what an older attempt still does is ignored */
  #attempt = 0;

  /**
   * @param {object} options
   * @param {string} options.url of /ws
   * @param {() => Promise<string>} options.ticket a fresh join ticket; throws TicketRefused when there is none
   * @param {() => {microphone: boolean, camera: boolean}} options.sending what to announce when joining
   * @param {() => string | null} options.lastChat id of the newest chat line the page has
   */
  constructor(options) {
    super();
    this.options = options;
  }

  /** @param {number} now */
  open(now) {
    this.#now = now;
    this.#failures = 0;
    this.#resumeToken = null;
    this.#connect();
  }

  /** Drive heartbeat, deadlines and retries. @param {number} now milliseconds, monotonic */
  tick(now) {
    const gap = now - this.#now;
    this.#now = now;
    if (gap > LATE_MS) {
      // this machine slept or was busy: messages may wait unread, so the silence is not the server's
      this.#heardAt += gap;
      this.#openingSince += gap;
      if (gap > SILENCE_MS) this.probe(now);
    }
    for (const [request, waiting] of this.#pending) {
      if (now > waiting.deadline) {
        this.#pending.delete(request);
        waiting.reject(new RequestFailed('timeout', 'no answer in time'));
      }
    }
    if (this.state === 'open') {
      if (now - this.#heardAt > this.#silenceLimit) this.#lose();
      else if (now - this.#pingedAt >= HEARTBEAT_MS - 250) this.#ping();
    } else if (this.state === 'connecting' && now - this.#openingSince > OPENING_MS) {
      this.#lose();
    } else if (this.state === 'lost' && now >= this.#retryAt) {
      this.#connect();
    }
  }

  /** The network seems to have changed, or the page woke up: find out at once. @param {number} now */
  probe(now) {
    this.#now = now;
    if (this.state === 'open') {
      this.#silenceLimit = URGENT_SILENCE_MS;
      this.#heardAt = Math.max(this.#heardAt, now - 250);
      this.#ping();
    } else if (this.state === 'lost') {
      this.#failures = 0;
      this.#connect();
    }
  }

  /**
   * Send a message that has no answer. It is dropped while the socket is down: `welcome` brings the whole state.
   * @param {ClientMessage} message
   */
  send(message) {
    if (this.state === 'open') this.#socket?.send(encode(message));
  }

  /**
   * @param {any} message a client message without `request`
   * @returns {Promise<any>} the answer (`done`, `published`, …); rejects with RequestFailed
   */
  request(message) {
    if (this.state !== 'open') return Promise.reject(new RequestFailed('socket_lost', 'the connection is down'));
    const request = this.#nextRequest++;
    return new Promise((resolve, reject) => {
      this.#pending.set(request, { resolve, reject, deadline: this.#now + REQUEST_MS });
      this.#socket?.send(encode({ ...message, request }));
    });
  }

  /** Hang up: tell the server, then close for good. */
  leave() {
    this.send({ type: 'leave' });
    this.#close();
  }

  #ping() {
    this.#pingedAt = this.#now;
    this.#pings = (this.#pings + 1) % 2 ** 31;
    this.send({ type: 'ping', n: this.#pings });
  }

  async #connect() {
    const attempt = ++this.#attempt;
    this.#openingSince = this.#now;
    this.#setState('connecting');
    /** @type {ClientMessage} */
    let first;
    if (this.#resumeToken) {
      first = { type: 'resume', token: this.#resumeToken, last_chat: this.options.lastChat() };
    } else {
      try {
        first = { type: 'join', ticket: await this.options.ticket(), version: PROTOCOL_VERSION, ...this.options.sending() };
      } catch (error) {
        if (attempt !== this.#attempt) return;
        if (error instanceof TicketRefused) {
          this.#close();
          this.emit('refused', error);
        } else {
          this.#lose();
        }
        return;
      }
      if (attempt !== this.#attempt) return;
    }
    const socket = new WebSocket(this.options.url);
    this.#openingSince = this.#now;
    this.#socket = socket;
    socket.onopen = () => socket.send(encode(first));
    socket.onmessage = (event) => {
      if (attempt !== this.#attempt) return;
      this.#heardAt = this.#now;
      this.#silenceLimit = SILENCE_MS;
      const message = decode(event.data);
      if (message) this.#receive(message);
    };
    socket.onclose = () => {
      if (attempt === this.#attempt) this.#lose();
    };
  }

  /** @param {ServerMessage} message */
  #receive(message) {
    switch (message.type) {
      case 'pong':
        return;
      case 'welcome':
        this.#resumeToken = message.resume_token;
        this.#failures = 0;
        this.#pingedAt = this.#now;
        this.#setState('open');
        this.emit('welcome', message);
        return;
      case 'published':
      case 'ice_servers':
      case 'done':
        this.#settle(message.request)?.resolve(message);
        return;
      case 'error':
        this.#receiveError(message);
        return;
      case 'ended':
        if (message.reason === 'server') {
          // a restart: its successor knows no resume tokens, so a new ticket is the shorter way
          this.#resumeToken = null;
          this.#lose();
        } else {
          this.#close();
          this.emit('ended', message.reason);
        }
        return;
      default:
        this.emit('message', message);
    }
  }

  /** @param {import('./protocol.js').Error} message */
  #receiveError(message) {
    if (message.request !== null) {
      this.#settle(message.request)?.reject(new RequestFailed(message.code, message.message));
    } else if (message.code === 'bad_resume') {
      this.#resumeToken = null;
      this.#abandon();
      this.#connect();
    } else if (message.code === 'closed' || message.code === 'too_many') {
      this.#close();
      this.emit('refused', new TicketRefused(message.code, message.message));
    } else if (message.code === 'bad_ticket' || message.code === 'too_fast' || message.code === 'too_large') {
      this.#resumeToken = null;
      this.#failures += 2; // these do not get better by hurrying
      this.#lose();
    } else {
      this.emit('message', message);
    }
  }

  /** @param {number} request */
  #settle(request) {
    const waiting = this.#pending.get(request);
    this.#pending.delete(request);
    return waiting;
  }

  #lose() {
    this.#abandon();
    const delay = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#retryAt = this.#now + delay * (0.75 + Math.random() / 2);
    this.#setState('lost');
  }

  #close() {
    this.#abandon();
    this.#resumeToken = null;
    this.#setState('closed');
  }

  #abandon() {
    this.#attempt += 1;
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const waiting of this.#pending.values()) {
      waiting.reject(new RequestFailed('socket_lost', 'the connection is down'));
    }
    this.#pending.clear();
  }

  /** @param {SocketState} state */
  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.emit('state', state);
  }
}
