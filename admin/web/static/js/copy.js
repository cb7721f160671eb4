// Copies a text to the clipboard and says so. The buttons are hidden until this script is there to serve them.
const SAID_MS = 2000;

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const visible = [...source.querySelectorAll("pre")].find((text) => text.offsetParent !== null);
  await navigator.clipboard.writeText((visible ?? source).textContent.trim());
  const label = button.querySelector("[data-label]");
  const before = label.textContent;
  if (before === button.dataset.done) return;
  label.textContent = button.dataset.done;
  setTimeout(() => {
    label.textContent = before;
  }, SAID_MS);
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
