const TRIVIAL_STYLE = "var(--soft)", DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const arrow = column => (column.sign > 0 ? "↑" : "↓");
const digits = (value, unit) => (unit === "%" || Math.abs(value) >= 10 ? 1 : 3);
/** A number as Python writes it, in the text beside the page: a half goes to the even figure. */
const figures = (value, places) => value.toLocaleString("en", { useGrouping: false,
  minimumFractionDigits: places, maximumFractionDigits: places, roundingMode: "halfEven" });

/** Colour-blind safe colours (Okabe and Ito, 2008) and dashes; grey for rows that know nothing. */
function lineStyle(method) {
  const kind = data.measures.rows.filter(row => row.trivial === method.trivial);
  const i = kind.indexOf(method);
  return { stroke: method.trivial ? TRIVIAL_STYLE : `var(--line-${i % 6})`,
           "stroke-dasharray": DASHES[i % 4], "stroke-width": method.trivial ? 1.5 : 2.25 };
}

/** One value with its interval, in figures and as a line between the column's ends. */
function cell(value, unit, low, high) {
  if (!value) return make("td", { class: "empty" }, "–");
  const places = digits(value.value, unit), share = x => 100 * (x - low) / (high - low || 1);
  const says = { "*": "best", "!": "a trivial row is as good" }[value.mark] || "";
  const body = make("td", { class: { "*": "best", "!": "trap" }[value.mark] || "",
    title: `95 % interval ${figures(value.low, places)} to ${figures(value.high, places)}, n = ${value.n}` },
    make("span", { class: "value" }, figures(value.value, places),
         make("sup", { "aria-label": says }, value.mark)),
    make("span", { class: "half" },
         value.high > value.low ? `±${figures((value.high - value.low) / 2, places)}` : "\u00a0"));
  if (high > low) body.append(make("span", { class: "range", "aria-hidden": "true" },
    make("i", { style: `left:${share(value.low)}%;width:${share(value.high) - share(value.low)}%` }),
    make("b", { style: `left:${share(value.value)}%` })));
  return body;
}

function addTable({ columns, rows }) {
  const values = columns.map((_, c) => rows.map(row => row.cells[c]).filter(Boolean));
  const ends = values.map(found => [Math.min(...found.map(v => v.low)), Math.max(...found.map(v => v.high))]);
  const lines = rows.map(row => make("tr", { "data-method": row.method, class: row.trivial ? "trivial" : "" },
    make("th", { scope: "row" }, row.method), ...row.cells.map((value, c) => cell(value, columns[c].unit, ...ends[c]))));
  const body = make("tbody", {}, ...lines), groups = [];
  for (const { group } of columns)
    groups.at(-1)?.[0] === group ? groups.at(-1)[1]++ : groups.push([group, 1]);
  const head = (name, c, ...words) => {
    const button = make("button", { type: "button" }, ...words);
    const element = make("th", { scope: "col", "aria-sort": "none" }, button);
    button.addEventListener("click", () => sort(element, c));
    return element;
  };
  const heads = [head("method", -1, "method"), ...columns.map((column, c) =>
    head(column.name, c, column.name.replaceAll("_", " ") + "\u00a0" + arrow(column) + (column.unit && "\u00a0" + column.unit)))];
  heads.forEach((element, i) => {
    if (i && columns[i - 1].group !== columns[i - 2]?.group) element.className = "first";
  });

  /** Best first, then worst first; by method: as given. Values that do not exist stay last. */
  function sort(element, c) {
    const best = c >= 0 && columns[c].sign > 0 ? "descending" : "ascending";
    const other = best === "ascending" ? "descending" : "ascending";
    const now = element.getAttribute("aria-sort") === best ? other : best;
    heads.forEach(one => one.setAttribute("aria-sort", one === element ? now : "none"));
    const turn = now === "ascending" ? 1 : -1;
    const order = rows.map((row, i) => [c < 0 ? i : row.cells[c]?.value ?? null, i]);
    order.sort(([a, i], [b, j]) => (a === null) - (b === null) || turn * (a - b) || i - j);
    body.replaceChildren(...order.map(([, i]) => lines[i]));
  }

  document.getElementById("board").append(make("thead", {},
    make("tr", { class: "groups" }, make("td"), ...groups.map(([group, span]) =>
      make("th", { colspan: span, scope: "colgroup" }, make("span", {}, group)))),
    make("tr", {}, ...heads)), body);
}

function addNotes({ rows }) {
  const odd = rows.filter(row => row.constant || row.not_finite).map(row =>
    `${row.method}: ${row.constant} constant, ${row.not_finite} not finite`);
  const notes = [
    "* best of the methods that are not trivial (grey rows are). ! a trivial row is as good or better: here "
    + "this measure does not tell maps apart.",
    "↑ higher is better, ↓ lower. ± half of the 95 % interval over images; the line beneath shows "
    + "it between the lowest and the highest end of its column.",
    "Without a unit: deletion, insertion and gini lie in 0 to 1, road in −1 to 1; max sensitivity is a ratio.",
    odd.length ? `Maps that say nothing – ${odd.join("; ")}. Constant maps stay in the means, others cannot.`
               : `Every map of all ${rows[0].images} images is finite, and none is constant.`,
    ...(rows.some(row => row.method === "own")
      ? ["own: the network that draws the map also scores the masked image."] : []),
  ];
  document.getElementById("notes").append(...notes.map(text => make("p", {}, text)));
}

function chart(name, lines, rows, { x, area }) {
  const [width, height, left, top, right, bottom] = [460, 280, 54, 12, 12, 44];
  const across = share => left + share * (width - left - right);
  const up = value => height - bottom - value * (height - top - bottom);
  const known = rows.filter(row => lines[row.method].every(value => value !== null));
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label":
    `${name}: mean probability of the class against the share of ${x}. ` + known.map(({ method }) =>
      `${method} from ${lines[method][0].toFixed(2)} to ${lines[method].at(-1).toFixed(2)}`).join("; ") });
  for (const tick of [0, .25, .5, .75, 1]) {
    svg.append(draw("line", { class: "rule", x1: left, x2: width - right, y1: up(tick), y2: up(tick) }),
      draw("text", { x: left - 8, y: up(tick) + 4, "text-anchor": "end" }, tick.toFixed(2)),
      draw("text", { x: across(tick), y: height - bottom + 18, "text-anchor": "middle" }, `${100 * tick}`));
  }
  svg.append(draw("text", { class: "axis", x: across(.5), y: height - 6, "text-anchor": "middle" }, `${x}, %`),
    draw("text", { class: "axis", transform: `translate(10 ${up(.5)}) rotate(-90)`, "text-anchor": "middle" },
         "probability of the class"));
  for (const row of known.reverse()) {  // honest methods on top
    const curve = lines[row.method];
    const points = curve.map((value, i) => [across(i / (curve.length - 1)), up(value)]);
    const d = "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
    svg.append(draw("g", { class: "curve", "data-method": row.method },
      draw("path", { d, ...lineStyle(row) }), draw("path", { d, class: "reach" })));
  }
  return make("figure", {}, make("figcaption", {}, make("strong", {}, name), ` ${area}`), svg);
}

const CHARTS = {
  deletion: { x: "pixels removed, highest values first", area: "a steep fall is good" },
  insertion: { x: "pixels brought back, highest values first", area: "a steep rise is good" },
};

function addCurves({ curves, rows }) {
  const drawn = Object.keys(CHARTS).filter(name => curves[name]);
  document.getElementById("curves-title").hidden = !drawn.length;
  if (!drawn.length) return;
  document.getElementById("curves").append(
    ...drawn.map(name => chart(name, curves[name], rows, CHARTS[name])));
  document.getElementById("legend").append(...rows.map(row => make("button",
    { type: "button", "data-method": row.method, "aria-pressed": "false" },
    draw("svg", { viewBox: "0 0 34 8", "aria-hidden": "true" },
         draw("path", { d: "M1 4H33", ...lineStyle(row) })), row.method)));
}

/** Rests on a method, pointed at or held, in the table, the curves and the legend alike. */
function follow() {
  const section = document.getElementById("measures"), parts = [...section.querySelectorAll("[data-method]")];
  let held = null;
  const light = method => {
    section.classList.toggle("picking", method !== null);
    parts.forEach(part => part.classList.toggle("lit", part.dataset.method === method));
  };
  const named = target => target.closest("[data-method]")?.dataset.method ?? null;
  section.addEventListener("pointerover", event => light(named(event.target) ?? held));
  section.addEventListener("pointerleave", () => light(held));
  section.addEventListener("focusin", event => light(named(event.target) ?? held));
  section.addEventListener("focusout", () => light(held));
  document.getElementById("legend").addEventListener("click", event => {
    const method = named(event.target);
    held = method === held ? null : method;
    for (const button of document.querySelectorAll("#legend button"))
      button.setAttribute("aria-pressed", button.dataset.method === held);
    light(held ?? method);
  });
}

if (data.measures) {
  document.getElementById("measures").hidden = false;
  addTable(data.measures);
  addNotes(data.measures);
  addCurves(data.measures);
  follow();
}
