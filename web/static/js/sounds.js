// The page's own sounds, synthesised: nothing to download, and they play through the chosen speaker.

/** @typedef {[frequency_hz: number, start_s: number, length_s: number][]} Notes */

/** @typedef {'arrival' | 'admitted' | 'message' | 'test'} Tune */

/** @type {Record<Tune, Notes>} */
const TUNES = {
  arrival: [[659, 0, 0.35], [880, 0.18, 0.6]],
  admitted: [[523, 0, 0.3], [659, 0.14, 0.3], [784, 0.28, 0.6]],
  message: [[880, 0, 0.18]],
  test: [[440, 0, 0.4], [554, 0.3, 0.4], [659, 0.6, 0.4], [880, 0.9, 0.8]],
};

export class Sounds {
  /** @type {AudioContext | null} */
  #context = null;
  #speaker = '';

  /** Call from a click: browsers let a page make sounds only after one. */
  unlock() {
    this.#context ??= new AudioContext();
    if (this.#context.state !== 'running') this.#context.resume().catch(() => undefined);
  }

  /** @param {string} deviceId '' is the default speaker */
  setSpeaker(deviceId) {
    this.#speaker = deviceId;
    /** @type {any} */ (this.#context)?.setSinkId?.(deviceId).catch(() => undefined);
  }

  /** @param {Tune} name @returns {number} its length in milliseconds */
  play(name) {
    this.unlock();
    const context = this.#context;
    if (!context) return 0;
    if (this.#speaker) this.setSpeaker(this.#speaker);
    let end = 0;
    for (const [frequency, start, length] of TUNES[name]) {
      const oscillator = context.createOscillator();
      const gain = context.createGain();
      const at = context.currentTime + 0.02 + start;
      oscillator.type = 'sine';
      oscillator.frequency.value = frequency;
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(0.16, at + 0.02);
      gain.gain.exponentialRampToValueAtTime(0.0005, at + length);
      oscillator.connect(gain).connect(context.destination);
      oscillator.start(at);
      oscillator.stop(at + length);
      end = Math.max(end, start + length);
    }
    return end * 1000;
  }
}
