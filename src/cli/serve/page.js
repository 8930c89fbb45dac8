// The page: sends a film and a phrase to /explain and draws what comes back. Texts are set as text, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);
const make = (name, text, className) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
};

// Dark violet, red, yellow: of growing lightness, so that it can be read without colours too; as `g2d explain` has it.
const STOPS = [[38, 13, 89], [140, 26, 115], [242, 102, 51], [255, 242, 128]];
const MASK = [64, 160, 255];

let film = null; // the chosen file
let limits = { film_bytes: Infinity, phrase_characters: Infinity };
let running = null; // AbortController of the request that is under way

function warm(value) {
  const place = value / 255 * (STOPS.length - 1);
  const stop = Math.min(Math.floor(place), STOPS.length - 2);
  const part = place - stop;
  return STOPS[stop].map((channel, at) => channel * (1 - part) + STOPS[stop + 1][at] * part);
}

// Colour and opacity of a value, as each kind of picture has it.
const PAINT = {
  film: (value) => [value, value, value, 255],
  heat: (value) => [...warm(value), 90 + value * 0.64],
  mask: (value) => [...MASK, value],
};

function canvas(stage, side, kind) {
  const node = make("canvas");
  node.width = node.height = side;
  const context = node.getContext("2d");
  const picture = context.createImageData(side, side);
  const values = Uint8Array.from(atob(stage.pixels), (letter) => letter.charCodeAt(0));
  values.forEach((value, at) => picture.data.set(PAINT[kind](value), 4 * at));
  context.putImageData(picture, 0, 0);
  if (kind !== "film") node.className = "overlay";
  node.setAttribute("aria-hidden", "true");
  return node;
}

// The film, and what is laid over it, under a caption.
function tile(answer, caption, stage, kind) {
  const figure = make("figure");
  figure.append(make("figcaption", caption));
  const stack = make("div", undefined, "stack");
  stack.setAttribute("role", "img");
  stack.setAttribute("aria-label", caption);
  stack.append(canvas(answer.stages[0], answer.side, "film"));
  if (stage) stack.append(canvas(stage, answer.side, kind));
  figure.append(stack);
  return figure;
}

const MASKS = ["body mask", "binary", "smoothed", "predicted mask"];
const kindOf = (stage) => (MASKS.includes(stage.name) ? "mask" : "heat");

function tiles(answer, phrase) {
  const named = (name) => answer.stages.find((stage) => stage.name === name);
  const found = [tile(answer, "Film, as the model sees it")];
  if (phrase) found.push(tile(answer, `Like “${phrase}”`, answer.stages[answer.stages.length - 1], "heat"));
  const predicted = named("predicted mask");
  if (predicted) found.push(tile(answer, "Predicted mask", predicted, "mask"));
  found.push(tile(answer, "Pseudo mask, from attention", named("smoothed"), "mask"));
  return found;
}

function findings(rows) {
  byId("findings-box").hidden = rows.length === 0;
  byId("findings").replaceChildren(...rows.map(({ name, score }) => {
    const row = make("tr");
    const head = make("th", name);
    head.scope = "row";
    const meter = make("meter");
    meter.value = score;
    meter.setAttribute("aria-hidden", "true");
    const cell = make("td");
    cell.append(meter);
    row.append(head, make("td", score.toFixed(3), "number"), cell);
    return row;
  }));
}

function reports(rows) {
  byId("reports-box").hidden = rows.length === 0;
  byId("reports").replaceChildren(...rows.map(({ text, findings, similarity }) => {
    const row = make("li", text);
    const labels = findings ? `, labelled ${findings}` : "";
    row.append(make("div", `similarity ${similarity.toFixed(3)}${labels}`, "quiet"));
    return row;
  }));
}

function numbers(values) {
  const rows = Object.entries(values).filter(([, value]) => value !== null);
  byId("numbers").replaceChildren(...rows.map(([name, value]) => {
    const row = make("tr");
    const head = make("th", name.replaceAll("_", " "));
    head.scope = "row";
    row.append(head, make("td", Number.isInteger(value) ? String(value) : value.toFixed(3), "number"));
    return row;
  }));
}

function overlay() {
  const percent = byId("opacity").value;
  byId("opacity-value").textContent = `${percent} %`;
  document.querySelectorAll("canvas.overlay").forEach((node) => { node.style.opacity = percent / 100; });
}

function show(answer, phrase) {
  byId("tiles").replaceChildren(...tiles(answer, phrase));
  const stages = answer.stages.slice(1);
  byId("stages").replaceChildren(...stages.map((stage) => tile(answer, stage.name, stage, kindOf(stage))));
  const alike = answer.numbers.similarity;
  byId("similarity").textContent = phrase ? `Similarity of film and phrase: ${alike.toFixed(3)} (a cosine, from -1 to 1)` : "";
  findings(answer.findings);
  reports(answer.reports);
  numbers(answer.numbers);
  byId("result").hidden = false;
  overlay();
}

function fail(sentence) {
  byId("error").textContent = sentence;
  byId("error").hidden = !sentence;
}

const size = (bytes) => (bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`);

// What keeps a request from being sent, in a sentence; nothing if nothing does.
function missing(phrase) {
  if (!film) return "Choose a radiograph first, or drop one on this page.";
  if (film.size === 0) return "The file is empty; choose another.";
  if (film.size > limits.film_bytes) return `The file has ${size(film.size)}, ${size(limits.film_bytes)} are the limit.`;
  if ([...phrase].length > limits.phrase_characters) return `The phrase may have ${limits.phrase_characters} characters.`;
  return "";
}

function busy(on) {
  byId("busy").hidden = byId("stop").hidden = !on;
  byId("go").disabled = on;
  byId("form").setAttribute("aria-busy", String(on));
}

async function ask(phrase, signal) {
  const query = phrase ? `?text=${encodeURIComponent(phrase)}` : "";
  const body = new Blob([film]); // without its type, name or date
  const response = await fetch(`/explain${query}`, { method: "POST", body, signal });
  const answer = await response.json().catch(() => ({ error: `the server answered ${response.status} without a reason` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function submit() {
  const phrase = byId("phrase").value.trim();
  const why = missing(phrase);
  fail(why);
  if (why || running) return;
  running = new AbortController();
  const start = performance.now();
  const told = () => { byId("status").textContent = `Computing: ${Math.round((performance.now() - start) / 1000)} s`; };
  const clock = setInterval(told, 1000);
  busy(true);
  told();
  try {
    const answer = await ask(phrase, running.signal);
    show(answer, phrase);
    byId("status").textContent = `Done in ${((performance.now() - start) / 1000).toFixed(1)} s.`;
    byId("seen").focus({ preventScroll: true });
    byId("result").scrollIntoView({ block: "start" });
  } catch (error) {
    const stopped = error.name === "AbortError";
    const lost = error instanceof TypeError; // what fetch throws where nobody answers
    byId("status").textContent = stopped ? "Stopped." : "";
    if (!stopped) fail(lost ? "The server does not answer: is g2d serve still running?" : error.message);
  } finally {
    clearInterval(clock);
    busy(false);
    running = null;
  }
}

function choose(file) {
  film = file;
  fail("");
  byId("status").textContent = file ? `A file of ${size(file.size)} is chosen.` : "";
  if (file) submit();
}

function dropped(event) {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (!file) return fail("Nothing was dropped that is a file.");
  byId("film").value = ""; // the field would go on naming another file
  choose(file);
}

async function introduce() {
  try {
    const model = await (await fetch("/model")).json();
    limits = model.limits;
    const searched = model.reports ? `; ${model.reports} reports are searched` : "";
    byId("model").textContent = `${model.name} on ${model.device}, films of ${model.side} × ${model.side}${searched}`;
    byId("phrase").disabled = !model.text;
    if (!model.text) byId("phrase").placeholder = "these weights have no text tower";
    byId("phrases").replaceChildren(...model.findings.map((name) => {
      const option = make("option");
      option.value = name.toLowerCase();
      return option;
    }));
  } catch {
    byId("model").textContent = "The server does not say which model it serves.";
  }
}

byId("form").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
byId("stop").addEventListener("click", () => running?.abort());
byId("film").addEventListener("change", (event) => choose(event.target.files[0] ?? null));
byId("opacity").addEventListener("input", overlay);
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", dropped);
introduce();
