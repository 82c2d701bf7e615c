// The few things every view of the call page does with the document.

/**
 * @template {Element} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof (type ?? HTMLElement))) throw new Error(`the page lacks #${id}`);
  return /** @type {T} */ (/** @type {unknown} */ (found));
}

/**
 * @param {ParentNode} parent
 * @param {string} selector
 * @returns {HTMLElement}
 */
export function find(parent, selector) {
  const found = parent.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`the page lacks ${selector}`);
  return found;
}

/** The first element of a template, copied. @param {string} id @returns {HTMLElement} */
export function fromTemplate(id) {
  const copy = document.importNode(byId(id, HTMLTemplateElement).content, true).firstElementChild;
  if (!(copy instanceof HTMLElement)) throw new Error(`#${id} is empty`);
  return copy;
}

/** @param {string} id @param {(event: MouseEvent) => void} action */
export function onClick(id, action) {
  byId(id).addEventListener('click', action);
}

/** @param {HTMLElement} element @param {string} words touches the document only when they differ */
export function setText(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** A toggle whose name says what a press will do; `data-on` is for the looks. @param {HTMLElement} button
 * @param {boolean} on @param {string} label */
export function setToggle(button, on, label) {
  button.dataset['on'] = String(on);
  if (button.getAttribute('aria-label') !== label) button.setAttribute('aria-label', label);
  button.title = label;
}

/** Up to two initials. @param {string} name */
export function initials(name) {
  const words = name.replace(/^(dr|prof|mr|mrs|ms)\.?\s+/i, '').split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...(word ?? '')][0]?.toLocaleUpperCase() ?? '').join('');
}

/** @param {HTMLVideoElement} video @param {MediaStreamTrack | null} track */
export function showTrack(video, track) {
  const shown = video.srcObject instanceof MediaStream ? (video.srcObject.getVideoTracks()[0] ?? null) : null;
  if (shown === track) return;
  video.srcObject = track ? new MediaStream([track]) : null;
  if (track) video.play().catch(() => undefined); // muted: nothing but a removed element stops it
}
