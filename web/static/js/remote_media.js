// What is received, grouped as it is shown: per participant one stream of camera and microphone, one of the screen.

/** @typedef {import('./protocol.js').TrackInfo} TrackInfo */
/** @typedef {import('./subscriber.js').RemoteTrack} RemoteTrack */
/** @typedef {'main' | 'screen'} Part */
/** @typedef {{participant: string, part: Part, stream: MediaStream, video: boolean, audio: boolean}} RemoteStream */

/** @param {TrackInfo} info @returns {Part} */
function partOf({ source }) {
  return source === 'screen' || source === 'screen_audio' ? 'screen' : 'main';
}

export class RemoteMedia {
  /** @type {Map<string, RemoteStream>} by `participant part` */
  #streams = new Map();
  /** @type {TrackInfo[]} */
  #infos = [];

  /** @returns {TrackInfo[]} */
  tracks() {
    return this.#infos;
  }

  /** @returns {RemoteStream[]} */
  streams() {
    return [...this.#streams.values()];
  }

  /** @param {string} participant @param {Part} part @returns {RemoteStream | null} */
  find(participant, part) {
    return this.#streams.get(`${participant} ${part}`) ?? null;
  }

  /**
   * Take over what is received now. The streams stay the same objects: a <video> goes on without a flash when its
   * track is replaced, and shows the last picture until then.
   * @param {RemoteTrack[]} tracks
   */
  set(tracks) {
    this.#infos = tracks.map(({ info }) => info);
    /** @type {Map<string, MediaStreamTrack[]>} */
    const wanted = new Map();
    for (const { info, track } of tracks) {
      const key = `${info.participant} ${partOf(info)}`;
      wanted.set(key, [...(wanted.get(key) ?? []), track]);
    }
    for (const key of this.#streams.keys()) if (!wanted.has(key)) this.#streams.delete(key);
    for (const [key, members] of wanted) {
      const [participant = '', part] = key.split(' ');
      const stream = this.#streams.get(key)?.stream ?? new MediaStream();
      for (const old of stream.getTracks()) if (!members.includes(old)) stream.removeTrack(old);
      for (const track of members) if (!stream.getTracks().includes(track)) stream.addTrack(track);
      this.#streams.set(key, {
        participant,
        part: part === 'screen' ? 'screen' : 'main',
        stream,
        video: stream.getVideoTracks().length > 0,
        audio: stream.getAudioTracks().length > 0,
      });
    }
  }

  /** @param {string} participant @returns {boolean} whether something was there */
  remove(participant) {
    const main = this.#streams.delete(`${participant} main`);
    return this.#streams.delete(`${participant} screen`) || main;
  }

  /** @param {Set<string>} participants */
  keepOnly(participants) {
    for (const [key, { participant }] of this.#streams) if (!participants.has(participant)) this.#streams.delete(key);
  }
}
