// SPDX-License-Identifier: Apache-2.0
// The slice viewer: planes of a few scans, drawn from the voxels that the page holds. Nothing is loaded.
"use strict";
(() => {
  const root = document.getElementById("viewer");
  if (!root) return;
  const find = (selector) => root.querySelector(selector);
  const BRIGHTER = [255, 162, 77], DARKER = [110, 195, 255];
  const SHARP = 640; // pixels of a canvas along its longer side, at least
  const PAGE = 10; // slices
  const BLINK = 600; // milliseconds; below three flashes a second
  const DRAG = 300; // pixels of the mouse for the width of the intensity window
  const loaded = new Map();
  let scan = null, planes = [];

  // Voxels: deflated; of each array first all low bytes, then, where values need them, all high ones.
  async function load(script) {
    const header = JSON.parse(script.dataset.header);
    const letters = atob(script.textContent), packed = new Uint8Array(letters.length);
    for (let i = 0; i < packed.length; i += 1) packed[i] = letters.charCodeAt(i); // many times faster than Uint8Array.from
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const arrays = {};
    let place = 0;
    for (const { name, count, width, least } of header.arrays) {
      const values = new Int32Array(count);
      for (let i = 0; i < count; i += 1) {
        values[i] = least + bytes[place + i] + (width > 1 ? bytes[place + count + i] * 256 : 0);
      }
      arrays[name] = values;
      place += count * width;
    }
    return { ...header, ...arrays };
  }

  // The window of the display, from black to white in normalized intensity.
  function range() {
    const level = Number(find("[name=level]").value), width = Number(find("[name=width]").value);
    return [level - width / 2, level + width / 2];
  }

  function draw(plane) {
    const { size, bottom, step } = scan, [low, high] = range();
    const strides = [1, size[0], size[0] * size[1]], channel = strides[2] * size[2];
    const columns = size[plane.columns], rows = size[plane.rows], start = plane.index * strides[plane.across];
    const offsets = scan.channels === 3 ? [0, channel, 2 * channel] : [0, 0, 0];
    const protects = scan.change && find("[name=shown]:checked").value === "protected";
    const overlay = scan.change && find("[name=difference]").checked;
    const image = new ImageData(columns, rows), label = new Int32Array(columns * rows);
    for (let row = 0, out = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1, out += 1) {
        const y = plane.flip ? rows - 1 - row : row, x = plane.flip ? columns - 1 - column : column;
        const voxel = start + y * strides[plane.rows] + x * strides[plane.columns];
        let most = 0;
        for (let color = 0; color < 3; color += 1) {
          const at = voxel + offsets[color], change = scan.change ? scan.change[at] : 0;
          const value = bottom + step * (scan.scan[at] + (protects ? change : 0));
          image.data[4 * out + color] = (255 * (value - low)) / (high - low);
          if (Math.abs(change) > Math.abs(most)) most = change;
        }
        image.data[4 * out + 3] = 255;
        if (overlay && most) tint(image.data, 4 * out, most * step * scan.magnification);
        if (scan.label) label[out] = scan.label[voxel];
      }
    }
    paint(plane, image, label);
  }

  function tint(pixels, at, size) {
    const color = size > 0 ? BRIGHTER : DARKER, weight = Math.min(1, Math.abs(size));
    for (let i = 0; i < 3; i += 1) pixels[at + i] = (1 - weight) * pixels[at + i] + weight * color[i];
  }

  function paint(plane, image, label) {
    const { canvas } = plane, scale = Math.max(1, Math.ceil(SHARP / Math.max(image.width, image.height)));
    const native = document.createElement("canvas");
    [native.width, native.height] = [image.width, image.height];
    native.getContext("2d").putImageData(image, 0, 0);
    canvas.width = image.width * scale;
    canvas.height = image.height * scale;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false; // voxels as they are
    context.drawImage(native, 0, 0, canvas.width, canvas.height);
    if (scan.label && find("[name=contours]").checked) outline(context, label, image.width, image.height, scale);
    canvas.dataset.drawn = `${plane.index}`;
  }

  // The edges between voxels of a class and others.
  function outline(context, label, columns, rows, scale) {
    const paths = new Map();
    const edge = (kind, ...line) => {
      if (!kind) return;
      if (!paths.has(kind)) paths.set(kind, new Path2D());
      paths.get(kind).moveTo(line[0] * scale, line[1] * scale);
      paths.get(kind).lineTo(line[2] * scale, line[3] * scale);
    };
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < columns; x += 1) {
        const own = label[y * columns + x];
        const right = x + 1 < columns ? label[y * columns + x + 1] : own;
        const below = y + 1 < rows ? label[(y + 1) * columns + x] : own;
        if (own !== right) edge(own || right, x + 1, y, x + 1, y + 1);
        if (own !== below) edge(own || below, x, y + 1, x + 1, y + 1);
      }
    }
    context.lineWidth = Math.max(1, scale / 3, context.canvas.width / 320);
    for (const [kind, path] of paths) {
      context.strokeStyle = scan.colors[(kind - 1) % scan.colors.length];
      context.stroke(path);
    }
  }

  // Level and width of the display in the units of the file, or in percent where channels differ in scale.
  function tell() {
    const level = Number(find("[name=level]").value), width = Number(find("[name=width]").value);
    const [low, high] = scan.units ?? [0, 100], unit = scan.units ? "" : "%";
    const text = (number) => `${Number(number.toPrecision(4))}${unit}`;
    find("[data-value=level]").textContent = text(low + level * (high - low));
    find("[data-value=width]").textContent = text(width * (high - low));
    find(".still").textContent = caption();
  }

  // What the planes show, for paper, which has no controls.
  function caption() {
    const parts = [`${scan.name}: ${scan.change ? find("[name=shown]:checked").value : "protected"}`];
    if (scan.change && find("[name=difference]").checked) parts.push(`difference × ${scan.magnification}`);
    if (scan.label && find("[name=contours]").checked) parts.push("contours of the label");
    for (const name of ["level", "width"]) parts.push(`${name} ${find(`[data-value=${name}]`).textContent}`);
    return `${parts.join(", ")}. ${scan.remark}`;
  }

  function refresh() {
    tell();
    const only = find("[name=plane]").value;
    for (const plane of planes) {
      plane.figure.hidden = Boolean(only) && plane.name !== only;
      plane.slider.value = plane.index + 1;
      plane.figure.querySelector("output").textContent = `${plane.index + 1} of ${scan.size[plane.across]}`;
      if (!plane.figure.hidden) draw(plane);
    }
  }

  let asked = 0;
  function schedule() {
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(refresh);
  }

  function move(plane, slices) {
    plane.index = Math.min(Math.max(plane.index + slices, 0), scan.size[plane.across] - 1);
    schedule();
  }

  function toggle() {
    const hidden = find("[name=shown]:not(:checked)");
    if (!scan.change || !hidden) return;
    hidden.checked = true;
    schedule();
  }

  function resetWindow() {
    find("[name=level]").value = 0.5;
    find("[name=width]").value = 1;
  }

  const KEYS = {
    ...{ ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 },
    ...{ PageUp: PAGE, PageDown: -PAGE, Home: -Infinity, End: Infinity },
  };

  function listen(plane) {
    const { canvas } = plane;
    canvas.addEventListener("keydown", (event) => {
      if (event.key in KEYS) move(plane, KEYS[event.key]);
      else if (event.key === " ") toggle();
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until a plane is chosen
      event.preventDefault();
      move(plane, event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
    let last = null, traveled = 0;
    canvas.addEventListener("pointerdown", (event) => {
      last = event;
      traveled = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const across = event.clientX - last.clientX, along = event.clientY - last.clientY;
      last = event;
      if (event.pointerType === "touch") {
        traveled += across * scan.size[plane.across] / canvas.clientWidth; // a whole swipe is the whole scan
        move(plane, Math.trunc(traveled));
        traveled -= Math.trunc(traveled);
        return;
      }
      const level = find("[name=level]"), width = find("[name=width]");
      width.value = Number(width.value) + across / DRAG;
      level.value = Number(level.value) + along / DRAG;
      schedule();
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });
    plane.slider.addEventListener("input", () => move(plane, Number(plane.slider.value) - 1 - plane.index));
  }

  function build(described) {
    const figure = find("template").content.firstElementChild.cloneNode(true);
    const plane = { ...described, figure, canvas: figure.querySelector("canvas"), slider: figure.querySelector("input") };
    const width = scan.size[plane.columns] * scan.spacing[plane.columns];
    const height = scan.size[plane.rows] * scan.spacing[plane.rows];
    plane.canvas.style.aspectRatio = `${width} / ${height}`;
    plane.canvas.style.maxWidth = `${(70 * width) / height}vh`;
    const what = plane.name || "picture";
    const keys = "arrows and page keys change the slice, space changes between original and protected";
    plane.canvas.setAttribute("aria-label", `${what} of ${scan.name}; ${keys}`);
    figure.querySelector("[data-name]").textContent = what;
    plane.slider.max = scan.size[plane.across];
    plane.slider.setAttribute("aria-label", `${what} slice`);
    figure.querySelector(".slice").hidden = scan.size[plane.across] === 1;
    for (const side of figure.querySelectorAll("[data-side]")) side.textContent = plane.letters[side.dataset.side] ?? "";
    listen(plane);
    return plane;
  }

  async function show(number) {
    const script = document.getElementById(`scan-${number}`);
    root.dataset.state = "loading";
    if (!loaded.has(number)) loaded.set(number, await load(script));
    scan = loaded.get(number);
    planes = scan.planes.map(build);
    find(".planes").replaceChildren(...planes.map((plane) => plane.figure));
    for (const part of root.querySelectorAll("[data-needs]")) part.hidden = !scan[part.dataset.needs];
    const only = find("[name=plane]");
    only.parentElement.hidden = planes.length === 1;
    only.value = "";
    const [level, width] = ["level", "width"].map((name) => find(`[name=${name}]`));
    [level.min, level.max] = [Math.min(scan.bottom, 0), Math.max(scan.top, 1)];
    width.max = Math.max(scan.top - scan.bottom, 1);
    resetWindow();
    find("[data-value=remark]").textContent = scan.remark;
    find("[data-value=magnification]").textContent = scan.magnification;
    refresh();
    root.dataset.state = "ready";
  }

  function fail(error) {
    root.dataset.state = "failed";
    find(".failure").hidden = false;
    find(".failure").textContent = `This browser cannot show the slices (${error.message}); pictures of some lie beside this page.`;
  }

  const chosen = find("[name=scan]");
  chosen.addEventListener("change", () => show(chosen.value).catch(fail));
  for (const control of root.querySelectorAll(".controls :is(input, select)")) {
    if (control !== chosen) control.addEventListener("input", schedule);
  }
  find("[name=reset]").addEventListener("click", () => { resetWindow(); schedule(); });
  let blinking = 0;
  find("[name=blink]").addEventListener("change", (event) => {
    clearInterval(blinking);
    if (event.target.checked) blinking = setInterval(toggle, BLINK);
  });
  root.hidden = false;
  show(chosen.value).catch(fail);
})();
