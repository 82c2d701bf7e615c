// How loud a microphone is, and whether it is silent although it is on. No DOM.

// A closed mute switch or the wrong device gives digital silence or a noise floor below this (linear RMS, 0..1).
const SILENT_RMS = 0.0025;
const SILENT_MS = 5_000;

export class LevelMeter {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {MediaStreamAudioSourceNode | null} */
  #source = null;
  /** @type {AnalyserNode | null} */
  #analyser = null;
  /** @type {Float32Array<ArrayBuffer>} */
  #samples = new Float32Array(1024);
  #quietSince = 0;

  /** @param {MediaStreamTrack | null} track */
  listen(track) {
    this.#source?.disconnect();
    this.#source = null;
    this.#quietSince = 0;
    if (!track) return;
    this.#context ??= new AudioContext();
    this.#analyser ??= this.#context.createAnalyser();
    this.#analyser.fftSize = this.#samples.length;
    this.#source = this.#context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#analyser);
    this.resume();
  }

  /** Without a click on the page browsers keep the audio context suspended; on an iPhone a phone call leaves it
   * `interrupted`. */
  resume() {
    if (this.#context && this.#context.state !== 'running') this.#context.resume().catch(() => undefined);
  }

  /**
   * @param {number} now milliseconds
   * @returns {{level: number, silent: boolean}} level 0..1 on a scale that suits the eye; silent after 5 s of nothing
   */
  read(now) {
    if (!this.#analyser || !this.#source || this.#context?.state !== 'running') return { level: 0, silent: false };
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const rms = Math.sqrt(sum / this.#samples.length);
    if (rms > SILENT_RMS) this.#quietSince = now;
    else this.#quietSince ||= now;
    // −50 dBFS … −10 dBFS is what speech fills
    const level = Math.min(1, Math.max(0, (20 * Math.log10(rms + 1e-6) + 50) / 40));
    return { level, silent: this.#quietSince > 0 && now - this.#quietSince > SILENT_MS };
  }

  close() {
    this.#source?.disconnect();
    this.#source = null;
    this.#context?.close().catch(() => undefined);
    this.#context = null;
    this.#analyser = null;
  }
}
