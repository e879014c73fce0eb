const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("controls");
const percent = share => (share === null ? "–" : (100 * share).toFixed(1) + " %");

/** Fills a new element; children may be text, which is never read as markup. */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const make = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const bytes = base64 => Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
const palettes = Object.fromEntries(
  Object.entries(data.colors).map(([name, colors]) => [name, bytes(colors)]));
const awake = new Set();  // the canvases near the screen; no other holds pixels
let palette;

/** What a grey value looks like, as RGBA; below the threshold nothing is laid over the picture.
    `fade`: the lower the value, the clearer. */
function readPalette() {
  const { colors, threshold, blend } = form.elements, table = palettes[colors.value];
  const fades = blend.value === "fade";
  palette = Uint32Array.from({ length: 256 }, (_, grey) => {
    if (grey < 2.55 * threshold.value) return 0;
    if (!table) return (255 - grey << 24) >>> 0;  // spotlight: darkens what was not looked at
    const [red, green, blue] = table.subarray(3 * grey, 3 * grey + 3);
    return ((fades ? grey : 255) << 24 | blue << 16 | green << 8 | red) >>> 0;
  });
}

/** For each of `target` pixels the cell below, the cell above, and the share of the latter. Cell i is
    centred on `first + step * i` of the side; without a place, the cells tile it. */
function axis(source, target, [first, step] = [.5 / source, 1 / source]) {
  return Array.from({ length: target }, (_, i) => {
    const centre = Math.min(Math.max(((i + .5) / target - first) / step, 0), source - 1);
    const below = Math.floor(centre);
    return [below, Math.min(below + 1, source - 1), centre - below];
  });
}

/** Enlarges grey values, bilinear from the centres of their cells, and then colours them: as the
    library's own overlays do. Colours first and a browser's smoothing after would show colours of no value. */
function paint(canvas, map, [height, width]) {
  const [h, w] = map.grid, [down, over] = data.places[map.place] || [];
  const grey = bytes(map.grey), across = axis(w, width, over), row = new Float32Array(w);
  const pixels = new Uint32Array(height * width);
  let place = 0;
  for (const [above, below, share] of axis(h, height, down)) {
    for (let x = 0; x < w; x++)
      row[x] = grey[above * w + x] + share * (grey[below * w + x] - grey[above * w + x]);
    for (const [left, right, part] of across)
      pixels[place++] = palette[Math.round(row[left] + part * (row[right] - row[left]))];
  }
  canvas.height = height;
  canvas.width = width;
  canvas.getContext("2d").putImageData(
    new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
}

/** The size to draw at: the picture's, a whole number of times, until it is sharp on a screen. */
function drawnSize([height, width], least) {
  const times = Math.ceil(least / Math.min(height, width));
  return [height * times, width * times];
}

function wake(element) {
  for (const canvas of element.querySelectorAll("canvas")) {
    awake.add(canvas);
    canvas.paint();
  }
}

function sleep(element) {
  for (const canvas of element.querySelectorAll("canvas")) {
    awake.delete(canvas);
    canvas.width = canvas.height = 0;  // frees its pixels
  }
}

/** A picture, and layers over the part of it that the network saw. */
function stack(item, ...layers) {
  const [height, width] = item.size, square = Math.max(height, width) <= 96 ? "square" : "";
  const [top, left, high, wide] = item.box;
  const seen = make("div", { class: item.part ? "seen part" : "seen", style:
    `top: ${100 * top / height}%; left: ${100 * left / width}%; `
    + `height: ${100 * high / height}%; width: ${100 * wide / width}%` }, ...layers);
  return make("div", { class: "stack", style: `aspect-ratio: ${width} / ${height}` },
    make("img", { src: item.picture, class: square, alt: layers.length ? "" : `image ${item.name}` }),
    ...(layers.length ? [seen] : []));
}

function heat(item, map, least) {
  const where = map.on_object === null ? "" : `, its peak ${map.on_object ? "on" : "off"} the object`;
  const target = map.asked === null ? "" : ` for '${map.asked}'`;
  const canvas = make("canvas", { class: "map", role: "img", width: 0, height: 0,
    "aria-label": `where the model looked in ${item.name}, by ${map.method}${target}${where}` });
  canvas.paint = () => paint(canvas, map, drawnSize(item.seen, least));
  return canvas;
}

function marks(item, map) {
  const [height, width] = item.seen, [row, column] = map.peak;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none",
                            "aria-hidden": "true" });
  for (const layer of ["halo", "core"]) {
    if (item.outline) svg.append(draw("path", { class: `outline ${layer}`, d: item.outline }));
    svg.append(draw("circle", { class: `peak ${layer}`, cx: column + .5, cy: row + .5,
                                r: Math.min(height, width) / 24 }));
  }
  return svg;
}

/** The picture, and each map over it; `least` pixels on the shorter side. */
function tiles(item, least) {
  const several = data.methods.length > 1;
  const caption = (...words) => words.length ? [make("figcaption", {}, words.join(" · "))] : [];
  return make("div", { class: "tiles" },
    make("figure", {}, stack(item), ...caption(...(several ? ["image"] : []))),
    ...item.maps.map(map => {
      const verdict = map.on_object === null ? "" : map.on_object ? "\u00a0✓" : "\u00a0✗";
      const told = map.constant ? [make("span", { class: "constant" }, "constant: says nothing")] : [];
      return make("figure", {}, stack(item, heat(item, map, least), marks(item, map), ...told), ...caption(
        ...(several ? [map.title + verdict] : map.asked !== null ? [map.title] : [])));
    }));
}

/** Follows the controls that say how maps are drawn. */
function restyle() {
  const { opacity, opacity_text, threshold, threshold_text, colors, blend, size, outline, peak } = form.elements;
  const root = document.documentElement.style, table = palettes[colors.value], cut = +threshold.value;
  opacity_text.value = opacity.value + " %";
  threshold_text.value = cut + " %";
  root.setProperty("--opacity", opacity.value / 100);
  root.setProperty("--tile", size.value + "px");
  document.body.classList.toggle("no-outline", !outline.checked);
  document.body.classList.toggle("no-peak", !peak.checked);
  const wanted = colors.value + cut + blend.value;
  if (wanted === restyle.drawn) return;
  restyle.drawn = wanted;
  readPalette();
  const stops = Array.from({ length: 33 }, (_, i) => Math.round(255 * i / 32)).map(grey => {
    const clear = blend.value === "fade" ? ` / ${grey / 255}` : "";
    const color = table ? table.subarray(3 * grey, 3 * grey + 3).join(" ") + clear : `0 0 0 / ${1 - grey / 255}`;
    return `rgb(${color}) ${grey / 2.55}%`;
  });
  root.setProperty("--scale", `linear-gradient(90deg, ${stops})`);
  root.setProperty("--cut", cut + "%");
  cancelAnimationFrame(restyle.frame);
  restyle.frame = requestAnimationFrame(() => awake.forEach(canvas => canvas.paint()));
}
