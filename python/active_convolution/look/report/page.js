/* The page: its curves, and what puts it together. */

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
               series: [...series("training", "loss", false, ", training"),
                        ...series("test", "test_loss", true, ", test")]}),
    new Chart({...common, title: "Test error", series: series("test", "test_error", false, ""),
               format: (value, exact) => exact ? percent(value) : `${digits(100 * value)} %`})];
  place("curves").append(...charts.map(chart => chart.node));
  return charts;
}

place("runs").append(...report.runs.map((run, index) => keyEntry(index, run.name)));
fillErrors();
fillClasses();
const charts = fillCurves();
if (report.runs.some(run => run.positions !== null)) {
  new Player(charts);
} else {
  const note = make("p", {class: "note"}, "None of these runs recorded positions of active convolutions.");
  place("positions").replaceChildren(make("h2", {}, "Positions"), note);
}
