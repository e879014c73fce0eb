const by = id => document.getElementById(id), stage = by("stage");
const source = make("canvas"), overlay = make("canvas", { class: "map", "aria-hidden": "true" });
const tablet = make("canvas");  // what is drawn on
const SHOWN = 5;  // classes
source.width = 0;  // until there is something to see
let engine = null, film = null, busy = false, again = false, told = null;

/** Undoes gzip and base64. */
async function unpacked(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The network in this page, by WebAssembly. */
async function inPage() {
  const [wasm, model] = await Promise.all([unpacked(data.wasm), unpacked(data.model)]);
  const module = new Blob([bytes(data.module)], { type: "text/javascript" });
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: wasm.buffer,
                                wasmPaths: { mjs: URL.createObjectURL(module) } });
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return async (pixels, height, width) => {
    const images = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
    const { probabilities, map } = await session.run({ images });
    return { probabilities: probabilities.data, map: map.data, grid: map.dims.slice(1) };
  };
}

/** The network in the program that serves this page. */
async function inProgram() {
  return async (pixels, height, width) => {
    const answer = await fetch(`explain?height=${height}&width=${width}`, { method: "POST", body: pixels });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
}

/** The part of a picture that the network sees: top, left, height, width. */
function box(height, width) {
  if (data.fit === "stretch") return [0, 0, height, width];
  const least = Math.min(...data.image_size), [tall, wide] = data.image_size.map(n => n / least);
  const unit = (data.fit === "pad" ? Math.max : Math.min)(height / tall, width / wide);
  const share = data.fit === "pad" ? 1 : data.crop_share;
  const [down, across] = [share * unit * tall, share * unit * wide];
  return [(height - down) / 2, (width - across) / 2, down, across];
}

/** The colours of the picture, without alpha. */
function pixelsOf(canvas) {
  const { width, height } = canvas;
  const four = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const three = new Uint8Array(3 * width * height);
  for (let i = 0, j = 0; i < four.length; i += 4) {
    three[j++] = four[i];
    three[j++] = four[i + 1];
    three[j++] = four[i + 2];
  }
  return three;
}

/** Takes over what there is to see, on white; a large picture is scaled down. */
function take(picture, width, height) {
  const share = Math.min(1, data.most / Math.max(width, height));
  source.width = Math.max(1, Math.round(width * share));
  source.height = Math.max(1, Math.round(height * share));
  const pen = source.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, source.width, source.height);
  pen.drawImage(picture, 0, 0, source.width, source.height);
  return think();
}

/** Asks the network about what was taken; of what comes meanwhile the last alone. */
async function think() {
  if (!engine || !source.width) return;
  if (busy) { again = true; return; }
  busy = true;
  try {
    do {
      again = false;
      const start = performance.now();
      told = await engine(pixelsOf(source), source.height, source.width);
      told.milliseconds = performance.now() - start;
      if (!stage.classList.contains("drawing") || strokes.length) show();
    } while (again);
  } catch (error) {
    by("says").textContent = `The network failed: ${error.message}`;
  } finally {
    busy = false;
  }
}

function show() {
  const order = [...told.probabilities.keys()].sort((a, b) => told.probabilities[b] - told.probabilities[a]);
  const best = data.classes[order[0]], share = told.probabilities[order[0]];
  by("says").textContent = `${best}, ${percent(share)}`;
  by("chances").replaceChildren(...order.slice(0, SHOWN).flatMap(i => [
    make("span", { title: data.classes[i], role: "listitem" }, data.classes[i]),
    make("span", { class: "track" }, make("i", { style: `width:${100 * told.probabilities[i]}%` })),
    make("span", {}, percent(told.probabilities[i]))]));
  by("time").textContent = `${told.milliseconds.toFixed(0)} ms for this picture; map: ${data.method}`;
  stage.setAttribute("aria-label", `the picture, and where the network looked; it says ${best}`);
  overlay.paint();
}

/** The picture, and over the part that was seen the map. */
function lay() {
  const { width, height } = source, [top, left, high, wide] = box(height, width);
  const seen = make("div", { class: high * wide < height * width ? "seen part" : "seen", style:
    `top: ${100 * top / height}%; left: ${100 * left / width}%; height: ${100 * high / height}%; `
    + `width: ${100 * wide / width}%` }, overlay);
  const shown = film || (stage.classList.contains("drawing") ? tablet : source);
  const pile = make("div", { class: "stack", style: `aspect-ratio: ${width} / ${height};`
    + `max-width: calc(75vh * ${width / height})` }, shown, seen);
  stage.replaceChildren(pile);
}

overlay.paint = () => {
  if (!told) return;
  const grey = Uint8Array.from(told.map, value => Math.round(255 * Math.min(Math.max(value, 0), 1)));
  let text = "";
  for (const value of grey) text += String.fromCharCode(value);
  paint(overlay, { grid: told.grid, grey: btoa(text), place: 0 }, data.image_size.map(n => n * Math.ceil(448 / Math.min(...data.image_size))));
};
awake.add(overlay);

/** Ends camera and drawing. */
function rest() {
  if (film) film.srcObject.getTracks().forEach(track => track.stop());
  film = null;
  stage.classList.remove("drawing");
  for (const id of ["camera", "pad"]) by(id).setAttribute("aria-pressed", "false");
  by("clear").hidden = true;
}

async function open(file) {
  if (!file) return;
  rest();
  try {
    const picture = await createImageBitmap(file);
    await take(picture, picture.width, picture.height);
    lay();
  } catch {
    by("says").textContent = `${file.name || "This"} is no picture that the browser reads`;
  }
}

async function shoot() {
  const on = film !== null;
  rest();
  if (on) return;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    film = make("video", { playsinline: "", muted: "" });
    film.srcObject = stream;
    await film.play();
  } catch (error) {
    film = null;
    by("says").textContent = `No camera: ${error.message}`;
    return;
  }
  by("camera").setAttribute("aria-pressed", "true");
  await take(film, film.videoWidth, film.videoHeight);
  lay();
  const next = async () => {
    if (!film) return;
    await take(film, film.videoWidth, film.videoHeight);
    requestAnimationFrame(next);
  };
  next();
}

const INK = "#f5e62e", EDGE = "#16181c";
const GROUND = ["#5d4a78", "#3f6b5c", "#7a4f5c", "#4a5a86", "#6d6f58", "#54456b", "#3c6a78", "#74586f", "#5a7a52"];
let strokes = [];

/** All strokes, bright on a dark edge on a soft ground: as the digits that the shipped network learnt from. */
function redraw() {
  const pen = tablet.getContext("2d");
  const ground = make("canvas", { width: 3, height: 3 }), dot = ground.getContext("2d");
  GROUND.forEach((colour, i) => { dot.fillStyle = colour; dot.fillRect(i % 3, Math.floor(i / 3), 1, 1); });
  pen.imageSmoothingQuality = "high";
  pen.drawImage(ground, 0, 0, tablet.width, tablet.height);
  pen.lineCap = pen.lineJoin = "round";
  for (const [colour, width] of [[EDGE, 112], [INK, 58]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    for (const stroke of strokes) {
      pen.beginPath();
      pen.moveTo(stroke[0][0], stroke[0][1]);
      for (const [x, y] of stroke) pen.lineTo(x + .1, y);  // of a single point, a dot
      pen.stroke();
    }
  }
  if (strokes.length) return take(tablet, tablet.width, tablet.height);
  source.width = source.height = tablet.width;
  forget("Draw with a finger or the mouse");
}

/** Shows no answer. */
function forget(text) {
  told = null;
  by("says").textContent = text;
  by("time").textContent = "";
  by("chances").replaceChildren();
  overlay.width = overlay.height = 0;
}

async function sketch() {
  const on = stage.classList.contains("drawing");
  rest();
  if (on) return;
  by("pad").setAttribute("aria-pressed", "true");
  by("clear").hidden = false;
  tablet.width = tablet.height = 480;
  stage.classList.add("drawing");
  strokes = [];
  await redraw();
  lay();
}

function place(event) {
  const { left, top, width, height } = tablet.getBoundingClientRect();
  return [(event.clientX - left) / width * tablet.width, (event.clientY - top) / height * tablet.height];
}

function addEvents() {
  by("file").addEventListener("change", event => open(event.target.files[0]));
  by("camera").addEventListener("click", shoot);
  by("pad").addEventListener("click", sketch);
  by("clear").addEventListener("click", () => { strokes = []; redraw(); });
  stage.addEventListener("pointerdown", event => {
    if (!stage.classList.contains("drawing")) return;
    event.preventDefault();
    try { stage.setPointerCapture(event.pointerId); } catch {}
    strokes.push([place(event)]);
    redraw();
  });
  stage.addEventListener("pointermove", event => {
    if (!stage.classList.contains("drawing") || !(event.buttons & 1) || !strokes.length) return;
    strokes.at(-1).push(place(event));
    redraw();
  });
  addEventListener("dragover", event => { event.preventDefault(); stage.classList.add("over"); });
  addEventListener("dragleave", () => stage.classList.remove("over"));
  addEventListener("drop", event => {
    event.preventDefault();
    stage.classList.remove("over");
    open(event.dataTransfer.files[0]);
  });
  addEventListener("paste", event => open([...event.clipboardData.files].find(f => f.type.startsWith("image/"))));
  form.addEventListener("input", event => {
    const { blend, opacity } = form.elements;
    if (event.target === blend) opacity.value = 100 * data.blends[blend.value];
    restyle();
  });
}

async function start() {
  for (const name of Object.keys(data.blends)) form.elements.blend.append(make("option", { value: name }, name));
  form.elements.opacity.value = 100 * data.blends[data.blend];
  for (const name of [...Object.keys(palettes), "spotlight"])
    form.elements.colors.append(make("option", { value: name }, name));
  by("private").textContent = data.model ? "It works in this page alone: nothing leaves this machine."
    : "The network runs in the program that serves this page, on this machine.";
  addEvents();
  restyle();
  try {
    engine = await (data.model ? inPage() : inProgram());
    by("says").textContent = "Ready";
    await think();
  } catch (error) {
    by("says").textContent = `The network cannot run in this browser: ${error.message}`;
  }
}
start();
