// @ts-check
// The device test: the pre-join page's parts without a consultation. Nothing leaves the page.

import { LevelMeter } from './level_meter.js';
import { LocalMedia } from './media_devices.js';
import { DevicesForm } from './room/devices_form.js';
import { byId, onClick, setText, showTrack } from './room/dom.js';
import { FailureCards } from './room/failures.js';
import { Sounds } from './sounds.js';
import { setTexts, text } from './texts.js';

const LEVEL_MS = 100;
/** louder than a quiet room */
const HEARD = 0.15;

setTexts(JSON.parse(byId('texts', HTMLScriptElement).textContent ?? '{}'));

const media = new LocalMedia();
const sounds = new Sounds();
const meter = new LevelMeter();
const failures = new FailureCards(byId('device-failures'), media);
const form = new DevicesForm(byId('test-devices'), media, sounds, (deviceId) => sounds.setSpeaker(deviceId));
/** @type {MediaStreamTrack | null} */
let metered = null;
let asked = false;
let heard = false;

/** @param {boolean} camera */
function ask(camera) {
  asked = true;
  sounds.unlock();
  void media.start(true, camera);
  show();
}

function show() {
  const { microphone, camera } = media;
  if (microphone.track !== metered) {
    metered = microphone.track;
    meter.listen(metered);
    heard = false;
  }
  const asking = microphone.asking || camera.asking;
  byId('preview-ask').hidden = asked || asking;
  byId('preview-pending').hidden = !asking;
  if (asking) {
    const both = microphone.asking && camera.asking;
    setText(byId('preview-pending-text'), text(both ? 'asking_both' : camera.asking ? 'asking_camera' : 'asking_microphone'));
  }
  const picture = camera.track !== null && camera.wanted;
  byId('preview-empty').hidden = picture || asking || !asked;
  setText(byId('preview-note'), text(camera.failure ? 'camera_failed' : 'camera_off'));
  const video = byId('preview-video', HTMLVideoElement);
  video.hidden = !picture;
  showTrack(video, camera.track);
  byId('test-devices').hidden = !asked || media.devices.length === 0;
  form.refresh();
  tell();
}

function tell() {
  const works = media.isOn('microphone') && heard;
  const result = byId('test-result');
  result.className = works ? 'banner success' : '';
  setText(result, works ? text(media.isOn('camera') ? 'test_both_work' : 'test_microphone_works') : '');
}

onClick('ask-both', () => ask(true));
onClick('ask-microphone', () => ask(false));
media.on('change', show);
media.on('devices', show);
setInterval(() => {
  if (document.visibilityState !== 'visible' || !media.isOn('microphone')) return;
  const { level, silent } = meter.read(performance.now());
  form.showLevel(level);
  failures.setSilent(silent);
  if (level > HEARD && !heard) {
    heard = true;
    tell();
  }
}, LEVEL_MS);
