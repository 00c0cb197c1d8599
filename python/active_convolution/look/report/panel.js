/* One set of positions of one run, in the plane around the base pixel. */

const TRAIL_POINTS = 120;   // a trail through more looks the same and takes longer to draw

/* The path of a panel's synapses in pixels: path[record][synapse] is [x, y], or null where the position is lost. */
function decode(panel, units) {
  const records = panel.steps.length / (2 * panel.synapses), at = new Array(2 * panel.synapses).fill(0);
  return Array.from({length: records}, (_, record) => Array.from({length: panel.synapses}, (_, synapse) => {
    const point = [0, 1].map(axis => {
      const step = panel.steps[(record * panel.synapses + synapse) * 2 + axis];
      if (step === null) return null;
      at[2 * synapse + axis] += step;
      return at[2 * synapse + axis] / units;
    });
    return point.includes(null) ? null : point;
  }));
}

class Panel {
  /* run is its number; reach is how far the panel shows, in pixels. */
  constructor(run, name, panel, reach, units) {
    Object.assign(this, {run, panel, reach, path: decode(panel, units)});
    this.every = Math.max(1, Math.ceil(this.path.length / TRAIL_POINTS));
    this.caption = make("figcaption");
    const size = 2 * this.reach, box = `${-this.reach} ${-this.reach} ${size} ${size}`;
    this.svg = make("svg", {viewBox: box, role: "img", "aria-label": `Positions of ${panel.title}, run ${name}`});
    this.node = make("figure", {class: "panel", style: `--colour: ${colour(run)}`}, this.svg, this.caption);
    this.drawPlane();
    this.trails = this.addEach(() => make("path", {class: "trail"}));
    const radius = 0.05 * this.reach;
    for (const [cx, cy] of panel.start) this.svg.append(make("circle", {class: "start", cx, cy, r: 1.35 * radius}));
    this.svg.append(make("path", {class: "base", d: `M${-radius} 0h${2 * radius}M0 ${-radius}v${2 * radius}`}));
    this.dots = this.addEach(() => make("circle", {class: "synapse", r: radius}));
    this.dots.forEach((dot, index) => {
      dot.addEventListener("pointerenter", () => { this.named = index; this.describe(); });
      dot.addEventListener("pointerleave", () => { this.named = null; this.describe(); });
    });
    this.named = null;
  }

  /* Adds a node for each synapse. */
  addEach(create) {
    const nodes = Array.from({length: this.panel.synapses}, create);
    this.svg.append(...nodes);
    return nodes;
  }

  /* The lattice of the pixels' centres, every pixel's where they are not too many, and the base pixel. */
  drawPlane() {
    const step = Math.ceil(this.reach / 12), most = Math.floor(this.reach / step) * step;
    let lines = "";
    for (let at = -most; at <= most; at += step) {
      lines += `M${at} ${-this.reach}V${this.reach}M${-this.reach} ${at}H${this.reach}`;
      const size = 0.1 * this.reach, label = {class: "label", "font-size": size};
      if (at % (step * Math.ceil(most / step / 3)) !== 0 || Math.abs(at) > 0.92 * this.reach) continue;
      this.svg.append(make("text", {...label, x: at, y: 0.98 * this.reach, "text-anchor": "middle"}, signed(at)),
                      make("text", {...label, x: -0.985 * this.reach, y: at + 0.35 * size}, signed(at)));
    }
    this.svg.prepend(make("rect", {class: "pixel", x: -0.5, y: -0.5, width: 1, height: 1}),
                     make("path", {class: "lattice", d: lines}));
  }

  /* Moves the synapses to a record, -1 for one before the first. */
  show(record) {
    this.record = record;
    this.svg.classList.toggle("early", record < 0);
    const now = this.path[Math.max(record, 0)];
    for (let synapse = 0; synapse < this.panel.synapses; synapse++) {
      const point = now[synapse], dot = this.dots[synapse];
      dot.style.display = point === null ? "none" : "";
      if (point !== null) {
        dot.setAttribute("cx", point[0]);
        dot.setAttribute("cy", point[1]);
      }
      this.trails[synapse].setAttribute("d", this.trail(synapse, record));
    }
    this.describe();
  }

  /* The way of a synapse up to a record, as SVG path data, without the records in which it rests. */
  trail(synapse, last) {
    let path = "", before = null;
    const pass = record => {
      const point = this.path[record][synapse];
      if (point === null || (before !== null && point[0] === before[0] && point[1] === before[1])) return;
      path += `${path ? "L" : "M"}${point[0]} ${point[1]}`;
      before = point;
    };
    for (let record = 0; record < last; record += this.every) pass(record);
    if (last >= 0) pass(last);
    return path;
  }

  /* Says how far the synapses are from their start; or where the one under the pointer is. */
  describe() {
    this.caption.textContent = this.named === null ? this.summary() : this.position(this.named);
  }

  summary() {
    if (this.record < 0) return "no record yet";
    const now = this.path[this.record], found = now.filter(point => point !== null);
    const outside = found.filter(point => Math.max(...point.map(Math.abs)) > this.reach).length;
    const lost = now.length - found.length, moved = Math.max(...now.map((_, synapse) => this.moved(synapse)));
    return [this.panel.known && found.length ? `moved up to ${moved.toFixed(2)} px` : "",
            outside ? `${outside} outside` : "", lost ? `${lost} lost` : ""].filter(Boolean).join(", ");
  }

  position(synapse) {
    const point = this.path[Math.max(this.record, 0)][synapse];
    const moved = this.panel.known ? `, moved ${this.moved(synapse).toFixed(2)}` : "";
    return point === null ? "lost" : `(${point.map(value => signed(value.toFixed(2))).join(", ")})${moved} px`;
  }

  moved(synapse) {
    const point = this.path[this.record][synapse], start = this.panel.start[synapse];
    return point === null ? 0 : Math.hypot(point[0] - start[0], point[1] - start[1]);
  }
}
