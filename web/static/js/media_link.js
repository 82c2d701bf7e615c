// The two media connections of a call and their health: built, watched, repaired. Knows no room and no DOM.
// Time comes in through tick(now).

import { LATE_MS } from './connection.js';
import { Emitter } from './emitter.js';
import { Publisher } from './publisher.js';
import { StatsReader, qualityOf, transportOf } from './stats.js';
import { Subscriber } from './subscriber.js';

/** @typedef {import('./stats.js').Quality} Quality */
/** @typedef {import('./protocol.js').StatsSample} StatsSample */

/**
 * @typedef {object} MediaLinkEvents
 * @property {null} change `healthy` or `everConnected` may differ now
 * @property {import('./subscriber.js').RemoteTrack[]} tracks
 * @property {StatsSample[]} samples every 5 s
 * @property {Quality} quality
 * @property {null} blocked connecting takes so long that the network seems to be in the way
 */

// The relay reports back every 50 ms while we send. Nothing for this long: the path is gone.
const STALL_MS = 1_500;
const STALL_BYTES = 2_000;
const WATCH_MS = 500;
const STATS_MS = 5_000;
// How long an ICE restart may take before both connections are built anew.
const RESTART_MS = 4_000;
const LAST_REBUILD_MS = 12_000;
const SILENT_MS = 3_000;
const REFUSED_MS = 1_000;
const BLOCKED_MS = 12_000;
// The estimator needs a while to find out what the uplink can do.
const RAMP_MS = 8_000;

/** @extends {Emitter<MediaLinkEvents>} */
export class MediaLink extends Emitter {
  /** was connected at least once since start() */
  everConnected = false;
  /** somebody else sends something that this page should receive */
  expectsMedia = false;

  #now = 0;
  #running = false;
  #publishes = true;
  #session = '';
  /** @type {MediaStream | null} */
  #screen = null;
  /** @type {RTCIceServer[]} */
  #iceServers = [];
  /** @type {Publisher | null} */
  #publisher = null;
  /** @type {Subscriber | null} */
  #subscriber = null;
  /** whose pictures are still shown while its successor connects @type {Subscriber | null} */
  #older = null;
  #readers = { publish: new StatsReader('publish', () => null), subscribe: new StatsReader('subscribe', () => null) };
  #building = false;
  #builtAt = 0;
  #connectingSince = 0;
  /** while media is broken: since when, and when the next stronger remedy is due
   * @type {{since: number, due: number, rebuilds: number} | null} */
  #recovery = null;
  #publishRetryAt = Infinity;
  #buildAt = Infinity;
  #up = { received: 0, sent: 0, at: 0 };
  #down = { received: 0, at: 0 };
  #pokedAt = 0;
  #watchedAt = 0;
  #watching = false;
  #statsAt = 0;
  /** @type {StatsSample[]} */
  #samples = [];

  /**
   * @param {import('./connection.js').Connection} connection
   * @param {import('./media_devices.js').LocalMedia} media
   */
  constructor(connection, media) {
    super();
    this.connection = connection;
    this.media = media;
    media.on('change', (name) => void this.#publisher?.setTrack(name, media[name].track));
  }

  /** Sound and pictures flow, or would if there were any. */
  get healthy() {
    if (!this.#running || !this.#subscriber || this.#recovery) return false;
    const publishing = !this.#publishes || this.#publisher?.pc.connectionState === 'connected';
    return publishing && !['disconnected', 'failed'].includes(this.#subscriber.state);
  }

  /** @param {RTCIceServer[]} servers with fresh credentials */
  setIceServers(servers) {
    this.#iceServers = servers;
  }

  /** @param {string} session @returns {boolean} whether the connections belong to this media session */
  belongsTo(session) {
    return this.#subscriber !== null && session !== '' && session === this.#session;
  }

  /**
   * Build both connections (anew).
   * @param {string} session '' while no media process is free: another start follows
   * @param {boolean} publishes false for viewers
   */
  start(session, publishes) {
    this.#running = true;
    this.#session = session;
    this.#publishes = publishes;
    this.#recovery = null;
    if (session) void this.#build();
  }

  /** @param {import('./protocol.js').Offer} offer of the subscribe connection */
  takeOffer(offer) {
    void this.#subscriber?.take(offer);
  }

  /** The socket is back and the media may never have stopped: repeat what it could have swallowed. */
  async resync() {
    await this.#refreshIceServers();
    void this.#publisher?.resync();
    void this.#subscriber?.resync(this.#recovery !== null || this.#subscriber.state === 'failed');
  }

  stop() {
    this.#running = false;
    this.#publisher?.close();
    this.#subscriber?.close();
    this.#older?.close();
    this.#publisher = null;
    this.#subscriber = null;
    this.#older = null;
    this.#recovery = null;
    this.#connectingSince = 0;
    this.everConnected = false;
  }

  /** @param {MediaStream | null} screen */
  async setScreen(screen) {
    this.#screen = screen;
    await this.#publishScreen();
  }

  /** Another network: do not wait for silence. */
  networkChanged() {
    if (this.everConnected) this.#recover();
  }

  /** @param {number} now */
  tick(now) {
    const gap = now - this.#now;
    this.#now = now;
    if (!this.#running) return;
    if (gap > LATE_MS) {
      // this machine slept or was busy: what stood still was the page
      this.#up.at += gap;
      this.#down.at += gap;
      this.#builtAt += gap;
    }
    if (now - this.#watchedAt >= WATCH_MS && !this.#watching) {
      this.#watchedAt = now;
      void this.#watch();
    }
    if (now >= this.#publishRetryAt) {
      this.#publishRetryAt = Infinity;
      void this.#publisher?.negotiate();
    }
    if (now >= this.#buildAt) void this.#build();
  }

  async #build() {
    if (this.#building) return;
    this.#building = true;
    this.#buildAt = this.#publishRetryAt = Infinity;
    const session = this.#session;
    await this.#refreshIceServers();
    this.#building = false;
    if (!this.#running || !session) return;
    const old = { publisher: this.#publisher, subscriber: this.#subscriber };
    const options = {
      iceServers: this.#iceServers,
      request: (/** @type {any} */ message) => this.connection.request(message),
    };
    const subscriber = new Subscriber(options);
    // The last pictures stay on the screen until new ones can come: a closed connection's would turn black.
    if (this.#older) old.subscriber?.close();
    else this.#older = old.subscriber;
    /** @type {import('./subscriber.js').RemoteTrack[]} */
    let tracks = [];
    const show = () => {
      if (subscriber !== this.#subscriber || (this.#older && subscriber.state !== 'connected')) return;
      this.#down.at = this.#now;
      this.emit('tracks', tracks);
      this.#older?.close();
      this.#older = null;
    };
    subscriber.on('tracks', (received) => {
      tracks = received;
      show();
    });
    subscriber.on('state', (state) => {
      if (state === 'connected') show();
      this.#changed();
    });
    subscriber.on('broken', () => this.#rebuildSoon());
    this.#subscriber = subscriber;
    this.#publisher = null;
    if (this.#publishes) this.#startPublisher(new Publisher(options));
    this.#readers = {
      publish: new StatsReader('publish', (mid) => this.#publisher?.sourceOf(mid) ?? null),
      subscribe: new StatsReader('subscribe', (mid) => subscriber.infoOf(mid)?.source ?? null),
    };
    this.#builtAt = this.#now;
    this.#up = { received: 0, sent: 0, at: this.#now };
    this.#down = { received: 0, at: this.#now };
    this.#connectingSince ||= this.#now;
    old.publisher?.close();
    void subscriber.startFresh();
    this.#changed();
    if (session !== this.#session) void this.#build(); // replaced while the credentials were fetched
  }

  /** @param {Publisher} publisher */
  async #startPublisher(publisher) {
    this.#publisher = publisher;
    publisher.on('state', () => this.#changed());
    publisher.on('refused', ({ code }) => {
      if (publisher !== this.#publisher || code === 'not_admitted') return;
      // bad_sdp: the same offer would be refused again
      if (code === 'bad_sdp') this.#rebuildSoon();
      else this.#publishRetryAt = this.#now + REFUSED_MS;
    });
    await publisher.setTrack('microphone', this.media.microphone.track);
    await publisher.setTrack('camera', this.media.camera.track);
    if (this.#screen) await this.#publishScreen();
    else await publisher.negotiate();
  }

  #rebuildSoon() {
    this.#buildAt = Math.min(this.#buildAt, this.#now + REFUSED_MS);
  }

  async #publishScreen() {
    const publisher = this.#publisher;
    await publisher?.setTrack('screen', this.#screen?.getVideoTracks()[0] ?? null);
    await publisher?.setTrack('screen_audio', this.#screen?.getAudioTracks()[0] ?? null);
  }

  /** TURN credentials are short-lived; without TURN there is nothing to refresh. */
  async #refreshIceServers() {
    if (this.#iceServers.length === 0 || this.connection.state !== 'open') return;
    try {
      const { ice_servers: servers } = await this.connection.request({ type: 'get_ice_servers' });
      this.#iceServers = iceServersOf(servers);
      this.#publisher?.pc.setConfiguration({ iceServers: this.#iceServers, bundlePolicy: 'max-bundle' });
      this.#subscriber?.pc?.setConfiguration({ iceServers: this.#iceServers, bundlePolicy: 'max-bundle' });
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error; // else: the older ones may still do
    }
  }

  // ---- health -------------------------------------------------------------------------------------------------------

  async #watch() {
    this.#watching = true;
    try {
      const [up, down] = await Promise.all([this.#publisher?.pc.getStats(), this.#subscriber?.pc?.getStats()]);
      if (this.#running) this.#judge(up, down);
    } finally {
      this.#watching = false;
    }
  }

  /** @param {RTCStatsReport | undefined} upReport @param {RTCStatsReport | undefined} downReport */
  #judge(upReport, downReport) {
    const now = this.#now;
    const up = upReport ? transportOf(upReport) : null;
    if (up && (up.bytesReceived !== this.#up.received || !this.everConnected)) {
      this.#up = { received: up.bytesReceived, sent: up.bytesSent, at: now };
    }
    const stalled = up !== null && up.bytesSent - this.#up.sent > STALL_BYTES && now - this.#up.at > STALL_MS;
    const received = downReport ? transportOf(downReport).bytesReceived : 0;
    if (received !== this.#down.received || !this.expectsMedia) this.#down = { received, at: now };
    this.#heal(stalled);
    this.#pokeSilence();

    if (now - this.#statsAt >= STATS_MS) {
      this.#statsAt = now;
      this.#samples = [
        ...(upReport ? this.#readers.publish.read(upReport) : []),
        ...(downReport ? this.#readers.subscribe.read(downReport) : []),
      ].slice(0, 16);
      if (this.#samples.length) this.emit('samples', this.#samples);
    }
    if (!this.everConnected) return;
    const silentMs = Math.max(stalled ? now - this.#up.at : 0, now - this.#down.at);
    const availableOutgoing = now - this.#builtAt > RAMP_MS ? (up?.availableOutgoing ?? null) : null;
    const sendsVideo = this.media.isOn('camera');
    const measured = qualityOf({ silentMs, availableOutgoing, sendsVideo, samples: this.#samples });
    this.emit('quality', this.#recovery ? 'lost' : measured);
  }

  /** @param {boolean} stalled */
  #heal(stalled) {
    const now = this.#now;
    if (!this.#subscriber) return;
    const states = [this.#publisher?.pc.connectionState ?? 'connected', this.#subscriber.state];
    const broken = stalled || states.some((state) => state === 'disconnected' || state === 'failed');
    const pending = states[0] !== 'connected';
    if (this.#recovery) {
      const heard = !this.media.isOn('microphone') || this.#up.at >= this.#recovery.since;
      if (!broken && !pending && heard) this.#recovery = null;
      else if (now >= this.#recovery.due) this.#escalate(this.#recovery);
    } else if (broken && this.everConnected) {
      this.#recover();
    } else if (pending && now - this.#builtAt > 2 * RESTART_MS && this.connection.state === 'open') {
      void this.#build(); // it did not connect: a new try
      if (now - this.#connectingSince > BLOCKED_MS) this.emit('blocked', null);
    }
    this.#changed();
  }

  /** Nothing comes although somebody sends: perhaps the relay lost this connection, perhaps the other side's uplink is
   * broken. Asking tells which, and disturbs nothing. */
  #pokeSilence() {
    if (this.#recovery || this.connection.state !== 'open') return;
    if (this.#now - this.#down.at < SILENT_MS || this.#now - this.#pokedAt < 2 * SILENT_MS) return;
    this.#pokedAt = this.#now;
    void this.#subscriber?.resync(true);
  }

  /** First remedy: new ICE credentials on both, which needs no socket to begin with. */
  #recover() {
    if (this.#recovery) return;
    this.#recovery = { since: this.#now, due: this.#now + RESTART_MS, rebuilds: 0 };
    this.#restartIce();
    this.connection.probe(this.#now);
    this.#changed();
  }

  /** Second remedy: fresh connections; without a socket, the first one again.
   * @param {{since: number, due: number, rebuilds: number}} recovery */
  #escalate(recovery) {
    if (this.connection.state === 'open' && this.#session) {
      recovery.rebuilds += 1;
      recovery.due = this.#now + Math.min(LAST_REBUILD_MS, RESTART_MS * (1 + recovery.rebuilds));
      recovery.since = this.#now;
      void this.#build();
    } else {
      recovery.due = this.#now + RESTART_MS;
      this.#restartIce();
    }
  }

  #restartIce() {
    void this.#publisher?.restartIce();
    void this.#subscriber?.restartIce();
  }

  #changed() {
    if (this.healthy) {
      this.everConnected = true;
      this.#connectingSince = 0;
    }
    this.emit('change', null);
  }
}

/** @param {import('./protocol.js').IceServer[]} servers @returns {RTCIceServer[]} */
export function iceServersOf(servers) {
  return servers.map(({ urls, username, credential }) => (username ? { urls, username, credential } : { urls }));
}
