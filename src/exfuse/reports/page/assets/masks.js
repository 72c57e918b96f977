"use strict";
// Masks of the examples: from palette pictures to class ids, and from ids to pixels.
const masks = (() => {
  const known = new Map();

  // Pixels (RGBA) of a picture.
  async function pixels(source, width, height) {
    const picture = new Image();
    picture.src = source;
    await picture.decode();
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  }

  // Class id of each pixel, 255 for void.
  async function ids(source, width, height, codes) {
    if (!known.has(source)) {
      const data = await pixels(source, width, height);
      const found = new Uint8Array(width * height);
      const table = new Map(codes.map(([red, green, blue], id) => [(red << 16) | (green << 8) | blue, id]));
      for (let place = 0; place < found.length; place += 1) {
        const colour = (data[4 * place] << 16) | (data[4 * place + 1] << 8) | data[4 * place + 2];
        found[place] = table.get(colour) ?? 255;
      }
      known.set(source, found);
    }
    return known.get(source);
  }

  // Fills a canvas: paint(place) gives [red, green, blue, opacity from 0 to 1] over the ground's pixels.
  function fill(canvas, ground, paint) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d"), target = context.createImageData(width, height);
    for (let place = 0; place < width * height; place += 1) {
      const [red, green, blue, opacity] = paint(place), at = 4 * place;
      target.data[at] = opacity * red + (1 - opacity) * ground[at];
      target.data[at + 1] = opacity * green + (1 - opacity) * ground[at + 1];
      target.data[at + 2] = opacity * blue + (1 - opacity) * ground[at + 2];
      target.data[at + 3] = 255;
    }
    context.putImageData(target, 0, 0);
  }

  // The same picture in pale grey, as the ground of an error map.
  function pale(ground) {
    const found = new Uint8ClampedArray(ground.length);
    for (let at = 0; at < ground.length; at += 4) {
      const grey = 0.299 * ground[at] + 0.587 * ground[at + 1] + 0.114 * ground[at + 2];
      found[at] = found[at + 1] = found[at + 2] = 110 + 0.5 * grey;
      found[at + 3] = 255;
    }
    return found;
  }

  return { pixels, ids, fill, pale };
})();
