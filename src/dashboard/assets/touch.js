// Fingers on a chart: a tap or a finger that moves sideways reads values, two fingers zoom. Up and down scroll the page.

/** `acts`: read(moment), pinch(from, to) while fingers move, zoom(from, to) when they are lifted. */
export function onTouch(plot, acts) {
  const { over } = plot;
  let pinch = null;
  const at = (touch) => plot.posToVal(touch.clientX - over.getBoundingClientRect().left, "x");
  over.addEventListener("touchstart", (event) => {
    if (event.touches.length === 1) return acts.read(at(event.touches[0]));
    event.preventDefault();
    const [left, right] = sorted(event.touches);
    pinch = { left: at(left), right: at(right), span: null };
  }, { passive: false });
  over.addEventListener("touchmove", (event) => {
    if (!pinch) return acts.read(at(event.touches[0]));
    if (event.touches.length < 2) return undefined;
    event.preventDefault();
    // The moments under the fingers stay under them.
    const { left: edge, width } = over.getBoundingClientRect();
    const [left, right] = sorted(event.touches).map((touch) => (touch.clientX - edge) / width);
    if (right - left < 0.03) return undefined;
    const span = (pinch.right - pinch.left) / (right - left);
    const from = pinch.left - left * span;
    pinch.span = [from, Math.min(from + span, Date.now())];
    return acts.pinch(...pinch.span);
  }, { passive: false });
  const end = () => {
    const span = pinch?.span;
    pinch = null;
    if (span) acts.zoom(...span);
  };
  over.addEventListener("touchend", (event) => pinch && event.touches.length < 2 && end());
  over.addEventListener("touchcancel", () => (pinch = null));
}

const sorted = (touches) => [...touches].slice(0, 2).sort((a, b) => a.clientX - b.clientX);
