/** A statistic as a square: a row and a column for each run, shaded by how well the two agree. */
function square({ name, adjusted, squares }, runs) {
  const number = value => value === null ? "–" : value.toFixed(2);
  const cell = (found, a, b) => {
    if (!found) return make("td", { class: "self" });
    const shade = Math.round(65 * Math.min(1, Math.max(0, found.adjusted ?? 0)));
    return make("td", { style: `--share: ${shade}%`,
      title: `${a} and ${b}: ${number(found.value)}, by chance ${number(found.chance)}` }, number(found.adjusted));
  };
  const { value, low, high } = adjusted;
  const interval = value === null ? "" : `, 95 % ${number(low)} to ${number(high)}`;
  return make("figure", {},
    make("figcaption", {}, make("strong", {}, name.replaceAll("_", " ")), ` mean ${number(value)}${interval}`),
    make("div", { class: "reach" }, make("table", {},
      make("thead", {}, make("tr", {}, make("td"),
        ...runs.map((run, i) => make("th", { scope: "col", title: run }, `${i + 1}`)))),
      make("tbody", {}, ...squares.map((row, i) => make("tr", {},
        make("th", { scope: "row" }, `${i + 1} ${runs[i]}`),
        ...row.map((found, j) => cell(found, runs[i], runs[j]))))))));
}

if (data.pairs) {
  document.getElementById("pairs").hidden = false;
  document.getElementById("squares").append(
    ...data.pairs.statistics.map(statistic => square(statistic, data.pairs.runs)));
}
