// The smallest page that speaks to the relay: commands go over a WebSocket, SDP as in the product's call page.

const id = new URLSearchParams(location.search).get("id");
const socket = new WebSocket(`ws://${location.host}/ws/${id}`);
const waiting = new Map();
let next = 0;
/** @type {RTCPeerConnection | null} */ let publisher = null;
/** @type {RTCPeerConnection | null} */ let subscriber = null;
let configuration = {};
const sources = new Map(); // transceiver → source
let queue = Promise.resolve();

const opened = new Promise((resolve) => socket.addEventListener("open", resolve));

function call(name, body) {
  const number = ++next;
  socket.send(JSON.stringify({ number, name, ...body }));
  return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}

socket.addEventListener("message", (event) => {
  const message = JSON.parse(event.data);
  if (message.number) {
    const { resolve, reject } = waiting.get(message.number);
    waiting.delete(message.number);
    if (message.error) reject(new Error(message.error));
    else resolve(message.result);
  } else if (message.offer) {
    queue = queue.then(() => answer(message));
  }
});

async function answer({ offer, revision, fresh }) {
  if (fresh || !subscriber) {
    subscriber?.close();
    subscriber = new RTCPeerConnection(configuration);
    subscriber.addEventListener("track", ({ track }) => {
      const element = document.createElement(track.kind);
      element.autoplay = true;
      element.playsInline = true;
      element.srcObject = new MediaStream([track]);
      document.getElementById("videos").append(element);
    });
  }
  await subscriber.setRemoteDescription({ type: "offer", sdp: offer });
  await subscriber.setLocalDescription();
  await call("answer", { revision, answer: subscriber.localDescription.sdp });
}

async function negotiate() {
  await publisher.setLocalDescription(await publisher.createOffer());
  const named = {};
  for (const [transceiver, source] of sources) named[transceiver.mid] = source;
  const sdp = await call("publish", { offer: publisher.localDescription.sdp, sources: named });
  await publisher.setRemoteDescription({ type: "answer", sdp });
}

async function join({ publish = true, rtc = {} } = {}) {
  configuration = rtc;
  await opened;
  await call("subscribe", {});
  if (!publish) return;
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
  publisher = new RTCPeerConnection(configuration);
  for (const track of stream.getTracks()) {
    const transceiver = publisher.addTransceiver(track, { direction: "sendonly", streams: [stream] });
    sources.set(transceiver, track.kind === "audio" ? "microphone" : "camera");
  }
  await negotiate();
}

async function share() {
  const canvas = document.createElement("canvas");
  canvas.width = 640;
  canvas.height = 360;
  const context = canvas.getContext("2d");
  let frame = 0;
  setInterval(() => {
    context.fillStyle = `hsl(${frame++ % 360} 80% 50%)`;
    context.fillRect(0, 0, 640, 360);
  }, 50);
  const [track] = canvas.captureStream(20).getTracks();
  const transceiver = publisher.addTransceiver(track, { direction: "sendonly" });
  sources.set(transceiver, "screen");
  await negotiate();
}

async function unshare() {
  const [transceiver] = [...sources].find(([, source]) => source === "screen");
  transceiver.stop();
  sources.delete(transceiver);
  await negotiate();
}

/** The network changed and there is no signaling: the browser restarts alone, with the relay's old credentials. */
async function restartAlone() {
  for (const connection of [publisher, subscriber]) {
    if (connection) await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
  }
}

/** Finish the restart of the publish connection by offer and answer. */
async function finishRestart() {
  const sdp = await call("publish", { offer: publisher.localDescription.sdp, sources: {} });
  await publisher.setRemoteDescription({ type: "answer", sdp });
}

async function report(connection) {
  const found = { inbound: [], outbound: [], remote: [], pair: null };
  if (!connection) return found;
  for (const entry of (await connection.getStats()).values()) {
    if (entry.type === "inbound-rtp") found.inbound.push(entry);
    if (entry.type === "outbound-rtp") found.outbound.push(entry);
    if (entry.type === "remote-inbound-rtp") found.remote.push(entry);
    if (entry.type === "transport") found.transport = entry;
    if (entry.type === "candidate-pair" && entry.nominated) found.pair = entry;
  }
  return found;
}

window.relayClient = {
  join,
  share,
  unshare,
  restartAlone,
  finishRestart,
  call,
  stats: async () => ({ published: await report(publisher), subscribed: await report(subscriber) }),
  close: () => {
    publisher?.close();
    subscriber?.close();
  },
};
