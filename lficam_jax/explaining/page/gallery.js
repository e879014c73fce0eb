const grid = document.getElementById("grid"), bar = document.getElementById("bar");
const single = document.getElementById("single"), help = document.getElementById("help");
const look = document.getElementById("look");
const several = data.methods.length > 1, labelled = data.images.filter(item => item.correct !== null);
const items = new Map(data.images.map(item => [card(item), item]));  // card -> image
let current = null;  // the card that the keyboard is at
let enlarged = null;  // the card whose image was opened last
let printing = false;

/** Whether the network answers with something else than a class: `several` labels, or a `number`. */
const asks = kind => data.images.some(item => item.kind === kind);

/** An empty card. It is filled when it first comes near the screen. */
function card(item) {
  const verdict = item.correct === null ? "" : item.correct ? ", right" : ", wrong";
  return make("article", { tabindex: -1,
    "aria-label": item.name + (item.predicted === null ? "" : `: predicted ${item.predicted}${verdict}`) });
}

function fill(element) {
  const item = items.get(element);
  element.append(tiles(item, 160), said(item));
}

const watcher = new IntersectionObserver(entries => {
  if (printing) return;  // all are awake
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && !target.hasChildNodes()) fill(target);
    (isIntersecting ? wake : sleep)(target);
  }
}, { rootMargin: "300px" });

/** What the model said, and whether it is right. */
function said(item) {
  const says = (word, name) => make("span", {}, make("small", {}, word + " "), make("strong", {}, name));
  const verdict = make("div", { class: "verdict" }, make("div", {},
    ...(item.predicted === null ? [] : [says("predicted", item.predicted)]), " ",
    ...(item.true === null ? [] : [says("true", item.true)]),
    ...(item.error === null ? [] : [" ", says("off by", Math.abs(item.error).toPrecision(2))])));
  if (item.correct !== null)
    verdict.append(make("span", { class: "badge " + (item.correct ? "right" : "wrong") },
                        item.correct ? "✓ right" : "✗ wrong"));
  const [map] = item.maps;
  const foot = make("div", { class: "foot" }, make("span", { title: item.name }, item.title));
  if (several) foot.append(make("span", { title: "mean difference between two maps" },
                                `maps differ ${item.disagreement.toFixed(2)}`));
  else if (map.on_object !== null)
    foot.append(make("span", { class: map.on_object ? "" : "wrong" },
                     map.on_object ? "peak on object" : "peak off object"));
  const notes = item.notes.map(note => make("p", { class: "note" }, note));
  return make("div", { class: "said" }, verdict, chances(item), foot, ...notes);
}

function chances(item) {
  const list = make("div", { class: "chances" });
  for (const [name, share] of item.probabilities) {
    const kind = item.right.includes(name) ? "is-right" : item.wrong.includes(name) ? "is-wrong" : "";
    list.append(make("span", { title: name }, name),
      make("span", { class: "track" }, make("i", { class: kind, style: `width:${100 * share}%` })),
      make("span", {}, percent(share)));
  }
  return list;
}

const sentence = text => text[0].toUpperCase() + text.slice(1) + ".";

/** A value in the parts that a line should not be broken in: it may be behind , or ; */
function parts(value) {
  return value.split(/(?<=[,;]) (?![^(]*\))/).flatMap(part => [make("span", {}, part), " "]);
}

function addHeader() {
  for (const [name, value] of data.details.filter(([name]) => name !== "left_out"))
    document.getElementById("details").append(make("div", name === "made" ? { class: "made" } : {},
      make("dt", {}, name), make("dd", {}, ...parts(value))));
  const left = data.details.filter(([name]) => name === "left_out").map(([, value]) => sentence(value));
  const own = data.methods.includes("own") ? ["own: the map that the network draws itself, in the pass "
    + "that predicts. The others are computed from the network afterwards."] : [];
  const answer = asks("several") ? ["Each label has a probability of its own, and counts as present from "
    + "50 %; a map is about the label that it names."]
    : asks("number") ? [`The network predicts a number, ${data.images[0].number}; a map shows what raises it.`] : [];
  const part = data.images.some(item => item.part) ? ["White frame: the part of the image that the "
    + "network saw."] : [];
  document.getElementById("about").append([...left, ...answer, ...own, ...part].join(" "));
  if (data.skipped.length)
    document.getElementById("skipped").append(make("div", { class: "skipped" },
      data.skipped.length === 1 ? "One file was skipped:" : `${data.skipped.length} files were skipped:`,
      make("ul", {}, ...data.skipped.map(([name, why]) => make("li", {}, `${name}: ${why}`)))));
  if (data.measures || data.pairs) return;  // they tell more, of more images
  const figures = document.getElementById("figures");
  const share = (name, values) => {
    if (!values.length) return;
    const hits = values.filter(Boolean).length;
    figures.append(make("div", {}, make("b", {}, percent(hits / values.length)),
                        make("span", {}, `${name}: ${hits} of ${values.length}`)));
  };
  share(asks("several") ? "all labels right here" : "accuracy here", labelled.map(item => item.correct));
  const errors = data.images.filter(item => item.error !== null).map(item => Math.abs(item.error));
  if (errors.length) figures.append(make("div", {},
    make("b", {}, (errors.reduce((sum, error) => sum + error) / errors.length).toPrecision(3)),
    make("span", {}, `mean absolute error of ${errors.length}`)));
  const maps = data.images.flatMap(item => item.maps).filter(map => map.on_object !== null);
  if (!several) share("peak on object", maps.map(map => map.on_object));
  else if (maps.length) figures.append(make("div", { class: "hits" }, make("span", {}, "Peak on object (✓)"),
    ...data.methods.map(name => {
      const ours = maps.filter(map => map.method === name);
      const hits = ours.filter(map => map.on_object).length;
      return make("span", {}, `${name} `, make("strong", {}, ours.length ? percent(hits / ours.length) : "–"));
    })));
}

/** Links to the pages before and after this one, where there are several. */
function addPages() {
  const { number, before, after } = data.pages, nav = document.getElementById("pages");
  if (!before && !after) return;
  const link = (href, text) => href ? make("a", { href }, text) : make("span", {}, "");
  nav.append(link(before, "‹ previous page"), make("span", {}, `page ${number}`), link(after, "next page ›"));
  nav.hidden = false;
}

function addControls() {
  for (const name of Object.keys(data.blends)) form.elements.blend.append(make("option", { value: name }, name));
  form.elements.blend.value = data.blend;
  form.elements.opacity.value = 100 * data.blends[data.blend];
  for (const name of [...Object.keys(palettes), "spotlight"])
    form.elements.colors.append(make("option", { value: name }, name));
  for (const name of ["true", "predicted"]) {
    const counts = new Map();
    for (const item of data.images)
      if (item[name] !== null) counts.set(item[name], (counts.get(item[name]) || 0) + 1);
    form.elements[name].append(make("option", { value: "" }, "all"));
    for (const key of [...counts.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true })))
      form.elements[name].append(make("option", { value: "=" + key }, `${key} (${counts.get(key)})`));
  }
  const right = labelled.filter(item => item.correct).length;
  for (const [value, name, number] of [["all", "all", data.images.length],
      ["true", "✓ right", right], ["false", "✗ wrong", labelled.length - right]])
    document.getElementById("verdicts").append(make("label", {}, make("input", { type: "radio",
      name: "verdict", value, ...(value === "all" ? { checked: "" } : {}) }), `${name} ${number}`));
  if (!several) form.querySelector("[value=disagreement]").remove();
  const absent = [[several, ".several"], [labelled.length, "#verdicts, .by-true"],
                  [!asks("number"), ".by-true, .by-answer"],
                  [data.images.some(item => item.outline || item.part), ".outlines"]];
  for (const [known, where] of absent)
    if (!known) form.querySelectorAll(where).forEach(element => { element.hidden = true; });
  document.body.classList.toggle("one-method", !several);
  // Two cards abreast if there are many and their tiles have 150 pixels; else as few rows as hold tiles of 90 pixels, all
  // of one length. The slider changes it.
  const space = grid.clientWidth - (innerWidth > 900 ? 234 : 2), count = 1 + data.methods.length;
  const columns = Math.ceil(count / Math.ceil(count / Math.max(3, Math.floor(space / 92))));
  const abreast = Math.floor(((grid.clientWidth - 14) / 2 - 236) / count) - 2;
  const fitting = data.images.length > 4 && abreast >= 150 ? abreast : Math.floor(space / columns) - 2;
  form.elements.size.value = several ? Math.min(280, fitting) : 150;
  document.documentElement.style.setProperty("--count", count);
  bar.open = innerWidth > 640;
}

/** Follows the controls that say which images are shown, and in which order. */
function show() {
  const { verdict, order, differ } = form.elements;
  const matches = (item, name) => !form.elements[name].value || form.elements[name].value === "=" + item[name];
  const most = data.images.map(item => item.disagreement).sort((a, b) => b - a);
  const least = +differ.value < 1 ? most[Math.ceil(differ.value * most.length) - 1] : -1;
  const kept = [...items].filter(([, item]) => matches(item, "true") && matches(item, "predicted")
    && ["all", String(item.correct)].includes(verdict.value) && item.disagreement >= least);
  const sure = item => Math.max(...item.probabilities.map(([, share]) => share));
  const keys = { disagreement: item => -item.disagreement, sure: item => -sure(item), unsure: sure };
  const key = keys[order.value];
  if (key) kept.sort(([, a], [, b]) => key(a) - key(b));
  grid.replaceChildren(...kept.map(([element]) => element));
  document.getElementById("none").hidden = kept.length > 0;
  document.getElementById("count").textContent = `${kept.length} of ${items.size} shown`;
  if (!grid.contains(current)) setCurrent(grid.firstChild);
}

function setCurrent(element) {
  current?.setAttribute("tabindex", -1);
  current = element;
  current?.setAttribute("tabindex", 0);  // Tab reaches one card; keys go on from there
}

/** Goes so many images on; the enlarged view follows. */
function go(step) {
  const cards = [...grid.children], at = cards.indexOf(current);
  const target = cards[Math.min(Math.max(at + step, 0), cards.length - 1)];
  if (!target) return;
  // The first key of all only shows where one is.
  const fresh = !single.open && document.activeElement !== current && Math.abs(step) === 1;
  setCurrent(fresh ? current : target);
  current.scrollIntoView({ block: "nearest" });
  current.focus({ preventScroll: true });
  if (single.open) enlarge();
}

function enlarge() {
  enlarged = current;
  const body = document.getElementById("single-body"), item = items.get(current);
  const cards = [...grid.children], place = cards.indexOf(current);
  sleep(body);
  body.replaceChildren(said(item), tiles(item, 320));
  document.getElementById("single-name").textContent = item.name;
  document.getElementById("single-place").textContent = `${place + 1} of ${cards.length}`;
  single.querySelector("[data-step='-1']").disabled = place === 0;
  single.querySelector("[data-step='1']").disabled = place === cards.length - 1;
  document.getElementById("single-look").append(look);  // the same controls, in reach
  if (!single.open) single.showModal();
  single.focus();
  fit(body.querySelector(".tiles"), item);
  wake(body);
}

/** As many columns as make the tiles largest, yet all in sight; on a phone two, and one scrolls. */
function fit(frame, { size: [height, width], maps }) {
  const count = 1 + maps.length, caption = several ? 28 : 6, room = frame.clientWidth;
  const below = Math.max(innerHeight * .97 - frame.getBoundingClientRect().top - 20, 200);
  const [wide, columns] = Array.from({ length: count }, (_, i) => i + 1).map(columns => [Math.min(
    room / columns - 6, (below / Math.ceil(count / columns) - caption) * width / height), columns])
    .reduce((best, next) => (next[0] > best[0] ? next : best));
  const narrow = innerWidth <= 640;
  frame.style.gridTemplateColumns = narrow ? "1fr 1fr" : `repeat(${columns}, ${Math.floor(wide)}px)`;
}

single.addEventListener("close", () => {
  const body = document.getElementById("single-body");
  sleep(body);
  body.replaceChildren();
  form.prepend(look);
  enlarged.focus();  // the browser went back to where the first was opened
});

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const own = event.target.closest("input, select");  // they need the keys themselves
  if (event.key === "?") return help.showModal();
  if (own || help.open) return;
  const row = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const here = single.open || event.target.closest("article");
  const steps = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1, Home: -items.size, End: items.size,
                  ArrowDown: single.open ? 1 : row, ArrowUp: single.open ? -1 : -row };
  const scrolls = ["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key);
  const { outline, colors } = form.elements;
  if (event.key in steps && (here || !scrolls) && !event.target.closest(".scroll")) go(steps[event.key]);
  else if (event.key === "Enter" && event.target === current) enlarge();
  else if (event.key === "o") outline.checked = !outline.checked, restyle();
  else if (event.key === "c") colors.selectedIndex = (colors.selectedIndex + 1) % colors.length, restyle();
  else return;
  event.preventDefault();
}

/** Paper shows all cards, whatever was on the screen. */
function unfold() {
  printing = true;
  for (const element of grid.children) {
    if (!element.hasChildNodes()) fill(element);
    wake(element);
  }
}

function fold() {
  printing = false;
  for (const element of items.keys()) {
    watcher.unobserve(element);
    watcher.observe(element);  // which tells anew who is on the screen
  }
}

function listen() {
  addEventListener("beforeprint", unfold);
  addEventListener("afterprint", fold);
  document.addEventListener("keydown", press);
  document.addEventListener("input", event => {
    const { blend, opacity } = form.elements;
    if (blend.contains(event.target)) opacity.value = 100 * data.blends[blend.value];
    restyle();
    if (form.contains(event.target)) show();
  });
  form.addEventListener("submit", event => event.preventDefault());
  grid.addEventListener("focusin", event => setCurrent(event.target.closest("article")));
  grid.addEventListener("click", event => {
    if (!event.target.closest(".tiles")) return;
    setCurrent(event.target.closest("article"));
    enlarge();
  });
  for (const dialog of [single, help])
    dialog.addEventListener("click", event => {
      const { step, close } = event.target.dataset;
      if (step) go(+step);
      if (close !== undefined || event.target === dialog) dialog.close();  // or beside it
    });
  document.getElementById("ask").addEventListener("click", () => help.showModal());
  document.getElementById("reset").addEventListener("click", () => {
    for (const name of ["true", "predicted"]) form.elements[name].value = "";
    form.elements.differ.value = 1;
    form.elements.verdict.value = "all";
    show();
  });
  new ResizeObserver(() => document.documentElement.style.setProperty("--bar", bar.offsetHeight + "px"))
    .observe(bar);
}

addHeader();
addControls();
addPages();
listen();
restyle();
show();
if (grid.firstChild) {
  fill(grid.firstChild);  // the others are about as high
  document.documentElement.style.setProperty("--guess", grid.firstChild.offsetHeight + "px");
}
for (const element of items.keys()) watcher.observe(element);
