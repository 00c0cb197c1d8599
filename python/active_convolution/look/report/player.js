/* The panels of positions, and the slider that moves all of them. */

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
    this.scale.addEventListener("change", () => {
      this.panels = fillPanels(this.runs, this.scale.checked);
      this.show();
    });
    this.button.addEventListener("click", () => this.playing === null ? this.play() : this.pause());
    this.show();
  }

  show() {
    const iteration = this.iterations[Number(this.slider.value)];
    const records = new Map(this.runs.map(run => [run.index, lastUpTo(run.positions.iterations, iteration)]));
    place("iteration").textContent = `iteration ${whole(iteration)}`;
    this.slider.setAttribute("aria-valuetext", `iteration ${whole(iteration)}`);
    place("records").replaceChildren(...this.runs.map(run =>
      keyEntry(run.index, this.state(run, records.get(run.index), iteration))));
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
