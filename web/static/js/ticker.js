// Ticks that keep coming in a hidden tab: page timers are throttled there to one a minute, worker timers are not.

const TICK_MS = 250;

/**
 * @param {(now: number) => void} onTick gets performance.now() about every 250 ms
 * @returns {() => void} stops the ticks
 */
export function startTicker(onTick) {
  /** @type {Worker} */
  let worker;
  let timer = 0;
  const tick = () => onTick(performance.now());
  const byTimer = () => {
    timer ||= globalThis.setInterval(tick, TICK_MS);
  };
  try {
    worker = new Worker(new URL('./ticker_worker.js', import.meta.url));
  } catch {
    byTimer();
    return () => globalThis.clearInterval(timer);
  }
  worker.onmessage = tick;
  worker.onerror = byTimer; // the worker's file did not load
  worker.postMessage(TICK_MS);
  return () => {
    worker.terminate();
    globalThis.clearInterval(timer);
  };
}
