/* A chart of values over the iterations. */

const CHART = {width: 560, height: 300, left: 52, right: 14, top: 24, bottom: 40};

/* A line of SVG path data through the points, lifted where a value is null; a point alone becomes a dot. */
function polyline(points) {
  let path = "", pen = false;
  for (const [x, y] of points) {
    if (y === null) { pen = false; continue; }
    path += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${pen ? "" : "h0"}`;
    pen = true;
  }
  return path;
}

/* Round numbers that divide low … high into at most count parts. */
function linearTicks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(value => value >= rough * 0.999);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + 1e-9 * step; index++) {
    ticks.push(index * step + 0);     // −0 + 0 is 0
  }
  return ticks;
}

/* Powers of ten between low and high: with 2 and 5 times them where there are few, thinned where there are many, and
   round numbers where there is hardly one. */
function logarithmicTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const factors = last - first <= 3 ? [1, 2, 5] : [1], every = Math.ceil((last - first) / 8);
  const ticks = [];
  for (let power = first; power <= last; power += every) ticks.push(...factors.map(factor => factor * 10 ** power));
  const inside = ticks.filter(tick => tick >= low && tick <= high);
  return inside.length > 1 ? inside : linearTicks(low, high, 5);
}

class Chart {
  /* options: title; series, each {run, name, x, y, dashed}; format(value); logarithmic, or undefined where the chart
     has no such choice; warmups, [{run, iteration}]; end, the last iteration of the axis. */
  constructor(options) {
    Object.assign(this, options);
    this.values = make("ul", {class: "key"});
    this.box = make("div", {class: "plot"});
    const head = make("div", {class: "head"}, make("h3", {}, this.title));
    if (this.logarithmic !== undefined) head.append(this.logarithmicBox());
    this.node = make("figure", {class: "chart"}, head, this.values, this.box);
    this.draw();
    this.read(null);
  }

  logarithmicBox() {
    const box = make("input", {type: "checkbox"});
    box.checked = this.logarithmic;
    box.addEventListener("change", () => { this.logarithmic = box.checked; this.draw(); });
    return make("label", {}, box, " logarithmic");
  }

  draw() {
    const {width, height} = CHART;
    this.svg = make("svg", {viewBox: `0 0 ${width} ${height}`, role: "img",
                            "aria-label": `${this.title} over the iterations`});
    this.box.replaceChildren(this.svg);
    this.scale();
    this.drawAxes();
    this.drawWarmups();
    for (const series of this.series) this.drawSeries(series);
    this.cursor = this.vertical(0, "cursor");
    this.hover = this.vertical(0, "hover");
    this.hover.style.display = "none";
    this.showIteration(this.shown ?? null);
    this.svg.addEventListener("pointermove", event => this.read(this.iterationAt(event)));
    this.svg.addEventListener("pointerleave", () => this.read(null));
  }

  /* Sets what maps a value to a height: low, high, and y(value), null where the axis has no place for it. */
  scale() {
    const usable = value => value !== null && (!this.logarithmic || value > 0);
    const values = this.series.flatMap(series => series.y).filter(usable);
    let low = values.reduce((a, b) => Math.min(a, b), Infinity);
    let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    this.empty = values.length === 0;
    if (this.empty) [low, high] = [1, 10];
    if (this.logarithmic) {
      [low, high] = [low / 1.1, high * 1.1];
    } else {
      const margin = 0.05 * (high - low) || 0.1 * Math.abs(high) || 1;
      [low, high] = [Math.max(low - margin, low >= 0 ? 0 : -Infinity), high + margin];
    }
    const along = this.logarithmic ? Math.log : value => value;
    const bottom = CHART.height - CHART.bottom, span = bottom - CHART.top;
    this.y = value => usable(value) ? bottom - span * (along(value) - along(low)) / (along(high) - along(low)) : null;
    this.x = iteration => CHART.left + (CHART.width - CHART.left - CHART.right) * iteration / this.end;
    this.ticks = this.logarithmic ? logarithmicTicks(low, high) : linearTicks(low, high, 6);
  }

  drawAxes() {
    const {width, height, left, right, bottom} = CHART, floor = height - bottom;
    for (const tick of this.ticks) {
      const y = this.y(tick);
      if (y === null) continue;
      this.svg.append(make("line", {class: "rule", x1: left, x2: width - right, y1: y, y2: y}));
      this.write(left - 7, y + 4, "end", this.format(tick));
    }
    for (const tick of linearTicks(0, this.end, 6).filter(Number.isInteger)) {
      const x = this.x(tick);
      this.svg.append(make("line", {class: "axis", x1: x, x2: x, y1: floor, y2: floor + 4}));
      this.write(x, floor + 17, "middle", whole(tick));
    }
    this.svg.append(make("line", {class: "axis", x1: left, x2: width - right, y1: floor, y2: floor}));
    this.write((left + width - right) / 2, height - 5, "middle", "iterations");
    if (this.empty) this.write(width / 2, height / 2, "middle", "nothing measured yet", "empty");
  }

  write(x, y, anchor, text, kind = "tick") {
    this.svg.append(make("text", {class: kind, x, y, "text-anchor": anchor}, text));
  }

  drawWarmups() {
    let named = -Infinity;
    for (const {iteration, run} of this.warmups) {
      const line = this.vertical(iteration, "warmup"), x = this.x(iteration), late = x > 0.7 * CHART.width;
      if (run !== null) line.style.stroke = colour(run);
      if (x - named < 110) continue;    // the name before it would run into this one
      named = x;
      this.write(x + (late ? 4 : -4), CHART.top - 8, late ? "end" : "start", "end of warm-up");
    }
  }

  drawSeries({run, name, x, y, dashed}) {
    const points = x.map((iteration, index) => [this.x(iteration), this.y(y[index])]);
    const style = `--colour: ${colour(run)}`;
    this.svg.append(make("path", {class: `series ${dashed ? "dashed" : ""}`, style, d: polyline(points),
                                  "data-name": name}));
    if (!dashed && points.length > 60) return;
    for (const [cx, cy] of points.length > 120 ? points.slice(-1) : points) {
      if (cy !== null) this.svg.append(make("circle", {class: "mark", style, cx, cy, r: 2.2}));
    }
  }

  vertical(iteration, kind) {
    const line = make("line", {class: kind, y1: CHART.top, y2: CHART.height - CHART.bottom});
    this.svg.append(line);
    this.place(line, iteration);
    return line;
  }

  place(line, iteration) {
    line.setAttribute("x1", this.x(iteration));
    line.setAttribute("x2", this.x(iteration));
  }

  /* Marks the iteration that the positions below are shown at; null for none. */
  showIteration(iteration) {
    this.shown = iteration;
    this.cursor.style.display = iteration === null ? "none" : "";
    if (iteration !== null) this.place(this.cursor, Math.min(iteration, this.end));
  }

  iterationAt(event) {
    const box = this.svg.getBoundingClientRect(), x = (event.clientX - box.left) * CHART.width / box.width;
    return Math.min(Math.max((x - CHART.left) / (CHART.width - CHART.left - CHART.right), 0), 1) * this.end;
  }

  /* Says each series' newest value up to an iteration, above the curves; its newest of all for null. */
  read(iteration) {
    this.hover.style.display = iteration === null ? "none" : "";
    if (iteration !== null) this.place(this.hover, iteration);
    this.values.replaceChildren(...this.series.map(series => {
      const index = lastUpTo(series.x, iteration ?? Infinity), value = index < 0 ? undefined : series.y[index];
      const text = value === undefined ? "–" : value === null ? "not a number" : this.format(value, true);
      const when = iteration === null || index < 0 ? "" : ` at ${whole(series.x[index])}`;
      const entry = keyEntry(series.run, `${series.name} `, make("b", {}, text), when);
      if (series.dashed) entry.classList.add("dashed");
      return entry;
    }));
  }
}
