// A bar that is chosen fills the width; its parents show the way back.
(() => {
  "use strict";
  for (const box of document.querySelectorAll(".bars")) {
    const bars = [...box.querySelectorAll(".bar")].map((element) => ({
      element, start: +element.dataset.start, width: +element.dataset.width,
    }));
    const look = (start, width) => {
      for (const bar of bars) {
        const from = Math.max(bar.start, start), to = Math.min(bar.start + bar.width, start + width);
        bar.element.hidden = to <= from;
        bar.element.style.left = (100 * (from - start)) / width + "%";
        bar.element.style.width = (100 * (to - from)) / width + "%";
      }
    };
    for (const bar of bars) bar.element.addEventListener("click", () => look(bar.start, bar.width));
    box.addEventListener("dblclick", () => look(0, 1));
  }
})();
