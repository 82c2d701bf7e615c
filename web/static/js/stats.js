// What getStats says about both connections, as the samples of the session log and as one word for the reader. No DOM.

/** @typedef {import('./protocol.js').StatsSample} StatsSample */
/** @typedef {import('./protocol.js').Source} Source */
/** @typedef {'good' | 'non_optimal' | 'poor' | 'lost'} Quality */

// Targets of the quality word: 720p at 30 fps, and speech.
export const VIDEO_TARGET_BPS = 1_500_000;
export const AUDIO_TARGET_BPS = 32_000;

/**
 * @typedef {object} Transport
 * @property {number} bytesSent
 * @property {number} bytesReceived
 * @property {number | null} availableOutgoing bits per second
 * @property {number | null} rtt_ms
 */

/** @param {RTCStatsReport} report @returns {Transport} */
export function transportOf(report) {
  /** @type {Transport} */
  const found = { bytesSent: 0, bytesReceived: 0, availableOutgoing: null, rtt_ms: null };
  // Firefox counts the bytes of each candidate pair only
  const pairs = { bytesSent: 0, bytesReceived: 0 };
  for (const entry of report.values()) {
    if (entry.type === 'transport') {
      found.bytesSent += entry.bytesSent ?? 0;
      found.bytesReceived += entry.bytesReceived ?? 0;
    } else if (entry.type === 'candidate-pair') {
      pairs.bytesSent += entry.bytesSent ?? 0;
      pairs.bytesReceived += entry.bytesReceived ?? 0;
      if (!entry.nominated || entry.state !== 'succeeded') continue;
      found.availableOutgoing = entry.availableOutgoingBitrate ?? found.availableOutgoing;
      if (entry.currentRoundTripTime !== undefined) found.rtt_ms = entry.currentRoundTripTime * 1000;
    }
  }
  return found.bytesSent || found.bytesReceived ? found : { ...found, ...pairs };
}

/** @param {number | undefined} value @param {number} low @param {number} high @returns {number | null} */
function within(value, low, high) {
  return value === undefined || !Number.isFinite(value) ? null : Math.min(high, Math.max(low, value));
}

/** Turns reports of one connection into samples of what changed since the report before. */
export class StatsReader {
  /** @type {Map<string, any>} by id of the report before */
  #before = new Map();

  /**
   * @param {'publish' | 'subscribe'} direction
   * @param {(mid: string | undefined) => Source | null} sourceOf
   */
  constructor(direction, sourceOf) {
    this.direction = direction;
    this.sourceOf = sourceOf;
  }

  /** @param {RTCStatsReport} report @returns {StatsSample[]} empty at the first report */
  read(report) {
    const wanted = this.direction === 'publish' ? 'outbound-rtp' : 'inbound-rtp';
    const { rtt_ms } = transportOf(report);
    const remotes = new Map([...report.values()].filter((one) => one.type === 'remote-inbound-rtp').map((one) => [one.localId, one]));
    /** @type {StatsSample[]} */
    const samples = [];
    const now = new Map();
    for (const entry of report.values()) {
      if (entry.type !== wanted) continue;
      now.set(entry.id, entry);
      const source = this.sourceOf(entry.mid);
      const before = this.#before.get(entry.id);
      if (!source || !before || entry.timestamp <= before.timestamp) continue;
      const sample = this.#sample(entry, before, remotes.get(entry.id), source, rtt_ms, report);
      if (sample) samples.push(sample);
    }
    this.#before = now;
    return samples;
  }

  /** @param {any} entry @param {any} before @param {any} remote @param {Source} source @param {number | null} rtt
   * @param {RTCStatsReport} report @returns {StatsSample | null} null while nothing flows */
  #sample(entry, before, remote, source, rtt, report) {
    const seconds = (entry.timestamp - before.timestamp) / 1000;
    const publish = this.direction === 'publish';
    const bytes = publish ? entry.bytesSent - before.bytesSent : entry.bytesReceived - before.bytesReceived;
    if (!(bytes > 0)) return null;
    let loss;
    if (publish) {
      loss = remote?.fractionLost;
    } else {
      const lost = Math.max(0, (entry.packetsLost ?? 0) - (before.packetsLost ?? 0));
      const received = Math.max(0, entry.packetsReceived - before.packetsReceived);
      loss = lost + received > 0 ? lost / (lost + received) : undefined;
    }
    const jitter = publish ? remote?.jitter : entry.jitter;
    const roundTrip = publish && remote?.roundTripTime !== undefined ? remote.roundTripTime * 1000 : (rtt ?? undefined);
    const mimeType = /** @type {any} */ (report.get(entry.codecId))?.mimeType ?? '';
    const freezes = publish ? undefined : (entry.freezeCount ?? 0) - (before.freezeCount ?? 0);
    const video = entry.kind === 'video';
    return {
      direction: this.direction,
      kind: entry.kind,
      source,
      bitrate_bps: Math.round((bytes * 8) / seconds),
      codec: String(mimeType).split('/')[1]?.slice(0, 16).replace(/[^A-Za-z0-9_-]/g, '') ?? '',
      loss: within(loss, 0, 1),
      rtt_ms: within(roundTrip, 0, 600_000),
      jitter_ms: within(jitter === undefined ? undefined : jitter * 1000, 0, 600_000),
      width: video ? within(entry.frameWidth, 0, 16_384) : null,
      height: video ? within(entry.frameHeight, 0, 16_384) : null,
      frames_per_second: video ? within(entry.framesPerSecond, 0, 480) : null,
      freezes: video ? within(freezes, 0, 100_000) : null,
    };
  }
}

/**
 * How the call feels, in one word: the share of the target bitrate that gets through (≥ 50 % good, ≥ 30 % non-optimal,
 * else poor), `lost` after 3 s without media. Upwards that is what the browser's estimator grants; downwards what a
 * still picture needs says little, so loss, freezes and the frame rate stand for it.
 *
 * @param {object} measured
 * @param {number} measured.silentMs since something last came or went on a connection that should carry media
 * @param {number | null} measured.availableOutgoing bits per second
 * @param {boolean} measured.sendsVideo
 * @param {StatsSample[]} measured.samples of the last interval
 * @returns {Quality}
 */
export function qualityOf({ silentMs, availableOutgoing, sendsVideo, samples }) {
  if (silentMs > 3_000) return 'lost';
  let share = 1;
  if (availableOutgoing !== null && sendsVideo) share = availableOutgoing / VIDEO_TARGET_BPS;
  for (const sample of samples) {
    const loss = sample.loss ?? 0;
    // 2 % is repaired unnoticed, 10 % is heard, 20 % is hard to follow
    share = Math.min(share, loss < 0.02 ? 1 : loss < 0.05 ? 0.6 : loss < 0.1 ? 0.45 : loss < 0.2 ? 0.29 : 0.1);
    if (sample.direction === 'subscribe' && sample.source === 'camera') {
      const fps = sample.frames_per_second ?? 30;
      share = Math.min(share, fps >= 12 ? 1 : fps >= 7 ? 0.45 : 0.2);
      share = Math.min(share, (sample.freezes ?? 0) >= 2 ? 0.45 : 1);
    }
    if ((sample.rtt_ms ?? 0) > 500) share = Math.min(share, 0.45);
  }
  return share >= 0.5 ? 'good' : share >= 0.3 ? 'non_optimal' : 'poor';
}
