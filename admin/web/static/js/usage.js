// Draws the bars that the server has drawn already once more, with uPlot, so that they can be pointed at and zoomed into.
// The numbers are read from the page's own table; zooming goes to another address, like every other choice on the page.
const HOUR_S = 3600;
const DRAG_MIN_PX = 6;
const GAP = 12;

const figure = document.querySelector("[data-chart]");
const plot = figure.querySelector("[data-plot]");
const tip = figure.querySelector("[data-tip]");
const step = Number(figure.dataset.step);
const start = Number(figure.dataset.start);
const end = Number(figure.dataset.end);
const heads = [...document.querySelectorAll("[data-series]")];
const swatches = heads.map((head) => document.querySelector(`[data-swatch="${head.dataset.series}"]`));
const rows = new Map([...document.querySelectorAll("[data-bar]")].map((row) => [Number(row.dataset.bar), row]));
const moments = Array.from({ length: (end - start) / step }, (_, place) => start + place * step);
const tokens = moments.map((moment) => {
  const cells = rows.get(moment)?.querySelectorAll("[data-tokens]") ?? [];
  return heads.map((_, place) => Number(cells[place]?.dataset.tokens ?? 0));
});

const day = new Intl.DateTimeFormat(document.documentElement.lang, {
  timeZone: "UTC",
  weekday: "short",
  day: "numeric",
  month: "short",
  ...(step === HOUR_S ? { hour: "2-digit", minute: "2-digit" } : {}),
});

function name(place) {
  return `${day.format(new Date(moments[place] * 1000))} UTC`;
}

// Piled up: what is drawn for a series is its tokens and those of all series below it, the highest first.
function piled() {
  const layers = heads.map((_, place) => tokens.map((row) => row.slice(0, place + 1).reduce((sum, one) => sum + one, 0)));
  return [moments.map((moment) => moment + step / 2), ...layers.reverse()];
}

function colours() {
  return swatches.map((swatch) => getComputedStyle(swatch).backgroundColor).reverse();
}

function stamp(seconds) {
  const text = new Date(seconds * 1000).toISOString();
  return seconds % (24 * HOUR_S) === 0 && step !== HOUR_S ? text.slice(0, 10) : text.slice(0, 13);
}

// Both ends are part of the range, as the address says it.
function zoom(first, last) {
  if (first === last && step === HOUR_S) return;
  const closer = first === last ? "&step=hour" : "";
  location.assign(`${figure.dataset.zoom}&start=${stamp(moments[first])}&end=${stamp(moments[last])}${closer}`);
}

function say(place) {
  const row = rows.get(moments[place]);
  const head = document.createElement("p");
  head.textContent = name(place);
  const list = document.createElement("dl");
  const line = (label, value, swatch) => {
    const term = document.createElement("dt");
    if (swatch) term.append(swatch.cloneNode());
    const text = document.createElement("span");
    text.textContent = label;
    term.append(text);
    const said = document.createElement("dd");
    said.textContent = value;
    list.append(term, said);
  };
  const cells = row?.querySelectorAll("[data-tokens]") ?? [];
  heads.forEach((one, at) => {
    if (tokens[place][at] > 0) line(one.textContent, cells[at].textContent, swatches[at]);
  });
  line(figure.dataset.total, row?.querySelector("[data-sum]").textContent ?? "0");
  line(figure.dataset.requests, row?.dataset.requests ?? "0");
  tip.replaceChildren(head, list);
}

function show(chart, place) {
  tip.hidden = place === null;
  if (place === null) return;
  say(place);
  const at = chart.valToPos(moments[place] + step / 2, "x");
  const left = at + GAP + tip.offsetWidth > plot.clientWidth ? at - GAP - tip.offsetWidth : at + GAP;
  tip.style.transform = `translate(${Math.max(0, Math.min(left, plot.clientWidth - tip.offsetWidth))}px, 0)`;
}

function draw() {
  const fills = colours();
  const bars = uPlot.paths.bars({ size: [0.8, Infinity], align: 0 });
  const chart = new uPlot(
    {
      width: plot.clientWidth,
      height: plot.clientHeight,
      padding: [0, 0, 0, 0],
      legend: { show: false },
      axes: [{ show: false }, { show: false }],
      scales: {
        x: { time: false, range: () => [start, end] },
        y: { range: () => [0, Number(figure.dataset.top)] },
      },
      series: [{}, ...fills.map((fill) => ({ fill, width: 0, paths: bars, points: { show: false } }))],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: DRAG_MIN_PX } },
      hooks: {
        setCursor: [(self) => show(self, self.cursor.left >= 0 ? self.cursor.idx : null)],
        setSelect: [
          (self) => {
            if (self.select.width < DRAG_MIN_PX) return;
            const [first, last] = [self.select.left, self.select.left + self.select.width].map((at) =>
              Math.min(moments.length - 1, Math.max(0, Math.floor((self.posToVal(at, "x") - start) / step))),
            );
            zoom(first, last);
          },
        ],
      },
    },
    piled(),
    plot,
  );
  // uPlot keeps the click at the end of a drag to itself.
  chart.over.addEventListener("click", (event) => {
    const place = Math.floor((event.offsetX / chart.over.clientWidth) * moments.length);
    zoom(place, place);
  });
  return chart;
}

let chart = draw();
plot.querySelector(".bars").remove();
figure.querySelector(".hint").hidden = false;

function redraw() {
  chart.destroy();
  chart = draw();
}

new ResizeObserver(() => {
  if (plot.clientWidth !== chart.width) chart.setSize({ width: plot.clientWidth, height: plot.clientHeight });
}).observe(plot);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// With the keyboard the plot is a slider over the bars.
let at = moments.findLastIndex((moment) => rows.has(moment));
const keys = {
  ArrowLeft: () => at - 1,
  ArrowRight: () => at + 1,
  ArrowDown: () => at - 1,
  ArrowUp: () => at + 1,
  Home: () => 0,
  End: () => moments.length - 1,
};

function move(place) {
  at = Math.min(moments.length - 1, Math.max(0, place));
  const row = rows.get(moments[at]);
  plot.setAttribute("aria-valuenow", at);
  plot.setAttribute(
    "aria-valuetext",
    `${name(at)}: ${row?.querySelector("[data-sum]").textContent ?? "0"} ${figure.dataset.total}`,
  );
}

plot.tabIndex = 0;
plot.setAttribute("role", "slider");
plot.setAttribute("aria-label", figure.dataset.label);
plot.setAttribute("aria-valuemin", 0);
plot.setAttribute("aria-valuemax", moments.length - 1);
move(at);
plot.addEventListener("focus", () => plot.matches(":focus-visible") && show(chart, at));
plot.addEventListener("blur", () => show(chart, null));
plot.addEventListener("keydown", (event) => {
  if (event.key === "Enter") zoom(at, at);
  if (event.key === "Escape") show(chart, null);
  if (!(event.key in keys)) return;
  event.preventDefault();
  move(keys[event.key]());
  show(chart, at);
});
