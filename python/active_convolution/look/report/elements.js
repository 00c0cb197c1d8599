"use strict";

/* What the other scripts share: the report, elements, numbers, and the colours of the runs. */

const report = JSON.parse(document.getElementById("data").textContent);
const place = id => document.getElementById(id);

const SVG_NAMES = new Set(["svg", "rect", "line", "path", "circle", "text", "title"]);
const COLOURS = 6;      // --run-0 … in page.css

/* An element with attributes and children; a string becomes text, never markup. */
function make(name, attributes = {}, ...children) {
  const node = SVG_NAMES.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name)
                                   : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const colour = run => `var(--run-${run % COLOURS})`;
const whole = number => number.toLocaleString("en");
const percent = fraction => `${(100 * fraction).toFixed(2)} %`;
const digits = number => Number(number.toPrecision(4)).toString();
const signed = number => String(number).replace("-", "−");

/* A list entry with the mark of a run's colour. */
function keyEntry(run, ...children) {
  return make("li", {style: `--colour: ${colour(run)}`}, ...children);
}

/* The index of the last of the ascending numbers that is not above the limit; -1 where all are. */
function lastUpTo(numbers, limit) {
  let low = 0, high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= limit) low = middle + 1; else high = middle;
  }
  return low - 1;
}
