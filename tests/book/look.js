// What is wrong with a page as it is shown now, in sentences; run inside the page.
(scope) => {
  const found = new Set(), main = document.querySelector(scope);
  const style = (e) => getComputedStyle(e);
  const name = (e) => `<${e.tagName.toLowerCase()}${e.className && e.className.split ?
    "." + e.className.trim().split(/\s+/).join(".") : ""}> ` +
    `"${(e.textContent || e.alt || "").trim().slice(0, 50)}"`;
  const shown = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  // meant for machines and screen readers: mathematics once more, labels
  const unseen = "mjx-assistive-mml, .visually-hidden, .headerlink, .copybtn";
  const elements = [...main.querySelectorAll("*")].filter(
    (e) => !e.closest(unseen) && !["SCRIPT", "STYLE", "BR", "OPTION"].includes(e.tagName) &&
      !(e.ownerSVGElement || e instanceof SVGElement) && shown(e));

  for (const img of main.querySelectorAll("img")) {
    const what = `${img.getAttribute("src").slice(0, 60)}`;
    if (!img.naturalWidth) found.add(`a picture did not load: ${what}`);
    if (!img.alt.trim() || /^\S+\.(png|svg|jpe?g)$/.test(img.alt)) {
      found.add(`a picture has no alt text: ${what}`);
    }
  }

  // width: each text, picture and control lies inside the box that would cut it off
  if (document.documentElement.scrollWidth > innerWidth) {
    found.add(`the page scrolls sideways: ${document.documentElement.scrollWidth} px`);
  }
  const edges = new Map([[main, main]]);
  const edge = (e) => {
    if (!edges.has(e)) {
      edges.set(e, style(e).overflowX === "visible" ? edge(e.parentElement) : e);
    }
    return edges.get(e);
  };
  const fits = (e, box, around) => {
    const limit = around.getBoundingClientRect();
    const out = Math.max(limit.left - box.left,
      box.right - (around === main ? Math.min(limit.right, innerWidth) : limit.right));
    if (out > 2 && !["auto", "scroll"].includes(style(around).overflowX)) {
      found.add(`sticks out by ${Math.round(out)} px: ${name(e)}`);
    }
  };
  const written = (e) => [...e.childNodes].filter((n) => n.nodeType === 3 && n.data.trim());
  const words = elements.filter((e) => written(e).length), range = document.createRange();
  for (const e of words) {
    for (const text of written(e)) {
      range.selectNode(text);
      fits(e, range.getBoundingClientRect(), edge(e));
    }
  }
  for (const e of elements.filter((one) => one.matches(
    "img, input, select, button, table, mjx-math"))) {
    fits(e, e.getBoundingClientRect(), edge(e.parentElement));
  }

  // contrast of text with the nearest ground below it (WCAG 2.2, level AA)
  const colour = (text) => {
    const n = text.match(/[\d.]+(e-\d+)?/g).map(Number);
    const c = text.startsWith("color(srgb") ? n.slice(0, 3) : n.slice(0, 3).map((v) => v / 255);
    return [...c, n[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]);
  const grounds = new Map([[null, [1, 1, 1]]]);
  const ground = (e) => {
    if (!grounds.has(e)) {
      const own = colour(style(e).backgroundColor);
      grounds.set(e, over(own, own[3] === 1 ? own : ground(e.parentElement)));
    }
    return grounds.get(e);
  };
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * (
    c[i] <= 0.04045 ? c[i] / 12.92 : ((c[i] + 0.055) / 1.055) ** 2.4), 0);
  const seen = new Set();
  for (const e of words) {
    const below = ground(e), text = over(colour(style(e).color), below);
    const pair = `${text} on ${below}`;
    if (seen.has(pair)) continue;
    seen.add(pair);
    const [a, b] = [light(text), light(below)].sort((x, y) => x - y);
    const ratio = (b + 0.05) / (a + 0.05);
    if (ratio < 4.5) found.add(`is hard to read, contrast ${ratio.toFixed(1)}: ${name(e)}`);
  }

  // mathematics and markup
  for (const e of main.querySelectorAll("mjx-merror, mjx-mtext[style*='red']")) {
    found.add(`mathematics with an error: ${name(e.closest("mjx-container") || e)}`);
  }
  const raw = /\$\$|\\[([]|\$\S*[\\_^]\S*\$|\{[a-z:-]+\}`|`\S|\S`|\]\(\S|^:::|\*\*\S/m;
  const walk = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (raw.test(walk.currentNode.data) && shown(e) &&
        !e.closest("pre, code, script, style, mjx-container, .cm-editor")) {
      found.add(`raw markup: "${walk.currentNode.data.trim().slice(0, 80)}"`);
    }
  }
  const levels = [...main.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((e) => [+e.tagName[1], e]);
  levels.forEach(([level, e], i) => {
    if (level > (i ? levels[i - 1][0] : 0) + 1) found.add(`skips a heading level: ${name(e)}`);
  });
  if (levels.filter(([level]) => level === 1).length !== 1) found.add("has not one h1");
  return [...found];
}
