// The page without this script is complete but long: every step one after the other, the baseline's graph only.
// This shows one step at a time and draws the flame graphs from the JSON in #data (packed by graphs.rs).
(() => {
  "use strict";
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const count = data.steps.length;
  root.classList.add("js");

  // A program is one side alone, and then there is no choice.
  const sides = byId("graph").content.querySelectorAll('[data-choice="side"]');
  const CHOICES = {
    side: [...sides].map((button) => button.dataset.value),
    unit: ["bytes", "blocks"],
    mode: ["this", "diff"],
    scale: ["auto", "true", "fill"],
  };
  const DEFAULTS = { step: 0, side: CHOICES.side[0] ?? "server", unit: "bytes", mode: "this", scale: "auto", query: "", zoom: [] };
  const state = { ...DEFAULTS };

  // ---- Figures, as units.rs writes them

  const THIN = "\u202f";
  const grouped = (value) => Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, THIN);
  function number(value) {
    if (value === 0) return "0";
    if (value >= 999.5) return grouped(value);
    const digits = value < 0.0995 ? 1 : 2;
    return value.toFixed(Math.min(12, Math.max(0, digits - Math.floor(Math.log10(value)))));
  }
  function bytes(value) {
    const prefixes = ["B", "KiB", "MiB", "GiB", "TiB"];
    let prefix = 0;
    while (value >= 1000 && prefix < 4) {
      value /= 1024;
      prefix += 1;
    }
    return (Number.isInteger(value) ? grouped(value) : number(value)) + THIN + prefixes[prefix];
  }
  function share(value) {
    const percent = value * 100;
    const text = percent === 0 ? "0" : percent < 0.05 ? "<0.1" : percent < 99.95 ? percent.toFixed(1) : "100";
    return text + THIN + "%";
  }
  function less(before, after) {
    const percent = (1 - after / before) * 100;
    // What is left is not nothing, however many nines it takes.
    if (after > 0 && percent > 99.999) return `>99.999${THIN}%`;
    const left = 100 - percent;
    return percent.toFixed(left === 0 || percent < 10 ? 1 : left < 0.05 ? 3 : left < 1 ? 2 : 0).replace(/\.0$/, "") + THIN + "%";
  }
  const more = (before, after) => `${number((after / before - 1) * 100)}${THIN}%`;
  const amount = (value, messages) =>
    state.unit === "bytes"
      ? `${bytes(value / messages)} per ${data.noun}`
      : `${number(value / messages)} allocations per ${data.noun}`;

  // ---- Graphs

  const unpacked = new Map();

  // What `graph` in graphs.rs packed: places relative to siblings and parents, as [{name, stage, depth, x, w, v, b}].
  function unpack(side, packed, diff) {
    const { parents, names, stages } = data.sides[side];
    const frames = [];
    const at = new Map();
    let node = 0;
    for (let i = 0; i < packed.n.length; i++) {
      node += packed.n[i];
      const parent = parents[node] < 0 ? null : at.get(parents[node]);
      const v = (parent ? parent.v : 0) - packed.v[i];
      const frame = {
        index: i,
        name: data.names[names[node]],
        nameIndex: names[node],
        stage: stages[node],
        depth: parent ? parent.depth + 1 : 0,
        x: (parent ? parent.next : 0) + packed.x[i],
        v,
        w: diff ? (parent ? parent.w : 0) - packed.w[i] : v,
        b: diff ? (parent ? parent.b : 0) - packed.b[i] : null,
        parent,
        children: [],
      };
      frame.next = frame.x;
      if (parent) {
        parent.next = frame.x + frame.w;
        parent.children.push(frame);
      }
      at.set(node, frame);
      frames.push(frame);
    }
    return { frames, whole: packed.whole, total: packed.total };
  }

  // The graph of a step; null where call sites were not measured, undefined where only the difference is missing.
  function graph(step, side, unit, mode) {
    const measured = data.sides[side].steps[step];
    if (!measured) return null;
    const packed = measured[unit][mode];
    if (!packed) return undefined;
    const key = [step, side, unit, mode].join();
    if (!unpacked.has(key)) {
      const made = unpack(side, packed, mode === "diff");
      made.messages = measured.messages;
      unpacked.set(key, made);
    }
    return unpacked.get(key);
  }

  // As deep along the path of names as the graph goes.
  function find(shown, path) {
    let frame = shown.frames[0];
    for (const name of path) {
      const child = frame && frame.children.find((other) => other.nameIndex === name);
      if (!child) break;
      frame = child;
    }
    return frame;
  }
  function pathOf(frame) {
    const path = [];
    for (; frame && frame.parent; frame = frame.parent) path.unshift(frame.nameIndex);
    return path;
  }

  // As `Delta::of` in flame.rs.
  function delta(before, after) {
    if (before === after) return "same";
    if (after === 0) return "gone";
    if (before === 0) return "new";
    if (Math.abs(after - before) <= Math.max(before, after) * 0.005) return "same";
    if (after < before) return after < before / 2 ? "much-less" : "less";
    return after <= before * 2 ? "more" : "much-more";
  }

  // ---- The one graph there is, moved from step to step

  const SVG = "http://www.w3.org/2000/svg";
  const ROW = 18;
  const CHARACTER = 7.23;
  const VISIBLE = 0.4;
  const HINT =
    "Hover or focus a frame for its figures. Click to zoom, Esc to zoom out." +
    (data.narrowest > 0 ? ` Frames below ${number(data.narrowest * 100)}${THIN}% are left out.` : "");

  document.body.append(byId("graph").content.cloneNode(true));
  const widget = document.querySelector(".graph");
  const canvas = byId("canvas");
  const strip = byId("strip");
  const detail = byId("detail");
  const search = byId("search");
  let shown = null;
  let top = null;
  let focused = null;
  // The path of the frame that keys went to last; a step that lacks it shows what is left of it.
  let cursor = [];
  let drawn = new Map();

  function element(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function html(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function empty(text, hatched) {
    const box = html("p", hatched ? "empty hatch" : "empty", text);
    box.style.padding = "22px 14px";
    canvas.replaceChildren(box);
  }

  function hits() {
    if (!state.query) return null;
    const pattern = new RegExp(state.query, "i");
    return data.names.map((name) => pattern.test(name));
  }

  function draw() {
    const diff = graph(state.step, state.side, state.unit, "diff");
    const mode = state.mode === "diff" && diff ? "diff" : "this";
    shown = graph(state.step, state.side, state.unit, mode);
    top = null;
    focused = null;
    drawn = new Map();
    strip.hidden = true;
    strip.replaceChildren();
    byId("zoom-out").hidden = true;
    byId("lost").hidden = true;
    byId("diff-legend").hidden = mode !== "diff";
    widget.classList.toggle("differs", mode === "diff");
    detail.textContent = HINT;
    press("mode", mode);
    widget.querySelector('[data-value="diff"]').disabled = !diff;
    if (!shown) {
      press("scale", "true");
      describeSearch(mode);
      return empty("Not measured: no call sites of this side of this step.", false);
    }
    if (shown.frames.length === 0) {
      press("scale", "true");
      describeSearch(mode);
      return empty("Nothing is allocated here any more.", true);
    }

    top = find(shown, state.zoom);
    const lost = state.zoom.length - pathOf(top).length;
    byId("zoom-out").hidden = state.zoom.length === 0;
    byId("lost").hidden = lost === 0;
    if (lost > 0) {
      byId("lost").textContent = `${data.names[state.zoom[state.zoom.length - lost]]} allocates nothing in this step: shown is what called it.`;
    }

    // True scale: as wide as the same frame of the baseline was. What is drawn is the step's own value, or of a
    // difference the larger of before and after; what is said is always the step's own.
    const baseline = graph(0, state.side, state.unit, "this");
    const same = baseline && baseline.frames.length ? find(baseline, pathOf(top)) : null;
    const comparable = same && pathOf(same).length === pathOf(top).length;
    const reference = comparable ? same.v / baseline.messages : 0;
    const now = top.v / shown.messages;
    const wide = top.w / shown.messages;
    const factor = reference > 0 ? Math.min(1, wide / reference) : 1;
    const small = factor < 0.25;
    const fill = state.scale === "fill" || (state.scale === "auto" && small);
    press("scale", fill ? "fill" : "true");

    const whole = canvas.clientWidth || 1000;
    const width = fill ? whole : Math.max(2, whole * factor);
    if (fill && small) drawStrip(whole, factor, reference, now);
    if (reference > 0 && now > reference * 1.03) drawGrown(reference, now, wide);
    drawFrames(width, mode);
    if (!fill && factor < 0.97) drawSaved(whole - width, reference, now);
    describeSearch(mode);
    if (document.activeElement === canvas) focusFrame(atCursor());
  }

  function drawFrames(width, mode) {
    const found = hits();
    const bars = document.createDocumentFragment();
    let deepest = 0;
    const place = (frame, x, frameWidth, above) => {
      const y = frame.depth * ROW;
      deepest = Math.max(deepest, frame.depth);
      let name = mode === "diff" ? `delta-${delta(frame.b, frame.v)}` : `stage-${data.stages[frame.stage]}`;
      if (frame.depth === 0 && mode !== "diff") name = "stage-all";
      if (frame.depth % 2 === 1 && frame.depth > 1 && mode !== "diff") name += " odd";
      if (found) name += found[frame.nameIndex] ? " hit" : " miss";
      const bar = element("rect", {
        class: name, x: x.toFixed(2), y, width: Math.max(0.5, frameWidth - 1).toFixed(2), height: ROW - 1, "data-i": frame.index,
      });
      bars.append(bar);
      drawn.set(frame.index, bar);
      const room = Math.floor((frameWidth - 8) / CHARACTER);
      if (room >= 3) {
        const text = frame.name.length <= room ? frame.name : frame.name.slice(0, room - 1) + "…";
        bars.append(element("text", { class: frame.depth === 1 ? "head" : "", x: (Math.max(x, 0) + 4).toFixed(2), y: y + 13, direction: "ltr" }, text));
      }
    };
    for (let above = top.parent; above; above = above.parent) place(above, 0, width, true);
    const ratio = width / top.w;
    const stack = [top];
    while (stack.length) {
      const frame = stack.pop();
      const frameWidth = frame.w * ratio;
      if (frameWidth < VISIBLE) continue;
      place(frame, (frame.x - top.x) * ratio, frameWidth, false);
      for (let i = frame.children.length - 1; i >= 0; i--) stack.push(frame.children[i]);
    }
    const height = (deepest + 1) * ROW;
    const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    svg.style.width = `${width}px`;
    svg.style.height = `${height}px`;
    svg.append(bars);
    canvas.replaceChildren(svg);
  }

  // `99.4 % less than Baseline: 311 KiB per message`
  function against(reference, now) {
    const [figure, words] = now <= reference ? [less(reference, now), "less"] : [more(reference, now), "more"];
    return [html("b", "", figure), ` ${words} than ${data.steps[0].title}: ${amount(reference, 1)}`];
  }

  function drawSaved(width, reference, now) {
    const box = html("div", "saved hatch");
    box.style.width = `${width - 2}px`;
    if (width > 150) {
      const words = html("p");
      words.append(...against(reference, now));
      box.append(words);
    }
    canvas.append(box);
  }

  // One bar on true scale: parts of it from the left, and words in the middle.
  function drawScale(className, parts, words) {
    const scale = html("div", className);
    for (const [part, share] of parts) {
      const bar = html("i", part);
      bar.style.width = `${share * 100}%`;
      scale.append(bar);
    }
    const label = html("span");
    label.append(...words);
    scale.append(label);
    strip.append(scale);
    strip.hidden = false;
  }

  function drawStrip(whole, factor, reference, now) {
    drawScale("scale hatch", [["drawn", factor], ["now", Math.min(1, now / reference)]], against(reference, now));
    const wedge = element("svg", { width: whole, height: 14, "aria-hidden": "true" });
    wedge.append(element("polygon", { class: "wedge", points: `0,0 ${Math.max(2, whole * factor)},0 ${whole},14 0,14` }));
    strip.append(wedge);
  }

  // Wider than the baseline there is no room: the graph fills the width, and a bar shows how much of it the baseline was.
  function drawGrown(reference, now, wide) {
    drawScale("scale hatch grown", [["now", now / wide], ["was", reference / wide]], against(reference, now));
  }

  // Figures first: a long name may be cut at the end of the line.
  function describe(frame) {
    let figures;
    if (frame.b === null) {
      const whole = shown.frames[0].v;
      figures = `${amount(frame.v, shown.messages)} · ${share(whole ? frame.v / whole : 0)} of this step`;
    } else {
      const moved = delta(frame.b, frame.v);
      const change = moved === "gone" || moved === "new" ? moved
        : frame.b === frame.v ? "="
        : `${frame.v < frame.b ? "−" : "+"}${number(Math.abs(frame.v / frame.b - 1) * 100)}%`;
      figures = `${amount(frame.b, shown.messages)} → ${amount(frame.v, shown.messages)} (${change})`;
    }
    const stage = frame.depth > 0 ? ` · ${data.stages[frame.stage].replaceAll("-", " ")}` : "";
    detail.replaceChildren(`${figures}${stage} · `, html("b", "", frame.name));
  }

  // The frame that keys are on: where they were before, if that is drawn.
  function atCursor() {
    const frame = shown && find(shown, cursor);
    return frame && drawn.has(frame.index) ? frame : top;
  }

  function focusFrame(frame) {
    if (!frame || !drawn.has(frame.index)) return;
    if (focused && drawn.has(focused.index)) drawn.get(focused.index).classList.remove("focused");
    focused = frame;
    drawn.get(frame.index).classList.add("focused");
    describe(frame);
    byId("spoken").textContent = detail.textContent;
  }

  function zoom(frame) {
    state.zoom = frame ? pathOf(frame) : [];
    // Zooming out leaves the keys on the frame that was zoomed into.
    if (frame) cursor = state.zoom;
    draw();
    if (top && document.activeElement !== canvas) describe(top);
    remember(false);
  }

  function describeSearch(mode) {
    const out = byId("found");
    // What stands in the box is what the words beside it are about.
    if (!valid(search.value)) {
      search.setAttribute("aria-invalid", "true");
      out.textContent = "not a regular expression yet";
      return;
    }
    search.removeAttribute("aria-invalid");
    if (!state.query || !shown || shown.frames.length === 0) {
      out.textContent = "";
      return;
    }
    const found = hits();
    let frames = 0;
    let sum = 0;
    const stack = [[shown.frames[0], false]];
    while (stack.length) {
      const [frame, inside] = stack.pop();
      const hit = found[frame.nameIndex];
      if (hit) frames += 1;
      if (hit && !inside) sum += mode === "diff" ? frame.w : frame.v;
      for (const child of frame.children) stack.push([child, inside || hit]);
    }
    out.textContent = `${share(sum / shown.frames[0].w)} in ${grouped(frames)} ${frames === 1 ? "frame" : "frames"}`;
  }

  // ---- Lines of source, each with a button that copies it

  for (const place of document.querySelectorAll(".place")) {
    const line = place.textContent;
    const button = html("button", "copy", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", `Copy ${line}`);
    button.addEventListener("click", async () => {
      const copied = await copy(line);
      button.textContent = copied ? "Copied" : "Not copied";
      byId("announce").textContent = copied ? `Copied ${line}` : "The browser did not let the page copy";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    place.append(button);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // A page from a file may have no clipboard; a selection can be copied everywhere.
      const active = document.activeElement;
      const area = html("textarea", "spoken");
      area.value = text;
      document.body.append(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      active.focus({ preventScroll: true });
      return copied;
    }
  }

  // ---- State, in the address

  function press(name, value) {
    for (const button of widget.querySelectorAll(`[data-choice="${name}"]`)) {
      button.setAttribute("aria-pressed", String(button.dataset.value === value));
    }
  }

  function remember(push) {
    const hash = new URLSearchParams({ step: data.steps[state.step].name, side: state.side });
    if (state.unit !== "bytes") hash.set("unit", state.unit);
    if (state.mode !== "this") hash.set("mode", state.mode);
    if (state.scale !== "auto") hash.set("scale", state.scale);
    if (state.query) hash.set("search", state.query);
    if (state.zoom.length) hash.set("zoom", state.zoom.join("."));
    history[push ? "pushState" : "replaceState"](null, "", `#${hash}`);
  }

  // What the address does not name is as it was in the beginning: an older entry may say less than the one left.
  function fromAddress() {
    const text = location.hash.slice(1);
    const anchor = /^step-(\d+)$/.exec(text);
    const hash = new URLSearchParams(anchor ? "" : text);
    Object.assign(state, DEFAULTS);
    let step = anchor ? Number(anchor[1]) - 1 : data.steps.findIndex((other) => other.name === hash.get("step"));
    if (step < 0 && /^\d+$/.test(hash.get("step") ?? "")) step = Number(hash.get("step")) - 1;
    if (step >= 0 && step < count) state.step = step;
    for (const name in CHOICES) if (CHOICES[name].includes(hash.get(name))) state[name] = hash.get(name);
    if (hash.has("search") && valid(hash.get("search"))) state.query = hash.get("search");
    search.value = state.query;
    // Places in the page's table of names.
    const zoom = (hash.get("zoom") ?? "").split(".").map(Number);
    if (hash.get("zoom") && zoom.every((name) => data.names[name] !== undefined)) cursor = state.zoom = zoom;
    return anchor !== null || hash.has("step");
  }

  function valid(pattern) {
    try {
      new RegExp(pattern, "i");
      return true;
    } catch {
      return false;
    }
  }

  function show() {
    const active = document.activeElement;
    const keep = widget.contains(active) ? active : null;
    // Not in a step yet: the page is just opening, and stays at its top.
    const before = widget.closest(".graph-slot") ? widget.getBoundingClientRect() : null;
    document.body.dataset.side = state.side;
    for (const section of document.querySelectorAll(".step")) {
      const current = Number(section.dataset.index) === state.step;
      section.classList.toggle("current", current);
      if (current) section.querySelector(".graph-slot").append(widget);
    }
    for (const link of document.querySelectorAll(".stepper a")) {
      const current = Number(link.dataset.step) === state.step;
      if (current) link.setAttribute("aria-current", "step");
      else link.removeAttribute("aria-current");
      const list = link.closest("ol");
      if (current) list.scrollLeft = link.offsetLeft - list.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
    }
    for (const row of document.querySelectorAll(".ladder tbody tr")) {
      row.classList.toggle("current", Number(row.dataset.row) === state.step);
    }
    byId("previous").disabled = state.step === 0;
    byId("next").disabled = state.step === count - 1;
    press("side", state.side);
    press("unit", state.unit);
    draw();
    if (keep) keep.focus({ preventScroll: true });
    // Whoever looks at the graph while stepping keeps it where it is.
    if (before && before.height && before.top < innerHeight && before.bottom > 0) {
      scrollBy({ top: widget.getBoundingClientRect().top - before.top, behavior: "instant" });
    }
  }

  function go(step) {
    if (step < 0 || step >= count || step === state.step) return;
    state.step = step;
    show();
    remember(true);
    byId("announce").textContent = `Step ${step + 1} of ${count}: ${data.steps[step].title}`;
  }

  function choose(name, value) {
    state[name] = value;
    if (name === "side") {
      show();
      byId("announce").textContent = value;
    } else {
      press(name, value);
      draw();
    }
    remember(false);
  }
  const other = (name) => choose(name, CHOICES[name].find((value) => value !== state[name]) ?? state[name]);
  function toggleScale() {
    const filled = widget.querySelector('[data-choice="scale"][data-value="fill"]').getAttribute("aria-pressed") === "true";
    choose("scale", filled ? "true" : "fill");
  }

  // ---- Events

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-step]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      go(Number(link.dataset.step));
      if (link.closest(".ladder")) byId(`step-${state.step + 1}`).scrollIntoView();
      return;
    }
    const button = event.target.closest("[data-choice]");
    if (button) choose(button.dataset.choice, button.dataset.value);
  });
  byId("previous").addEventListener("click", () => go(state.step - 1));
  byId("next").addEventListener("click", () => go(state.step + 1));
  byId("zoom-out").addEventListener("click", () => {
    zoom(null);
    canvas.focus({ preventScroll: true });
  });

  const frameOf = (event) => {
    const index = event.target instanceof Element ? event.target.getAttribute("data-i") : null;
    return index === null || !shown ? null : shown.frames[Number(index)];
  };
  canvas.addEventListener("pointerover", (event) => {
    const frame = frameOf(event);
    if (frame) describe(frame);
  });
  canvas.addEventListener("click", (event) => {
    const frame = frameOf(event);
    if (frame) zoom(frame);
  });
  canvas.addEventListener("focus", () => {
    if (!focused && top) focusFrame(atCursor());
  });
  canvas.addEventListener("keydown", (event) => {
    if (!focused || event.ctrlKey || event.metaKey || event.altKey) return;
    const visible = (frame) => frame && drawn.has(frame.index);
    const siblings = focused.parent ? focused.parent.children.filter(visible) : [focused];
    const here = siblings.indexOf(focused);
    const moves = {
      ArrowUp: () => focused.parent,
      ArrowDown: () => focused.children.find(visible),
    };
    if (event.shiftKey) {
      moves.ArrowLeft = () => siblings[here - 1];
      moves.ArrowRight = () => siblings[here + 1];
    }
    if (event.key === "Enter") {
      zoom(focused);
    } else if (moves[event.key]) {
      const frame = moves[event.key]();
      if (visible(frame)) {
        cursor = pathOf(frame);
        focusFrame(frame);
      }
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });

  search.addEventListener("input", () => {
    // Half an expression marks nothing new: the graph keeps what the last whole one found.
    if (valid(search.value)) state.query = search.value;
    draw();
    remember(false);
  });

  const help = byId("help");
  byId("help-button").addEventListener("click", () => help.showModal());

  const KEYS = {
    ArrowLeft: () => go(state.step - 1),
    ArrowRight: () => go(state.step + 1),
    s: () => other("side"),
    b: () => other("unit"),
    d: () => other("mode"),
    f: toggleScale,
    "/": () => {
      search.scrollIntoView({ block: "center" });
      search.focus();
    },
    "?": () => help.showModal(),
    Escape: () => {
      if (state.zoom.length) zoom(null);
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target === search) {
      if (event.key === "Escape") {
        search.value = "";
        search.dispatchEvent(new Event("input"));
        canvas.focus({ preventScroll: true });
      }
      return;
    }
    // Sideways keys scroll a wide table that has the focus.
    if (event.key.startsWith("Arrow") && (event.shiftKey || event.target.closest?.(".scroll, pre"))) return;
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  const THEMES = ["auto", "light", "dark"];
  const themeButton = byId("theme-button");
  function setTheme(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    themeButton.textContent = `Theme: ${theme}`;
    try {
      localStorage.setItem("alloc-ladder-theme", theme);
    } catch {
      // A page from a file may have no storage; the choice then lasts as long as the page.
    }
  }
  themeButton.addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length]);
  });
  try {
    const stored = localStorage.getItem("alloc-ladder-theme");
    if (THEMES.includes(stored)) setTheme(stored);
  } catch {
    // As above.
  }

  let lastWidth = 0;
  new ResizeObserver(() => {
    if (canvas.clientWidth && canvas.clientWidth !== lastWidth) {
      lastWidth = canvas.clientWidth;
      draw();
    }
  }).observe(canvas);
  addEventListener("popstate", () => {
    fromAddress();
    show();
  });

  // Paper shows every step, so every step gets its graph, as the controls are set.
  addEventListener("beforeprint", () => {
    const step = state.step;
    for (const section of document.querySelectorAll(".step")) {
      state.step = Number(section.dataset.index);
      draw();
      const copy = html("div", "printed");
      for (const part of [strip, canvas]) {
        const drawn = part.cloneNode(true);
        drawn.removeAttribute("id");
        copy.append(drawn);
      }
      section.querySelector(".graph-slot").append(copy);
    }
    state.step = step;
    draw();
  });
  addEventListener("afterprint", () => document.querySelectorAll(".printed").forEach((copy) => copy.remove()));

  byId("skip").addEventListener("click", (event) => {
    // Not through the address, which says which step is shown.
    event.preventDefault();
    byId("steps").scrollIntoView();
    byId("steps").focus({ preventScroll: true });
  });

  const linked = fromAddress();
  show();
  if (linked) byId(`step-${state.step + 1}`).scrollIntoView({ behavior: "instant" });
})();
