const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const signed = (x, digits = 3) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

function element(name, attributes = {}, ...children) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  one.append(...children);
  return one;
}

function shape(name, attributes = {}, ...children) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  one.append(...children);
  return one;
}

const line = (points, look) => {
  let pen = "M", words = "";
  for (const p of points) {
    if (p === null) pen = "M";
    else { words += `${pen}${p[0].toFixed(1)},${p[1].toFixed(1)}`; pen = "L"; }
  }
  return shape("path", { d: words, ...look });
};

const OUTLINES = {
  square: "M-.85-.85h1.7v1.7h-1.7z", up: "M0-1.1 1 .8h-2z", down: "M0 1.1 1-.8h-2z", diamond: "M0-1.2 1.2 0 0 1.2-1.2 0z",
  plus: "M-.4-1.1h.8v.7h.7v.8h-.7v.7h-.8v-.7h-.7v-.8h.7z", circle: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
  cross: "M-1-.6-.6-1 0-.4.6-1 1-.6.4 0 1 .6.6 1 0 .4-.6 1-1 .6-.4 0z",
};

function mark(look, x, y, size) {
  const style = look.hollow ? `stroke:${look.color};stroke-width:${2 / size}` : `fill:${look.color};stroke-width:${1 / size}`;
  return shape("path", {
    d: OUTLINES[look.shape], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${size})`,
    class: look.hollow ? "hollow" : "mark", style,
  });
}
const key = look => shape("svg", { class: "key", viewBox: "-8 -8 16 16", "aria-hidden": "true" }, mark(look, 0, 0, 5.5));

const LOOKS = {
  "ERM": { color: "var(--erm)", shape: "circle" }, "LS": { color: "var(--ls)", shape: "square" },
  "Standard KD": { color: "var(--kd)", shape: "up" }, "Self-KD": { color: "var(--self-kd)", shape: "down" },
  "Reverse KD": { color: "var(--reverse-kd)", shape: "diamond" },
  "Teacher-free KD": { color: "var(--teacher-free-kd)", shape: "plus" },
};
const OTHER_SHAPES = ["circle", "square", "up", "down", "diamond", "plus"];

// ---- targets in the simplex

(function simplex() {
  const SIDE = 372, LEFT = 24, BOTTOM = 368, MOST = 70, LEAST = 0.01;
  const { truths, teachers, start } = DATA.simplex;
  const scene = { truth: [...truths.mixed], teacher: [...teachers.sure], start: [...start], alpha: 0.5, tau: 2 };
  const at = p => [LEFT + SIDE * (p[1] + p[2] / 2), BOTTOM - SIDE * p[2] * Math.sqrt(3) / 2];
  const from = (x, y) => {
    const c = (BOTTOM - y) / SIDE * 2 / Math.sqrt(3), b = (x - LEFT) / SIDE - c / 2;
    const p = [1 - b - c, b, c].map(v => clamp(v, LEAST, 1)), sum = p[0] + p[1] + p[2];
    return p.map(v => v / sum);
  };
  const POINTS = [
    { name: "truth η = ERM's optimum", of: s => s.truth, look: LOOKS.ERM, moves: "truth" },
    { name: "LS target = its optimum", of: s => Simplex.smoothed(s), look: LOOKS.LS },
    { name: "teacher", of: s => s.teacher, look: { color: "var(--teacher)", shape: "diamond", hollow: true }, moves: "teacher" },
    { name: "teacher at τ", of: s => Simplex.tempered(s), look: { color: "var(--teacher)", shape: "diamond" } },
    { name: "KD's optimum", of: s => Simplex.optimum(s), look: LOOKS["Standard KD"] },
    { name: "student at the start", of: s => s.start, look: { color: "var(--ink)", shape: "cross" }, moves: "start" },
  ];
  const picture = byId("triangle"), still = shape("g"), moving = shape("g"), handles = shape("g");
  picture.append(still, moving, handles);
  still.append(line([at([1, 0, 0]), at([0, 1, 0]), at([0, 0, 1]), at([1, 0, 0])], { class: "edge" }));
  for (const level of [0.2, 0.4, 0.6, 0.8, 1]) {
    still.append(line(Simplex.contour(level).map(p => p && at(p)), { class: "level" }));
  }
  [["start", LEFT - 20, BOTTOM + 20], ["end", LEFT + SIDE + 20, BOTTOM + 20], ["middle", LEFT + SIDE / 2, BOTTOM - SIDE * 0.866 - 12]]
    .forEach(([anchor, x, y], k) => still.append(shape("text", { x, y, "text-anchor": anchor }, `class ${k + 1}`)));

  const grips = {};
  for (const point of POINTS.filter(one => one.moves)) {
    const grip = shape("g", { class: "handle", tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": 1, "aria-label": `${point.name}; arrow keys move it` });
    grip.append(shape("circle", { class: "reach", r: 20 }), mark(point.look, 0, 0, 7));
    grip.addEventListener("keydown", event => {
      const step = event.shiftKey ? 20 : 5, ways = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (!(event.key in ways)) return;
      event.preventDefault();
      const [x, y] = at(scene[point.moves]), [dx, dy] = ways[event.key];
      move(point.moves, x + dx, y + dy);
    });
    grip.addEventListener("pointerdown", event => { grip.setPointerCapture(event.pointerId); event.preventDefault(); grip.focus(); });
    grip.addEventListener("pointermove", event => {
      if (!grip.hasPointerCapture(event.pointerId)) return;
      const spot = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
      move(point.moves, spot.x, spot.y);
    });
    grips[point.moves] = grip;
    handles.append(grip);
  }

  function move(which, x, y) {
    scene[which] = from(x, y);
    if (byId(which)) byId(which).value = "";
    show();
  }

  function flow(method, color) {
    moving.append(line(Simplex.path(scene, method).map(at), { class: "way", style: `stroke:${color}` }));
    const foot = at(scene.start), change = Simplex.arrow(scene, scene.start, method);
    const tip = at(scene.start.map((x, k) => x + change[k])), way = [tip[0] - foot[0], tip[1] - foot[1]];
    const length = Math.hypot(...way);
    if (length < 1) return;
    const reach = Math.min(MOST, length), u = way.map(x => x / length), end = foot.map((x, i) => x + reach * u[i]);
    const wing = side => [end[0] - 11 * u[0] + side * 5.5 * -u[1], end[1] - 11 * u[1] + side * 5.5 * u[0]];
    moving.append(line([foot, end.map((x, i) => x - 9 * u[i])], { style: `stroke:${color};stroke-width:3` }));
    moving.append(line([end, wing(1), wing(-1)], { style: `fill:${color}` }));
  }

  function show() {
    scene.alpha = Number(byId("alpha").value);
    scene.tau = 2 ** Number(byId("tau").value);
    byId("alpha-value").textContent = scene.alpha.toFixed(2);
    byId("tau-value").textContent = scene.tau.toPrecision(3);
    byId("tau").setAttribute("aria-valuetext", scene.tau.toPrecision(3));
    moving.replaceChildren(line(Array.from({ length: 81 }, (_, i) => at(Simplex.tempered(scene, 2 ** (-2 + i / 10)))), { class: "over-tau" }));
    flow("LS", "var(--ls)");
    flow("KD", "var(--kd)");
    const rows = [];
    for (const point of POINTS) {
      const p = point.of(scene), spot = at(p), numbers = p.map(x => x.toFixed(2));
      if (point.moves) {
        grips[point.moves].setAttribute("transform", `translate(${spot[0].toFixed(1)} ${spot[1].toFixed(1)})`);
        grips[point.moves].setAttribute("aria-valuenow", numbers[0]);
        grips[point.moves].setAttribute("aria-valuetext", numbers.join(", "));
      } else moving.append(mark(point.look, ...spot, 7));
      const cells = [...numbers, Simplex.entropy(p).toFixed(3)].map(told => element("td", { class: "number" }, told));
      rows.push(element("tr", {}, element("th", { scope: "row" }, key(point.look), ` ${point.name}`), ...cells));
    }
    byId("points").replaceChildren(...rows);
    const base = Simplex.entropy(scene.truth);
    const beside = (name, p) => {
      const change = Simplex.entropy(p) - base, size = Math.abs(change);
      return size < 5e-4 ? `${name}'s optimum is as sure as ERM's` : `${name}'s optimum is ${size.toFixed(3)} nats ${change > 0 ? "less sure" : "surer"} than ERM's`;
    };
    const rate = method => signed(Simplex.entropyRate(scene, scene.start, method));
    byId("simplex-told").textContent = `${beside("LS", Simplex.smoothed(scene))}; ${beside("KD", Simplex.optimum(scene))}. `
      + `Where the student is, entropy changes at ${rate("LS")} (LS) and ${rate("KD")} (KD) nats per unit of time.`;
  }

  for (const [id, presets] of [["truth", truths], ["teacher", teachers]]) {
    byId(id).append(...Object.keys(presets).map(name => element("option", { value: name }, `${name} (${presets[name].join(", ")})`)));
    byId(id).append(element("option", { value: "" }, "as dragged"));
    byId(id).addEventListener("change", () => {
      if (byId(id).value) scene[id] = [...presets[byId(id).value]];
      show();
    });
  }
  for (const id of ["alpha", "tau"]) byId(id).addEventListener("input", show);
  show();
})();

// ---- single examples

(function examples() {
  const { arms, looked, orders, rows, about } = DATA.examples;
  byId("examples-about").textContent = about;
  byId("arm").append(...looked.map(name => element("option", {}, name)));
  byId("order").append(...Object.keys(orders).map(name => element("option", { value: name }, orders[name].title)));
  let chosen = null;

  function paint(image, side) {
    const canvas = element("canvas", { width: 8, height: 8 });
    const pen = canvas.getContext("2d"), pixels = pen.createImageData(8, 8);
    for (let i = 0; i < 64; i++) {
      const grey = 255 - Math.round(255 * parseInt(image[i], 36) / 16);
      pixels.data.set([grey, grey, grey, 255], 4 * i);
    }
    pen.putImageData(pixels, 0, 0);
    return canvas;
  }

  function bars(arm, row) {
    const p = row.arms[arm].p, top = Math.max(...p), said = p.map((x, k) => [x, k]).filter(([x]) => x >= 0.005)
      .sort((a, b) => b[0] - a[0]).map(([x, k]) => `${k}: ${x.toFixed(2)}`).join(", ");
    const picture = shape("svg", { viewBox: "0 0 240 92", role: "img", "aria-label": `posterior ${said}` });
    picture.append(shape("path", { d: "M0 72.5h240", class: "edge" }));
    p.forEach((x, k) => {
      const height = 56 * x;
      picture.append(shape("rect", { x: 24 * k + 3, y: 72 - height, width: 18, height, class: k === row.label ? "bar label" : "bar" }));
      picture.append(shape("text", { x: 24 * k + 12, y: 88, "text-anchor": "middle", class: k === row.label ? "" : "soft" }, `${k}`));
      if (x === top) picture.append(shape("text", { x: 24 * k + 12, y: 68 - height, "text-anchor": "middle" }, x.toFixed(2)));
    });
    return picture;
  }

  function detail(row) {
    chosen = row;
    for (const button of byId("thumbs").children) button.setAttribute("aria-pressed", button.dataset.row === `${row.row}`);
    const itself = paint(row.image);
    itself.setAttribute("role", "img");
    itself.setAttribute("aria-label", `handwritten digit, labelled ${row.label}`);
    const list = element("ul", { class: "arms" });
    for (const arm of arms) {
      const facts = row.arms[arm], numbers = element("dl");
      numbers.append(element("dt", {}, "entropy H"), element("dd", {}, facts.entropy.toFixed(3)));
      for (const [order, { title }] of Object.entries(orders)) {
        const value = facts[order];
        numbers.append(element("dt", {}, title.replace(" from the teacher", "")), element("dd", {}, value === null ? "–" : order === "surprise" ? value.toFixed(3) : signed(value)));
      }
      list.append(element("li", arm === byId("arm").value ? { class: "looked-at" } : {}, element("h3", {}, arm), bars(arm, row), numbers));
    }
    const told = element("p", {}, "label: ", element("strong", {}, `${row.label}`), ` (test row ${row.row})`, element("br"), element("span", { class: "soft" }, "green: the bar of the label"));
    byId("example").replaceChildren(element("div", { class: "itself" }, itself, told), list);
  }

  function sort() {
    const arm = byId("arm").value, order = byId("order").value;
    byId("order-means").textContent = `${orders[order].title}: ${orders[order].means}.`;
    const ranked = rows.filter(row => row.arms[arm][order] !== null).sort((a, b) => Math.abs(b.arms[arm][order]) - Math.abs(a.arms[arm][order]));
    byId("thumbs").replaceChildren(...ranked.slice(0, 24).map(row => {
      const value = row.arms[arm][order], told = order === "surprise" ? value.toFixed(2) : signed(value, 2);
      const button = element("button", { type: "button", "data-row": row.row, "aria-label": `digit ${row.label}, ${orders[order].title} ${told}` }, paint(row.image), told);
      button.addEventListener("click", () => detail(row));
      return button;
    }));
    if (ranked.length) detail(ranked[0]);
    else byId("example").replaceChildren(element("p", {}, `${arm} has no ${orders[order].title}.`));
  }
  byId("arm").addEventListener("change", sort);
  byId("order").addEventListener("change", sort);
  sort();
})();

// ---- all runs

(function runs() {
  const { tasks, methods, students, profiles, settings, rows, about } = DATA.runs;
  byId("runs-about").textContent = about;
  const RUNS = rows.map(([task, method, student, profile, seed, setting, teacher, entropy, accuracy, nll, name]) => ({
    task: tasks[task], method: methods[method], student: students[student], profile: profiles[profile], seed,
    settings: settings[setting], teacher, entropy, accuracy, nll, name,
  }));
  const looks = {};
  methods.forEach(name => {
    const others = methods.filter(one => !(one in LOOKS));
    looks[name] = LOOKS[name] || { color: "var(--other)", shape: OTHER_SHAPES[others.indexOf(name) % OTHER_SHAPES.length], hollow: true };
  });
  const MEASURES = { accuracy: ["test accuracy [%]", 100], nll: ["test NLL [nats]", 1] };
  const picture = byId("scatter");
  let visible = [], places = new Map(), current = null, wide = 0;

  byId("run-task").append(...tasks.map(name => element("option", {}, name)), element("option", { value: "" }, "all tasks"));
  byId("run-student").append(element("option", { value: "" }, "all"), ...students.map(name => element("option", {}, name)));
  byId("run-seed").append(element("option", { value: "" }, "all"), ...[...new Set(RUNS.map(run => run.seed))].sort((a, b) => a - b).map(seed => element("option", {}, `${seed}`)));
  const boxes = methods.map(name => {
    const box = element("input", { type: "checkbox", value: name });
    box.checked = true;
    box.addEventListener("change", choose);
    byId("run-methods").append(element("label", {}, box, " ", key(looks[name]), ` ${name}`));
    return box;
  });
  const every = checked => () => { for (const box of boxes) box.checked = checked; choose(); };
  byId("run-all").addEventListener("click", every(true));
  byId("run-none").addEventListener("click", every(false));

  function ticks(values) {
    const low = Math.min(...values), high = Math.max(...values), reach = Math.max(high - low, 1e-3);
    let step = 1e-5;
    for (let i = 0; step * 6 < reach; i++) step *= [2, 2.5, 2][i % 3];
    const first = Math.floor(low / step + 1e-9), last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
  }

  function choose() {
    const task = byId("run-task").value, student = byId("run-student").value, seed = byId("run-seed").value;
    const on = new Set(boxes.filter(box => box.checked).map(box => box.value));
    visible = RUNS.filter(run => on.has(run.method) && (!task || run.task === task) && (!student || run.student === student) && (!seed || `${run.seed}` === seed));
    visible.sort((a, b) => a.entropy - b.entropy);
    if (!visible.includes(current)) current = null;
    draw();
  }

  function draw() {
    const [title, scale] = MEASURES[byId("run-measure").value], of = run => scale * run[byId("run-measure").value];
    const width = Math.max(280, picture.parentElement.clientWidth), height = Math.round(clamp(0.6 * width, 300, 460));
    const left = 52, right = width - 12, top = 24, bottom = height - 44;
    wide = width;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren();
    places = new Map();
    picture.setAttribute("aria-label", `${visible.length} runs as points, entropy across, ${title} upwards`);
    if (!visible.length) {
      picture.append(shape("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no run is left"));
      tell();
      return;
    }
    const across = ticks(visible.map(run => run.entropy)), up = ticks(visible.map(of));
    const x = value => left + (right - left) * (value - across[0]) / (across.at(-1) - across[0]);
    const y = value => bottom - (bottom - top) * (value - up[0]) / (up.at(-1) - up[0]);
    for (const value of across) {
      picture.append(line([[x(value), top], [x(value), bottom]], { class: "level" }), shape("text", { x: x(value), y: bottom + 17, "text-anchor": "middle", class: "soft" }, `${value}`));
    }
    for (const value of up) {
      picture.append(line([[left, y(value)], [right, y(value)]], { class: "level" }), shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", class: "soft" }, `${value}`));
    }
    picture.append(shape("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, "mean test entropy [nats]"), shape("text", { x: 2, y: 12 }, title));
    const inOrder = [...visible].sort((a, b) => (a.method in LOOKS) - (b.method in LOOKS));
    for (const run of inOrder) {
      const spot = [x(run.entropy), y(of(run))];
      places.set(run, spot);
      picture.append(mark(looks[run.method], ...spot, width < 500 ? 3.6 : 4.6));
    }
    picture.append(shape("g", { id: "chosen" }));
    tell();
  }

  function tell() {
    const told = byId("run-told"), over = byId("chosen");
    if (over) over.replaceChildren();
    if (!current) {
      told.textContent = `${visible.length} runs. None is chosen.`;
      return;
    }
    const spot = places.get(current), teacher = RUNS[current.teacher];
    if (teacher && places.has(teacher)) {
      const there = places.get(teacher);
      over.append(shape("line", { x1: spot[0], y1: spot[1], x2: there[0], y2: there[1], class: "to-teacher" }), shape("circle", { cx: there[0], cy: there[1], r: 7, class: "ring" }));
    }
    over.append(shape("circle", { cx: spot[0], cy: spot[1], r: 10, class: "ring" }));
    const taught = teacher ? ` Its teacher: ${teacher.name}, entropy ${teacher.entropy.toFixed(3)} nats.` : "";
    told.replaceChildren(element("strong", {}, current.name), element("br"),
      `${current.task}, ${current.method}, ${current.student}, seed ${current.seed}, profile ${current.profile}: ${current.settings}. `
      + `Entropy ${current.entropy.toFixed(3)} nats, accuracy ${(100 * current.accuracy).toFixed(1)} %, NLL ${current.nll.toFixed(3)} nats.${taught}`);
  }

  function pointed(event) {
    const box = picture.getBoundingClientRect(), zoom = wide / box.width;
    const x = (event.clientX - box.left) * zoom, y = (event.clientY - box.top) * zoom;
    let best = null, least = 24;
    for (const [run, spot] of places) {
      const far = Math.hypot(spot[0] - x, spot[1] - y);
      if (far < least) { least = far; best = run; }
    }
    if (best && best !== current) { current = best; tell(); }
  }
  picture.addEventListener("pointermove", pointed);
  picture.addEventListener("pointerdown", pointed);
  picture.addEventListener("keydown", event => {
    const last = visible.length - 1, here = visible.indexOf(current);
    const to = { ArrowRight: here + 1, ArrowUp: here + 1, ArrowLeft: here - 1, ArrowDown: here - 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    current = visible[clamp(to, 0, last)];
    tell();
  });
  for (const id of ["run-task", "run-student", "run-seed"]) byId(id).addEventListener("change", choose);
  byId("run-measure").addEventListener("change", draw);
  new ResizeObserver(() => { if (picture.parentElement.clientWidth !== wide) draw(); }).observe(picture.parentElement);
  choose();
})();
