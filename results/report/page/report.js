"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const onDark = JSON.parse(document.getElementById("on-dark").textContent);
  const figures = [...document.querySelectorAll("script[data-figure]")].map((script) => ({
    place: document.getElementById(script.dataset.figure),
    source: script.textContent,
  }));

  const template = (isDark) => {
    const [ink, line] = isDark ? ["#e6e9ec", "#38414a"] : ["#1c2126", "#d9dee3"];
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line };
    const colorway = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
    const parcoords = [{ labelfont: { color: ink }, tickfont: { color: ink }, rangefont: { color: ink } }];
    return {
      layout: {
        font: { color: ink, family: "system-ui, sans-serif", size: 12 }, xaxis: axis, yaxis: axis, colorway,
        hoverlabel: { bgcolor: isDark ? "#1e242a" : "#ffffff", bordercolor: line, font: { color: ink } },
      },
      data: { parcoords },
    };
  };

  // Plotly breaks no title, and cuts off what does not fit.
  const broken = (text, most) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      const last = lines.length - 1;
      if (lines[last] && lines[last].length + word.length >= most) lines.push(word);
      else lines[last] = lines[last] ? `${lines[last]} ${word}` : word;
    }
    return lines.join("<br>");
  };

  const narrowed = (layout, width) => {
    layout.margin = { ...layout.margin, l: 40, r: 8 };
    layout.legend = { ...layout.legend, font: { size: 10 } };
    for (const [name, axis] of Object.entries(layout)) {
      if (!/^[xy]axis/.test(name)) continue;
      if (axis.title?.text) axis.title = { ...axis.title, font: { size: 11 }, text: broken(axis.title.text, width / 12) };
      if (axis.type === "category") delete axis.ticktext, delete axis.tickvals;  // names alone, without their features
    }
  };

  const draw = (isDark) => Promise.all(figures.map(({ place, source }) => {
    let text = source;
    if (isDark) for (const [light, shade] of Object.entries(onDark)) text = text.replaceAll(light, shade);
    const figure = JSON.parse(text);
    figure.layout.template = template(isDark);
    if (place.clientWidth < 560) narrowed(figure.layout, place.clientWidth);
    return Plotly.react(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
  })).then(() => { document.documentElement.dataset.drawn = figures.length; });

  const drawn = draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  window.addEventListener("beforeprint", () => draw(false));
  window.addEventListener("afterprint", () => draw(dark.matches));

  // A page of a study that runs: it comes back where it was read, and rests when nobody renews it any more.
  const { reload, written } = document.documentElement.dataset;
  if (reload) {
    const kept = (act) => { try { return act(window.sessionStorage); } catch { return null; } };
    const place = `spinlock-report ${location.pathname}`;
    drawn.then(() => {
      const at = kept((storage) => storage.getItem(place));
      if (at !== null && !location.hash) window.scrollTo({ top: Number(at), behavior: "instant" });
    });
    if (Date.now() / 1000 - Number(written) < 20 * Number(reload) + 600) {
      window.setTimeout(() => {
        kept((storage) => storage.setItem(place, String(window.scrollY)));
        location.reload();
      }, 1000 * Number(reload));
    } else {
      document.getElementById("live").textContent += " Nothing has renewed it for a while.";
    }
  }

  const value = (cell) => {
    const given = cell.dataset.sort ?? cell.textContent.trim();
    return given === "" || Number.isNaN(Number(given)) ? given : Number(given);
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");  // what has no value comes last
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };
  for (const heading of document.querySelectorAll("table.sortable th")) {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const column = heading.cellIndex;
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = heading.closest("table").tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a.cells[column]), value(b.cells[column])];
        return x === "" || y === "" ? compare(x, y) : (down ? -1 : 1) * compare(x, y);
      });
      body.append(...rows);
    });
  }
})();
