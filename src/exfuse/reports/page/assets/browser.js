"use strict";
// The browser of examples: sorts, filters and shows one image with its truth and every variant's prediction.
(() => {
  const source = document.getElementById("browser-data");
  if (!source) return;
  const KINDS = {
    missed: { name: "missed: background instead of an object", colour: [0, 114, 178] },
    invented: { name: "invented: an object instead of background", colour: [213, 94, 0] },
    confused: { name: "confused: one object instead of another", colour: [204, 121, 167] },
    wrong: { name: "wrong class", colour: [213, 94, 0] },
  };
  const VOID = 255, VOID_COLOUR = [58, 63, 69];
  const $ = (id) => document.getElementById(id);
  const strip = $("strip"), cards = $("cards");
  let data, order = [], current = null, drawing = 0;

  const number = (value, digits = 1) => (value == null ? "–" : value.toFixed(digits).replace("-", "−"));
  const signed = (value) => (value > 0 ? "+" : "") + number(value);
  const seed = () => $("seed").value;
  const shown = () => data.variants.filter((variant) => variants.isShown(variant.name));
  const run = (image, name) => image.runs[name]?.[seed()];
  const miou = (image, name) => run(image, name)?.miou ?? null;

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // What an image is sorted by, the largest first; null where it cannot be known.
  function rank(image, by) {
    const scores = shown().map((variant) => miou(image, variant.name)).filter((score) => score !== null);
    const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
    const [kind, name] = by.split(":");
    if (kind === "differ") return scores.length > 1 ? Math.max(...scores) - Math.min(...scores) : null;
    if (kind === "disagree") return image.disagreement[seed()] ?? null;
    if (kind === "hard") return scores.length ? -mean : null;
    if (kind === "easy") return scores.length ? mean : null;
    if (kind === "order") return -data.images.indexOf(image);
    const variant = data.variants.find((one) => one.name === name);
    const ours = miou(image, name), base = miou(image, variant.on);
    return ours === null || base === null ? null : (kind === "gain" ? ours - base : base - ours);
  }

  // What the sort says of an image, below its picture.
  function measure(image, by) {
    const value = rank(image, by);
    if (value === null || by === "order") return "";
    if (by === "disagree") return `${number(value)} % of pixels`;
    if (by === "hard" || by === "easy") return `${number(Math.abs(value))} %`;
    return by.startsWith("loss") ? signed(-value) : by === "differ" ? `${number(value)} points` : signed(value);
  }

  function arrange() {
    const by = $("sort").value, wanted = $("class").value;
    const values = new Map(data.images.map((image) => [image, rank(image, by) ?? -Infinity]));
    order = data.images.filter((image) => wanted === "" || image.present.includes(Number(wanted)));
    order.sort((one, other) => values.get(other) - values.get(one) || data.images.indexOf(one) - data.images.indexOf(other));
    strip.replaceChildren(...order.map((image, place) => {
      const picture = element("img", { src: image.image, alt: "", width: image.width, height: image.height });
      const names = image.present.map((id) => data.classes[id]).join(", ");
      const button = element("button", { type: "button", tabIndex: -1 }, picture, element("span", {}, measure(image, by)));
      button.setAttribute("aria-label", `Image ${place + 1} of ${order.length}, ${image.id}: ${names}`);
      button.addEventListener("click", () => choose(place));
      return button;
    }));
  }

  function choose(place, focus = false) {
    current = order[Math.max(0, Math.min(order.length - 1, place))];
    [...strip.children].forEach((button, at) => {
      const chosen = order[at] === current;
      button.tabIndex = chosen ? 0 : -1;
      if (chosen) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
      if (chosen) {
        strip.scrollTo({ left: button.offsetLeft - (strip.clientWidth - button.offsetWidth) / 2 });
        if (focus) button.focus({ preventScroll: true });
      }
    });
    show();
  }

  function kindOf(truth, predicted) {
    if (truth === VOID || truth === predicted) return null;
    if (!data.background) return KINDS.wrong;
    return predicted === 0 ? KINDS.missed : truth === 0 ? KINDS.invented : KINDS.confused;
  }

  function canvas(image, label) {
    const made = element("canvas", { width: image.width, height: image.height });
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", label);
    return made;
  }

  function names(ids) {
    return [...new Set(ids)].filter((id) => id !== VOID).sort((one, other) => one - other).map((id) => data.classes[id]).join(", ");
  }

  function paintMask(target, ids, ground) {
    const overlay = document.querySelector("input[name=view]:checked").value === "overlay";
    masks.fill(target, ground, (place) => {
      const id = ids[place], colour = id === VOID ? data.void : data.colours[id];
      const plain = id === VOID || (data.background && id === 0);
      return [...colour, overlay ? (plain ? 0 : 0.6) : 1];
    });
  }

  function paintErrors(target, truth, predicted, pale) {
    masks.fill(target, pale, (place) => {
      if (truth[place] === VOID) return [...VOID_COLOUR, 0.75];
      const kind = kindOf(truth[place], predicted[place]);
      return kind ? [...kind.colour, 1] : [0, 0, 0, 0];
    });
  }

  async function show() {
    const image = current, turn = (drawing += 1), errors = $("errors").checked;
    if (!image) return empty();
    const { width, height } = image, load = (uri) => masks.ids(uri, width, height, data.codes);
    const ground = await masks.pixels(image.image, width, height), pale = masks.pale(ground), truth = await load(image.truth);
    const used = new Set(truth), made = [], layers = [truth];
    const truthCanvas = canvas(image, `Truth: ${names(truth)}`);
    paintMask(truthCanvas, truth, ground);
    const picture = element("img", { src: image.image, alt: `Image ${image.id}`, width, height });
    made.push(card(element("h3", {}, "image and truth"), picture, truthCanvas));
    for (const variant of shown()) {
      const found = run(image, variant.name);
      const swatch = element("span", { className: "swatch" });
      swatch.style.cssText = variant.swatch;
      const heading = element("h3", {}, swatch, variant.title);
      if (!found) {
        const why = variant.states[seed()] ?? "no predictions";
        made.push(card(heading, element("p", { className: "state" }, `seed ${seed()}: ${why}`)));
        layers.push(null);
        continue;
      }
      const predicted = await load(found.src);
      predicted.forEach((id) => used.add(id));
      layers.push(predicted);
      const base = variant.on === null ? null : miou(image, variant.on);
      const change = base === null || found.miou == null ? "" : ` (${signed(found.miou - base)})`;
      const mask = canvas(image, `Prediction of ${variant.title}, seed ${seed()}: ${names(predicted)}`);
      paintMask(mask, predicted, ground);
      const parts = [heading, mask];
      if (errors) {
        const wrong = canvas(image, `Errors of ${variant.title}, seed ${seed()}`);
        paintErrors(wrong, truth, predicted, pale);
        parts.push(wrong);
      }
      parts.push(element("p", { className: "score" }, element("b", {}, `IoU ${number(found.miou)} %`), change));
      const made_card = card(...parts);
      made_card.dataset.variant = variant.name;
      made.push(made_card);
    }
    if (turn !== drawing) return; // another image was chosen in the meantime
    cards.replaceChildren(...made);
    cards.dataset.image = image.id;
    probe(made, layers, width, height);
    legend(used, errors);
    scores(image);
    const place = order.indexOf(image);
    $("status").textContent = `Image ${place + 1} of ${order.length}: ${image.id} (${image.present.map((id) => data.classes[id]).join(", ")})`;
    $("previous").disabled = place <= 0;
    $("next").disabled = place >= order.length - 1;
  }

  function empty() {
    cards.replaceChildren();
    $("status").textContent = "No image contains this class.";
  }

  function card(...parts) {
    return element("div", { className: "card" }, ...parts);
  }

  // Under the pointer: the same place in every picture, and the class there.
  function probe(made, layers, width, height) {
    for (const one of made) one.append(element("p", { className: "probe" }));
    const surfaces = made.flatMap((one) => [...one.querySelectorAll("canvas, img")]);
    const dots = surfaces.map((surface) => {
      const frame = element("div", { className: "frame" });
      surface.replaceWith(frame);
      const dot = element("i", { className: "dot", hidden: true });
      frame.append(surface, dot);
      return dot;
    });
    const leave = () => {
      dots.forEach((dot) => { dot.hidden = true; });
      made.forEach((one) => { one.querySelector(".probe").textContent = ""; });
    };
    for (const surface of surfaces) {
      surface.addEventListener("pointermove", (event) => {
        const box = surface.getBoundingClientRect();
        const x = Math.min(0.999, Math.max(0, (event.clientX - box.left) / box.width));
        const y = Math.min(0.999, Math.max(0, (event.clientY - box.top) / box.height));
        const at = Math.floor(y * height) * width + Math.floor(x * width);
        dots.forEach((dot) => { dot.hidden = false; dot.style.left = `${100 * x}%`; dot.style.top = `${100 * y}%`; });
        made.forEach((one, place) => {
          const id = layers[place]?.[at];
          one.querySelector(".probe").textContent = id === undefined ? "" : id === VOID ? "void" : data.classes[id];
        });
      });
      surface.addEventListener("pointerleave", leave);
    }
  }

  function key(colour, name) {
    const swatch = element("span", { className: "swatch square" });
    swatch.style.background = `rgb(${colour})`;
    return element("span", { className: "key" }, swatch, name);
  }

  function legend(used, errors) {
    const ids = [...used].filter((id) => id !== VOID).sort((one, other) => one - other);
    const keys = ids.map((id) => key(data.colours[id], data.classes[id]));
    if (used.has(VOID)) keys.push(key(data.void, "void (not scored)"));
    $("legend").replaceChildren("Classes: ", ...keys);
    const kinds = data.background ? [KINDS.missed, KINDS.invented, KINDS.confused] : [KINDS.wrong];
    $("error-legend").replaceChildren("Errors: ", ...kinds.map((kind) => key(kind.colour, kind.name)), key(VOID_COLOUR, "void"));
    $("error-legend").hidden = !errors;
  }

  function scores(image) {
    const head = element("tr", {}, ...["variant", "mean", ...image.present.map((id) => data.classes[id])].map(
      (name, place) => element("th", { scope: "col", className: place ? "right" : "left" }, name)));
    const lines = shown().map((variant) => {
      const found = run(image, variant.name);
      const values = [found?.miou, ...image.present.map((id) => found?.iou?.[id])];
      const swatch = element("span", { className: "swatch" });
      swatch.style.cssText = variant.swatch;
      return element("tr", {}, element("th", { scope: "row", className: "left" }, swatch, variant.title),
        ...values.map((value) => element("td", { className: "right" }, number(value))));
    });
    const caption = element("caption", {}, `IoU in % of this image, seed ${seed()}`);
    $("image-scores").replaceChildren(caption, element("thead", {}, head), element("tbody", {}, ...lines));
  }

  function again(keep) {
    const before = current;
    arrange();
    choose(keep && order.includes(before) ? order.indexOf(before) : 0);
  }

  function step(by, focus) {
    choose(order.indexOf(current) + by, focus);
  }

  function start() {
    data = JSON.parse(source.textContent);
    $("previous").addEventListener("click", () => step(-1));
    $("next").addEventListener("click", () => step(1));
    for (const id of ["sort", "class"]) $(id).addEventListener("change", () => again(false));
    $("seed").addEventListener("change", () => again(true));
    for (const box of document.querySelectorAll("input[name=view], #errors")) box.addEventListener("change", show);
    document.addEventListener("variantschange", () => again(true));
    $("browse").addEventListener("keydown", (event) => {
      if (event.target.matches("select, input") || event.ctrlKey || event.metaKey || event.altKey) return;
      const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -order.length, End: order.length };
      if (!(event.key in moves) || event.target.closest(".scroll")) return;
      event.preventDefault();
      step(moves[event.key], strip.contains(document.activeElement));
    });
    again(false);
  }

  addEventListener("load", () => requestAnimationFrame(() => setTimeout(start)));
})();
