// The call page: binds the call to the document. One screen at a time: gate → pre-join → waiting → call → ended.

import { Call } from './call.js';
import { JoinApi } from './join_api.js';
import { LocalMedia } from './media_devices.js';
import { Announcer } from './room/announcer.js';
import { Bar } from './room/bar.js';
import { ChatPanel } from './room/chat_panel.js';
import { DevicesForm } from './room/devices_form.js';
import { byId, onClick, setText } from './room/dom.js';
import { Gate } from './room/gate.js';
import { giveWayToKeyboard } from './room/keyboard.js';
import { Prejoin } from './room/prejoin.js';
import { Queue } from './room/queue.js';
import { SelfView } from './room/self_view.js';
import { Stage } from './room/stage.js';
import { Seat } from './seat.js';
import { Sounds } from './sounds.js';
import { clockText, setTexts, shortTime, text } from './texts.js';
import { startTicker } from './ticker.js';

/** @typedef {'gate' | 'prejoin' | 'waiting' | 'call' | 'ended'} Screen */

const LEVEL_MS = 100;
const INTERRUPTED_MS = 1_500;
const HIDDEN_MS = 30_000;
/** these are final: no button to return */
const FINAL = ['finished', 'cancelled', 'expired', 'closed'];
/** @type {Record<string, string>} */
const END_ICONS = { left: 'check', finished: 'check', cancelled: 'close', refused: 'clock', expired: 'clock' };
const KNOWN_ENDS = [...FINAL, 'left', 'refused', 'removed', 'signed_out', 'replaced', 'too_many'];

const page = byId('page');
const language = page.dataset['language'] ?? 'en';
const zone = page.dataset['zone'] || Intl.DateTimeFormat().resolvedOptions().timeZone;
setTexts(JSON.parse(byId('texts', HTMLScriptElement).textContent ?? '{}'));

const [, , consultation = ''] = location.pathname.split('/');
const seat = new Seat(consultation);
seat.take(location.hash);
// the link opened again in this tab: another one is another seat, the same one after the end is a new beginning
addEventListener('hashchange', () => {
  if (seat.take(location.hash) || (location.hash && call.state === 'ended')) location.reload();
});
addEventListener('pagehide', () => seat.remember({ hiddenAt: Date.now() }));

const api = new JoinApi(`/join/${consultation}`, seat.token);
const media = new LocalMedia();
const sounds = new Sounds();
const announcer = new Announcer();
const call = new Call({
  url: `${location.origin.replace(/^http/, 'ws')}/ws`,
  ticket: () => api.ticket(),
  media,
});
const stage = new Stage(call);
const chat = new ChatPanel(call, language, (entry) => {
  sounds.play('message');
  announcer.note(text('chat_new', { name: entry.name, text: entry.text.slice(0, 120) }));
  announcer.addBadge();
});
const queue = new Queue(call);
const selfView = new SelfView(media);
const prejoin = new Prejoin({ media, sounds, speakerChosen: chooseSpeaker, join: () => start() });
const callDevices = new DevicesForm(byId('call-devices'), media, sounds, chooseSpeaker);
const bar = new Bar({ call, media, announcer, chat, mainVideo: () => stage.mainVideo(), leave: () => call.leave() });
const gate = new Gate({ api, language, zone, opened, shown: () => show('gate') });

/** @type {Screen} */
let screen = 'gate';
let hiddenSince = 0;
let soonTold = false;
/** since when the system has a device in its hands @type {Record<'microphone' | 'camera', number>} */
const interruptedSince = { microphone: 0, camera: 0 };

// ---- screens ------------------------------------------------------------------------------------------------------

/** @param {Screen} next */
function show(next) {
  const changed = next !== screen;
  screen = next;
  for (const name of ['gate', 'prejoin', 'waiting', 'call', 'ended']) byId(name).hidden = name !== next;
  document.body.classList.toggle('in-call', next === 'call');
  // screen readers go on from the new screen's beginning
  if (changed) byId('main').focus({ preventScroll: true });
}

/** @param {import('./join_api.js').Preview} preview */
function opened(preview) {
  prejoin.describe(preview, language, zone);
  selfView.setName(preview.participant.name);
  const other = preview.participant.role === 'specialist' ? preview.service : preview.specialist;
  announcer.setTitle([other, page.dataset['practice']].filter(Boolean).join(' · '));
  if (seat.joined && call.state === 'prejoin') {
    // a reload in the middle of the call: straight back to the same seat
    void media.start(seat.wanted.microphone, seat.wanted.camera);
    start();
  } else if (call.state === 'prejoin') {
    show('prejoin');
    void prejoin.resume(seat.wanted);
  }
}

function start() {
  const join = byId('join', HTMLButtonElement);
  join.disabled = true;
  setText(join, text('connecting'));
  seat.remember({ joined: true, microphone: media.microphone.wanted, camera: media.camera.wanted });
  seat.hideToken();
  soonTold = false;
  call.start(performance.now());
}

call.on('state', (state) => {
  const before = document.documentElement.dataset['callState'];
  document.documentElement.dataset['callState'] = state;
  showReconnecting();
  if (state === 'waiting') show('waiting');
  else if (call.you?.admitted && (state === 'connecting' || state === 'connected')) show('call');
  if (state === 'connected' && before === 'reconnecting') announcer.say(text('reconnected'));
  if (state === 'reconnecting') announcer.alert(text('reconnecting'));
  else announcer.alert('');
  showEmptyStage();
});

call.on('admitted', (admitted) => {
  if (!admitted) {
    const name = gate.preview?.specialist ?? '';
    setText(byId('waiting-title'), name ? text('waiting_for', { name }) : text('waiting_somebody'));
    show('waiting');
    return;
  }
  if (screen === 'waiting') {
    sounds.play('admitted');
    announcer.say(text('you_are_in'));
    announcer.addBadge();
  }
  selfView.setName(call.you?.name ?? '');
  show('call');
  showEmptyStage();
});

call.on('ended', (reason) => {
  const join = byId('join', HTMLButtonElement);
  join.disabled = false;
  setText(join, text('join_again'));
  show('ended'); // first: what is switched off from here on is not what the person wants when they return
  media.stop();
  for (const dialog of document.querySelectorAll('dialog[open]')) /** @type {HTMLDialogElement} */ (dialog).close();
  if (document.pictureInPictureElement) void document.exitPictureInPicture();
  if (document.fullscreenElement) void document.exitFullscreen();
  if (reason !== 'replaced') seat.remember({ joined: false });
  const known = KNOWN_ENDS.includes(reason) ? reason : 'other';
  byId('ended-icon').querySelector('use')?.setAttribute('href', `#icon-${END_ICONS[known] ?? 'info'}`);
  setText(byId('ended-title'), text(`ended_${known}_title`));
  setText(byId('ended-text'), text(`ended_${known}_text`));
  if (call.you?.role === 'specialist') {
    // where the notes are, and who is next
    byId('ended-home', HTMLAnchorElement).href = '/desk';
    setText(byId('ended-home'), text('to_desk'));
  }
  byId('return').hidden = FINAL.includes(reason);
  setText(byId('return'), text(reason === 'refused' || reason === 'removed' ? 'ask_again' : 'return'));
  // no ticket any more: the gate knows the words for too early, over, and a link that was replaced
  if (known === 'other') void gate.check();
});

onClick('return', () => {
  sounds.unlock();
  void media.start(seat.wanted.microphone, seat.wanted.camera);
  start();
});
onClick('waiting-leave', () => call.leave());

function showReconnecting() {
  const lost = call.state === 'reconnecting';
  byId('reconnecting').hidden = !(lost && call.you?.admitted);
  setText(byId('waiting-text'), text(lost ? 'waiting_offline' : 'waiting_text'));
}

function showEmptyStage() {
  const connecting = call.state === 'connecting';
  setText(byId('stage-empty-title'), text(connecting ? 'connecting' : 'alone_title'));
  const specialist = call.you?.role === 'specialist';
  setText(byId('stage-empty-text'), connecting ? '' : text(specialist ? 'alone_specialist' : 'alone_client'));
}

// ---- the others -----------------------------------------------------------------------------------------------------

/** those in the call, by id, to tell who came and went @type {Map<string, string>} */
let inside = new Map();

call.on('participants', (participants) => {
  const now = new Map(participants.filter(({ admitted }) => admitted).map(({ id, name }) => [id, name]));
  if (screen === 'call' && call.state === 'connected') {
    for (const [id, name] of now) if (!inside.has(id)) announcer.note(text('joined', { name }));
    for (const [id, name] of inside) if (!now.has(id)) announcer.note(text('left', { name }));
  }
  inside = now;
});

call.on('arrived', (participant) => {
  if (participant.admitted || call.you?.role !== 'specialist') return;
  sounds.play('arrival');
  announcer.say(text('queue_arrived', { name: participant.name }));
  announcer.addBadge();
});

call.on('quality', (quality) => {
  byId('quality').hidden = false;
  byId('quality').dataset['quality'] = quality;
  const words = text(`quality_${quality}`);
  setText(byId('quality-text'), words);
  byId('quality').title = words;
  setText(byId('info-quality'), words);
});

call.on('notice', (code) => announcer.note(text(code)));

// ---- devices ----------------------------------------------------------------------------------------------------------

/** @param {string} deviceId */
function chooseSpeaker(deviceId) {
  sounds.setSpeaker(deviceId);
  stage.setSpeaker(deviceId);
}

media.on('change', (name) => {
  const state = media[name];
  if (screen !== 'ended' && !state.asking) seat.remember({ [name]: state.wanted });
  if (screen === 'call' && state.failure) announcer.note(text(`${name}_${state.failure}`));
});

onClick('tap-to-restore', () => void media.restore());

/** @param {number} now */
function showInterruption(now) {
  /** @type {'microphone' | 'camera' | null} */
  let taken = null;
  for (const name of /** @type {const} */ (['microphone', 'camera'])) {
    if (!media[name].interrupted || !media[name].wanted) interruptedSince[name] = 0;
    else interruptedSince[name] ||= now;
    if (interruptedSince[name] && now - interruptedSince[name] > INTERRUPTED_MS) taken = name;
  }
  byId('tap-to-restore').hidden = taken === null;
  if (taken) setText(byId('tap-to-restore-text'), text(`restore_${taken}`));
}

// ---- time -------------------------------------------------------------------------------------------------------------

startTicker((now) => {
  call.tick(now);
  gate.tick(now);
  if (screen === 'call') {
    queue.tick();
    showTimer();
    showInterruption(now);
  } else if (screen === 'waiting' && call.you) {
    const since = Date.parse(call.you.since);
    const duration = clockText((Date.now() + call.clockOffset - since) / 1000);
    setText(byId('waiting-since'), text('waiting_since', { time: shortTime(call.you.since, language), duration }));
  }
  if (hiddenSince && now - hiddenSince > HIDDEN_MS && !document.pictureInPictureElement) call.setVideoWanted(false);
});

function showTimer() {
  byId('call-timer-box').hidden = call.startedAt === null;
  const serverNow = Date.now() + call.clockOffset;
  if (call.startedAt) setText(byId('call-timer'), clockText((serverNow - Date.parse(call.startedAt)) / 1000));
  const minutesLeft = call.closesAt ? (Date.parse(call.closesAt) - serverNow) / 60_000 : Infinity;
  if (minutesLeft < 5 && minutesLeft > 0 && !soonTold) {
    soonTold = true;
    announcer.note(text('closes_soon', { minutes: Math.ceil(minutesLeft) }));
  }
}

setInterval(() => {
  if (document.visibilityState !== 'visible' || screen === 'gate' || screen === 'ended') return;
  const { level } = prejoin.tick(performance.now());
  if (screen === 'call') {
    bar.showLevel(level);
    callDevices.showLevel(level);
  }
}, LEVEL_MS);

// ---- the world outside --------------------------------------------------------------------------------------------------

addEventListener('online', () => call.networkChanged());
const network = /** @type {any} */ (navigator).connection;
let networkType = network?.type;
network?.addEventListener?.('change', () => {
  // it also fires when only the estimated speed differs
  if (network.type !== undefined && network.type !== networkType) call.networkChanged();
  else call.wake();
  networkType = network.type;
});
addEventListener('pageshow', (event) => {
  if (event.persisted) call.wake();
});
addEventListener('pointerup', () => revive());
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') {
    hiddenSince = 0;
    call.setVideoWanted(true);
    call.wake();
    revive();
    void keepAwake();
  } else {
    hiddenSince = performance.now();
    seat.remember({ hiddenAt: Date.now() }); // a phone that needs the memory throws pages out without a pagehide
  }
});

/** iOS stops pictures and sounds for a phone call or in the background, and starts them again at the page's wish only. */
function revive() {
  prejoin.revive();
  stage.show();
  for (const video of document.querySelectorAll('video')) {
    if (video.muted && video.paused && video.srcObject) video.play().catch(() => undefined);
  }
}

/** Phones would lock in the middle of the conversation. The browser drops the lock whenever the page is hidden. */
async function keepAwake() {
  if (screen !== 'call' && screen !== 'waiting') return;
  try {
    await navigator.wakeLock?.request('screen');
  } catch {
    // low battery: the system decides
  }
}
call.on('admitted', () => void keepAwake());

giveWayToKeyboard(byId('call'));
void media.refreshDevices();
void gate.check();
