// A phone's keyboard lies over the page where the page is not made smaller for it (iOS). The box gives way, so that
// what is being typed stays above the keyboard.

// Less than any keyboard, more than the browser's own bars, which come and go.
const KEYBOARD_PX = 120;

/** @param {HTMLElement} box positioned by `--keyboard-above` and `--keyboard-below` */
export function giveWayToKeyboard(box) {
  const view = window.visualViewport;
  if (!view) return;
  const fit = () => {
    const hidden = innerHeight - view.height;
    const open = hidden > KEYBOARD_PX && view.scale < 1.01; // else somebody has zoomed in
    const above = open ? Math.max(0, view.offsetTop) : 0; // iOS moves the page up to show the field
    box.style.setProperty('--keyboard-above', `${above}px`);
    box.style.setProperty('--keyboard-below', `${open ? Math.max(0, hidden - above) : 0}px`);
  };
  view.addEventListener('resize', fit);
  view.addEventListener('scroll', fit);
}
