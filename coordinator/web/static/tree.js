// The picture of a project's tree: d3-hierarchy places the commits, d3-zoom moves and enlarges, a canvas shows them.

import { colours, makeLabel, measure } from "./plotting.js";

const STEP_Y = 13; // pixels between neighbours
const [LEAST_X, LABELLED_X, MOST_X] = [16, 48, 220]; // pixels from a commit to its children; a label takes 43
const FEW = 12; // generations, which are drawn with room for their labels
const MOST_ENLARGED = 4; // by `fit`
const LABELS_FROM = 1.1; // of enlargement
const MOST_LABELS = 150;
const NEAR = 12;
const root = document.documentElement.dataset.root;

// The tree as one array of laid out nodes, each with its parent, about as wide as high times `ratio`.
export function arrange(columns, ratio) {
  const nodes = columns.parents.map((parent, at) => ({ at, parent, children: [] }));
  for (const node of nodes) if (node.parent >= 0) nodes[node.parent].children.push(node);
  const laid = d3.tree().nodeSize([STEP_Y, 1]).separation((a, b) => (a.parent === b.parent ? 1 : 1.4))(
    d3.hierarchy(nodes[0], (node) => node.children),
  );
  const ys = laid.descendants().map((one) => one.x);
  const wide = (ratio * (Math.max(...ys) - Math.min(...ys))) / (laid.height || 1);
  const step = Math.min(MOST_X, Math.max(laid.height <= FEW ? LABELLED_X : LEAST_X, wide));
  return laid.descendants().map((one) => ({
    x: step * one.y, y: one.x, at: one.data.at, up: one.parent && { x: step * one.parent.y, y: one.parent.x },
  }));
}

function describe(columns, at) {
  const effect = columns.effects[at];
  const lines = [(columns.experiments[at] ? `#${columns.experiments[at]} ` : "") + columns.titles[at]];
  if (effect !== null) lines.push(`effect ${measure(effect, columns.sds[at] ?? 0, true)}`);
  const undecided = ["held", "rejected"].includes(columns.standings[at]);
  if (undecided) lines.push(columns.standings[at]);
  else if (columns.verdicts[at]) lines.push(`${columns.verdicts[at].replaceAll("_", " ")}, ${columns.standings[at]}`);
  if (columns.skipped[at]) lines.push(`${columns.skipped[at]} commits left out before it`);
  if (columns.hidden[at]) lines.push(`${columns.hidden[at]} or more children are not drawn`);
  return lines;
}

function show(frame, columns) {
  const holder = frame.querySelector(".tree-picture");
  const canvas = frame.querySelector("canvas");
  const context = canvas.getContext("2d");
  const nodes = arrange(columns, holder.clientWidth / holder.clientHeight);
  const label = makeLabel(holder);
  let view = d3.zoomIdentity;
  let colour = colours();

  function colourOf(at) {
    const verdict = columns.verdicts[at];
    if (columns.standings[at] === "held") return colour.held;
    return verdict === "improved" ? colour.good : verdict === "worse" ? colour.bad : colour.dot;
  }

  function draw() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [holder.clientWidth, holder.clientHeight];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const place = ({ x, y }) => [view.applyX(x), view.applyY(y)];
    for (const onPath of [0, 1]) {
      for (const node of nodes) {
        if (!node.up || Boolean(columns.path[node.at]) !== Boolean(onPath)) continue;
        const [[x, y], [fromX, fromY]] = [place(node), place(node.up)];
        context.beginPath();
        context.setLineDash(columns.skipped[node.at] ? [3, 3] : []);
        context.strokeStyle = onPath ? colour.accent : colour.line;
        context.lineWidth = onPath ? 2.5 : 1;
        context.moveTo(fromX, fromY);
        context.bezierCurveTo((fromX + x) / 2, fromY, (fromX + x) / 2, y, x, y);
        context.stroke();
      }
    }
    context.setLineDash([]);
    const radius = Math.max(1.5, Math.min(5, 3.5 * view.k));
    for (const node of nodes) {
      const [x, y] = place(node);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fillStyle = columns.path[node.at] ? colour.accent : colourOf(node.at);
      context.fill();
      if (columns.hidden[node.at] && radius > 2.5) {
        context.beginPath();
        context.arc(x, y, radius + 2, 0, 2 * Math.PI);
        context.strokeStyle = colour.dot;
        context.lineWidth = 1;
        context.stroke();
      }
    }
    if (view.k >= LABELS_FROM) drawLabels(place, width, height);
    frame.dataset.drawn = nodes.length;
  }

  function drawLabels(place, width, height) {
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour.muted;
    let left = MOST_LABELS;
    for (const node of nodes) {
      const [x, y] = place(node);
      if (x < 0 || y < 0 || x > width || y > height || --left < 0) continue;
      context.fillText([...columns.titles[node.at]].slice(0, Math.floor(6 * view.k)).join(""), x + 5, y - 4); // above the line to its child
    }
  }

  function find([x, y]) {
    let [best, least] = [null, NEAR];
    for (const node of nodes) {
      const distance = Math.hypot(view.applyX(node.x) - x, view.applyY(node.y) - y);
      if (distance < least) [best, least] = [node, distance];
    }
    return best;
  }

  let fitted = null;
  const zoom = d3.zoom().scaleExtent([0.02, 6]).on("zoom", ({ transform }) => {
    [view, fitted] = [transform, null];
    label.hide();
    draw();
  });
  const target = d3.select(canvas).call(zoom);

  // Shows a part of the tree as large as it fits, until somebody moves it.
  function fit(part) {
    const [xs, ys] = [part.map(({ x }) => x), part.map(({ y }) => y)];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const [width, height] = [holder.clientWidth, holder.clientHeight];
    const k = Math.min(MOST_ENLARGED, (width - 48) / (right - left || 1), (height - 48) / (bottom - top || 1));
    const middle = [(width - k * (left + right)) / 2, (height - k * (top + bottom)) / 2];
    target.call(zoom.transform, d3.zoomIdentity.translate(...middle).scale(Math.max(0.02, k)));
    fitted = part;
  }

  canvas.addEventListener("pointermove", (event) => {
    const at = [event.offsetX, event.offsetY];
    const found = find(at);
    canvas.classList.toggle("over", found !== null);
    if (found) label.show(describe(columns, found.at), ...at);
    else label.hide();
  });
  canvas.addEventListener("pointerleave", label.hide);
  canvas.addEventListener("click", (event) => {
    const found = find([event.offsetX, event.offsetY]);
    if (found && columns.experiments[found.at]) location.assign(`${root}/experiments/${columns.experiments[found.at]}`);
  });
  const path = nodes.filter((node) => columns.path[node.at]);
  document.getElementById("tree-fit").addEventListener("click", () => fit(nodes));
  document.getElementById("tree-path").addEventListener("click", () => fit(path.length ? path : nodes));
  document.getElementById("tree-in").addEventListener("click", () => target.call(zoom.scaleBy, 1.5));
  document.getElementById("tree-out").addEventListener("click", () => target.call(zoom.scaleBy, 1 / 1.5));
  document.getElementById("tree-covers").textContent = `${nodes.length.toLocaleString("en")} commits`;
  fit(nodes);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colour = colours();
    draw();
  });
  new ResizeObserver(() => (fitted ? fit(fitted) : draw())).observe(holder);
}

const frame = document.getElementById("tree");
const response = await fetch(`${root}/projects/${frame.dataset.project}/tree.json?${frame.dataset.query}`);
if (response.ok) {
  const columns = await response.json();
  if (columns.parents.length) {
    frame.hidden = false;
    show(frame, columns);
  }
}
