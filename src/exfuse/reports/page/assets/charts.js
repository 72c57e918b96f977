"use strict";
// Draws the charts once the page has painted: unpacks the library, then draws one chart after another.
(() => {
  const charts = JSON.parse(document.getElementById("charts-data").textContent);
  const places = [...document.querySelectorAll(".chart")];
  const bands = document.getElementById("bands");
  const coarse = matchMedia("(pointer: coarse)");
  const config = {
    displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };
  for (const place of places) place.style.minHeight = `${charts[place.dataset.chart].layout.height}px`;

  // Plotly knows no CSS variables.
  function resolved(value) {
    if (typeof value === "string") return value.replace(/var\((--[\w-]+)\)/g, (_, name) => theme.value(name));
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, resolved(part)]));
    }
    return value;
  }

  function draw(place) {
    if (!window.Plotly) return;
    const { data, layout } = resolved(charts[place.dataset.chart]);
    for (const trace of data) {
      if (trace.meta) trace.visible = variants.isShown(trace.meta.variant) && (!trace.meta.band || !bands || bands.checked);
    }
    layout.dragmode = coarse.matches ? false : "zoom"; // a finger scrolls the page
    Plotly.react(place, data, layout, { ...config, displayModeBar: coarse.matches ? false : "hover" });
    place.dataset.drawn = place.dataset.chart;
  }

  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  async function start() {
    const packed = document.getElementById("library");
    if (!packed) return;
    try {
      await unpack(packed.textContent);
    } catch (error) {
      for (const place of places) place.textContent = `This browser cannot unpack the charts (${error.message}); the table has the numbers.`;
      return;
    }
    packed.remove();
    for (const place of places) {
      draw(place);
      await new Promise((done) => setTimeout(done)); // let the reader scroll in between
    }
    document.documentElement.dataset.charts = "drawn";
  }

  for (const select of document.querySelectorAll("select[data-switch]")) {
    select.addEventListener("change", () => {
      const place = document.getElementById(`chart-${select.dataset.switch}`);
      place.dataset.chart = select.value;
      draw(place);
    });
  }
  const redraw = () => places.forEach(draw);
  bands?.addEventListener("change", redraw);
  document.addEventListener("themechange", redraw);
  document.addEventListener("variantschange", redraw);
  // The first paint comes first, and the rest of the document: the library is its end.
  addEventListener("load", () => requestAnimationFrame(() => setTimeout(start)));
})();
