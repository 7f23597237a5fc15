// Which parts of the pages live in the browser? The poll of the queues, its "out of date" notice, and copying a key.
"use strict";

(() => {
  const live = document.getElementById("live");
  if (!live) return;
  const pollMs = Number(live.dataset.pollMs);
  const stale = document.getElementById("stale");
  let freshAt = Date.now();

  const poll = () => {
    if (!document.hidden) htmx.trigger(live, "poll");
  };
  const judge = () => {
    // Three polls without an answer; a hidden page does not poll and is judged when it is seen again.
    const old = !document.hidden && Date.now() - freshAt > 3 * pollMs;
    if (old && stale.hidden) {
      document.getElementById("stale-since").textContent = new Date(freshAt).toISOString().slice(11, 19) + " UTC";
    }
    stale.hidden = !old;
    live.classList.toggle("old", old);
  };
  live.addEventListener("htmx:afterSwap", () => {
    freshAt = Date.now();
    judge();
  });
  document.addEventListener("visibilitychange", () => {
    poll();
  });
  setInterval(() => {
    poll();
    judge();
  }, pollMs);
})();

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // No clipboard outside https and localhost: select the text, so that one key press copies it.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
});
