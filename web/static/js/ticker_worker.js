// The worker of ticker.js: the first message is the interval in milliseconds.
self.onmessage = (event) => {
  setInterval(() => self.postMessage(null), event.data);
};
