/* What acu evaluate --json found about a run: errors per class, the confusion matrix, the most confused images. */

const LARGEST_MATRIX = 40;      // classes; beyond, its cells would be too small to read

function classTable({classes, confusion}) {
  const rows = classes.map((entry, label) => {
    const wrong = confusion[label].map((count, answer) => answer === label ? 0 : count);
    const most = wrong.indexOf(Math.max(...wrong));
    const mistaken = wrong[most] > 0 ? `${classes[most].name} (${whole(wrong[most])})` : "–";
    return {error: entry.error ?? -1, row: make("tr", {}, make("th", {scope: "row"}, entry.name),
      make("td", {class: "number"}, whole(entry.images)),
      make("td", {class: "number"}, entry.error === null ? "–" : percent(entry.error)), make("td", {}, mistaken))};
  });
  const headings = ["Class", "Images", "Error", "Most often taken for"].map(text => make("th", {scope: "col"}, text));
  rows.sort((a, b) => b.error - a.error);
  return make("div", {class: "scroll"}, make("table", {class: "classes"}, make("thead", {}, make("tr", {}, ...headings)),
    make("tbody", {}, ...rows.map(({row}) => row))));
}

/* A row per class, a column per answer; the darker, the larger the part of the row. */
function matrixTable({classes, confusion}) {
  const head = classes.map(({name}) => make("th", {scope: "col", title: name}, make("span", {}, name)));
  const rows = confusion.map((counts, label) => {
    const all = Math.max(1, counts.reduce((a, b) => a + b, 0));
    const cells = counts.map((count, answer) => make("td", {
      style: `--part: ${(100 * count / all).toFixed(1)}%`, class: answer === label ? "right" : "",
      title: `${classes[label].name}, taken for ${classes[answer].name}: ${whole(count)}`}, count ? whole(count) : ""));
    return make("tr", {}, make("th", {scope: "row"}, classes[label].name), ...cells);
  });
  return make("div", {class: "scroll"}, make("table", {class: "confusion"},
    make("thead", {}, make("tr", {}, make("td"), ...head)), make("tbody", {}, ...rows)));
}

function confusedImages({classes, most_confused}) {
  const figures = most_confused.map(entry => make("figure", {},
    make("img", {src: `data:image/png;base64,${entry.png}`, alt: classes[entry.label].name}),
    make("figcaption", {}, `${classes[entry.label].name}, taken for ${classes[entry.answer].name}`
      + ` (${percent(entry.probability)})`)));
  return make("div", {class: "confused"}, ...figures);
}

function fillClasses() {
  const evaluated = report.runs.map((run, index) => ({run, index})).filter(({run}) => run.evaluation !== null);
  if (!evaluated.length) {
    place("classes").remove();
    return;
  }
  for (const {run, index} of evaluated) {
    const found = run.evaluation;
    const parts = [make("p", {class: "run", style: `--colour: ${colour(index)}`},
      `${run.name}: top-1 error ${percent(found.top1_error)}, top-5 error ${percent(found.top5_error)}, `
      + `${whole(found.images)} images`), classTable(found)];
    if (found.classes.length <= LARGEST_MATRIX) parts.push(matrixTable(found));
    place("classes").append(...parts, confusedImages(found));
  }
}
