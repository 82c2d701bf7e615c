// @ts-check
// Today: who waits is asked every 5 s; an arrival sounds (when wanted) and shows in the page's title.

const list = document.querySelector("[data-waiting]");
const soundButton = document.querySelector("button[data-sound]");
const title = document.title;
const POLL_MS = 5000;
const SOUND_KEY = "consult-arrival-sound";

/** @type {Set<string>} */
let known = new Set();
let first = true;
/** @type {AudioContext | undefined} */
let audio;

function soundWanted() {
  return localStorage.getItem(SOUND_KEY) === "on";
}

/** Two short tones; nothing when the browser has not allowed sound yet. */
function ring() {
  if (audio === undefined) {
    return;
  }
  for (const [index, frequency] of [660, 880].entries()) {
    const start = audio.currentTime + index * 0.18;
    const oscillator = audio.createOscillator();
    const gain = audio.createGain();
    oscillator.frequency.value = frequency;
    gain.gain.setValueAtTime(0.0001, start);
    gain.gain.exponentialRampToValueAtTime(0.2, start + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.0001, start + 0.3);
    oscillator.connect(gain).connect(audio.destination);
    oscillator.start(start);
    oscillator.stop(start + 0.32);
  }
}

async function poll() {
  try {
    const response = await fetch("/desk/waiting", { headers: { Accept: "application/json" }, cache: "no-store" });
    if (response.status === 401) {
      location.reload();
      return;
    }
    if (response.ok && list instanceof HTMLElement) {
      /** @type {{waiting: string[], html: string}} */
      const answer = await response.json();
      const arrived = answer.waiting.some((id) => !known.has(id));
      const changed = first || arrived || answer.waiting.length !== known.size;
      // the waiting time goes on; replace the list only while nobody is about to use it
      if (changed || !list.contains(document.activeElement)) {
        list.innerHTML = answer.html;
      }
      if (arrived && !first && soundWanted()) {
        ring();
      }
      known = new Set(answer.waiting);
      first = false;
      document.title = known.size > 0 ? `(${known.size}) ${title}` : title;
    }
  } catch {
    // offline: the next poll tries again
  }
  setTimeout(poll, POLL_MS);
}

if (soundButton instanceof HTMLButtonElement) {
  const show = () => soundButton.setAttribute("aria-pressed", String(soundWanted()));
  const unlock = () => {
    if (soundWanted()) {
      audio ??= new AudioContext();
      void audio.resume();
    }
  };
  soundButton.hidden = false;
  show();
  soundButton.addEventListener("click", () => {
    localStorage.setItem(SOUND_KEY, soundWanted() ? "off" : "on");
    show();
    unlock();
    if (soundWanted()) {
      ring();
    }
  });
  // a browser allows sound after the first click anywhere; the start of a touch does not count as one
  document.addEventListener("click", unlock, { once: true });
  document.addEventListener("keydown", unlock, { once: true });
}

if (list !== null) {
  void poll();
}
