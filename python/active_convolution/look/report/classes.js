/* What acu evaluate --json found about a run: errors per class, the confusion matrix, the most confused images. */

const LARGEST_TABLE = 40;       // classes; beyond, the matrix is a picture: its numbers would be too small to read

function classTable({classes, confusion}) {
  const rows = classes.map((entry, label) => {
    const wrong = confusion[label].map((count, answer) => answer === label ? 0 : count);
    const most = wrong.indexOf(Math.max(...wrong));
    const mistaken = wrong[most] > 0 ? `${classes[most].name} (${whole(wrong[most])})` : "–";
    return {error: entry.error ?? -1, row: make("tr", {}, make("th", {scope: "row"}, entry.name),
      make("td", {class: "number"}, whole(entry.images)),
      make("td", {class: "number"}, entry.error === null ? "–" : percent(entry.error)), make("td", {}, mistaken))};
  });
  const headings = [["Class", ""], ["Images", "number"], ["Error", "number"], ["Most often taken for", ""]]
    .map(([text, kind]) => make("th", {scope: "col", class: kind}, text));
  rows.sort((a, b) => b.error - a.error);
  return make("div", {class: "scroll many"}, make("table", {class: "classes"}, make("thead", {}, make("tr", {}, ...headings)),
    make("tbody", {}, ...rows.map(({row}) => row))));
}

const MATRIX_NOTE = "A row for each class, a column for each answer: the stronger the colour, the larger the part of the class's images.";

/* The confusion matrix, row by row: for each count the part of its row, and what it says in words. */
function matrixRows({classes, confusion}) {
  return confusion.map((counts, label) => {
    const all = Math.max(1, counts.reduce((a, b) => a + b, 0));
    return counts.map((count, answer) => ({count, label, answer, part: count / all,
      words: `${classes[label].name}, taken for ${classes[answer].name}: ${whole(count)}`}));
  });
}

function matrixTable(found) {
  const head = found.classes.map(({name}) => make("th", {scope: "col", title: name}, make("span", {}, name)));
  const rows = matrixRows(found).map((row, label) => make("tr", {},
    make("th", {scope: "row", title: found.classes[label].name}, found.classes[label].name),
    ...row.map(({count, answer, part, words}) => make("td", {style: `--part: ${(100 * part).toFixed(1)}%`,
      class: answer === label ? "right" : "", title: words}, count ? whole(count) : ""))));
  return make("div", {class: "scroll"}, make("table", {class: "confusion"},
    make("thead", {}, make("tr", {}, make("td"), ...head)), make("tbody", {}, ...rows)));
}

function matrixPicture(found) {
  const size = found.classes.length;
  const cells = matrixRows(found).flat().filter(({count}) => count).map(({label, answer, part, words}) =>
    make("rect", {x: answer, y: label, width: 1, height: 1, "fill-opacity": (0.15 + 0.85 * part).toFixed(3)},
         make("title", {}, words)));
  return make("svg", {class: "matrix", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "Confusion matrix"}, ...cells);
}

function confusedImages({classes, most_confused}) {
  const figures = most_confused.map(entry => make("figure", {},
    make("img", {src: `data:image/png;base64,${entry.png}`, alt: classes[entry.label].name}),
    make("figcaption", {}, `${classes[entry.label].name}, taken for ${classes[entry.answer].name}`
      + ` (${percent(entry.probability).replace(" ", "\u00a0")})`)));
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
      + `${whole(found.images)} images`), classTable(found), make("h3", {}, "Confusion matrix"), make("p", {class: "note"}, MATRIX_NOTE),
      found.classes.length <= LARGEST_TABLE ? matrixTable(found) : matrixPicture(found)];
    if (found.most_confused.length) parts.push(make("h3", {}, "Most confused"), confusedImages(found));
    place("classes").append(...parts);
  }
}
