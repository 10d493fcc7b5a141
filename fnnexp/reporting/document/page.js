// What one can do in a report: sort and filter tables, see exact values in figures, and highlight options.
// Without this script the page shows the same content. Names are only ever written as text, never as HTML.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const NEAR = 14; // pixels from the pointer to a point
  const AXES = ["arch", "init", "batching"];
  const OTHER_HEADS = new Set(["factor", "better", "than", "against", "note", "verdict", "trial", "status"]);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const shape = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const typed = text => text.replaceAll("−", "-").toLowerCase(); // no key writes the minus sign of tables
  const spaced = text => ` ${text.trim().replace(/\s+(·|→)\s+|,\s+|\s+/g, " ")} `;
  // Numerically identical options are one in comparisons: "sqrtmax = xavier".
  const same = (a, b) => a === b || a.split(" = ").some(part => b.split(" = ").includes(part));
  const clear = element => element.replaceChildren();

  // Figures: their marks are data in a script element beside the drawing.

  const figures = all("figure").flatMap(figure => {
    const data = figure.querySelector("script"), svg = figure.querySelector("svg");
    if (!data || !svg) return [];
    const { options, kinds, lists, marks, step } = JSON.parse(data.textContent);
    const read = ([kind, index, x, y, ...rest]) => {
      const { quantity, names, size } = kinds[kind];
      const values = names.map((name, i) => [name, lists[rest[i]]]);
      const single = rest[names.length]; // the seed
      return { options: options[index], index, quantity, x: lists[x], y: lists[y], values, single,
        half: size && size.map(side => side / 2) };
    };
    return [{ figure, svg, options, step, marks: marks.map(read), singles: false }];
  });

  const factors = new Set([...AXES, ...figures.flatMap(each => each.options.flatMap(Object.keys))]);
  const factorOf = head => [...factors].find(factor => factor === head || factor.split(".").pop() === head);
  const labels = new Map(); // factors of each option, by its name
  const learn = (factor, label) => labels.set(label, (labels.get(label) ?? new Set()).add(factor));
  for (const { options } of figures) {
    for (const each of options) Object.entries(each).forEach(([factor, label]) => learn(factor, label));
  }

  // Tables: their rows with the options and the words that they contain.

  const tables = all("table").map(table => {
    const heads = [...table.tHead.rows[0].cells];
    const names = heads.flatMap((head, i) => (head.classList.contains("n") ? [] : [i]));
    const titles = heads.map(head => head.textContent);
    const isName = i => names.includes(i) && !OTHER_HEADS.has(titles[i]);
    const columns = titles.map((title, i) => (isName(i) ? factorOf(title) : undefined));
    const rows = [...table.tBodies[0].rows].map(row => {
      const texts = [...row.cells].map(cell => cell.textContent.trim());
      const own = new Map();
      columns.forEach((factor, i) => factor && own.set(factor, texts[i]));
      own.forEach((label, factor) => learn(factor, label));
      return { row, texts, own, names: spaced(names.map(i => texts[i]).join(" ")) };
    });
    return { table, heads, titles, names, columns, rows, box: table.parentElement,
      pairs: titles.includes("factor") };
  });

  // Sorting. A third click restores the order of the report.

  const missing = text => text === "" || text === "–" || text === "?";
  const parsed = text => parseFloat(text.replace("−", "-").replace(/,(?=\d{3})/g, ""));
  const isNumber = text => missing(text) || /^[-−+]?[\d.,]+(e[-+]?\d+)?$/.test(text);

  const keysOf = ({ heads, rows }, column) => {
    const texts = rows.map(({ texts }) => texts[column]);
    const numeric = heads[column].classList.contains("n") || texts.every(isNumber);
    return rows.map(({ row }, i) => {
      const data = row.cells[column].querySelector("data");
      if (data) return Number(data.value);
      if (missing(texts[i])) return null;
      const number = numeric ? parsed(texts[i]) : NaN;
      return Number.isNaN(number) ? texts[i] : number;
    });
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en");
  };

  const sort = (each, column) => {
    const head = each.heads[column], before = head.getAttribute("aria-sort");
    const order = before === "ascending" ? "descending" : before === "descending" ? null : "ascending";
    each.heads.forEach(other => other.removeAttribute("aria-sort"));
    let sorted = each.rows;
    if (order) {
      head.setAttribute("aria-sort", order);
      const keys = keysOf(each, column), sign = order === "ascending" ? 1 : -1;
      const places = keys.map((_, i) => i).sort((i, j) => {
        if (keys[i] === null || keys[j] === null) return (keys[i] === null) - (keys[j] === null) || i - j;
        return sign * compare(keys[i], keys[j]) || i - j;
      });
      sorted = places.map(i => each.rows[i]);
    }
    each.table.tBodies[0].append(...sorted.map(({ row }) => row));
  };

  for (const each of tables) {
    each.heads.forEach((head, column) => {
      const button = make("button", { type: "button", class: "sort", title: "sort by this column" });
      button.append(...head.childNodes);
      head.append(button);
      head.classList.add("sorts");
      head.addEventListener("click", () => sort(each, column));
    });
  }

  // Filtering. A word that some row has is a whole word; other words are parts of words.

  const known = new Set();
  for (const each of tables) {
    const options = each.titles.filter(title => labels.has(title)); // columns of a grid, such as "mini"
    for (const row of each.rows) {
      const pairs = each.titles.flatMap((title, i) => // "lr" is a name of optimizer.lr in every table
        [...new Set([title, each.columns[i] ?? title, title.split(".").pop()])]
          .map(key => `${key}=${row.texts[i]}`));
      row.text = typed(spaced([...row.texts, ...pairs, ...options].join(" ")));
      for (const word of row.text.split(" ")) known.add(word);
    }
    each.count = make("p", { class: "count", role: "status" });
    each.summary = each.table.closest("details")?.querySelector("summary");
    each.found = make("span", { class: "found" });
    each.summary?.append(each.found);
    each.box.before(each.count);
  }

  const filter = text => {
    const words = typed(text).split(/\s+/).filter(Boolean)
      .map(word => (known.has(word) ? ` ${word} ` : word));
    for (const { rows, count, found } of tables) {
      let shown = 0;
      for (const { row, text: own } of rows) {
        const fits = words.every(word => own.includes(word));
        if (row.hidden === fits) row.hidden = !fits;
        shown += fits;
      }
      const result = words.length ? `${shown} of ${rows.length} rows match “${text.trim()}”` : "";
      count.textContent = result;
      found.textContent = words.length ? ` – ${result}` : "";
    }
  };

  const nav = document.querySelector("nav");
  const contents = nav.querySelector("details");
  if (tables.length) {
    const first = factor => [...labels].find(([, factors]) => factors.has(factor))?.[0];
    const example = ["init", "arch"].map(first).filter(Boolean).join(" ");
    const input = make("input", { type: "search", placeholder: example, autocomplete: "off" });
    nav.append(make("label", { class: "filter" }, "Filter all tables ", input));
    input.addEventListener("input", () => filter(input.value));
    if (input.value) filter(input.value); // kept by the browser from the last visit
  }
  // Remarks are open without this script. A print shows them.
  const remarks = all("details.remarks");
  const openRemarks = open => { for (const each of remarks) each.open = open; };
  openRemarks(false);
  addEventListener("beforeprint", () => openRemarks(true));
  addEventListener("afterprint", () => openRemarks(false));

  const wide = matchMedia("(min-width: 1100px)");
  const unfold = () => { contents.open = wide.matches; };
  unfold();
  wide.addEventListener("change", unfold);
  contents.addEventListener("click", event => {
    if (event.target.closest("a") && !wide.matches) contents.open = false;
  });

  // Highlighting: `chosen` has the options by factor.

  let chosen = new Map();
  const note = make("button", { type: "button", class: "chosen", hidden: "" });
  document.body.append(note);

  const differs = options =>
    [...chosen].some(([factor, label]) => factor in options && !same(options[factor], label));
  const agrees = options => !differs(options) && [...chosen.keys()].some(factor => factor in options);
  // A configuration names an option as "he", or as "optimizer.lr=0.1".
  const namesOption = (names, factor, label) => label.split(" = ").some(part =>
    names.includes(spaced(part)) || names.includes(spaced(`${factor}=${part}`)));
  const rowAgrees = ({ own, names }, inTable, pairs) => {
    let agreed = false;
    for (const [factor, label] of chosen) {
      const found = own.has(factor) ? same(own.get(factor), label) : namesOption(names, factor, label);
      if (!found && !pairs && (own.has(factor) || inTable.has(label))) return false;
      agreed ||= found;
    }
    return agreed;
  };

  const show = () => {
    for (const { svg, options } of figures) {
      const fits = options.map(agrees), any = chosen.size > 0 && fits.some(Boolean);
      svg.classList.toggle("lit", any);
      for (const element of all("[data-o]", svg)) {
        const on = any && fits[element.dataset.o];
        element.classList.toggle("on", on);
        element.classList.toggle("off", any && differs(options[element.dataset.o]));
        if (element.hasAttribute("aria-pressed")) element.setAttribute("aria-pressed", on);
      }
    }
    for (const { table, rows, pairs } of tables) {
      const named = ([factor, label]) => rows.some(row => namesOption(row.names, factor, label));
      const inTable = new Set([...chosen].filter(named).map(([, label]) => label));
      const fits = rows.map(row => chosen.size > 0 && rowAgrees(row, inTable, pairs));
      table.classList.toggle("lit", fits.some(Boolean));
      rows.forEach(({ row }, i) => row.classList.toggle("on", fits[i]));
    }
    note.hidden = chosen.size === 0;
    note.textContent = `${[...chosen].map(pair => pair.join("=")).join(" ")} ×`;
    note.title = "undo the highlight (Escape)";
  };
  const toggle = options => {
    const again = chosen.size === options.size
      && [...options].every(([factor, label]) => chosen.get(factor) === label);
    chosen = again ? new Map() : options;
    show();
  };
  note.addEventListener("click", () => toggle(chosen));
  addEventListener("keydown", event => {
    if (event.key === "Escape" && chosen.size) toggle(chosen);
  });

  // The options that a cell names: an option of its column, or a configuration such as "relu_100 he mini".
  const longest = [...labels.keys()].sort((a, b) => b.length - a.length);
  const factorIn = (each, row) => (each.pairs ? row.texts[each.titles.indexOf("factor")] : "");
  const optionsIn = (each, row, column) => {
    const text = row.texts[column], factor = each.columns[column] ?? factorOf(factorIn(each, row));
    if (missing(text) || ["factor", "note", "verdict"].includes(each.titles[column])) return null;
    if (factor) return new Map([[factor, text]]);
    const options = new Map();
    const words = spaced(text).split(" ").filter(word => {
      const [key, label] = [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)];
      if (!word.includes("=") || !factors.has(key)) return true;
      options.set(key, label);
      return false;
    });
    let rest = words.join(" ");
    for (const label of longest) {
      const factor = [...labels.get(label)].find(factor => !options.has(factor));
      const word = spaced(label);
      if (!factor || !rest.includes(word)) continue;
      options.set(factor, label);
      rest = rest.replace(word, " ");
    }
    return rest.trim() === "" && options.size ? options : null;
  };
  for (const each of tables) {
    const cache = new Map();
    for (const row of each.rows) {
      for (const column of each.names) {
        const key = JSON.stringify([column, factorIn(each, row), row.texts[column]]);
        if (!cache.has(key)) cache.set(key, optionsIn(each, row, column));
        const options = cache.get(key);
        if (!options) continue;
        const cell = row.row.cells[column];
        cell.classList.add("option");
        cell.addEventListener("click", () => getSelection().isCollapsed && toggle(options));
      }
    }
  }

  // Values under the pointer.

  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  document.body.append(tip);
  const describe = ({ options, quantity, values, single }, i) => {
    clear(tip);
    const title = [...Object.values(options), ...(single ? [single] : [])].join(" · ");
    tip.append(make("b", {}, title), make("div", {}, quantity));
    for (const [key, list] of values) {
      if (list[i] !== null) tip.append(make("div", {}, make("span", {}, `${key} `), String(list[i])));
    }
  };

  for (const each of figures) {
    const { svg, marks, figure, step } = each;
    const dot = shape("circle", { r: 5, class: "dot", visibility: "hidden" });
    svg.append(dot);
    const visible = () => marks.filter(mark => !mark.single || each.singles);
    const inSvg = ({ clientX, clientY }) =>
      new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
    const nearest = event => {
      const { x, y } = inSvg(event), lit = svg.classList.contains("lit");
      let best = null, least = (NEAR / svg.getScreenCTM().a) ** 2;
      for (const mark of visible()) {
        if (lit && differs(mark.options)) continue;
        for (let i = 0; i < mark.x.length; i++) {
          const dx = Math.abs(mark.x[i] - x), dy = Math.abs(mark.y[i] - y);
          if (mark.half) {
            if (dx <= mark.half[0] && dy <= mark.half[1]) return [mark, i];
          } else if (dx * dx + dy * dy < least) {
            best = [mark, i];
            least = dx * dx + dy * dy;
          }
        }
      }
      return best;
    };
    const hide = () => { tip.hidden = true; dot.setAttribute("visibility", "hidden"); };
    const point = found => {
      if (!found) return hide();
      const [mark, i] = found;
      describe(mark, i);
      tip.hidden = false;
      dot.setAttribute("cx", mark.x[i]);
      dot.setAttribute("cy", mark.y[i]);
      dot.setAttribute("visibility", mark.half ? "hidden" : "visible");
      const at = new DOMPoint(mark.x[i], mark.y[i]).matrixTransform(svg.getScreenCTM());
      const { width, height } = tip.getBoundingClientRect();
      const right = document.documentElement.clientWidth - width - 4;
      tip.style.left = `${Math.max(4, Math.min(at.x + 12, right))}px`;
      tip.style.top = `${at.y - height - 12 < 0 ? at.y + 12 : at.y - height - 12}px`;
    };
    const named = event => all("[data-name]", svg).find(element => {
      const box = element.getBoundingClientRect();
      return event.clientX >= box.left - 2 && event.clientX <= box.right + 2
        && event.clientY >= box.top - 2 && event.clientY <= box.bottom + 2;
    });
    svg.addEventListener("pointermove", event => {
      const found = nearest(event);
      svg.style.cursor = found || named(event) ? "pointer" : "";
      point(found);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("click", event => {
      const label = named(event), found = label ? null : nearest(event);
      const options = label ? each.options[label.dataset.o] : found?.[0].options;
      point(found);
      if (options && Object.keys(options).length) toggle(new Map(Object.entries(options)));
    });

    // With the keyboard: the arrows go through the points, and Enter on a name highlights its option.
    svg.setAttribute("tabindex", 0);
    svg.setAttribute("role", "group"); // an image has no buttons for a screen reader
    let place = -1;
    svg.addEventListener("keydown", event => {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!way || event.target !== svg) return;
      event.preventDefault();
      const inSight = visible().filter(mark => !differs(mark.options));
      const points = inSight.flatMap(mark => mark.x.map((_, i) => [mark, i]));
      if (!points.length) return;
      place = (place + way + points.length) % points.length;
      point(points[place]);
    });
    svg.addEventListener("blur", hide);
    for (const label of all("[data-name]", svg)) {
      const attributes = { tabindex: 0, role: "button", "aria-pressed": false,
        "aria-label": Object.values(each.options[label.dataset.o]).join(" ") };
      for (const [name, value] of Object.entries(attributes)) label.setAttribute(name, value);
      label.addEventListener("keydown", event => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle(new Map(Object.entries(each.options[label.dataset.o])));
      });
    }

    // The curves of single seeds.

    const singles = marks.filter(mark => mark.single);
    if (!singles.length) continue;
    const every = step > 1 ? `, every ${step}th point` : "";
    const attributes = { type: "button", class: "seeds", "aria-pressed": false };
    const button = make("button", attributes, `Single seeds${every}`);
    figure.prepend(button);
    let group = null;
    const draw = () => {
      group = shape("g", { class: "singles" });
      for (const { index, x, y } of singles) {
        const strokes = all(`[data-o="${index}"] path`, svg).map(path => getComputedStyle(path).stroke);
        const d = `M${x.map((each, i) => `${each} ${y[i]}`).join("L")}`;
        const line = shape("path", { d, "data-o": index });
        line.style.stroke = strokes.find(stroke => stroke !== "none") ?? "currentColor"; // that of the mean
        group.append(line);
      }
      svg.insertBefore(group, dot);
    };
    button.addEventListener("click", () => {
      each.singles = !each.singles;
      button.setAttribute("aria-pressed", each.singles);
      if (!group) draw();
      group.style.display = each.singles ? "" : "none";
      show();
    });
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
})();
