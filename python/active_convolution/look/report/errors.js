/* The table of errors. */

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
  const kind = number => number ? "number" : "";
  const headings = COLUMNS.map(([heading, , number]) => make("th", {scope: "col", class: kind(number)}, heading));
  const errors = report.runs.map(run => run.summary.test_error).filter(error => error !== null);
  const lowest = errors.length > 1 ? Math.min(...errors) : null;
  const rows = report.runs.map((run, index) => {
    const best = heading => heading === "Test error" && lowest !== null && run.summary.test_error === lowest;
    const cells = COLUMNS.map(([heading, text, number]) =>
      make("td", {class: kind(number) + (best(heading) ? " best" : "")}, text(run)));
    const name = make("th", {scope: "row", class: "run", style: `--colour: ${colour(index)}`}, run.name);
    return make("tr", {}, name, ...cells);
  });
  place("errors").append(make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "Run"), ...headings)),
                         make("tbody", {}, ...rows));
}
