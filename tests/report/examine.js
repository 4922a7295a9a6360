// SPDX-License-Identifier: Apache-2.0
// What tests measure in a page, from computed styles and boxes: nothing of it is in the page itself.
"use strict";
const examine = (() => {
  const WHITE = [255, 255, 255, 1];
  const times = {};
  const probe = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

  // Any color of CSS as red, green, blue of 255, and alpha of 1.
  function parse(color) {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = color;
    probe.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = probe.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  const over = (above, below) => [0, 1, 2].map((i) => above[3] * above[i] + (1 - above[3]) * below[i]).concat(1);

  // Relative luminance and contrast, as WCAG 2.2 has them.
  function luminance(color) {
    const linear = color.slice(0, 3).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }

  function contrast(first, second) {
    const [low, high] = [luminance(first), luminance(second)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }

  // What lies behind an element; behind what lies on a scan the worst for white letters, white.
  function background(element) {
    const layers = [];
    for (let at = element; at && !at.matches(".light"); at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, above) => over(above, below), WHITE);
  }

  const visible = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: true });
  const named = (element) => `${element.localName}.${element.className || element.name || element.type || ""}`;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(visible);

  // Texts of too little contrast: below 4.5, or 3 for large letters.
  function faint() {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let count = 0;
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
      if (!text || element.closest("script, style, template") || !visible(element)) continue;
      count += 1;
      const style = getComputedStyle(element), size = Number.parseFloat(style.fontSize);
      const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
      const behind = background(element), ratio = contrast(over(parse(style.color), behind), behind);
      if (ratio < least) found.push(`${named(element)} "${text.slice(0, 30)}": ${ratio.toFixed(2)}`);
    }
    return { count, found };
  }

  // Controls whose border or color stands out by less than 3 from what is around them.
  function dull() {
    const found = [], controls = all("input, select, button");
    for (const control of controls) {
      const style = getComputedStyle(control), behind = background(control.parentElement);
      const parts = { border: Number.parseFloat(style.borderTopWidth) ? style.borderTopColor : null };
      if (["checkbox", "radio", "range"].includes(control.type)) Object.assign(parts, { border: null, accent: style.accentColor });
      for (const [part, color] of Object.entries(parts)) {
        const ratio = color && color !== "auto" ? contrast(over(parse(color), behind), behind) : 21;
        if (ratio < 3) found.push(`${part} of ${named(control)}: ${ratio.toFixed(2)}`);
      }
    }
    return { count: controls.length, found };
  }

  // Elements that can be chosen with the tab key and do not show that they are. One must have been chosen with it.
  function unmarked() {
    const found = [], places = all("a[href], input, select, button, summary, [tabindex='0']");
    for (const element of places) {
      element.focus();
      const ring = [element, element.closest(".light")].filter(Boolean).map((one) => [one, getComputedStyle(one)]);
      const shown = ring.some(([one, style]) => {
        const behind = background(one.parentElement);
        const color = over(parse(style.outlineColor), behind);
        return style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2 && contrast(color, behind) >= 3;
      });
      if (!shown) found.push(named(element));
    }
    return { count: places.length, found };
  }

  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);

  // What is wider than the window, and not in a box that scrolls by itself.
  function overflowing() {
    const width = document.documentElement.clientWidth, found = [];
    for (const element of all("body *")) {
      const box = element.getBoundingClientRect();
      if (box.width === 0 || (box.right <= width + 0.5 && box.left >= -0.5)) continue;
      let above = element.parentElement;
      while (above && !scrolls(above)) above = above.parentElement;
      if (!above) found.push(`${named(element)} from ${box.left.toFixed(0)} to ${box.right.toFixed(0)}`);
    }
    const more = document.documentElement.scrollWidth - width;
    return more > 0 ? [...found, `the page by ${more}`] : found;
  }

  // Boxes that hide a part of what they hold.
  function cutting() {
    return all("body *").filter((element) => {
      const style = getComputedStyle(element);
      const hides = style.overflowX !== "visible" || style.overflowY !== "visible";
      return hides && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
    }).filter((element) => !element.matches("input, select, option")).map(named);
  }

  // Controls that a finger finds hard to hit: below 24 pixels either way, and alone.
  function tiny() {
    return all("input, select, button, summary").map((control) => control.closest("label") ?? control).filter((control) => {
      const box = control.getBoundingClientRect();
      return box.width < 24 || box.height < 24;
    }).map(named);
  }

  // Pictures of canvases: middle of the brightest pixels, as fractions of width and height, and the first pixel.
  function pixels(canvas) {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    return copy.getImageData(0, 0, canvas.width, canvas.height).data;
  }

  function bright(canvas) {
    const { width, height } = canvas, data = pixels(canvas);
    let count = 0, x = 0, y = 0;
    for (let i = 0; i < width * height; i += 1) {
      if (data[4 * i] > 250) { count += 1; x += i % width; y += Math.floor(i / width); }
    }
    return count ? [x / count / width, y / count / height] : null;
  }

  function planes() {
    return all(".plane").map((figure) => {
      const canvas = figure.querySelector("canvas"), box = figure.getBoundingClientRect();
      return {
        name: figure.querySelector("[data-name]").textContent,
        bright: bright(canvas),
        first: pixels(canvas)[0],
        sides: [...figure.querySelectorAll("[data-side]")].map((side) => side.textContent),
        shape: canvas.clientWidth / canvas.clientHeight,
        slice: figure.querySelector("output").textContent,
        top: box.top,
        bottom: box.bottom,
      };
    });
  }

  // When the viewer has drawn its first picture.
  const ready = new Promise((done) => {
    const observer = new MutationObserver(() => {
      if (document.getElementById("viewer")?.dataset.state !== "ready") return;
      observer.disconnect();
      times.viewer = performance.now();
      done();
    });
    observer.observe(document, { subtree: true, attributes: true, attributeFilter: ["data-state"] });
  });

  return { all, bright, cutting, dull, faint, overflowing, planes, ready, times, tiny, unmarked };
})();
