// Show each <time> in the viewer's zone; UTC is its title. Ages are counted on each second.
const DAY = 86400000;

function two(number) {
  return String(number).padStart(2, "0");
}

export function span(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

function local(when, form, now) {
  const date = `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
  const clock = `${two(when.getHours())}:${two(when.getMinutes())}` + (form === "minutes" ? "" : `:${two(when.getSeconds())}`);
  if (form === "date") return date;
  return when.toDateString() === now.toDateString() ? clock : `${date} ${clock}`;
}

export function localTimes(root) {
  const now = new Date();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const when = new Date(element.dateTime);
    const form = element.dataset.form || "seconds";
    const text = form === "age" ? span((now - when) / 1000) : local(when, form, now);
    if (element.textContent !== text) element.textContent = text;
  }
}

export function keepLocalTimes() {
  localTimes(document);
  document.body.addEventListener("htmx:afterSwap", (event) => localTimes(event.detail.target));
  setInterval(() => {
    if (document.visibilityState === "visible") localTimes(document);
  }, 1000);
}
