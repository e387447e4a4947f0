// Follow the snapshots of the server while the page is visible, and say how old what it shows is.
// Each snapshot is an event of <body>; the live regions of the page renew themselves with it.
const OLD_SECONDS = 6;

let source = null;
let shown = null;
let lost = "";

function pulse() {
  const element = document.getElementById("pulse");
  if (!element) return;
  const age = shown === null ? 0 : (Date.now() - shown) / 1000;
  const isOld = age > OLD_SECONDS || lost !== "";
  element.classList.toggle("pulse-old", isOld);
  const text = isOld
    ? `${lost || "Waiting"} · ${shown === null ? "nothing shown yet" : `as of ${Math.round(age)} s ago`}`
    : "Live";
  const label = element.querySelector(".pulse-text");
  if (label.textContent !== text) label.textContent = text;
  document.body.classList.toggle("is-old", isOld);
}

function open(path) {
  if (source !== null) return;
  source = new EventSource(path);
  source.addEventListener("snapshot", (event) => {
    const seen = JSON.parse(event.data);
    lost = seen.is_up ? "" : "PostgreSQL is away";
    if (seen.is_up && document.querySelector("[data-away]")) location.reload();
    else if (seen.is_up) document.body.dispatchEvent(new CustomEvent("snapshot"));
    pulse();
  });
  source.addEventListener("error", () => {
    lost = "The console does not answer";
    if (source.readyState === EventSource.CLOSED) {
      // the server refused, for example because the session has ended: the next request says so
      close();
      setTimeout(() => wake(path), 5000);
    }
    pulse();
  });
}

function close() {
  if (source !== null) source.close();
  source = null;
}

async function wake(path) {
  if (document.visibilityState !== "visible" || source !== null) return;
  try {
    const answer = await fetch(location.href, { headers: { "HX-Request": "true", "X-Live": "1" }, redirect: "manual" });
    if (answer.status === 401) {
      location.reload();
      return;
    }
  } catch {
    lost = "The console does not answer";
  }
  open(path);
}

export function follow() {
  const path = document.body.dataset.live;
  if (!path) return;
  shown = Date.now();
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (!event.detail.target.classList.contains("live")) return;
    shown = Date.now();
    pulse();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") open(path);
    else close();
  });
  addEventListener("pagehide", close);
  if (document.visibilityState === "visible") open(path);
  setInterval(pulse, 1000);
  if (document.querySelector(".live") === null) {
    // nothing on this page is renewed: it shows what was so when it was loaded
    document.body.addEventListener("snapshot", () => {
      shown = Date.now();
    });
  }
}
