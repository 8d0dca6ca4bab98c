// Loads the page again, where it was scrolled to; not while a picture is open.
(() => {
  const { every, made } = document.body.dataset;
  const key = `ddrl-watch ${location.pathname}`;
  const open = () => [...document.querySelectorAll("details")].map((one) => one.open);
  try {
    const before = JSON.parse(sessionStorage.getItem(key) || "null");
    if (before) {
      document.querySelectorAll("details").forEach((one, i) => { one.open = Boolean(before.open[i]); });
      scrollTo(0, before.top);
    }
  } catch { /* a browser that keeps nothing for files */ }
  if (!Number(every)) return;
  const age = Date.now() / 1000 - Number(made);
  if (age > Math.max(60, 6 * Number(every))) document.getElementById("stale").hidden = false;
  const again = () => {
    if (document.querySelector("dialog[open]")) { setTimeout(again, 1000); return; }
    try {
      sessionStorage.setItem(key, JSON.stringify({ top: scrollY, open: open() }));
    } catch { /* likewise */ }
    location.reload();
  };
  setTimeout(again, 1000 * Number(every));
})();
