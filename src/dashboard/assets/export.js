// Export of a chart: a picture, its values, or paper.

import { picture, plots } from "./chart.js";
import { $ } from "./page.js";
import { draw, drawn, headline } from "./sensor.js";
import { csv } from "./shape.js";
import { state } from "./state.js";

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${(state.chosen?.reading?.sensor_name ?? state.chosen?.id ?? "chart").replace(/[^\p{L}\p{N}._-]+/gu, "-")}-${state.chosen?.metrics?.length === 0 ? "states" : state.metric}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10e3);
}

/** On paper everything is dark on white, the canvases too, which no style sheet reaches. */
function toPaper(isPaper) {
  document.documentElement.toggleAttribute("data-paper", isPaper);
  if (state.chosen) draw();
}

export function begin() {
  addEventListener("beforeprint", () => toPaper(true));
  addEventListener("afterprint", () => toPaper(false));
  $("png").addEventListener("click", () => plots.length && picture(headline()).toBlob((blob) => blob && save(blob, "png")));
  $("csv").addEventListener("click", () => drawn.length && save(new Blob([csv(drawn)], { type: "text/csv" }), "csv"));
  $("print").addEventListener("click", () => print());
}
