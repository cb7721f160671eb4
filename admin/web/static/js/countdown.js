// Counts down until a form may be sent again. Without this script the server says how long is left.
for (const button of document.querySelectorAll("button[data-wait-s]")) {
  const label = button.textContent;
  let left = Number(button.dataset.waitS);
  const tick = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? `${label} (${left} s)` : label;
    left -= 1;
    if (left >= 0) setTimeout(tick, 1000);
  };
  tick();
}
