// Curves to point at, over the static pictures. A picture stays where this fails, and on paper.
(() => {
  "use strict";
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (v) => {
    if (v == null) return "–";
    const size = Math.abs(v);
    if (size >= 1e6) return +(v / 1e6).toPrecision(4) + "M";
    if (size >= 1e4) return +(v / 1e3).toPrecision(4) + "k";
    return size > 0 && size < 1e-3 ? v.toExponential(1) : String(+v.toPrecision(4));
  };
  const exact = (v) => (v == null ? "–" : Math.abs(v) < 1e-3 && v !== 0 ? v.toExponential(3) : String(+v.toPrecision(6)));

  // the point of a series that is nearest to the one under the pointer
  const nearest = (plot, series, index) => {
    const values = plot.data[series];
    if (series === 0 || values[index] != null) return index;
    for (let away = 1; away < values.length; away++) {
      if (values[index - away] != null) return index - away;
      if (values[index + away] != null) return index + away;
    }
    return index;
  };

  const options = (chart, width, group) => {
    const ink = css("--chart-ink"), grid = css("--chart-grid");
    const axis = (label, size) => ({
      label, size, stroke: ink, labelSize: 18, font: "12px system-ui", labelFont: "12px system-ui",
      grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 },
      values: (_, all) => all.map((v) => (v == null ? "" : short(v))),
    });
    const line = (s) => ({
      label: s.name, stroke: css(s.colour), width: s.mark === "faint" ? 1 : 2, spanGaps: true,
      alpha: s.mark === "faint" ? 0.35 : 1, dash: s.mark === "dashed" ? [8, 5] : undefined,
      paths: s.mark === "points" ? () => null : undefined,
      points: { show: s.mark === "dots" || s.mark === "points", size: 6, fill: css(s.colour) },
      value: (_, v) => exact(v),
    });
    const y = chart.log ? { distr: 3 }
      : { range: (_, low, high) => {
        const room = (high - low || Math.abs(high) || 1) * 0.05;
        return [chart.zero ? Math.min(0, low) : low - room, high + room];
      } };
    return {
      width, height: Math.round(Math.max(210, Math.min(300, width * 0.47))),
      scales: { x: chart.xlog ? { time: false, distr: 3 } : { time: false }, y },
      axes: [axis(chart.x, 26), axis(chart.y, 54)],
      series: [{ label: chart.x, value: (_, v) => exact(v) }, ...chart.series.map(line)],
      cursor: { dataIdx: nearest, points: { size: 7 }, ...(group ? { sync: { key: group } } : {}) },
    };
  };

  const figures = [];
  const draw = (figure) => {
    if (figure.plot) figure.plot.destroy();
    const width = Math.floor(figure.element.getBoundingClientRect().width - figure.room);
    figure.plot = new uPlot(options(figure.chart, width, figure.group), figure.data, figure.element);
    const canvas = figure.plot.root.querySelector(".u-wrap");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", figure.chart.title);
    figure.element.classList.add("live");
  };
  for (const element of document.querySelectorAll("figure")) {
    const numbers = element.querySelector("script");
    if (!numbers) continue;
    const chart = JSON.parse(numbers.textContent);
    const section = element.closest("section");
    const style = getComputedStyle(element);
    const figure = {
      element, chart,
      room: parseFloat(style.paddingLeft) + parseFloat(style.paddingRight) + 2,
      // charts over the same numbers are pointed at together
      group: section && section.id ? section.id + " " + chart.x : null,
      data: uPlot.join(chart.series.map((s) => [s.x, s.y])),
    };
    figures.push(figure);
    draw(figure);
  }
  if (!figures.length) return;
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "Point at a curve for its values. Drag over a part to look at it alone; a double click shows all.";
  document.querySelector("h1").after(hint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => figures.forEach(draw));
  let waiting = null;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => figures.forEach(draw), 150);
  });
})();
