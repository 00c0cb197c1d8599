/* The page: builds its parts out of the report, and lets the slider move all of them. */

const report = JSON.parse(document.getElementById("data").textContent);
const place = id => document.getElementById(id);

/* ---- Errors */

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 100) return `${Math.round(seconds)} s`;
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function farthestMoved(run) {
  const panels = run.positions === null ? [] : run.positions.panels.filter(panel => panel.known);
  const moved = panels.flatMap(panel => {
    const path = decode(panel, report.units);
    return path[path.length - 1].map((point, synapse) => point === null ? 0 :
      Math.hypot(point[0] - panel.start[synapse][0], point[1] - panel.start[synapse][1]));
  });
  return moved.length ? `${moved.reduce((a, b) => Math.max(a, b)).toFixed(2)} px` : "–";
}

/* [heading, text of a run's cell, whether the cells are numbers] */
const COLUMNS = [
  ["Network", run => run.network, false],
  ["Iterations", ({summary}) => summary.iteration < summary.max_iter
    ? `${whole(summary.iteration)} of ${whole(summary.max_iter)}` : whole(summary.iteration), true],
  ["Test error", ({summary}) => summary.test_error === null ? "–" : percent(summary.test_error)
    + (summary.test_iteration < summary.iteration ? ` at ${whole(summary.test_iteration)}` : ""), true],
  ["Lowest test error", ({summary}) => summary.best_error === null ? "–"
    : `${percent(summary.best_error)} at ${whole(summary.best_iteration)}`, true],
  ["Test loss", ({summary}) => summary.test_loss === null ? "–" : digits(summary.test_loss), true],
  ["Training loss", ({summary}) => summary.diverged !== null ? `not a number at ${whole(summary.diverged)}`
    : summary.loss === null ? "–" : digits(summary.loss), true],
  ["Farthest move", farthestMoved, true],
  ["Time", ({summary}) => summary.seconds === null ? "–" : duration(summary.seconds), true]];

function fillErrors() {
  const headings = COLUMNS.map(([heading, , number]) => make("th", {scope: "col", class: number ? "number" : ""}, heading));
  const errors = report.runs.map(run => run.summary.test_error).filter(error => error !== null);
  const lowest = Math.min(...errors);
  const rows = report.runs.map((run, index) => make("tr", {},
    make("th", {scope: "row", class: "run", style: `--colour: ${colour(index)}`}, run.name),
    ...COLUMNS.map(([heading, text, number]) => make("td", {
      class: [number ? "number" : "", errors.length > 1 && heading === "Test error" && run.summary.test_error === lowest ? "best" : ""]
        .join(" ").trim()}, text(run)))));
  place("errors").append(make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "Run"), ...headings)),
                         make("tbody", {}, ...rows));
}

/* ---- Curves */

function series(kind, column, dashed, label) {
  return report.runs.map((run, index) => ({
    run: index, name: `${run.name}${label}`, dashed, x: run[kind].iteration, y: run[kind][column]}));
}

/* The ends of the warm-ups, one mark where all runs that have one agree. */
function warmupMarks(end) {
  const marks = report.runs.map((run, index) => ({run: index, iteration: run.warmup}))
    .filter(mark => mark.iteration > 0 && mark.iteration <= end).sort((a, b) => a.iteration - b.iteration);
  const agree = marks.length > 0 && marks.every(mark => mark.iteration === marks[0].iteration);
  return agree ? [{run: null, iteration: marks[0].iteration}] : marks;
}

function fillCurves() {
  const end = Math.max(1, ...report.runs.map(run => run.summary.iteration));
  const common = {end, warmups: warmupMarks(end)};
  const charts = [
    new Chart({...common, title: "Loss", logarithmic: true, format: digits,
               series: [...series("training", "loss", false, ", training"), ...series("test", "test_loss", true, ", test")]}),
    new Chart({...common, title: "Test error", series: series("test", "test_error", false, ""),
               format: (value, exact) => exact ? percent(value) : `${digits(100 * value)} %`})];
  place("curves").append(...charts.map(chart => chart.node));
  return charts;
}

/* ---- Positions */

/* A card per layer, in the order of the networks, with a panel per run that has such a layer, runs side by side.
   All panels have one scale, or each layer its own. Returns the panels. */
function fillPanels(runs, oneScale) {
  const titles = [...new Set(runs.flatMap(run => run.positions.panels.map(panel => panel.title)))];
  const farthest = panels => Math.max(...panels.map(panel => panel.reach));
  const reach = farthest(runs.flatMap(run => run.positions.panels));
  const panels = [], cards = [];
  for (const title of titles) {
    const found = runs.map(run => run.positions.panels.find(panel => panel.title === title));
    const own = farthest(found.filter(Boolean));
    const row = runs.map((run, index) => {
      if (!found[index]) return make("p", {class: "absent"}, `not in ${run.name}`);
      panels.push(new Panel(run.index, run.name, found[index], oneScale ? reach : own, report.units));
      return panels[panels.length - 1].node;
    });
    cards.push(make("section", {class: "layer"}, make("h3", {}, title), make("div", {class: "row"}, ...row)));
  }
  place("panels").style.setProperty("--runs", runs.length);
  place("panels").replaceChildren(...cards);
  return panels;
}

/* The slider: its steps are the iterations at which any run recorded positions. */
class Player {
  constructor(charts) {
    Object.assign(this, {charts, slider: place("slider"), button: place("play"), scale: place("scale"), playing: null});
    this.runs = report.runs.map((run, index) => ({...run, index})).filter(run => run.positions !== null);
    this.panels = fillPanels(this.runs, this.scale.checked);
    if (this.panels.some(({panel}) => !panel.known)) {
      place("notes").textContent = "Where the start was not recorded, they are the kernel's grid.";
    }
    const iterations = new Set(this.runs.flatMap(run => run.positions.iterations));
    this.iterations = [...iterations].sort((a, b) => a - b);
    this.slider.max = this.iterations.length - 1;
    this.slider.value = this.slider.max;
    this.slider.disabled = this.button.disabled = this.iterations.length < 2;
    this.slider.addEventListener("input", () => { this.pause(); this.show(); });
    this.scale.addEventListener("change", () => { this.panels = fillPanels(this.runs, this.scale.checked); this.show(); });
    this.button.addEventListener("click", () => this.playing === null ? this.play() : this.pause());
    this.show();
  }

  show() {
    const iteration = this.iterations[Number(this.slider.value)];
    const records = new Map(this.runs.map(run => [run.index, lastUpTo(run.positions.iterations, iteration)]));
    place("iteration").textContent = `iteration ${whole(iteration)}`;
    this.slider.setAttribute("aria-valuetext", `iteration ${whole(iteration)}`);
    place("records").replaceChildren(...this.runs.map(run => keyEntry(run.index, this.state(run, records.get(run.index), iteration))));
    for (const panel of this.panels) panel.show(records.get(panel.run));
    for (const chart of this.charts) chart.showIteration(iteration);
  }

  /* A run's name, and what is worth knowing about its record. */
  state(run, record, iteration) {
    if (record < 0) return `${run.name}: first record at ${whole(run.positions.iterations[0])}`;
    const own = run.positions.iterations[record], frozen = own <= run.warmup && run.warmup > 0 ? "warm-up" : "";
    return [run.name, [own === iteration ? "" : `record of ${whole(own)}`, frozen].filter(Boolean).join(", ")]
      .filter(Boolean).join(": ");
  }

  /* Runs through all records in eight seconds, from the first one where the slider is at its end. */
  play() {
    const last = this.iterations.length - 1, pace = last / 8000;
    const first = Number(this.slider.value) === last ? 0 : Number(this.slider.value);
    const began = performance.now();
    const frame = now => {
      const at = Math.min(last, Math.floor(first + pace * Math.max(0, now - began)));
      if (at !== Number(this.slider.value)) {
        this.slider.value = at;
        this.show();
      }
      if (at === last) this.pause(); else this.playing = requestAnimationFrame(frame);
    };
    this.label("Pause", "❚❚");
    this.playing = requestAnimationFrame(frame);
  }

  pause() {
    if (this.playing !== null) cancelAnimationFrame(this.playing);
    this.playing = null;
    this.label("Play", "▶");
  }

  label(action, sign) {
    this.button.setAttribute("aria-label", action);
    this.button.textContent = sign;
  }
}

place("runs").append(...report.runs.map((run, index) => keyEntry(index, run.name)));
fillErrors();
const charts = fillCurves();
if (report.runs.some(run => run.positions !== null)) {
  new Player(charts);
} else {
  place("positions").replaceChildren(make("h2", {}, "Positions"),
                                     make("p", {class: "note"}, "None of these runs recorded positions of active convolutions."));
}
