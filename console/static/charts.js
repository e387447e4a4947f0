// Draw the charts of the overview with uPlot; renew them while the page is followed, in the colours of the theme.
const RENEW_MS = 15000;
const COLOURS = ["--move-fill", "--ok-fill", "--wait-fill", "--bad-fill", "--off-fill", "--accent", "--ok", "--wait"];
const drawn = new Map();
let shownWindow = "hour";
let last = 0;
let known = null;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function short(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)} k`;
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toPrecision(2);
}

function options(name, names, width) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width,
    height: 190,
    cursor: { points: { size: 6 } },
    legend: { live: true },
    scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, name === "latency" ? 1 : 5) * 1.1] } },
    axes: [
      { ...axis, values: [[3600, "{HH}:{mm}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}", null, null, null, null, null, null, 1]] },
      { ...axis, size: 52, values: (_, ticks) => ticks.map(short) },
    ],
    series: [
      { value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
      ...names.map((label, index) => ({
        label,
        stroke: colour(COLOURS[index % COLOURS.length]),
        width: 2,
        dash: index % 2 ? [6, 4] : undefined,
        spanGaps: name !== "throughput",
        value: (_, value) => (value === null || value === undefined ? "" : short(value)),
      })),
    ],
  };
}

function draw(charts) {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const name = place.dataset.chart;
    const { names, data } = charts[name];
    const old = drawn.get(name);
    const width = Math.max(place.clientWidth, 200);
    if (old && old.names === names.join() && old.window === charts.window && old.plot.width === width) {
      old.plot.setData(data);
      continue;
    }
    if (old) old.plot.destroy();
    place.textContent = "";
    if (!names.length || data.slice(1).every((values) => values.every((value) => value === null))) {
      place.textContent = "Nothing was counted in this time yet.";
      place.classList.add("muted");
      drawn.delete(name);
      continue;
    }
    place.classList.remove("muted");
    const plot = new uPlot(options(name, names, width), data, place);
    drawn.set(name, { plot, names: names.join(), window: charts.window });
  }
}

function redraw() {
  for (const { plot } of drawn.values()) plot.destroy();
  drawn.clear();
  if (known) draw(known);
}

async function renew() {
  const area = document.querySelector("[data-charts]");
  if (!area) return;
  last = Date.now();
  const answer = await fetch(`${area.dataset.charts}?window=${shownWindow}`, { headers: { "X-Live": "1", "HX-Request": "true" } });
  if (!answer.ok) return;
  known = await answer.json();
  draw(known);
}

document.body.addEventListener("snapshot", () => {
  if (Date.now() - last > RENEW_MS) renew();
});
document.addEventListener("theme", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", () => {
  if (known) draw(known);
});
for (const button of document.querySelectorAll("[data-window]")) {
  button.addEventListener("click", () => {
    shownWindow = button.dataset.window;
    for (const one of document.querySelectorAll("[data-window]")) one.setAttribute("aria-pressed", String(one === button));
    renew();
  });
}
renew();
