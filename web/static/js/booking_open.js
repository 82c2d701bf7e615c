// @ts-check
/**
 * The manage link carries its secret in the fragment, which no server log sees. This turns it into a cookie of the
 * booking's own pages and takes it out of the address bar.
 */

const opener = document.getElementById("opener");

/** @param {"opening" | "opener-failed" | "opener-offline"} id */
function show(id) {
  for (const one of ["opening", "opener-failed", "opener-offline"]) {
    const element = document.getElementById(one);
    if (element) element.hidden = one !== id;
  }
}

async function open() {
  const token = location.hash.slice(1);
  const url = opener?.dataset["open"];
  if (!token || !url) return;
  show("opening");
  let response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
  } catch {
    show("opener-offline");
    return;
  }
  if (response.ok) location.replace(location.pathname + location.search);
  else show(response.status >= 500 || response.status === 429 ? "opener-offline" : "opener-failed");
}

// the way through the language switch keeps the fragment: redirects do (Fetch standard, HTTP-redirect fetch)
for (const link of document.querySelectorAll(".language-switch a")) {
  if (link instanceof HTMLAnchorElement) link.hash = location.hash;
}
document.getElementById("opener-retry")?.addEventListener("click", open);
addEventListener("hashchange", open);
open();
